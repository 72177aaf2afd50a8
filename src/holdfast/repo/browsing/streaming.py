"""Giving content out, for servers: files and ranges of files as pieces, read ahead by a few shared
threads.

Every piece was authenticated and has the digest of its name (I4). A repository that was pruned
meanwhile is noticed: the index is brought up to date, and the reader goes on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    import io
    from concurrent.futures import Future

    from holdfast.core.ids import BlobId
    from holdfast.repo.format.tree import Node
    from holdfast.repo.repository import Repository

AHEAD = 4
"""Most pieces that are read before they are asked for."""
MEMORY = 64 << 20
"""Bytes that all readers of a pool together may hold read ahead; beyond, each holds the one piece
that it gives next.
"""


class ReadPool:
    """The reading threads of one repository in one process, shared by all its readers."""

    def __init__(
        self, repository: Repository, *, threads: int | None = None, memory: int = MEMORY
    ) -> None:
        """`threads`: where None two, or as many as the connections to a distant store."""
        raise NotImplementedError

    def close(self) -> None:
        """Ends the threads; readers that are still open raise ClosedError."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Pieces:
    """Bytes in order, each piece at most one blob (8 MiB). For one consumer at a time.

    Reads ahead: one or two pieces while the consumer is slower than the repository, up to AHEAD
    while it waits. Close it when leaving early; at its end it is closed.
    """

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> bytes:
        """Raises UnreadableError where a blob is in no place whole: nothing else comes then."""
        raise NotImplementedError

    def ask(self) -> Future[bytes]:
        """The next piece for who may not wait; b"" at the end. Ask again when it is done."""
        raise NotImplementedError

    def close(self) -> None:
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class FileStream:
    """One file of a snapshot. Holds nothing that would need closing; safe for threads."""

    node: Node
    size: int
    """Bytes, exactly as many as `pieces` gives."""

    def pieces(self, start: int = 0, stop: int | None = None) -> Pieces:
        """The content from byte `start` up to and without `stop` (None: the end).

        Raises:
            ValueError: not 0 <= start <= stop <= size.
        """
        raise NotImplementedError

    def as_file(self) -> io.BufferedReader:
        """The content as a file that can seek. It raises what `pieces` does."""
        raise NotImplementedError


def open_file(pool: ReadPool, tree: BlobId, path: bytes) -> FileStream:
    """The file that `path` leads to in the snapshot with this tree.

    Raises:
        PathNotFoundError: nowhere.
        UsageError: it is no file.
        DamagedError, UnreadableError: a tree on the way, or the file's list, cannot be read.
    """
    raise NotImplementedError


def open_node(pool: ReadPool, node: Node) -> FileStream:
    """The file of a node of a tree. Raises as `open_file`."""
    raise NotImplementedError
