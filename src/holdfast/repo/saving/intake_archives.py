"""Receiving archives: an uploaded tar or zip becomes the files that it holds.

What an archive says is not trusted. Names that lead anywhere are refused, links are kept and never
followed, and what inflates out of proportion is refused before it is written. A tar may come as a
stream; a zip keeps its list at the end and is read by ranges from something kept already
(`FileStream.as_file`), never by what its local headers claim.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, BinaryIO

from holdfast.core.errors import ArchiveRefusedError
from holdfast.repo.saving.intake_inflate import FREE, Compression, Inflated
from holdfast.repo.saving.intake_members import Kind, Member, MemberReader
from holdfast.repo.saving.intake_tar import BLOCK, is_tar_header, tar_members
from holdfast.repo.saving.intake_zip import zip_members

if TYPE_CHECKING:
    from collections.abc import Iterator

    from holdfast.repo.saving.intake_uploads import TreeSession

SNIFF = BLOCK
"""Bytes from the beginning that tell what an archive is."""
_PIECE = 256 << 10


class Packing(StrEnum):
    """What content says it is, whatever its name."""

    TAR = "tar"
    TAR_GZ = "tar.gz"
    TAR_XZ = "tar.xz"
    TAR_BZ2 = "tar.bz2"
    TAR_ZST = "tar.zst"
    ZIP = "zip"


_COMPRESSIONS = {
    Packing.TAR_GZ: Compression.GZIP,
    Packing.TAR_XZ: Compression.XZ,
    Packing.TAR_BZ2: Compression.BZIP2,
    Packing.TAR_ZST: Compression.ZSTD,
}
_BEGINNINGS = {
    b"PK\3\4": Packing.ZIP,
    b"PK\5\6": Packing.ZIP,
    b"\x1f\x8b\x08": Packing.TAR_GZ,
    b"\xfd7zXZ\0": Packing.TAR_XZ,
    b"BZh": Packing.TAR_BZ2,
    b"\x28\xb5\x2f\xfd": Packing.TAR_ZST,
}


@dataclass(frozen=True, slots=True)
class Limits:
    """What an archive may be at most; beyond it, ArchiveRefusedError."""

    total: int
    """Bytes of content of all its files together."""
    entries: int = 1_000_000
    ratio: int = 100
    """Times that it may inflate, beyond `free` bytes."""
    free: int = FREE
    links: bool = True
    """Whether symbolic links are taken; False refuses the archive that has one."""


@dataclass(frozen=True, slots=True)
class Received:
    packing: Packing
    entries: int
    files: int
    size: int
    """bytes of content"""
    tops: frozenset[bytes]
    """the names that have no folder above them"""


def sniff(beginning: bytes) -> Packing | None:
    """What an archive that begins with these bytes (SNIFF, or all there are) is; None where it is
    none. That a compressed stream holds a tar shows only when it is received.
    """
    if is_tar_header(beginning):
        return Packing.TAR
    for magic, packing in _BEGINNINGS.items():
        if beginning.startswith(magic):
            return packing
    return None


def receive(source: BinaryIO, session: TreeSession, limits: Limits) -> Received:
    """Reads an archive from the present position of `source` to its end, and gives its members to
    `session`, which is left to the caller to commit, or to abandon where this raises.

    A zip needs a `source` that can seek; anything else is read as it comes.

    Raises:
        ArchiveRefusedError: it is none, is damaged or cut short, has a name, a link or a member
        that may not be, or is larger than `limits` say.
        OSError, HoldfastError: what `source` or `session` raises.
    """
    beginning = _read_up_to(source, SNIFF)
    packing = sniff(beginning)
    if packing is None:
        raise ArchiveRefusedError(
            "this is neither a zip nor a tar (plain, or packed by gzip, xz, bzip2 or zstd)"
        )
    if packing is Packing.ZIP:
        if not source.seekable():
            raise ArchiveRefusedError(
                "a zip cannot be unpacked as it comes: its list is at its end",
                remedy="Nothing was kept. Send a tar, or keep the zip as a file.",
            )
        start = source.tell() - len(beginning)
        members = zip_members(
            source,
            start,
            max_entries=limits.entries,
            max_total=limits.total,
            ratio=limits.ratio,
            free=limits.free,
        )
    else:
        stream: io.RawIOBase = _Prefixed(beginning, source)
        if packing in _COMPRESSIONS:
            compression = _COMPRESSIONS[packing]
            stream = Inflated(stream, compression, ratio=limits.ratio, free=limits.free)
        members = tar_members(io.BufferedReader(stream, _PIECE))
    return _take(members, packing, session, limits)


def _read_up_to(source: BinaryIO, count: int) -> bytes:
    parts = []
    while count:
        part = source.read(count)
        if not part:
            break
        parts.append(part)
        count -= len(part)
    return b"".join(parts)


class _Prefixed(io.RawIOBase):
    """A stream of which the beginning has been read already."""

    def __init__(self, beginning: bytes, rest: BinaryIO) -> None:
        super().__init__()
        self._beginning = memoryview(beginning)
        self._rest = rest

    def readable(self) -> bool:
        return True

    def readinto(self, room: Any, /) -> int:
        room = memoryview(room).cast("B")
        part = self._beginning[: len(room)]
        if part:
            self._beginning = self._beginning[len(part) :]
        else:
            part = memoryview(self._rest.read(len(room)))
        room[: len(part)] = part
        return len(part)


def _take(
    members: Iterator[tuple[Member, MemberReader]],
    packing: Packing,
    session: TreeSession,
    limits: Limits,
) -> Received:
    entries = files = size = 0
    tops = set()
    for member, content in members:
        entries += 1
        size += member.size
        tops.add(member.path.partition(b"/")[0])
        if entries > limits.entries:
            raise ArchiveRefusedError(f"the archive holds more than {limits.entries} entries")
        if size > limits.total:
            raise ArchiveRefusedError(f"the archive holds more than {limits.total} bytes")
        if member.kind is Kind.FILE:
            files += 1
            with session.file(member.path, mode=member.mode, mtime=member.mtime) as file:
                while piece := content(_PIECE):
                    file.write(piece)
        elif member.kind is Kind.DIRECTORY:
            session.directory(member.path, mode=member.mode, mtime=member.mtime)
        elif member.kind is Kind.SYMLINK:
            if not limits.links:
                raise ArchiveRefusedError(f"{member.shown} is a link; links are not taken here")
            session.symlink(member.path, member.target, mtime=member.mtime)
        else:
            files += 1
            session.copy(member.path, member.target)
    return Received(packing, entries, files, size, frozenset(tops))
