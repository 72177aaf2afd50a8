"""Reading a zip by its list at the end, which alone is believed; what stands before each member
must agree with it. Everything that the list says is checked before the first member is read:
names, sizes, proportions, and that no two members share bytes.
"""

from __future__ import annotations

import stat
import struct
import zlib
from array import array
from bisect import bisect_right
from calendar import timegm
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

from holdfast.core.errors import ArchiveRefusedError
from holdfast.repo.saving.intake_members import Kind, Member, MemberReader, safe_path, shown

if TYPE_CHECKING:
    from collections.abc import Iterator

_END = struct.Struct("<4s4H2IH")
_LOCATOR = struct.Struct("<4sIQI")
_END64 = struct.Struct("<4sQ2H2I4Q")
_CENTRAL = struct.Struct("<4s6H3I5H2I")
_LOCAL = struct.Struct("<4s5H3I2H")
_EXTRA = struct.Struct("<2H")
_MOST = 0xFFFF_FFFF
_MOST_COUNT = 0xFFFF
_LONGEST_COMMENT = 0xFFFF
_STORED, _DEFLATED = 0, 8
_ENCRYPTED, _UTF8 = 1 << 0, 1 << 11
_DOS, _UNIX = 0, 3
_AT_ONCE = 1000
"""Lines of the list that are read together, so that reading goes mostly forwards."""
_READ = 64 << 10
_LARGE = 256 << 10
_MAX_TARGET = 4096
_SECOND = 10**9
_RAW_DEFLATE = -15


class _Line(NamedTuple):
    """What the list says of a member."""

    name: bytes
    """as it stands there, which is how it must stand in front of the member"""
    made_on: int
    flags: int
    method: int
    crc: int
    packed: int
    size: int
    attributes: int
    mtime: int
    """nanoseconds"""
    offset: int
    """in the file"""


def zip_members(
    source: BinaryIO, start: int, *, max_entries: int, max_total: int, ratio: int, free: int
) -> Iterator[tuple[Member, MemberReader]]:
    """Each member with its content, which must be read before the next member is asked for. It may
    inflate to `free` bytes, and beyond that to `ratio` times what it has.

    Raises:
        ArchiveRefusedError: damaged, larger than allowed, or holding what may not be.
    """
    directory = _find_list(source, start)
    if directory.entries > max_entries:
        raise ArchiveRefusedError(f"the archive holds more than {max_entries} entries")
    offsets = _check(source, directory, max_total, ratio, free)
    for line in _lines(source, directory):
        member = _member(line)
        if member is None:
            continue
        following = bisect_right(offsets, line.offset)
        end = offsets[following] if following < len(offsets) else directory.start
        content = _Content(source, line, end)
        if member.kind is Kind.SYMLINK:
            member = member._replace(target=_target(line, content))
        yield member, content
        content.pass_over()


# --- the list -------------------------------------------------------------------------------------


class _List(NamedTuple):
    start: int
    length: int
    entries: int
    shift: int
    """of all offsets: bytes before the archive"""


def _find_list(source: BinaryIO, start: int) -> _List:
    end = source.seek(0, 2)
    at = max(start, end - _END.size - _LONGEST_COMMENT)
    source.seek(at)
    tail = source.read(end - at)
    place = tail.rfind(b"PK\5\6")
    while place >= 0:
        if len(tail) - place >= _END.size:
            fields = _END.unpack_from(tail, place)
            if place + _END.size + fields[-1] == len(tail):
                return _list_from(source, start, at + place, fields)
        place = tail.rfind(b"PK\5\6", 0, place)
    raise ArchiveRefusedError("the zip is cut short: the list at its end is missing")


def _list_from(source: BinaryIO, start: int, at: int, fields: tuple[int, ...]) -> _List:
    _, disk, list_disk, count_here, count, length, offset, _ = fields
    end = at
    if at - start >= _LOCATOR.size:
        source.seek(at - _LOCATOR.size)
        magic, _, end64_at, _ = _LOCATOR.unpack(source.read(_LOCATOR.size))
        if magic == b"PK\6\7" and (_MOST in {length, offset} or _MOST_COUNT in {count, count_here}):
            end = at - _LOCATOR.size - _END64.size
            if end < start or end64_at > end:
                raise _damaged("its end is nowhere")
            source.seek(end)
            (magic, _, _, _, disk, list_disk, count_here, count, length, offset) = _END64.unpack(
                source.read(_END64.size)
            )
            if magic != b"PK\6\6":
                raise _damaged("its end is nowhere")
    if disk or list_disk or count != count_here:
        raise ArchiveRefusedError("the zip is a part of one that was split")
    begins = end - length
    shift = begins - offset
    if begins < start or shift < start or length < count * _CENTRAL.size:
        raise _damaged("its list is larger than the file")
    return _List(begins, length, count, shift)


