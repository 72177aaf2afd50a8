"""A zip, part by part (APPNOTE 6.3). What comes in one blob has its CRC and sizes in front; what
comes in several has the CRC, which only its end tells, in a descriptor behind it.
"""

from __future__ import annotations

import struct
import zlib
from time import gmtime
from typing import TYPE_CHECKING, NamedTuple

from holdfast.core.entries import Kind

if TYPE_CHECKING:
    from collections.abc import Iterator

    from holdfast.core.entries import Entry
    from holdfast.repo.browsing.archives_members import Member, Parts

_SECOND = 1_000_000_000
_LOCAL = struct.Struct("<4s5H3I2H")
_CENTRAL = struct.Struct("<4s6H3I5H2I")
_DESCRIPTOR = struct.Struct("<4s3I")
_DESCRIPTOR64 = struct.Struct("<4sI2Q")
_TIME_EXTRA = struct.Struct("<2HBi")
_SIZES_EXTRA = struct.Struct("<2H2Q")
_CENTRAL_EXTRA = struct.Struct("<2H3Q")
_END = struct.Struct("<4s4H2IH")
_END64 = struct.Struct("<4sQ2H2I4Q")
_LOCATOR = struct.Struct("<4sIQI")

_MOST, _MOST_MEMBERS = 0xFFFF_FFFF, 0xFFFF
_LATER, _UTF8 = 1 << 3, 1 << 11
_STORED, _DEFLATED = 0, 8
_PLAIN, _ZIP64 = 20, 45
_MADE_BY_UNIX = 3 << 8
_DOS_DIRECTORY = 0x10
_FIRST_YEAR, _LAST_YEAR = 1980, 2107
_LEVEL = 6
_RAW_DEFLATE = -15


