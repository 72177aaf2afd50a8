"""ZIP as a stream: append members, add the directory at the end, read one member of a million
without holding the rest.

The standard library keeps every member of an archive in memory and cannot copy members as they
are. Here members are
written one after the other, the central directory is a stream of its own, and extending an
archive copies the old bytes.
"""

from __future__ import annotations

import calendar
import os
import struct
import time
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, Protocol

from holdfast.sources.restapi.project.place import damaged

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

STORED = 0
DEFLATED = 8


class Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


_LOCAL = struct.Struct("<4s5H3I2H")
_CENTRAL = struct.Struct("<4s6H3I5H2I")
_END = struct.Struct("<4s4H2IH")
_END64 = struct.Struct("<4sQ2H2I4Q")
_LOCATOR = struct.Struct("<4sIQI")
_LIMIT = 0xFFFFFFFF
_COUNT_LIMIT = 0xFFFF
_ZIP64 = 1
_TIMES = 0x5455
_MODE = 0o100600 << 16
_UTF8 = 0x800
_CHUNK = 1 << 20
_AHEAD = 1 << 16


@dataclass(frozen=True, slots=True)
class Member:
    """One stored thing. `offset` is that of its local header, `time` nanoseconds since 1970."""

    name: str
    method: int
    crc: int
    packed: int
    size: int
    offset: int
    time: int


@dataclass(frozen=True, slots=True)
class Directory:
    """Where the central directory lies and how many members it lists."""

    start: int
    size: int
    count: int


def write_member(
    out: BinaryIO, name: str, body: bytes, *, level: int | None, now: int, offset: int
) -> Member:
    """Appends one member at `offset`, deflated at `level` or stored when it is None."""
    if level is None:
        method, packed = STORED, body
    else:
        method, packed = DEFLATED, _deflate(body, level)
    member = Member(name, method, zlib.crc32(body), len(packed), len(body), offset, now)
    out.seek(offset)
    out.write(_local_header(member, wide=False) + packed)
    return member


def write_stream(
    out: BinaryIO, name: str, source: Readable, *, level: int | None, now: int, offset: int
) -> Member:
    """Appends a member of any size in flat memory; its header is completed when the size is
    known.
    """
    draft = Member(name, STORED if level is None else DEFLATED, 0, 0, 0, offset, now)
    header = _local_header(draft, wide=True)
    out.seek(offset)
    out.write(header)
    squeeze = None if level is None else zlib.compressobj(level, zlib.DEFLATED, -15)
    crc = size = packed = 0
    while chunk := source.read(_CHUNK):
        crc = zlib.crc32(chunk, crc)
        size += len(chunk)
        piece = squeeze.compress(chunk) if squeeze else chunk
        packed += len(piece)
        out.write(piece)
    if squeeze:
        tail = squeeze.flush()
        packed += len(tail)
        out.write(tail)
    member = Member(name, draft.method, crc, packed, size, offset, now)
    out.seek(offset)
    out.write(_local_header(member, wide=True))
    return member


def end_of(member: Member, *, wide: bool) -> int:
    """Offset of the first byte after a member that was written by this module."""
    return member.offset + len(_local_header(member, wide=wide)) + member.packed


def central_record(member: Member, *, shift: int = 0) -> bytes:
    """The directory's line about a member that lies `shift` bytes further back than it says."""
    name = member.name.encode()
    offset = member.offset + shift
    wide = b"".join(
        struct.pack("<Q", value)
        for value in (member.size, member.packed, offset)
        if value >= _LIMIT
    )
    extra = _times_extra(member.time)
    if wide:
        extra = struct.pack("<2H", _ZIP64, len(wide)) + wide + extra
    clock, day = _dos_time(member.time)
    need = 45 if wide else 20
    return (
        _CENTRAL.pack(
            b"PK\1\2", (3 << 8) | need, need, _UTF8, member.method, clock, day, member.crc,
            min(member.packed, _LIMIT), min(member.size, _LIMIT), len(name), len(extra), 0, 0, 0,
            _MODE, min(offset, _LIMIT),
        )
        + name
        + extra
    )  # fmt: skip


def write_directory(out: BinaryIO, records: Iterable[bytes], *, start: int) -> None:
    """Writes the central directory at `start` and cuts the file after it."""
    out.seek(start)
    count = size = 0
    for record in records:
        out.write(record)
        count += 1
        size += len(record)
    if count >= _COUNT_LIMIT or size >= _LIMIT or start >= _LIMIT:
        out.write(_END64.pack(b"PK\6\6", 44, (3 << 8) | 45, 45, 0, 0, count, count, size, start))
        out.write(_LOCATOR.pack(b"PK\6\7", 0, start + size, 1))
    out.write(
        _END.pack(
            b"PK\5\6", 0, 0, min(count, _COUNT_LIMIT), min(count, _COUNT_LIMIT),
            min(size, _LIMIT), min(start, _LIMIT), 0,
        )
    )  # fmt: skip
    out.truncate()


