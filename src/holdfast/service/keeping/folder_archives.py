"""A folder of a plain pool as one archive, made on the fly: the first bytes come at once, and
memory does not grow with its size.

Names keep their bytes in a tar; in a zip, what is not UTF-8 is escaped with backslashes.
"""

from __future__ import annotations

import io
import lzma
import os
import tarfile
import zipfile
import zlib
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from time import gmtime
from typing import TYPE_CHECKING, Final

from holdfast.core.entries import Kind
from holdfast.core.errors import InvalidError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from concurrent.futures import Future

    from holdfast.service.keeping.contract import Buffer
    from holdfast.service.keeping.lists import Member

    Entries = Iterator[tuple[Member, Iterator[Buffer]]]

FORMATS: Final = ("tar", "tar.gz", "tar.xz", "zip")
_SECOND: Final = 1_000_000_000
_RECORD: Final = 512
_TAR_TYPES: Final = {
    Kind.FILE: tarfile.REGTYPE,
    Kind.DIR: tarfile.DIRTYPE,
    Kind.SYMLINK: tarfile.SYMTYPE,
}
_GZIP: Final = 31
"""zlib's word for a window of 32 KiB with gzip's header"""
_XZ_PRESET: Final = 1
_XZ_FIRST: Final = 64 << 10
"""The first block is small, so that something comes soon."""
_XZ_BLOCK: Final = 1 << 20
_ZIP_YEARS: Final = (1980, 2107)


def archive(entries: Entries, format_: str) -> Iterator[Buffer]:
    """The bytes of an archive in one of the `FORMATS`. Close the generator when leaving early.

    Raises:
        DamagedError, StoreError: in the middle, what reading the content raises.
    """
    makers: dict[str, Callable[[Entries], Iterator[Buffer]]] = {
        "tar": _tar,
        "tar.gz": lambda entries: _gzipped(_tar(entries)),
        "tar.xz": lambda entries: _xz(_tar(entries)),
        "zip": _zip,
    }
    return makers[format_](entries)


def check_format(format_: str) -> None:
    """Raises InvalidError for one that is not known."""
    if format_ not in FORMATS:
        known = ", ".join(FORMATS)
        raise InvalidError(f"there is no archive format {format_!r}; known are {known}")


def _tar(entries: Entries) -> Iterator[Buffer]:
    written = 0
    for member, content in entries:
        header = _tar_member(member).tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")
        yield header
        yield from content
        size = member.content.size if member.content else 0
        padding = bytes(-size % _RECORD)
        yield padding
        written += len(header) + size + len(padding)
    end = 2 * _RECORD
    yield bytes(end + -(written + end) % tarfile.RECORDSIZE)


def _tar_member(member: Member) -> tarfile.TarInfo:
    info = tarfile.TarInfo(os.fsdecode(member.path))
    info.type = _TAR_TYPES[member.kind]
    info.mode = member.mode & 0o7777
    info.size = member.content.size if member.content else 0
    info.linkname = os.fsdecode(member.target)
    info.mtime = member.mtime // _SECOND
    if member.mtime % _SECOND:
        info.pax_headers = {"mtime": f"{member.mtime / _SECOND:.9f}"}
    return info


def _gzipped(pieces: Iterator[Buffer]) -> Iterator[Buffer]:
    packer = zlib.compressobj(wbits=_GZIP)
    for piece in pieces:
        yield packer.compress(piece)
    yield packer.flush()


def _xz(pieces: Iterator[Buffer]) -> Iterator[Buffer]:
    """Blocks are packed in as many threads as there are cores; each is a stream of its own, which
    every reader of the format takes for one.
    """
    cores = len(os.sched_getaffinity(0))
    waiting: deque[Future[bytes]] = deque()
    with ThreadPoolExecutor(cores, thread_name_prefix="xz") as packers:
        try:
            for block in _blocks(pieces):
                waiting.append(packers.submit(lzma.compress, block, preset=_XZ_PRESET))
                while waiting and (len(waiting) > cores or waiting[0].done()):
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            packers.shutdown(cancel_futures=True)


def _blocks(pieces: Iterator[Buffer]) -> Iterator[bytes]:
    gathered, wanted = bytearray(), _XZ_FIRST
    for piece in pieces:
        gathered += piece
        while len(gathered) >= wanted:
            yield bytes(gathered[:wanted])
            del gathered[:wanted]
            wanted = _XZ_BLOCK
    yield bytes(gathered)


class _Sink(io.RawIOBase):
    """Where a zip is written to, to be drained piece by piece. It cannot go back."""

    def __init__(self) -> None:
        self._gathered: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, content: Buffer, /) -> int:  # type: ignore[override]  # one kind less
        self._gathered.append(bytes(content))
        return len(content)

    def drain(self) -> bytes:
        gathered, self._gathered = self._gathered, []
        return b"".join(gathered)


def _zip(entries: Entries) -> Iterator[Buffer]:
    sink = _Sink()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_STORED) as packed:
        for member, content in entries:
            with packed.open(_zip_member(member), "w", force_zip64=_is_large(member)) as into:
                into.write(member.target)
                for piece in content:
                    into.write(piece)
                    yield sink.drain()
            yield sink.drain()
    yield sink.drain()


def _zip_member(member: Member) -> zipfile.ZipInfo:
    name = member.path.decode("utf-8", "backslashreplace")
    at = gmtime(max(member.mtime // _SECOND, 0))
    year = min(max(at.tm_year, _ZIP_YEARS[0]), _ZIP_YEARS[1])
    when = (year, at.tm_mon, at.tm_mday, at.tm_hour, at.tm_min, at.tm_sec)
    info = zipfile.ZipInfo(name + "/" if member.kind is Kind.DIR else name, when)
    info.create_system = 3  # Unix: the mode is in the upper half
    info.external_attr = (member.mode | _UNIX_TYPES[member.kind]) << 16
    if member.kind is Kind.DIR:
        info.external_attr |= 0x10
    return info


_UNIX_TYPES: Final = {Kind.FILE: 0o100000, Kind.DIR: 0o040000, Kind.SYMLINK: 0o120000}


def _is_large(member: Member) -> bool:
    return member.content is not None and member.content.size >= zipfile.ZIP64_LIMIT
