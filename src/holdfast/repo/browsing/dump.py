"""Writes a file's content, or a directory as one archive, into a stream, in memory that does not
grow with their size.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, BinaryIO

from holdfast.core.errors import UsageError
from holdfast.repo.browsing.archives import ArchiveFormat, archive
from holdfast.repo.browsing.streaming import ReadPool, open_node
from holdfast.repo.browsing.walk import resolve

if TYPE_CHECKING:
    from collections.abc import Callable

    from holdfast.core.ids import BlobId
    from holdfast.repo.repository import Repository


class Archive(StrEnum):
    TAR = "tar"
    ZIP = "zip"


_FORMATS = {Archive.TAR: ArchiveFormat.TAR, Archive.ZIP: ArchiveFormat.ZIP_DEFLATED}


def dump(
    repository: Repository,
    tree: BlobId,
    path: bytes,
    out: BinaryIO,
    *,
    archive: Archive = Archive.TAR,
    on_problem: Callable[[bytes, str], None] | None = None,
) -> None:
    """Writes what `path` leads to: the content of a file, or an archive of a directory.

    What an archive cannot hold (a socket, an impossible name) is told to `on_problem` and left out.

    Raises:
        PathNotFoundError: the snapshot has no such path.
        UnreadableError: a blob is in no place whole; what was written before is incomplete.
        UsageError: it is neither a file nor a directory.
    """
    found = resolve(repository, tree, path)
    with ReadPool(repository) as pool:
        if found.tree is not None:
            _write_archive(pool, found.tree, out, archive, on_problem)
        elif found.node is not None and found.node.type == "file":
            with open_node(pool, found.node).pieces() as pieces:
                out.writelines(pieces)
        else:
            shown = path.decode("utf-8", "backslashreplace")
            raise UsageError(f"{shown!r} has no content", remedy="Name a file or a directory.")


def _write_archive(
    pool: ReadPool,
    tree: BlobId,
    out: BinaryIO,
    form: Archive,
    on_problem: Callable[[bytes, str], None] | None,
) -> None:
    pieces = archive(pool, tree, _FORMATS[form], on_problem=on_problem)
    try:
        out.writelines(pieces)
    finally:
        pieces.close()
