"""Looks for names, and for what refers to a blob, a tree or a pack, through many snapshots."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from holdfast.core.errors import UsageError
from holdfast.repo.browsing.walk import walk
from holdfast.repo.format.gotext import parse_time
from holdfast.repo.format.pack import BlobKind
from holdfast.repo.format.tree import blob_id

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from holdfast.core.ids import BlobId, PackId
    from holdfast.core.patterns import Patterns
    from holdfast.repo.browsing.walk import Step, Trouble
    from holdfast.repo.format.snapshot import Snapshot
    from holdfast.repo.format.tree import Node
    from holdfast.repo.repository import Repository

_MIN_PREFIX = 4


@dataclass(frozen=True, slots=True)
class NameQuery:
    """Names by pattern and by time of change: nanoseconds since 1970, both ends included."""

    patterns: Patterns
    oldest: int | None = None
    newest: int | None = None

    def fits_time(self, node: Node) -> bool:
        if self.oldest is None and self.newest is None:
            return True
        try:
            changed = parse_time(node.mtime)
        except ValueError:
            return False
        before = self.oldest is not None and changed < self.oldest
        return not before and (self.newest is None or changed <= self.newest)


@dataclass(frozen=True, slots=True)
class NameMatch:
    snapshot: Snapshot
    path: bytes
    node: Node


@dataclass(frozen=True, slots=True)
class ObjectQuery:
    """Beginnings of names in hexadecimal digits. A pack stands for all blobs and trees in it."""

    blobs: tuple[str, ...] = ()
    trees: tuple[str, ...] = ()
    packs: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ObjectMatch:
    """Where a snapshot refers to a blob or a tree. The tree of the whole snapshot has the path "/"
    and no parent.
    """

    kind: BlobKind
    id: BlobId
    path: bytes
    parent_tree: BlobId | None
    snapshot: Snapshot
    packs: tuple[PackId, ...]


def find_names(
    repository: Repository,
    snapshots: Iterable[Snapshot],
    query: NameQuery,
    *,
    unreadable: Callable[[bytes, Trouble], None] | None = None,
) -> Iterator[NameMatch]:
    """Matches, snapshot by snapshot in the order given, by path."""
    patterns = query.patterns

    def enter(step: Step) -> bool:
        return patterns.matches(step.path) or patterns.may_match_below(step.path)

    for snapshot in snapshots:
        steps = walk(repository, snapshot.tree, enter=enter, unreadable=unreadable)
        for path, node, _ in steps:
            if patterns.matches(path) and query.fits_time(node):
                yield NameMatch(snapshot, path, node)


def find_objects(
    repository: Repository,
    snapshots: Iterable[Snapshot],
    query: ObjectQuery,
    *,
    unreadable: Callable[[bytes, Trouble], None] | None = None,
) -> Iterator[ObjectMatch]:
    """What refers to the objects: each snapshot tells the first path of each of its own.

    Raises:
        UsageError: a name is no beginning of a name, or no pack has it.
    """
    wanted = _Wanted(repository, query)
    for snapshot in snapshots:
        told: set[tuple[int, BlobId]] = set()

        def matches(
            kind: BlobKind,
            blob: BlobId,
            path: bytes,
            parent: BlobId | None,
            *,
            snapshot: Snapshot = snapshot,
            told: set[tuple[int, BlobId]] = told,
        ) -> Iterator[ObjectMatch]:
            if (kind, blob) not in told and wanted.has(kind, blob):
                told.add((kind, blob))
                packs = tuple(place.pack for place in repository.index.find_all(blob, kind))
                yield ObjectMatch(kind, blob, path, parent, snapshot, packs)

        yield from matches(BlobKind.TREE, snapshot.tree, b"/", None)
        seen: set[str] = set()

        def enter(step: Step, seen: set[str] = seen) -> bool:
            subtree = step.node.subtree or ""
            fresh = subtree not in seen
            seen.add(subtree)
            return fresh

        for path, node, tree in walk(repository, snapshot.tree, enter=enter, unreadable=unreadable):
            if node.type == "dir" and node.subtree is not None:
                yield from matches(BlobKind.TREE, blob_id(node.subtree), path, tree)
            elif node.type == "file":
                for blob in node.blobs():
                    yield from matches(BlobKind.DATA, blob, path, tree)


@dataclass(slots=True)
class _Wanted:
    """The objects of a query."""

    repository: Repository
    query: ObjectQuery
    exact: set[tuple[int, BlobId]] = field(default_factory=set)
    """What the packs hold."""

    def __post_init__(self) -> None:
        for prefix in (*self.query.blobs, *self.query.trees, *self.query.packs):
            if len(prefix) < _MIN_PREFIX or set(prefix) - set("0123456789abcdef"):
                raise UsageError(
                    f"{prefix!r} is not the beginning of a name",
                    remedy=f"Give {_MIN_PREFIX} hexadecimal digits or more.",
                )
        if not self.query.packs:
            return
        found = False
        for pack, blobs in self.repository.index.by_pack():
            if pack.hex().startswith(self.query.packs):
                found = True
                self.exact.update((blob.kind, blob.id) for blob in blobs)
        if not found:
            raise UsageError(f"the index knows no pack named {' or '.join(self.query.packs)}")

    def has(self, kind: BlobKind, blob: BlobId) -> bool:
        prefixes = self.query.trees if kind is BlobKind.TREE else self.query.blobs
        return (kind, blob) in self.exact or bool(prefixes and blob.hex().startswith(prefixes))
