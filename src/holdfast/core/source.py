"""Where a source and a keeper meet without knowing each other.

A source yields its tree as a flat stream of steps in the order a repository needs them: within a
directory by raw byte name, each directory followed at once by its own content and an `UP`. A keeper
decides what to read, opens it through the source, and asks it for what only matters when an entry
has changed (extended attributes).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import BinaryIO

    from holdfast.core.entries import Entry


class Up(Enum):
    """Closes the directory that was entered last."""

    UP = "up"


UP: Final = Up.UP


@dataclass(frozen=True, slots=True)
class Problem:
    """Something of the source that could not be read as it is. `path` is absolute; counted, listed,
    and makes a run partial.
    """

    path: bytes
    during: str
    """scan, open, read, xattr, or changed (it changed while it was read and the last read was
    kept).
    """
    message: str
    root: bool = False
    """A path that was named by the person is missing or unreadable as a whole."""


class Found(NamedTuple):
    """One entry. A directory's content follows until `UP`, which comes at once where the directory
    could not be listed.

    `problem`: the entry exists but something of it could not be read; keep the entry, count the
    problem.
    """

    path: bytes
    entry: Entry
    problem: Problem | None = None


Step = Found | Problem | Up
"""A bare Problem is a name of which nothing can be kept."""


class Content(Protocol):
    """A file opened for reading. `entry` is what the descriptor says, not what the scan saw."""

    entry: Entry

    def readinto(self, buffer: memoryview, /) -> int:
        """Reads at the current position; 0 at the end.

        Raises:
            OSError: it cannot be read.
        """
        ...

    def skip_hole(self) -> int:
        """Length of the hole at the current position, 0 where there is data or holes are unknown.
        Does not move.
        """
        ...

    def seek(self, offset: int, /) -> None: ...

    def unchanged(self) -> bool:
        """Whether size, mtime and ctime are still those of `entry`."""
        ...

    def xattrs(self) -> list[tuple[bytes, bytes]]:
        """Extended attributes, in the order of the file system.

        Raises:
            OSError: they cannot be read.
        """
        ...

    def close(self) -> None: ...


class Source(Protocol):
    """Obligations: `walk` yields each name once and never follows a symbolic link below a root;
    `open` opens the regular file that `walk` saw or, where that was replaced since, the regular
    file that a walk would find in its place now. It opens nothing else and never blocks.
    """

    roots: Sequence[bytes]
    """What the person named, absolute, cleaned, in the person's order; becomes the snapshot's
    `paths`.
    """

    def walk(self) -> Iterator[Step]:
        """Steps from the top of the tree downwards: every folder between it and a root is a
        directory of its own in the stream.
        """
        ...

    def open(self, path: bytes, entry: Entry) -> Content:
        """Opens a regular file found by `walk`, in whichever process.

        Raises:
            OSError: it is gone, unreadable, or no regular file any more.
        """
        ...

    def xattrs(self, path: bytes, entry: Entry) -> list[tuple[bytes, bytes]]:
        """Extended attributes of anything else than a regular file (which gives its own once
        opened), in the order of the file system.

        Raises:
            OSError: they cannot be read.
        """
        ...


class Kept(Protocol):
    """What was kept of one root, for putting it back where it came from. Names are paths below that
    root.
    """

    def open(self, name: str) -> BinaryIO:
        """The content of a file.

        Raises:
            PathNotFoundError: nothing of that name was kept.
            UnreadableError: from the file, where something of it is in no place whole.
        """
        ...