class Label(NamedTuple):
    """What is said of a member in front of it and in the list at the end."""

    name: bytes
    mode: int
    mtime: int
    """nanoseconds"""
    size: int
    later: bool
    """its CRC follows behind the content"""
    deflated: bool = False

    @property
    def large(self) -> bool:
        """Whether its sizes need eight bytes each. Deflating may add a little."""
        return self.size + (self.size >> 8 if self.deflated else 0) >= _MOST

    @property
    def _flags(self) -> int:
        flags = _LATER if self.later else 0
        if not self.name.isascii():
            try:
                self.name.decode()
                flags |= _UTF8
            except UnicodeDecodeError:
                pass
        return flags

    def _common(self) -> tuple[int, int, int, int, int]:
        """Version, flags, method, time and date."""
        at = gmtime(max(self.mtime // _SECOND, 0))
        year = min(max(at.tm_year, _FIRST_YEAR), _LAST_YEAR)
        return (
            _ZIP64 if self.large else _PLAIN,
            self._flags,
            _DEFLATED if self.deflated else _STORED,
            at.tm_hour << 11 | at.tm_min << 5 | at.tm_sec // 2,
            (year - _FIRST_YEAR) << 9 | at.tm_mon << 5 | at.tm_mday,
        )

    def _time_extra(self) -> bytes:
        """The time of change in UTC, which the DOS date leaves open."""
        seconds = self.mtime // _SECOND
        if -(1 << 31) <= seconds < 1 << 31:
            return _TIME_EXTRA.pack(0x5455, 5, 1, seconds)
        return b""

    def local(self, crc: int, stored: int) -> bytes:
        """The header in front; `crc` 0 where it follows behind, `stored` 0 where that is not
        known yet.
        """
        sizes, extra = (stored, self.size), self._time_extra()
        if self.later and self.deflated:
            sizes = (0, 0)
        if self.large:
            extra += _SIZES_EXTRA.pack(1, 16, sizes[1], sizes[0])
            sizes = (_MOST, _MOST)
        lengths = (len(self.name), len(extra))
        return _LOCAL.pack(b"PK\3\4", *self._common(), crc, *sizes, *lengths) + self.name + extra

    def descriptor(self, crc: int, stored: int) -> bytes:
        """What follows behind the content."""
        if not self.later:
            return b""
        form = _DESCRIPTOR64 if self.large else _DESCRIPTOR
        return form.pack(b"PK\7\x08", crc, stored, self.size)

    def central(self, crc: int, stored: int, offset: int) -> bytes:
        """The line in the list at the end."""
        extra = self._time_extra()
        sizes = (stored, self.size)
        if self.large or offset >= _MOST:
            extra += _CENTRAL_EXTRA.pack(1, 24, self.size, stored, offset)
            sizes, offset = (_MOST, _MOST), _MOST
        version, *common = self._common()
        if offset == _MOST:
            version = _ZIP64
        attributes = self.mode << 16 | (_DOS_DIRECTORY if self.name.endswith(b"/") else 0)
        return (
            _CENTRAL.pack(
                b"PK\1\2", _MADE_BY_UNIX | version, version, *common, crc, *sizes,
                len(self.name), len(extra), 0, 0, 0, attributes & _MOST, offset,
            )
            + self.name
            + extra
        )  # fmt: skip


def label_of(member: Member, *, deflate: bool = False) -> Label:
    path, entry, size, blobs, _ = member
    name = path + b"/" if entry.kind is Kind.DIR else path
    own = inner_content(entry)
    return Label(
        name,
        entry.mode,
        entry.mtime,
        len(own) if own else size,
        later=blobs > 1,
        deflated=deflate and blobs > 0,
    )


def inner_content(entry: Entry) -> bytes:
    """The content of what has no blobs: a link's is its target."""
    return entry.linktarget or b"" if entry.kind is Kind.SYMLINK else b""


def ending(members: int, offset: int, length: int) -> bytes:
    """What comes behind the list, which begins at `offset` and has so many bytes."""
    end = b""
    if members >= _MOST_MEMBERS or offset >= _MOST or length >= _MOST:
        own = _END64.size - 12
        versions = (_MADE_BY_UNIX | _ZIP64, _ZIP64)
        end = _END64.pack(
            b"PK\6\6", own, *versions, 0, 0, members, members, length, offset
        ) + _LOCATOR.pack(b"PK\6\7", 0, offset + length, 1)
        members, offset = min(members, _MOST_MEMBERS), min(offset, _MOST)
        length = min(length, _MOST)
    return end + _END.pack(b"PK\5\6", 0, 0, members, members, length, offset, 0)


def zip_parts(read: Parts, *, compress: bool) -> Iterator[bytes]:
    """Of what `Members.wanted` wants. The list at the end grows in memory, some hundred bytes for
    each member.
    """
    central = bytearray()
    members = offset = 0
    current: _Open | None = None
    while batch := read.next():
        for member, content in batch:
            if member is not None:
                current = _Open(label_of(member, deflate=compress), offset)
                content = content or inner_content(member.entry)
            assert current is not None
            for part in current.take(content):
                offset += len(part)
                yield part
            if current.complete:
                central += current.central()
                members += 1
    for at in range(0, len(central), 1 << 20):
        yield bytes(central[at : at + (1 << 20)])
    yield ending(members, offset, len(central))


class _Open:
    """A member that is being written."""

    def __init__(self, label: Label, offset: int) -> None:
        self._label = label
        self._offset = offset
        self._crc = self._raw = self._stored = 0
        self._begun = False
        deflate = zlib.compressobj(_LEVEL, zlib.DEFLATED, _RAW_DEFLATE)
        self._deflater = deflate if label.deflated else None

    @property
    def complete(self) -> bool:
        return self._raw == self._label.size

    def take(self, content: bytes) -> Iterator[bytes]:
        """The next of the content, with what belongs before and behind it."""
        label = self._label
        self._crc = zlib.crc32(content, self._crc)
        self._raw += len(content)
        packed = content
        if self._deflater is not None:
            packed = self._deflater.compress(content)
            if self.complete:
                packed += self._deflater.flush()
        self._stored += len(packed)
        if not self._begun:
            self._begun = True
            known = label.later and not label.deflated
            yield label.local(
                0 if label.later else self._crc, label.size if known else self._stored
            )
        if packed:
            yield packed
        if self.complete:
            yield label.descriptor(self._crc, self._stored)

    def central(self) -> bytes:
        return self._label.central(self._crc, self._stored, self._offset)
