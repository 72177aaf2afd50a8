"""Reading and writing the bytes of a block device, or of a file that stands in for one."""

from __future__ import annotations

import errno
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from holdfast.core.errors import RestoreError, SourceError, SourceMissingError
from holdfast.core.units import format_size
from holdfast.sources.files.content import FileContent
from holdfast.sources.files.facts import Owners

if TYPE_CHECKING:
    from typing import BinaryIO

    from holdfast.core.entries import Entry

DEVICE = "block device"
IMAGE = "image file standing in for a block device"
_MOUNTS = Path("/proc/self/mountinfo")
_SWAPS = Path("/proc/swaps")
_PIECE = 1 << 20
_HOLE = 64 << 10
"""Zeros of this length become a hole of an image."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where bytes of a device are. `size`: all of it, in bytes."""

    path: Path
    kind: str
    size: int


def look(path: Path) -> Place:
    """Raises SourceError where there is neither a block device nor a file."""
    try:
        mode = path.stat().st_mode
        if not (stat.S_ISBLK(mode) or stat.S_ISREG(mode)):
            raise SourceError(f"{path} is neither a block device nor an image file")
        descriptor = os.open(path, os.O_RDONLY)
        try:
            size = os.lseek(descriptor, 0, os.SEEK_END)
        finally:
            os.close(descriptor)
    except FileNotFoundError:
        raise SourceMissingError(f"there is no {path}") from None
    except OSError as error:
        raise SourceError(f"{path} cannot be read: {error.strerror}") from error
    return Place(path, DEVICE if stat.S_ISBLK(mode) else IMAGE, size)


def mounted(path: Path) -> str:
    """Where a block device is mounted or what else uses it; "" where nothing is known to."""
    facts = path.stat()
    if not stat.S_ISBLK(facts.st_mode):
        return ""
    number = f"{os.major(facts.st_rdev)}:{os.minor(facts.st_rdev)}"
    for line in _lines(_MOUNTS):
        fields = line.split(" ")
        if len(fields) > 4 and fields[2] == number:  # noqa: PLR2004  the fifth is the mount point
            return f"mounted at {fields[4]}"
    for line in _lines(_SWAPS)[1:]:
        if Path(line.split()[0]).resolve() == path.resolve():
            return "used as swap"
    holders = Path(f"/sys/dev/block/{number}/holders")
    names = sorted(each.name for each in holders.iterdir()) if holders.is_dir() else []
    return f"used by {', '.join(names)}" if names else ""


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text(errors="surrogateescape").splitlines()
    except OSError:
        return []


class DeviceContent(FileContent):
    """All bytes of a device, from a descriptor of its own; see `core.source.Content`."""

    __slots__ = ()

    def __init__(self, place: Place, entry: Entry) -> None:
        """Raises OSError: it cannot be opened."""
        descriptor = os.open(place.path, os.O_RDONLY)
        super().__init__((descriptor, os.fstat(descriptor)), entry.name, Owners())
        entry.size = place.size
        self.entry = entry
        self._holes = place.kind == IMAGE and self._holes

    def unchanged(self) -> bool:
        """A device has no times that would tell; an image has."""
        return stat.S_ISBLK(self._facts.st_mode) or super().unchanged()

    def xattrs(self) -> list[tuple[bytes, bytes]]:
        return []


# --- putting back ---------------------------------------------------------------------------------


def write_device(source: BinaryIO, path: Path, size: int) -> None:
    """Over what is on a device.

    Raises:
        RestoreError: it is smaller, or in use; nothing was changed.
        OSError: writing failed; it holds neither the old nor the new.
    """
    if use := mounted(path):
        raise RestoreError(f"{path} is {use}", remedy="Nothing was changed. Unmount it first.")
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_EXCL)  # refused by the kernel where it is used
    except OSError as error:
        if error.errno != errno.EBUSY:
            raise
        raise RestoreError(f"{path} is in use", remedy="Nothing was changed.") from error
    with os.fdopen(descriptor, "r+b", buffering=0) as device:
        room = device.seek(0, os.SEEK_END)
        _refuse_smaller(path, room, size)
        device.seek(0)
        _write_all(source, device, size, holes=False)
        os.fsync(device.fileno())


def write_image(source: BinaryIO, path: Path, size: int) -> None:
    """Into a new file, with holes where there are zeros; under its name only when it is whole.

    Raises:
        OSError: nothing is there of it.
    """
    passing = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(passing, "xb", opener=_private, buffering=0) as image:
            _write_all(source, image, size, holes=True)
            image.truncate(size)
            os.fsync(image.fileno())
        passing.replace(path)
    finally:
        passing.unlink(missing_ok=True)


def _refuse_smaller(path: Path, room: int, size: int) -> None:
    if room < size:
        raise RestoreError(
            f"{path} has {format_size(room)}, the backup {format_size(size)}",
            remedy="Nothing was changed. Name a device that is as large or larger.",
        )


def _write_all(source: BinaryIO, device: BinaryIO, size: int, *, holes: bool) -> None:
    left = size
    while left:
        piece = source.read(min(_PIECE, left))
        if not piece:
            raise RestoreError(f"the backup holds {format_size(size - left)} of the device only")
        left -= len(piece)
        for start in range(0, len(piece), _HOLE):
            part = memoryview(piece)[start : start + _HOLE]
            if holes and not any(part.tobytes().rstrip(b"\0")):
                device.seek(len(part), os.SEEK_CUR)
                continue
            while part:
                part = part[device.write(part) :]


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