def find_directory(archive: BinaryIO) -> Directory:
    """Where the central directory is.

    Raises:
        DamagedError: there is none; the archive was cut off.
    """
    length = archive.seek(0, os.SEEK_END)
    tail_at = max(0, length - _END.size - 0xFFFF)
    archive.seek(tail_at)
    tail = archive.read()
    at = tail.rfind(b"PK\5\6")
    if at < 0 or len(tail) - at < _END.size:
        raise damaged("the archive has no directory at its end; it was cut off")
    _, _, _, _, count, size, start, _ = _END.unpack_from(tail, at)
    locator = at - _LOCATOR.size
    if locator >= 0 and tail[locator : locator + 4] == b"PK\6\7":
        archive.seek(_LOCATOR.unpack_from(tail, locator)[2])
        fields = _END64.unpack(_exactly(archive, _END64.size))
        count, size, start = fields[7], fields[8], fields[9]
    if start + size > tail_at + at:
        raise damaged("the archive's directory points outside the file")
    return Directory(start, size, count)


def read_directory(archive: BinaryIO, directory: Directory) -> Iterator[tuple[Member, bytes]]:
    """Each member with the raw bytes of its directory record, in the archive's order, in flat
    memory.

    Raises:
        DamagedError: a record is not one.
    """
    at, held = directory.start, memoryview(b"")

    def taken(length: int) -> memoryview:
        """The next bytes; read many at a time, since the caller may read elsewhere meanwhile."""
        nonlocal at, held
        if len(held) < length:
            archive.seek(at)
            held = memoryview(archive.read(max(length, _AHEAD)))
            if len(held) < length:
                raise damaged("the archive is shorter than its directory says")
        at += length
        found, held = held[:length], held[length:]
        return found

    for _ in range(directory.count):
        fixed = taken(_CENTRAL.size)
        fields = _CENTRAL.unpack(fixed)
        if fields[0] != b"PK\1\2":
            raise damaged("the archive's directory is damaged")
        name_length = fields[10]
        rest = bytes(taken(name_length + fields[11] + fields[12]))
        name = rest[:name_length].decode("utf-8" if fields[3] & _UTF8 else "cp437", "replace")
        extra = rest[name_length : name_length + fields[11]]
        packed, size, offset = _wide_values(extra, packed=fields[8], size=fields[9], at=fields[16])
        seconds = _seconds(extra, clock=fields[5], day=fields[6])
        yield (
            Member(name, fields[4], fields[7], packed, size, offset, seconds * 10**9),
            bytes(fixed) + rest,
        )


def open_member(archive: BinaryIO, member: Member) -> Iterator[bytes]:
    """The member's content in pieces, checked against its size and CRC at the end (I4).

    Raises:
        DamagedError: it is not what was stored.
    """
    at, inflate = _begin(archive, member)
    left, size, crc = member.packed, 0, 0
    while left:
        archive.seek(at)
        raw = _exactly(archive, min(left, _CHUNK))
        at += len(raw)
        left -= len(raw)
        for piece in _unpack(inflate, raw, member.name):
            size += len(piece)
            if size > member.size:
                raise damaged(f"{member.name} is longer than the archive says")
            crc = zlib.crc32(piece, crc)
            yield piece
    _check(member, size=size, crc=crc, inflate=inflate)


def _begin(archive: BinaryIO, member: Member) -> tuple[int, zlib._Decompress | None]:
    """Where the member's bytes lie, and what unpacks them."""
    archive.seek(member.offset)
    header = _LOCAL.unpack(_exactly(archive, _LOCAL.size))
    if header[0] != b"PK\3\4":
        raise damaged(f"{member.name} is not where the archive's directory says")
    if member.method not in {STORED, DEFLATED}:
        raise damaged(f"{member.name} is packed with method {member.method}, which is not read")
    at = member.offset + _LOCAL.size + header[9] + header[10]
    return at, zlib.decompressobj(-15) if member.method == DEFLATED else None


def _check(member: Member, *, size: int, crc: int, inflate: zlib._Decompress | None) -> None:
    ended = inflate is None or inflate.eof
    if size != member.size or crc != member.crc or not ended:
        raise damaged(f"{member.name} is damaged: its checksum does not match")


def read_member(archive: BinaryIO, member: Member) -> bytes:
    """The whole content, checked.

    Raises:
        DamagedError: it is not what was stored.
    """
    if max(member.packed, member.size) > _CHUNK:
        return b"".join(open_member(archive, member))
    at, inflate = _begin(archive, member)
    archive.seek(at)
    body = _exactly(archive, member.packed)
    if inflate is not None:
        try:
            body = inflate.decompress(body, member.size + 1)
        except zlib.error:
            raise damaged(f"{member.name} is damaged: it cannot be unpacked") from None
    _check(member, size=len(body), crc=zlib.crc32(body), inflate=inflate)
    return body