def _damaged(why: str) -> ArchiveRefusedError:
    return ArchiveRefusedError(f"the zip is damaged: {why}")


def _lines(source: BinaryIO, directory: _List) -> Iterator[_Line]:
    at, end = directory.start, directory.start + directory.length
    left = directory.entries
    while left:
        source.seek(at)
        lines = []
        for _ in range(min(left, _AT_ONCE)):
            line, length = _read_line(source, directory.shift)
            at += length
            if at > end:
                raise _damaged("its list is longer than it says")
            lines.append(line)
        left -= len(lines)
        yield from lines
    if at != end:
        raise _damaged("its list is shorter than it says")


def _read_line(source: BinaryIO, shift: int) -> tuple[_Line, int]:
    (
        magic, made_by, _, flags, method, time, date, crc, packed, size,
        name_length, extra_length, comment_length, disk, _, attributes, offset,
    ) = _CENTRAL.unpack(_exactly(source, _CENTRAL.size))  # fmt: skip
    if magic != b"PK\1\2":
        raise _damaged("its list is none")
    name = _exactly(source, name_length)
    extra = _exactly(source, extra_length)
    _exactly(source, comment_length)
    mtime = _dos_time(date, time)
    for kind, value in _extras(extra):
        if kind == 1:
            packed, size, offset = _large(value, packed, size, offset)
        elif kind == 0x5455 and len(value) >= 5 and value[0] & 1:  # noqa: PLR2004  Info-ZIP's time
            mtime = int.from_bytes(value[1:5], "little", signed=True) * _SECOND
    if disk not in {0, _MOST_COUNT}:
        raise ArchiveRefusedError("the zip is a part of one that was split")
    line = _Line(
        name, made_by >> 8, flags, method, crc, packed, size, attributes, mtime, offset + shift
    )
    return line, _CENTRAL.size + name_length + extra_length + comment_length


def _exactly(source: BinaryIO, count: int) -> bytes:
    content = source.read(count)
    if len(content) != count:
        raise ArchiveRefusedError("the zip is cut short")
    return content


