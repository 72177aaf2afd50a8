"""Archives made on the fly from a tree, as pieces, never spooled: memory does not grow with size.

Names keep their bytes: a tar says so in its PAX headers, a zip has them as they are.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

from holdfast.repo.browsing.archives_members import Members
from holdfast.repo.browsing.archives_packed import Gzip, Xz, packed
from holdfast.repo.browsing.archives_tar import tar_parts
from holdfast.repo.browsing.archives_zip import zip_parts
from holdfast.repo.browsing.streaming import ReadAhead

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator

    from holdfast.core.ids import BlobId
    from holdfast.repo.browsing.streaming import ReadPool

PIECE = 256 << 10
"""Bytes that small parts are gathered up to."""
_SMALL = 64 << 10
_GZIP_LEVEL = 5


class ArchiveFormat(StrEnum):
    TAR = "tar"
    TAR_GZ = "tar.gz"
    TAR_XZ = "tar.xz"
    ZIP = "zip"
    """Members are stored as they are: the very bytes of a `StoredZip`."""
    ZIP_DEFLATED = "zip-deflated"


def archive(
    pool: ReadPool,
    tree: BlobId,
    form: ArchiveFormat,
    *,
    top: bytes = b"",
    on_problem: Callable[[bytes, str], None] | None = None,
) -> Generator[bytes, None, None]:
    """All that lies below `tree`, in pieces of at most 8 MiB and usually 64 KiB or more. Close the
    generator when leaving early. In the archive everything lies below the folder `top`.

    What an archive cannot hold (a socket, an impossible name) is told to `on_problem` and left out;
    so is a directory that cannot be read, unless there is nobody to be told.

    Raises, in the middle, so that the archive must not be taken for whole:
        UnreadableError, DamagedError: a blob is in no place whole.
    """
    members = Members(pool, tree, top, on_problem)
    if form in {ArchiveFormat.ZIP, ArchiveFormat.ZIP_DEFLATED}:
        compress = form is ArchiveFormat.ZIP_DEFLATED
        wanted = members.wanted(zip_kinds=True)
        return _closing(ReadAhead(pool, wanted), lambda read: zip_parts(read, compress=compress))
    wanted = members.wanted(zip_kinds=False)
    tar = _closing(ReadAhead(pool, wanted), tar_parts)
    if form is ArchiveFormat.TAR:
        return tar
    return packed(tar, Gzip(_GZIP_LEVEL) if form is ArchiveFormat.TAR_GZ else Xz())


def _closing(
    ahead: ReadAhead, parts: Callable[[ReadAhead], Iterator[bytes]]
) -> Generator[bytes, None, None]:
    try:
        yield from gathered(parts(ahead))
    finally:
        ahead.close()


def gathered(parts: Iterable[bytes]) -> Iterator[bytes]:
    """The same bytes in fewer pieces; large parts pass as they are."""
    waiting: list[bytes] = []
    size = 0
    for part in parts:
        if len(part) < _SMALL:
            waiting.append(part)
            size += len(part)
            if size < PIECE:
                continue
        if waiting:
            yield b"".join(waiting)
            waiting, size = [], 0
        if len(part) >= _SMALL:
            yield part
    if waiting:
        yield b"".join(waiting)
