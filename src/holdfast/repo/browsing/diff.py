"""What differs between two trees, in restic's words."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from holdfast.repo.browsing.walk import join, subtree_of, walk
from holdfast.repo.format.crypto import OVERHEAD
from holdfast.repo.format.pack import BlobKind
from holdfast.repo.format.tree import blob_id

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from holdfast.core.ids import BlobId
    from holdfast.repo.format.tree import Node
    from holdfast.repo.repository import Repository

Blob = tuple[int, "BlobId"]
"""Kind and id."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One path. A directory's ends in "/".

    `modifier`: + added, - removed, T other type, M other content, U other metadata, ? other content
    although nothing else of the file changed: it may have rotted.
    """

    path: bytes
    modifier: str


@dataclass(slots=True)
class Side:
    """What only one of the two has; blobs with their bytes in the repository, uncompressed."""

    files: int = 0
    dirs: int = 0
    others: int = 0
    data_blobs: int = 0
    tree_blobs: int = 0
    bytes: int = 0

    def count(self, node: Node) -> None:
        if node.type == "file":
            self.files += 1
        elif node.type == "dir":
            self.dirs += 1
        else:
            self.others += 1


@dataclass(slots=True)
class DiffStatistics:
    changed_files: int = 0
    added: Side = field(default_factory=Side)
    removed: Side = field(default_factory=Side)


def compare(
    repository: Repository,
    first: BlobId,
    second: BlobId,
    *,
    metadata: bool = False,
    on_difference: Callable[[Difference], None],
) -> DiffStatistics:
    """Compares two trees, telling each difference as it is found, by path.

    Equal subtrees are not gone into but for counting blobs. `metadata` tells what changed nothing
    but metadata too.

    Raises:
        DamagedError, UnreadableError: a tree cannot be read.
    """
    comparison = _Comparison(repository, metadata=metadata, tell=on_difference)
    comparison.run(first, second)
    return comparison.statistics


class _Comparison:
    def __init__(
        self, repository: Repository, *, metadata: bool, tell: Callable[[Difference], None]
    ) -> None:
        self._repository = repository
        self._metadata = metadata
        self._tell = tell
        self.statistics = DiffStatistics()
        self._before: set[Blob] = set()
        self._after: set[Blob] = set()
        self._common: set[Blob] = set()

    def run(self, first: BlobId, second: BlobId) -> None:
        self._before.add((BlobKind.TREE, first))
        self._after.add((BlobKind.TREE, second))
        if first != second:
            levels = [self._pairs(b"/", first, second)]
            while levels:
                below = next(levels[-1], None)
                if below is None:
                    levels.pop()
                else:
                    levels.append(self._pairs(*below))
        shared = (self._before & self._after) | self._common
        self._count_blobs(self._before - shared, self.statistics.removed)
        self._count_blobs(self._after - shared, self.statistics.added)

    def _pairs(
        self, folder: bytes, first: BlobId, second: BlobId
    ) -> Iterator[tuple[bytes, BlobId, BlobId]]:
        """Compares two directories; yields each pair of directories in them that differs."""
        before = {node.raw_name(): node for node in self._repository.load_tree(first)}
        after = {node.raw_name(): node for node in self._repository.load_tree(second)}
        for name in sorted(before.keys() | after.keys()):
            old, new = before.get(name), after.get(name)
            path = join(folder, name)
            if old is not None:
                self._before.update(_blobs_of(old))
            if new is not None:
                self._after.update(_blobs_of(new))
            if old is None and new is not None:
                self._one_sided("+", path, new, self.statistics.added, self._after)
            elif old is not None and new is None:
                self._one_sided("-", path, old, self.statistics.removed, self._before)
            elif old is not None and new is not None:
                self._pair(path, old, new)
                if old.type == "dir" and new.type == "dir":
                    one, other = subtree_of(old), subtree_of(new)
                    if one == other:
                        self._collect(one, self._common)
                    else:
                        yield path, one, other

    def _pair(self, path: bytes, old: Node, new: Node) -> None:
        modifier = ""
        if old.type != new.type:
            modifier += "T"
        if old.type == "file" == new.type and (old.content or []) != (new.content or []):
            modifier += "M"
            self.statistics.changed_files += 1
            if _metadata_of(old) == _metadata_of(new):
                modifier += "?"
        elif self._metadata and (
            _metadata_of(old) != _metadata_of(new) or old.subtree != new.subtree
        ):
            modifier += "U"
        if modifier:
            self._tell(Difference(path + (b"/" if new.type == "dir" else b""), modifier))

    def _one_sided(
        self, modifier: str, path: bytes, node: Node, side: Side, blobs: set[Blob]
    ) -> None:
        """A whole entry, with all below it, that only one of the two has."""
        self._tell(Difference(path + (b"/" if node.type == "dir" else b""), modifier))
        side.count(node)
        if node.type != "dir":
            return
        for step in walk(self._repository, subtree_of(node), path=path):
            slash = b"/" if step.node.type == "dir" else b""
            self._tell(Difference(step.path + slash, modifier))
            side.count(step.node)
            blobs.update(_blobs_of(step.node))

    def _collect(self, tree: BlobId, blobs: set[Blob]) -> None:
        waiting = [tree]
        while waiting:
            for node in self._repository.load_tree(waiting.pop()):
                found = set(_blobs_of(node))
                if node.type == "dir" and not found <= blobs:
                    waiting.append(subtree_of(node))
                blobs |= found

    def _count_blobs(self, blobs: set[Blob], side: Side) -> None:
        for kind, blob in blobs:
            if kind == BlobKind.TREE:
                side.tree_blobs += 1
            else:
                side.data_blobs += 1
            place = self._repository.index.find(blob, kind)
            if place is not None:
                side.bytes += place.raw_length or place.length - OVERHEAD


def _blobs_of(node: Node) -> Iterator[Blob]:
    if node.type == "file":
        return ((BlobKind.DATA, blob) for blob in node.blobs())
    if node.type == "dir" and node.subtree is not None:
        return iter([(BlobKind.TREE, blob_id(node.subtree))])
    return iter(())


def _metadata_of(node: Node) -> tuple[object, ...]:
    """All that a person can set or see of a name but its content."""
    return (
        node.type, node.mode, node.mtime, node.atime, node.ctime, node.uid, node.gid, node.user,
        node.group, node.inode, node.device_id, node.size, node.links, node.linktarget,
        node.linktarget_raw, node.extended_attributes, node.device,
    )  # fmt: skip
