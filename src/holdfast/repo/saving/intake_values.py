"""What is said of uploads, at their beginning and at their end."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from holdfast.repo.saving.sealing import SealingPlan

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from holdfast.core.ids import BlobId, ObjectId


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
    """Uploads that are sealed at once; further ones wait unread. Who stops giving keeps its place:
    it is for the caller to abandon an upload that has stalled.
    """
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
