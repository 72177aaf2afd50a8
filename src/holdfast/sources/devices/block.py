"""Block devices as images: all of their bytes, whatever is on them.

<path of the device>/about.json   what it was
<path of the device>/device.img   its bytes, as dd takes them

A file may stand in for a device, and what is kept says so.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from holdfast.core.errors import InvalidError, RestoreError, SourceError
from holdfast.sources.devices.images import (
    DEVICE,
    DeviceContent,
    look,
    mounted,
    write_device,
    write_image,
)
from holdfast.sources.modules import Resource
from holdfast.sources.parameters import described, parameters_of, read_settings
from holdfast.sources.streams import StreamFile, StreamTree, about_file, read_about

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from holdfast.core.source import Kept, Source
    from holdfast.sources.devices.images import Place
    from holdfast.sources.modules import Asked

NAME = "block"
IMAGE_FILE = "device.img"
_DEVICES = Path("/sys/class/block")
_SECTOR = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockSettings:
    in_use: bool = described(
        default=False,
        meaning="Read a device that is mounted or otherwise in use; what is written meanwhile may"
        " not fit together.",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockDestination:
    overwrite: bool = described(
        default=False,
        meaning="Write over the device, or replace the file, that is the destination. What it holds"
        " is gone then.",
    )


class BlockModule:
    """See `modules.Module`. A resource is the path of a device."""

    name = NAME
    parameters = parameters_of(BlockSettings)
    putting_back = parameters_of(BlockDestination)

    def available(self) -> bool:
        return _DEVICES.is_dir()

    def check(self, asked: Asked) -> None:
        read_settings(BlockSettings, asked.parameters)
        if not asked.resource.startswith("/"):
            text = f"{asked.resource!r} is no absolute path of a device"
            raise InvalidError(text, fields={"resource": ("wrong", text)})

    def resources(self, asked: Asked) -> Sequence[Resource]:
        """The devices that hold anything, and what uses them."""
        read_settings(BlockSettings, asked.parameters)
        found = []
        for each in sorted(_DEVICES.iterdir()) if _DEVICES.is_dir() else ():
            device = Path("/dev") / each.name.replace("!", "/")
            try:
                size = int((each / "size").read_text()) * _SECTOR
                if size and device.exists():
                    found.append(
                        Resource(name=str(device), kind="device", size=size, note=mounted(device))
                    )
            except (OSError, ValueError):
                continue  # it went away while we looked
        return found

    @contextmanager
    def open(self, asked: Asked) -> Iterator[Source]:
        self.check(asked)
        settings = read_settings(BlockSettings, asked.parameters)
        place = look(Path(asked.resource))
        if not settings.in_use and (use := mounted(place.path)):
            raise SourceError(
                f"{place.path} is {use}: what is written meanwhile would not fit together",
                remedy="Nothing was done. Unmount it, back up a snapshot of the volume (lvm:), or"
                " say in_use=true.",
            )
        yield device_tree(NAME, place, place.path, asked)

    def put_back(self, asked: Asked, kept: Kept) -> str:
        return put_device_back(asked, kept, NAME)


def device_tree(
    module: str,
    place: Place,
    known_as: Path,
    asked: Asked,
    *,
    ended: Callable[[], None] = lambda: None,
) -> StreamTree:
    """The tree of a device that may be known by another path than the one it is read from."""
    about = {"module": module, "path": str(known_as), "kind": place.kind, "size": place.size}
    files = [
        about_file(about),
        StreamFile(IMAGE_FILE, lambda entry: DeviceContent(place, entry)),
    ]
    return StreamTree(f"{module}{known_as}", files, now=asked.clock.now(), ended=ended)


def put_device_back(asked: Asked, kept: Kept, module: str) -> str:
    """Onto a device, or into an image file."""
    settings = read_settings(BlockDestination, asked.parameters)
    about = read_about(kept, module)
    path = Path(asked.resource or about["path"]).absolute()
    there = path.exists()
    if there and not settings.overwrite:
        raise RestoreError(
            f"there is something at {path}",
            remedy="Nothing was changed. If it may be written over, say overwrite=true.",
        )
    if there and not (path.is_block_device() or path.is_file()):
        raise RestoreError(f"{path} is neither a block device nor a file")
    onto_device = there and path.is_block_device()
    try:
        with kept.open(IMAGE_FILE) as source:
            (write_device if onto_device else write_image)(source, path, about["size"])
    except OSError as error:
        state = (
            "The device holds neither the old nor the new: write to it again before it is used."
            if onto_device
            else "What was there is as it was."
        )
        raise RestoreError(f"{path} cannot be written: {error.strerror}", remedy=state) from error
    onto = DEVICE if onto_device else "image file"
    return f"put {about['path']} ({about['kind']}) back onto {path} ({onto})"
