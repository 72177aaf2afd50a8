"""A folder of a plain pool as one archive, made on the fly: the first bytes come at once, and
memory does not grow with its size.
"""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING, Final

from holdfast.core.entries import Entry, Kind
from holdfast.core.errors import InvalidError
from holdfast.repo.browsing import archives_members
from holdfast.repo.browsing.archives import ArchiveFormat, gathered
from holdfast.repo.browsing.archives_packed import Gzip, Xz, packed
from holdfast.repo.browsing.archives_tar import tar_parts
from holdfast.repo.browsing.archives_zip import zip_parts

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator, Sequence

    from holdfast.service.keeping.contract import Buffer
    from holdfast.service.keeping.lists import Member

FORMATS: Final = tuple(str(form) for form in ArchiveFormat if form != ArchiveFormat.ZIP_DEFLATED)
_GZIP_LEVEL: Final = 5
_UNIX_TYPES: Final = {
    Kind.FILE: stat.S_IFREG,
    Kind.DIR: stat.S_IFDIR,
    Kind.SYMLINK: stat.S_IFLNK,
}


def check_format(format_: str) -> ArchiveFormat:
    """Raises InvalidError for one that is not known."""
    if format_ not in FORMATS:
        known = ", ".join(FORMATS)
        raise InvalidError(f"there is no archive format {format_!r}; known are {known}")
    return ArchiveFormat(format_)


def archive(
    entries: Iterable[tuple[Member, Iterator[Buffer]]], format_: ArchiveFormat
) -> Generator[bytes, None, None]:
    """The bytes of an archive of these, each with its content. Close the generator when leaving
    early.

    Raises:
        DamagedError, StoreError: in the middle, what reading the content raises.
    """
    if format_ is ArchiveFormat.ZIP:
        return _pieces(zip_parts(_Reading(entries), compress=False))
    tar = _pieces(tar_parts(_Reading(entries)))
    if format_ is ArchiveFormat.TAR:
        return tar
    return packed(tar, Gzip(_GZIP_LEVEL) if format_ is ArchiveFormat.TAR_GZ else Xz())


def _pieces(parts: Iterable[bytes]) -> Generator[bytes, None, None]:
    yield from gathered(parts)


class _Reading:
    """Members with their contents, as an archive is written from them."""

    def __init__(self, entries: Iterable[tuple[Member, Iterator[Buffer]]]) -> None:
        self._parts = self._all(entries)

    def next(self) -> Sequence[tuple[archives_members.Member | None, bytes]] | None:
        part = next(self._parts, None)
        return None if part is None else [part]

    def _all(
        self, entries: Iterable[tuple[Member, Iterator[Buffer]]]
    ) -> Iterator[tuple[archives_members.Member | None, bytes]]:
        for member, content in entries:
            yield _member(member), bytes(next(content, b""))
            for piece in content:
                yield None, bytes(piece)


def _member(member: Member) -> archives_members.Member:
    size = member.content.size if member.content else 0
    entry = Entry(
        name=member.path.rpartition(b"/")[2],
        kind=member.kind,
        mode=member.mode | _UNIX_TYPES[member.kind],
        size=size,
        mtime=member.mtime,
        linktarget=member.target if member.kind is Kind.SYMLINK else None,
    )
    blobs = max(len(member.content.blocks), min(size, 1)) if member.content else 0
    return archives_members.Member(member.path, entry, size, blobs)
