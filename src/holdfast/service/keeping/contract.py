"""What every way of keeping offers: put a stream or a tree, open, list, delete, verify.

A keeper knows storage and nothing of catalogs and rights. Whatever it acknowledges is durable (I1)
and carries its own facts, so that a catalog can be made anew from it (I7).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, BinaryIO, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from concurrent.futures import Future

    from holdfast.core.errors import HoldfastError
    from holdfast.core.records import Backup, Json, Target
    from holdfast.repo.saving.intake_archives import Limits, Received

Buffer = bytes | bytearray | memoryview


@dataclass(frozen=True, slots=True)
class Order:
    """What is to be kept, as it is known when its first byte arrives."""

    uid: str
    target: Target
    name: str
    received: int
    """by this server's clock, when the upload began; nanoseconds since 1970"""
    manual: bool = True
    facts: Json = field(default_factory=dict)
    """kept with the backup; small, no secrets"""
    size: int | None = None
    """announced bytes, where they are"""
    replaces: int | None = None
    """the number of a backup that moves here and keeps its row"""


@dataclass(frozen=True, slots=True)
class Kept:
    """What is durable now."""

    size: int
    stored: int
    files: int
    sha256: str
    repository_id: int | None = None
    snapshot: str = ""
    path: str = ""


class Recorder(Protocol):
    """Writes down in the catalog what has become durable, before its futures are done."""

    def __call__(self, group: Sequence[tuple[Order, Kept]]) -> Mapping[str, HoldfastError]:
        """One call, one transaction, for all that were committed together. By `Order.uid`: those
        that are refused (their name was taken meanwhile): the keeper deletes them and their future
        fails with the error. Where the call itself raises, nothing of the group is acknowledged;
        what is stored then is found and recorded at the next start (`Keeper.found`).
        """
        ...


class Incoming(Protocol):
    """One stream on its way in. Belongs to one caller at a time; memory is bounded."""

    def offer(self, piece: Buffer) -> Future[None] | None:
        """Takes a piece over (it is copied). A future where the caller must wait for it before the
        next piece; never blocks.
        """
        ...

    def write(self, piece: Buffer) -> None:
        """The same, blocking.

        Raises:
            StorageFullError, StoreError: it cannot be kept; the upload is over.
        """
        ...

    def amend(self, *, manual: bool) -> None:
        """Changes the order, before the end."""
        ...

    def finish(self) -> Future[Kept]:
        """Ends the stream; done when all is durable and recorded."""
        ...

    def abandon(self) -> None:
        """Forgets it; nothing of it will be seen by anybody. May be called at any time, again
        too.
        """
        ...


class IncomingFile(Protocol):
    """One file of a tree. The one before must have ended."""

    def offer(self, piece: Buffer) -> Future[None] | None:
        """As `Incoming.offer`."""
        ...

    def write(self, piece: Buffer) -> None:
        """As `Incoming.write`."""
        ...

    def end(self) -> None:
        """Its content is whole. Trouble with it shows in what the tree does next."""
        ...


class IncomingTree(Protocol):
    """Files on their way in that make one backup together. Paths are relative, with slashes; `mode`
    is permission bits, `mtime` nanoseconds since 1970, the time of the order where None.
    Directories that are not given themselves are made. A name that is given again replaces the
    earlier one; a directory and something else cannot share one.
    """

    def file(self, path: bytes, *, mode: int = 0o644, mtime: int | None = None) -> IncomingFile:
        """May wait for files before it.

        Raises:
            NameRefusedError: the path is not one that may be kept.
        """
        ...

    def directory(self, path: bytes, *, mode: int = 0o755, mtime: int | None = None) -> None: ...

    def symlink(self, path: bytes, target: bytes, *, mtime: int | None = None) -> None:
        """`target` may say anything; it is kept, never followed."""
        ...

    def unpack(self, archive: BinaryIO, limits: Limits) -> Received:
        """All that a tar (read as it comes) or a zip (which must be able to seek) holds.

        Raises:
            ArchiveRefusedError: it is none, is damaged, or holds what may not be.
        """
        ...

    def amend(self, *, manual: bool) -> None:
        """Changes the order, before the end."""
        ...

    def finish(self) -> Future[Kept]: ...

    def abandon(self) -> None: ...


class Outgoing(Protocol):
    """Content on its way out."""

    size: int | None
    """bytes; None where nobody can know before the end"""
    modified: int

    def pieces(self, start: int = 0, length: int | None = None) -> Iterator[Buffer]:
        """Authenticated bytes in order; closing the iterator ends everything behind it.

        Raises:
            DamagedError, UnreadableError, StoreError: in the middle, where it shows there.
        """
        ...


@dataclass(frozen=True, slots=True)
class Listed:
    """One file or directory of a backup."""

    path: str
    kind: str
    """file, dir, symlink"""
    size: int
    modified: int
    mode: int = 0o644
    link: str = ""
    """what a symbolic link says"""


@dataclass(frozen=True, slots=True)
class Verified:
    good: bool
    bytes: int
    damaged: tuple[str, ...] = ()
    """paths, with what is wrong"""


@dataclass(frozen=True, slots=True)
class FoundBackup:
    """A backup as its storage tells it; what the catalog is rebuilt from."""

    order: Order
    kept: Kept
    recycled: bool = False
    """it lies in the recycle bin (plain pools; a repository does not know)"""


class Keeper(Protocol):
    """Made with a `Recorder`, see there."""

    def begin(self, order: Order) -> Incoming: ...

    def begin_tree(self, order: Order) -> IncomingTree: ...

    def open(self, backup: Backup) -> Outgoing:
        """The content of a backup of one stream."""
        ...

    def archive(self, backup: Backup, format_: str, *, top: str = "") -> Outgoing:
        """A backup of a tree as one file: tar, tar.xz, tar.gz, zip; below a folder `top`."""
        ...

    def entries(self, backup: Backup) -> Iterator[Listed]: ...

    def open_path(self, backup: Backup, path: str) -> Outgoing: ...

    def delete(self, backup: Backup) -> None:
        """Gone for every reader when this returns; again is no error."""
        ...

    def forget(self, backup: Backup) -> None:
        """It is no backup any more, for `found` either; its files stay where they are, and are
        whoever's they now are. Again is no error.
        """
        ...

    def move(self, backup: Backup, *, recycled: bool) -> None:
        """Into the recycle bin or out of it, where that is a place (plain pools); again is no
        error. Reading still works there, and `Backup.path` stays what it was.

        Raises:
            RecordExistsError: something else lies where it would come back to.
        """
        ...

    def verify(self, backup: Backup, progress: Callable[[int], None]) -> Verified:
        """Reads every byte; `progress` is told how many were read since it was called last."""
        ...

    def rename(self, backup: Backup, path: str) -> str:
        """Moves it to another path of its pool, wholly or not at all; the path it has now. In a
        repository nothing moves, and the path stays empty.

        Raises:
            RecordExistsError: something lies there.
            InvalidError: no path within the pool.
        """
        ...

    def found(self) -> Iterator[FoundBackup]: ...