def _extras(extra: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at + _EXTRA.size <= len(extra):
        kind, length = _EXTRA.unpack_from(extra, at)
        at += _EXTRA.size + length
        if at > len(extra):
            raise _damaged("an extra field is longer than it may be")
        yield kind, extra[at - length : at]


def _large(value: bytes, packed: int, size: int, offset: int) -> tuple[int, int, int]:
    """Numbers of eight bytes, for those that do not fit four."""
    numbers = iter(struct.unpack(f"<{len(value) // 8}Q", value[: len(value) // 8 * 8]))
    try:
        size = next(numbers) if size == _MOST else size
        packed = next(numbers) if packed == _MOST else packed
        offset = next(numbers) if offset == _MOST else offset
    except StopIteration as error:
        raise _damaged("a size is missing") from error
    return packed, size, offset


def _dos_time(date: int, time: int) -> int:
    year, month, day = 1980 + (date >> 9), date >> 5 & 15, date & 31
    clock = (time >> 11, time >> 5 & 63, (time & 31) * 2)
    return timegm((year, min(max(month, 1), 12), max(day, 1), *clock)) * _SECOND


# --- checking -------------------------------------------------------------------------------------


def _check(source: BinaryIO, directory: _List, max_total: int, ratio: int, free: int) -> array[int]:
    """Where members begin, sorted, once nothing of what the list says is to be refused."""
    spans: list[tuple[int, int]] = []
    total = packed = 0
    for line in _lines(source, directory):
        _member(line)
        total += line.size
        packed += line.packed
        if total > max_total:
            raise ArchiveRefusedError(f"the archive holds more than {max_total} bytes")
        if line.size > max(ratio * line.packed, free):
            raise ArchiveRefusedError(
                f"{shown(line.name)} inflates to more than {ratio} times its size"
            )
        least = _LOCAL.size + len(line.name) + line.packed
        spans.append((line.offset, line.offset + least))
    if total > max(ratio * packed, free):
        raise ArchiveRefusedError(f"the archive inflates to more than {ratio} times its size")
    spans.sort()
    ends = directory.shift
    for begin, end in spans:
        if begin < ends:
            raise _damaged("two members share the same bytes")
        ends = end
    if ends > directory.start:
        raise _damaged("a member lies behind the end")
    return array("Q", [begin for begin, _ in spans])


def _member(line: _Line) -> Member | None:
    """What becomes of a line; None where it names nothing that is kept."""
    if line.flags & _ENCRYPTED:
        raise ArchiveRefusedError(f"{shown(line.name)} is encrypted")
    if line.method not in {_STORED, _DEFLATED}:
        raise ArchiveRefusedError(
            f"{shown(line.name)} is packed by method {line.method}; known are store and deflate"
        )
    if line.method == _STORED and line.packed != line.size:
        raise _damaged(f"{shown(line.name)} has two sizes")
    name = _real_name(line)
    path = safe_path(name)
    mode = line.attributes >> 16 if line.made_on == _UNIX else 0
    if name.endswith(b"/") or stat.S_ISDIR(mode):
        if line.size:
            raise _damaged(f"{shown(name)} is a directory with content")
        bits = stat.S_IMODE(mode) or 0o755
        return Member(path, Kind.DIRECTORY, 0, bits, line.mtime) if path else None
    if not path:
        raise ArchiveRefusedError(f"the archive holds a name that is refused: {shown(name)}")
    if stat.S_ISLNK(mode):
        if not 0 < line.size <= _MAX_TARGET:
            raise ArchiveRefusedError(f"{shown(name)} is a link to nothing")
        return Member(path, Kind.SYMLINK, 0, 0o777, line.mtime)
    if stat.S_IFMT(mode) not in {0, stat.S_IFREG}:
        raise ArchiveRefusedError(f"{shown(name)} is neither a file nor a directory nor a link")
    return Member(path, Kind.FILE, line.size, stat.S_IMODE(mode) or 0o644, line.mtime)


def _real_name(line: _Line) -> bytes:
    """The bytes of the name, where another system wrote it in its own way: as UTF-8, with
    slashes.
    """
    name = line.name
    if line.made_on == _DOS:
        name = name.replace(b"\\", b"/")
    if line.flags & _UTF8 or line.made_on == _UNIX or name.isascii():
        return name
    try:
        name.decode()
    except UnicodeDecodeError:
        return name.decode("cp437").encode()
    return name


# --- content --------------------------------------------------------------------------------------


class _Content:
    """The content of a member, to the end at most where the next begins."""

    def __init__(self, source: BinaryIO, line: _Line, end: int) -> None:
        self._source = source
        self._line = line
        source.seek(line.offset)
        (
            magic, _, flags, method, _, _, _, _, _, name_length, extra_length,
        ) = _LOCAL.unpack(_exactly(source, _LOCAL.size))  # fmt: skip
        if (
            magic != b"PK\3\4"
            or method != line.method
            or flags & _ENCRYPTED
            or name_length != len(line.name)
            or _exactly(source, name_length) != line.name
        ):
            raise _damaged(f"{shown(line.name)} is something else than the list says")
        self._at = line.offset + _LOCAL.size + name_length + extra_length
        if self._at + line.packed > end:
            raise _damaged("two members share the same bytes")
        source.seek(self._at)
        self._packed_left, self._left = line.packed, line.size
        self._crc = 0
        self._waiting = b""
        deflated = line.method == _DEFLATED
        self._inflater = zlib.decompressobj(_RAW_DEFLATE) if deflated else None

    def __call__(self, most: int) -> bytes:
        piece = b""
        while self._left and not piece:
            piece = self._inflate(most) if self._inflater else self._read(most)
        self._left -= len(piece)
        self._crc = zlib.crc32(piece, self._crc)
        if not self._left and (piece or not self._line.size) and self._crc != self._line.crc:
            raise _damaged(f"the content of {shown(self._line.name)} has another checksum")
        return piece

    def _read(self, most: int) -> bytes:
        count = min(most, self._packed_left)
        self._packed_left -= count
        return _exactly(self._source, count)

    def _inflate(self, most: int) -> bytes:
        assert self._inflater is not None
        if not self._waiting:
            self._waiting = self._read(_READ)
        at_end = not self._waiting
        try:
            piece = self._inflater.decompress(self._waiting, min(most, self._left + 1, _LARGE))
        except zlib.error as error:
            name = shown(self._line.name)
            raise _damaged(f"the content of {name} does not inflate: {error}") from error
        self._waiting = self._inflater.unconsumed_tail
        if len(piece) > self._left or (not piece and (at_end or self._inflater.eof)):
            raise _damaged(f"{shown(self._line.name)} has another size than the list says")
        return piece

    def pass_over(self) -> None:
        while self(_LARGE):
            pass


def _target(line: _Line, content: _Content) -> bytes:
    target = b""
    while piece := content(_MAX_TARGET):
        target += piece
    if b"\0" in target:
        raise ArchiveRefusedError(f"{shown(line.name)} is a link to nothing")
    return target
