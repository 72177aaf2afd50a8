"""Taking uploads in, straight into packs: the long-lived half of a backup, for servers.

An `Intake` belongs to one open repository in one process, which may run any number of threads. It
knows nothing of HTTP, catalogs or who may do what. Bytes come as they arrive, are cut, hashed,
sealed and stored by a few threads of the intake, and are never spooled; a full window makes the
giver wait, and that wait is the back-pressure. Many uploads that end together share packs, index
and syncs, without a timer.

    with intake.begin(b"dump.sql", About(host="db1", tags=("holdfast:target=nightly",))) as upload:
        for piece in body:
            upload.write(piece)  # an async caller awaits what `offer` returns
        kept = upload.finish().result()
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, Self

from holdfast.repo.saving.sealing import SealingPlan

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from concurrent.futures import Future

    from holdfast.core.ids import BlobId, ObjectId
    from holdfast.repo.format.crypto import Buffer
    from holdfast.repo.repository import Repository


@dataclass(frozen=True, slots=True)
class Measured:
    """What is known of an upload at its end only."""

    size: int
    """Bytes of content."""
    files: int
    sha256: bytes
    """Of the content of a single file. Of a tree: of the paths of all that is in it, in order, each
    with what it is and the names of its blobs (or its target), and of nothing else: two trees with
    the same names and contents have the same, whatever their times and modes."""


@dataclass(frozen=True, slots=True)
class About:
    """What the snapshot of an upload says of itself. Whatever must outlive the catalog is a tag."""

    host: str
    tags: tuple[str, ...] = ()
    time: int | None = None
    """Nanoseconds since 1970; when the upload was finished, where None."""
    paths: tuple[str, ...] = ()
    """The snapshot's `paths`; where empty, what was uploaded (the top, for a tree)."""
    closing_tags: Callable[[Measured], Sequence[str]] | None = None
    """Gives further tags once the content has ended. Called in the committing thread; must neither
    raise nor wait."""
    username: str = ""
    program_version: str = ""
    context: object = None
    """Anything of the caller's, handed back in `Kept`; not stored."""


@dataclass(frozen=True, slots=True)
class Kept:
    """One upload that is durable: packs, index and snapshot."""

    snapshot: ObjectId
    tree: BlobId
    time: int
    """Of the snapshot, in nanoseconds."""
    size: int
    """Bytes of content."""
    files: int
    sha256: bytes
    """As in `Measured`."""
    added: int
    """Bytes of content and trees that the repository did not have before."""
    stored: int
    """Bytes that those take in packs."""
    context: object


@dataclass(frozen=True, slots=True)
class IntakePlan:
    """How much an intake does at once, which bounds its memory: some 80 MiB for packs, and up to
    24 MiB for each upload that is being sealed.
    """

    sealing: SealingPlan = field(default_factory=SealingPlan)
    """`workers`: sealing threads."""
    admitted: int = 8
    """Uploads that are sealed at once; further ones wait unread."""
    admission_wait: float = 30.0
    """Seconds that they wait before StoreBusyError."""
    small: int = 256 << 10
    """Bodies up to this many bytes are held in memory and sealed by the committer."""
    group: int = 512
    """Most uploads that share one commit."""
    lock_wait: float = 5.0
    """Seconds that a small upload waits while others hold the repository for themselves."""


@dataclass(frozen=True, slots=True)
class IntakeState:
    """For metrics and the console."""

    sealing: int
    """uploads admitted and not yet ended"""
    waiting: int
    """uploads that wait to be admitted"""
    queued: int
    """finished uploads that wait for their commit"""
    locked: bool
    """whether the repository's shared lock is held"""


class Inflow(Protocol):
    """One file on its way in. Belongs to one caller at a time; the bytes may come in any pieces."""

    def offer(self, buffer: Buffer) -> Future[None] | None:
        """Takes all of `buffer` without ever waiting.

        None: it is taken. A future: it is taken once that is done; until then offer nothing more
        and leave the buffer as it is. The future fails with what `write` raises.
        """
        ...

    def write(self, buffer: Buffer) -> None:
        """Takes all of `buffer`, waiting for room.

        Raises:
            StoreBusyError: not admitted in time: too many uploads are being sealed.
            StorageFullError, StoreError, VerificationError: something of it could not be stored.
            ClosedError: it was abandoned, or the intake was closed.
        """
        ...

    def window(self) -> memoryview:
        """Room for at least one byte, to be filled from its beginning; waits and raises as `write`.
        Tell with `filled` how far.
        """
        ...

    def filled(self, count: int) -> None:
        """So many bytes of the `window` are content now."""
        ...


