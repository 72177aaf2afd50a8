"""Reading a tar from a stream, header by header, with every length bounded before it is believed.

ustar, the POSIX (PAX) and GNU forms of long names and large numbers, and what came before them.
What is none of a file, a directory or a link is refused: it could not be given back. The standard
library's reader is for archives that one trusts: it takes a damaged header for the end.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, BinaryIO, NamedTuple

from holdfast.core.errors import ArchiveRefusedError
from holdfast.repo.saving.intake_members import Kind, Member, MemberReader, safe_path, shown

if TYPE_CHECKING:
    from collections.abc import Iterator

BLOCK = 512
_MAX_EXTENDED = 1 << 20
_MAX_IN_A_ROW = 8
"""Headers that say more about the header that follows."""
_ZEROS = bytes(BLOCK)
_SECOND = 10**9

_FILES = frozenset({b"0", b"\0", b"7"})
_LINK, _SYMLINK, _DIRECTORY = b"1", b"2", b"5"
_PAX, _PAX_OLD, _PAX_GLOBAL = b"x", b"X", b"g"
_LONG_NAME, _LONG_LINK = b"L", b"K"
_LABEL = b"V"
_NOUNS = {
    b"3": "a device", b"4": "a device", b"6": "a pipe", b"S": "a sparse file",
    b"M": "a part of a file", b"D": "a GNU dump directory",
}  # fmt: skip


def is_tar_header(block: bytes) -> bool:
    """Whether a tar may begin with this block; an empty tar begins with zeros."""
    if len(block) < BLOCK:
        return False
    return block[:BLOCK] == _ZEROS or _checksum_fits(block[:BLOCK])


def tar_members(stream: BinaryIO) -> Iterator[tuple[Member, MemberReader]]:
    """Each member with its content, which must be read before the next member is asked for.

    Raises:
        ArchiveRefusedError: damaged, cut short, or holding what may not be.
    """
    tar = _Tar(stream)
    while (header := tar.next_header()) is not None:
        member = _member(header)
        content = _Content(tar, header.size if member and member.kind is Kind.FILE else 0)
        if member is not None:
            yield member, content
        content.pass_over()
    while stream.read(1 << 16):
        pass  # a compressed stream has its checksum at its end


class _Header(NamedTuple):
    name: bytes
    kind: bytes
    size: int
    mode: int
    mtime: int
    """nanoseconds"""
    target: bytes


class _Tar:
    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream

    def read(self, count: int) -> bytes:
        """Exactly so many bytes."""
        parts = []
        while count:
            part = self._stream.read(count)
            if not part:
                raise ArchiveRefusedError("the archive is cut short")
            parts.append(part)
            count -= len(part)
        return b"".join(parts)

    def read_some(self, most: int) -> bytes:
        part = self._stream.read(most)
        if not part:
            raise ArchiveRefusedError("the archive is cut short")
        return part

    def next_header(self) -> _Header | None:
        """The header of the next member with all that was said before it; None at the end."""
        said: dict[bytes, bytes] = {}
        for _ in range(_MAX_IN_A_ROW):
            block = self.read(BLOCK)
            if block == _ZEROS:
                return None
            header = _parse(block)
            if header.kind in {_PAX, _PAX_OLD}:
                said |= _pax_records(self._extended(header))
            elif header.kind == _PAX_GLOBAL:
                self._extended(header)  # of the archive as a whole: comments, mostly
            elif header.kind == _LONG_NAME:
                said[b"path"] = self._extended(header).rstrip(b"\0")
            elif header.kind == _LONG_LINK:
                said[b"linkpath"] = self._extended(header).rstrip(b"\0")
            else:
                return _amended(header, said)
        raise ArchiveRefusedError("the archive is damaged: headers that lead to nothing")

    def _extended(self, header: _Header) -> bytes:
        if header.size > _MAX_EXTENDED:
            raise ArchiveRefusedError(f"the archive has a header of {header.size} bytes")
        padded = header.size + -header.size % BLOCK
        return self.read(padded)[: header.size]


class _Content:
    def __init__(self, tar: _Tar, size: int) -> None:
        self._tar = tar
        self._left = size
        self._padding = -size % BLOCK

    def __call__(self, most: int) -> bytes:
        if not self._left:
            return b""
        part = self._tar.read_some(min(most, self._left))
        self._left -= len(part)
        return part

    def pass_over(self) -> None:
        while self(1 << 16):
            pass
        self._tar.read(self._padding)


def _checksum_fits(block: bytes) -> bool:
    """Old writers summed signed bytes."""
    try:
        said = _number(block[148:156])
    except ArchiveRefusedError:
        return False
    spaces = 8 * ord(" ")
    rest = block[:148] + block[156:]
    unsigned = sum(rest) + spaces
    return said in {unsigned, unsigned - 256 * sum(byte > 127 for byte in rest)}  # noqa: PLR2004


def _number(field: bytes) -> int:
    """Octal digits, or a large number in binary with the first bit set."""
    if field[0] & 0x80:
        value = int.from_bytes(field, "big", signed=False) & ~(0x80 << 8 * (len(field) - 1))
        if field[0] & 0x40:  # negative, in two's complement
            value -= 1 << (8 * len(field) - 1)
        return value
    digits = field.split(b"\0")[0].strip()
    if not digits:
        return 0
    if not digits.isdigit() or any(digit > ord("7") for digit in digits):
        raise ArchiveRefusedError(
            "the archive is damaged: a header has no number where one must be"
        )
    return int(digits, 8)


def _parse(block: bytes) -> _Header:
    if not _checksum_fits(block):
        raise ArchiveRefusedError("the archive is damaged: the checksum of a header is wrong")
    name = block[:100].split(b"\0")[0]
    if block[257:263] == b"ustar\0" and block[345]:
        name = block[345:500].split(b"\0")[0] + b"/" + name
    size = _number(block[124:136])
    if size < 0:
        raise ArchiveRefusedError(f"the archive is damaged: {shown(name)} has less than no bytes")
    kind = block[156:157]
    if kind in _FILES and kind != b"7" and name.endswith(b"/"):
        kind = _DIRECTORY  # as it was before there was a letter for them
    return _Header(
        name,
        kind,
        size,
        _number(block[100:108]) & 0o7777,
        _number(block[136:148]) * _SECOND,
        block[157:257].split(b"\0")[0],
    )


def _pax_records(content: bytes) -> dict[bytes, bytes]:
    """Lines of `LENGTH KEY=VALUE`, the length being that of the whole line."""
    said: dict[bytes, bytes] = {}
    at = 0
    while at < len(content) and content[at]:
        space = content.find(b" ", at, at + 8)
        digits = content[at:space]
        end = at + int(digits) if space > 0 and digits.isdigit() else 0
        key, equals, value = content[space + 1 : end - 1].partition(b"=")
        if not space < end <= len(content) or content[end - 1] != ord("\n") or not equals:
            raise ArchiveRefusedError("the archive is damaged: an extended header is none")
        said[key] = value
        at = end
    return said


def _amended(header: _Header, said: dict[bytes, bytes]) -> _Header:
    """The header with what extended headers said of it."""
    if any(key.startswith(b"GNU.sparse.") for key in said):
        raise ArchiveRefusedError(f"{shown(header.name)} is a sparse file; make the tar without -S")
    if b"path" in said:
        header = header._replace(name=said[b"path"])
    if b"linkpath" in said:
        header = header._replace(target=said[b"linkpath"])
    if b"size" in said:
        if not said[b"size"].isdigit():
            raise ArchiveRefusedError("the archive is damaged: a size is no number")
        header = header._replace(size=int(said[b"size"][:20]))
    if b"mtime" in said:
        header = header._replace(mtime=_nanoseconds(said[b"mtime"]))
    return header


def _nanoseconds(text: bytes) -> int:
    whole, _, fraction = text.partition(b".")
    digits = whole.removeprefix(b"-")
    if not digits.isdigit() or len(digits) > 18 or not (fraction.isdigit() or not fraction):  # noqa: PLR2004
        raise ArchiveRefusedError("the archive is damaged: a time is no number")
    value = int(digits) * _SECOND + int(fraction[:9].ljust(9, b"0") if fraction else 0)
    return -value if whole.startswith(b"-") else value


def _member(header: _Header) -> Member | None:
    """What becomes of a header; None where it names nothing that is kept."""
    name, kind, size, mode, mtime, target = header
    if kind == _LABEL:
        return None
    if kind == _DIRECTORY and not name.strip(b"/"):
        return None  # the top itself, as Python's tarfile writes it for an empty name
    path = safe_path(name)
    if kind == _DIRECTORY:
        return Member(path, Kind.DIRECTORY, 0, mode, mtime) if path else None
    if not path:
        raise ArchiveRefusedError(f"the archive holds a name that is refused: {shown(name)}")
    if kind in _FILES:
        return Member(path, Kind.FILE, size, mode, mtime)
    if kind == _SYMLINK:
        if not target or b"\0" in target:
            raise ArchiveRefusedError(f"{shown(path)} is a link to nothing")
        return Member(path, Kind.SYMLINK, 0, 0o777, mtime, target)
    if kind == _LINK:
        return Member(path, Kind.COPY, 0, mode, mtime, safe_path(target))
    noun = _NOUNS.get(kind, "something unknown")
    raise ArchiveRefusedError(f"{shown(path)} is {noun}, which cannot be kept")