def scan_members(archive: BinaryIO) -> Iterator[Member]:
    """Members of an archive that lost its directory, by walking the local headers from the start.

    Ends at the first thing that is not a whole member.
    """
    length = archive.seek(0, os.SEEK_END)
    at = 0
    while at + _LOCAL.size <= length:
        archive.seek(at)
        fields = _LOCAL.unpack(archive.read(_LOCAL.size))
        if fields[0] != b"PK\3\4" or fields[2] & 8:
            return
        rest = archive.read(fields[9] + fields[10])
        name = rest[: fields[9]].decode("utf-8" if fields[2] & _UTF8 else "cp437", "replace")
        extra = rest[fields[9] :]
        packed, size, _ = _wide_values(extra, packed=fields[7], size=fields[8], at=0)
        end = at + _LOCAL.size + len(rest) + packed
        if end > length:
            return
        seconds = _seconds(extra, clock=fields[4], day=fields[5])
        yield Member(name, fields[3], fields[6], packed, size, at, seconds * 10**9)
        at = end


def end_of_last(archive: BinaryIO, members: list[Member]) -> int:
    """First byte after the last of these members, by their local headers."""
    if not members:
        return 0
    archive.seek(members[-1].offset)
    fields = _LOCAL.unpack(_exactly(archive, _LOCAL.size))
    return members[-1].offset + _LOCAL.size + int(fields[9]) + int(fields[10]) + members[-1].packed


def copy_range(source: BinaryIO, out: BinaryIO, *, start: int, end: int) -> None:
    """Appends `source[start:end]` at the current end of `out`, inside the kernel where it can.

    Raises:
        DamagedError: the source is shorter.
    """
    out.flush()
    left = end - start
    if hasattr(os, "copy_file_range"):
        try:
            while left:
                done = os.copy_file_range(source.fileno(), out.fileno(), left, end - left)
                if not done:
                    break
                left -= done
        except OSError:
            pass  # another file system or an old kernel: the loop below copies or says why not
        out.seek(0, os.SEEK_END)
    while left:
        source.seek(end - left)
        chunk = source.read(min(left, _CHUNK))
        if not chunk:
            raise damaged("the archive became shorter while it was copied")
        out.write(chunk)
        left -= len(chunk)


def _deflate(body: bytes, level: int) -> bytes:
    squeeze = zlib.compressobj(level, zlib.DEFLATED, -15)
    return squeeze.compress(body) + squeeze.flush()


def _unpack(inflate: zlib._Decompress | None, raw: bytes, name: str) -> Iterator[bytes]:
    if inflate is None:
        yield raw
        return
    try:
        while raw:
            yield inflate.decompress(raw, _CHUNK)
            raw = inflate.unconsumed_tail
    except zlib.error:
        raise damaged(f"{name} is damaged: it cannot be unpacked") from None


def _local_header(member: Member, *, wide: bool) -> bytes:
    name = member.name.encode()
    extra = _times_extra(member.time)
    packed, size = member.packed, member.size
    if wide:
        extra = struct.pack("<2H2Q", _ZIP64, 16, size, packed) + extra
        packed = size = _LIMIT
    clock, day = _dos_time(member.time)
    return (
        _LOCAL.pack(
            b"PK\3\4", 45 if wide else 20, _UTF8, member.method, clock, day, member.crc,
            packed, size, len(name), len(extra),
        )
        + name
        + extra
    )  # fmt: skip


def _times_extra(now: int) -> bytes:
    return struct.pack("<2HBi", _TIMES, 5, 1, min(now // 10**9, 2**31 - 1))


def _dos_time(now: int) -> tuple[int, int]:
    year, month, day, hour, minute, second, *_ = time.gmtime(now // 10**9)
    if year < 1980:  # noqa: PLR2004 - the format's first year
        return 0, (1 << 5) | 1
    return (hour << 11) | (minute << 5) | (second // 2), ((year - 1980) << 9) | (month << 5) | day


def _seconds(extra: bytes, *, clock: int, day: int) -> int:
    """The exact time when the writer left one, else the coarse one of the format."""
    exact = _find_extra(extra, _TIMES)
    if len(exact) >= 5 and exact[0] & 1:  # noqa: PLR2004 - flags and one time
        return int(struct.unpack_from("<i", exact, 1)[0])
    return calendar.timegm(
        (
            (day >> 9) + 1980, (day >> 5) & 15, day & 31,
            clock >> 11, (clock >> 5) & 63, (clock & 31) * 2,
        )
    )  # fmt: skip


def _wide_values(extra: bytes, *, packed: int, size: int, at: int) -> tuple[int, int, int]:
    values = [size, packed, at]
    if _LIMIT not in values:
        return packed, size, at
    wide = _find_extra(extra, _ZIP64)
    position = 0
    for index, value in enumerate(values):
        if value == _LIMIT and position + 8 <= len(wide):
            values[index] = struct.unpack_from("<Q", wide, position)[0]
            position += 8
    return values[1], values[0], values[2]


def _find_extra(extra: bytes, wanted: int) -> bytes:
    at = 0
    while at + 4 <= len(extra):
        kind, length = struct.unpack_from("<2H", extra, at)
        if kind == wanted:
            return extra[at + 4 : at + 4 + length]
        at += 4 + length
    return b""


def _exactly(archive: BinaryIO, length: int) -> bytes:
    chunk = archive.read(length)
    if len(chunk) != length:
        raise damaged("the archive is shorter than its directory says")
    return chunk