class Upload(Inflow, Protocol):
    """One file that becomes one snapshot. Leaving it as a context manager without having called
    `finish` abandons it.
    """

    @property
    def size(self) -> int:
        """Bytes taken so far."""
        ...

    def finish(self) -> Future[Kept]:
        """Ends the content. The future is done when packs, index and snapshot are durable and
        `before_answer` returned; until then nothing may be acknowledged to anyone.
        """
        ...

    def abandon(self) -> None:
        """Gives everything back, at any moment and from any thread; nothing is kept but blobs that
        a retry finds and prune removes. After `finish`, does nothing.
        """
        ...

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...


class TreeFile(Inflow, Protocol):
    """A file of a tree. Leaving it as a context manager ends its content; leaving it by an
    exception leaves the session unable to commit.
    """

    def end(self) -> None: ...

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...


class TreeSession(Protocol):
    """Files, directories and links, given one after another in any order, that become one snapshot.

    Paths are bytes, relative, with slashes: b"docs/a.txt". Each component is checked: none is
    empty, ".", "..", longer than 255 bytes, or holds NUL. Directories that are not given
    themselves get a plain entry. A name that is given again replaces the earlier one, but a
    directory and something else cannot share a name: nothing is ever written through a link.

    Leaving it as a context manager without having called `commit` abandons it.
    """

    @property
    def size(self) -> int:
        """Bytes of content so far."""
        ...

    @property
    def entries(self) -> int: ...

    def file(self, path: bytes, *, mode: int = 0o644, mtime: int | None = None) -> TreeFile:
        """Begins a file; the one before must have ended. `mode`: permission bits; `mtime` in
        nanoseconds, the session's time where None.

        Raises:
            NameRefusedError: the path is not one that may be kept.
        """
        ...

    def directory(self, path: bytes, *, mode: int = 0o755, mtime: int | None = None) -> None: ...

    def symlink(self, path: bytes, target: bytes, *, mtime: int | None = None) -> None:
        """`target` may say anything; it is kept, never followed."""
        ...

    def copy(self, path: bytes, earlier: bytes) -> None:
        """Another name for a file that this session was given before, as a tar's hard link."""
        ...

    def commit(self) -> Future[Kept]:
        """As `Upload.finish`."""
        ...

    def abandon(self) -> None: ...

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...


def _nothing(_: Sequence[Kept]) -> None:
    pass


class Intake:
    """Takes uploads for one repository; safe for threads. Close it before the repository's store.

    `before_answer` is called in the committing thread with each group whose snapshots are durable,
    before any of their futures is done: the place for one catalog transaction for all of them. If
    it raises, each upload of the group fails with that. It must not wait for this intake.

    Raises:
        LockedError: somebody holds the repository for themselves, and did for `lock_wait`.
        StoreError, DamagedError: the repository cannot be read.
    """

    def __init__(
        self,
        repository: Repository,
        *,
        plan: IntakePlan | None = None,
        before_answer: Callable[[Sequence[Kept]], None] = _nothing,
    ) -> None:
        raise NotImplementedError

    def begin(
        self,
        name: bytes,
        about: About,
        *,
        folder: bytes = b"",
        mode: int = 0o644,
        mtime: int | None = None,
    ) -> Upload:
        """An upload of one file that the snapshot has as `folder/name`. Never waits.

        Raises:
            NameRefusedError: `name` or `folder` is not one that may be kept.
            ClosedError: the intake is closed.
        """
        raise NotImplementedError

    def begin_tree(self, about: About, *, folder: bytes = b"") -> TreeSession:
        """An upload of many files; they lie below `folder` in the snapshot. Never waits.

        Raises as `begin`.
        """
        raise NotImplementedError

    def yield_lock(self, wait: float = 5.0) -> bool:
        """Lets go of the repository's lock for a moment so that a prune in another process gets its
        turn; uploads under way are protected, pause, and go on afterwards.

        True as soon as the lock is released; False where a commit did not end within `wait`
        seconds. It is taken again when whoever waited is done, or nobody came within two seconds.
        """
        raise NotImplementedError

    @property
    def state(self) -> IntakeState:
        raise NotImplementedError

    def close(self, *, wait: bool = True) -> None:
        """Ends the intake: takes nothing new, commits what was finished, abandons the rest, and
        releases the lock. `wait` False: what is not being committed right now fails.
        """
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
