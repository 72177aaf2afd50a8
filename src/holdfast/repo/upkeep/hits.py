"""Which files of which snapshots does damage hit?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from holdfast.core.errors import DamagedError, HoldfastError
from holdfast.core.ids import BlobId
from holdfast.repo.browsing.walk import join
from holdfast.repo.format.pack import BlobKind
from holdfast.repo.format.tree import blob_id

if TYPE_CHECKING:
    from collections.abc import Iterable
    from collections.abc import Set as AbstractSet

    from holdfast.core.ids import ObjectId
    from holdfast.repo.format.snapshot import Snapshot
    from holdfast.repo.format.tree import Node
    from holdfast.repo.repository import Repository

BlobKey = tuple[BlobKind, BlobId]


@dataclass(frozen=True, slots=True)
class Hit:
    """A path that cannot be read whole, with the snapshots in which that is so. A directory's path
    ends with a slash: nothing below it can be told.
    """

    path: bytes
    snapshots: tuple[ObjectId, ...]


def find_hits(
    repository: Repository, snapshots: Iterable[Snapshot], lost: AbstractSet[BlobKey]
) -> dict[BlobKey, tuple[Hit, ...]]:
    """For each lost blob the paths that need it. Each tree is read once; only damaged paths are
    kept.
    """
    search = _Search(repository, lost)
    found: dict[BlobKey, dict[bytes, list[ObjectId]]] = {}
    for snapshot in sorted(snapshots, key=lambda s: (s.time, s.id)):
        for path, key in search.below(snapshot.tree):
            found.setdefault(key, {}).setdefault(path, []).append(snapshot.id)
    return {
        key: tuple(Hit(path, tuple(dict.fromkeys(ids))) for path, ids in sorted(paths.items()))
        for key, paths in found.items()
    }


class _Search:
    def __init__(self, repository: Repository, lost: AbstractSet[BlobKey]) -> None:
        self._repository = repository
        self._lost = lost
        self._known: dict[BlobId, list[tuple[bytes, BlobKey]]] = {}

    def below(self, root: BlobId) -> list[tuple[bytes, BlobKey]]:
        """What is lost below a tree, by path from it."""
        opened: dict[BlobId, list[Node]] = {}
        stack = [root]
        while stack:
            tree = stack[-1]
            if tree in self._known:
                stack.pop()
                continue
            if tree not in opened:
                nodes = self._nodes(tree)
                if nodes is None:
                    self._known[tree] = [(b"/", (BlobKind.TREE, tree))]
                    continue
                opened[tree] = nodes
                unseen = [sub for sub in _subtrees(nodes) if sub not in self._known]
                if unseen:
                    stack += unseen
                    continue
            self._known[tree] = self._gather(opened.pop(tree))
            stack.pop()
        return self._known[root]

    def _nodes(self, tree: BlobId) -> list[Node] | None:
        if (BlobKind.TREE, tree) in self._lost:
            return None
        try:
            return self._repository.load_tree(tree)
        except HoldfastError:
            return None

    def _gather(self, nodes: list[Node]) -> list[tuple[bytes, BlobKey]]:
        found: list[tuple[bytes, BlobKey]] = []
        for node in nodes:
            path = join(b"/", _shown_name(node))
            content = [(BlobKind.DATA, blob) for blob in dict.fromkeys(node.blobs())]
            found += [(path, key) for key in content if key in self._lost]
            if node.subtree is not None:
                found += [(path + below, key) for below, key in self._known[blob_id(node.subtree)]]
        return found


def _shown_name(node: Node) -> bytes:
    try:
        return node.raw_name()
    except DamagedError:
        return node.name.encode("utf-8", "backslashreplace")


def _subtrees(nodes: Iterable[Node]) -> list[BlobId]:
    return [blob_id(node.subtree) for node in nodes if node.subtree is not None]
