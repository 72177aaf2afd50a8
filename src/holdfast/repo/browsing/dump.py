"""Writes a file's content, or a directory as one archive, into a stream, in memory that does not
grow with their size.
"""

from __future__ import annotations

from contextlib import closing
from enum import StrEnum
from typing import TYPE_CHECKING, BinaryIO

from holdfast.core.errors import UsageError
from holdfast.core.progress import Silence
from holdfast.repo.browsing.archives import ArchiveFormat
from holdfast.repo.browsing.archives import archive as write_archive
from holdfast.repo.browsing.streaming import ReadPool, open_node
from holdfast.repo.browsing.walk import resolve

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from holdfast.core.ids import BlobId
    from holdfast.core.progress import Progress
    from holdfast.repo.repository import Repository


class Archive(StrEnum):
    TAR = "tar"
    ZIP = "zip"


_FORMATS = {Archive.TAR: ArchiveFormat.TAR, Archive.ZIP: ArchiveFormat.ZIP_DEFLATED}


_SILENCE = Silence()


def dump(
    repository: Repository,
    tree: BlobId,
    path: bytes,
    out: BinaryIO,
    *,
    archive: Archive = Archive.TAR,
    on_problem: Callable[[bytes, str], None] | None = None,
    progress: Progress = _SILENCE,
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
            progress.stage("writing an archive")
            with closing(
                write_archive(pool, found.tree, _FORMATS[archive], on_problem=on_problem)
            ) as members:
                out.writelines(_counted(members, progress))
        elif found.node is not None and found.node.type == "file":
            progress.stage("writing", bytes=found.node.size)
            with open_node(pool, found.node).pieces() as pieces:
                out.writelines(_counted(pieces, progress))
        else:
            shown = path.decode("utf-8", "backslashreplace")
            raise UsageError(f"{shown!r} has no content", remedy="Name a file or a directory.")


def _counted(pieces: Iterable[bytes], progress: Progress) -> Iterator[bytes]:
    for piece in pieces:
        yield piece
        progress.add(bytes=len(piece))
