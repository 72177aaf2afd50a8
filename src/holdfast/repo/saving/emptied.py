"""A root that held files in the last snapshot and holds none is more likely a disk that is not
mounted, or a link that leads nowhere, than meant: such a run is a failure, not an empty success.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from holdfast.core.entries import Kind
from holdfast.core.errors import DamagedError, SourceEmptyError, UnreadableError
from holdfast.repo.format.tree import blob_id

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from holdfast.core.ids import BlobId
    from holdfast.repo.format.snapshot import Snapshot
    from holdfast.repo.format.tree import Node
    from holdfast.repo.repository import Repository

_LINK_REMEDY = (
    "No backup was made. Name the folder that it leads to; or, if only the link is meant, say"
    " --allow-empty."
)


class BareRoots:
    """The roots below which a scan has seen no file yet."""

    def __init__(self, roots: Iterable[bytes]) -> None:
        self.left = set(roots)
        self._links: set[bytes] = set()

    def saw(self, path: bytes, kind: Kind | None) -> None:
        """There is something at `path`; None: something that cannot be read."""
        if kind is Kind.DIR:
            return
        bare = self.left
        if kind is Kind.SYMLINK and path in bare:
            self._links.add(path)
            path = path.rpartition(b"/")[0]
        for each in _with_parents(path):
            bare.discard(each)

    def refuse_emptied(self, repository: Repository, parent: Snapshot | None) -> None:
        """Raises SourceEmptyError where one of them held files in the parent snapshot."""
        if parent is None:
            return
        for root in sorted(self.left):
            if not _held_files(repository, parent, root):
                continue
            shown = root.decode("utf-8", "replace")
            if root in self._links:
                raise SourceEmptyError(
                    f"{shown} is a symbolic link, but held files in the last snapshot",
                    remedy=_LINK_REMEDY,
                )
            raise SourceEmptyError(f"{shown} holds no files, but did in the last snapshot")


def _with_parents(path: bytes) -> Iterator[bytes]:
    """`/a/b`, `/a`, `/`."""
    while path not in {b"", b"/"}:
        yield path
        path = path.rpartition(b"/")[0]
    yield b"/"


def _held_files(repository: Repository, parent: Snapshot, root: bytes) -> bool:
    """Whether anything but folders was kept of a root; so, too, where that cannot be told."""
    try:
        for names in _places(parent, root):
            found = _find(repository, parent.tree, names)
            if found is not None:
                return _holds_files(repository, found)
    except (UnreadableError, DamagedError):
        return True
    return False


def _places(parent: Snapshot, root: bytes) -> Iterator[Sequence[bytes]]:
    """Where a root may lie in a snapshot: where its path says, or, if it was named relative to some
    folder, at the end of that path.
    """
    names = [name for name in root.split(b"/") if name]
    yield names
    if root.decode("utf-8", "replace") in parent.file.paths:
        yield from (names[at:] for at in range(1, len(names) + 1))


def _find(repository: Repository, tree: BlobId, names: Sequence[bytes]) -> list[Node] | None:
    """The entry at a path, or what is at the top; None where there is none."""
    nodes = repository.load_tree(tree)
    for number, name in enumerate(names, 1):
        node = next((node for node in nodes if node.raw_name() == name), None)
        if node is None:
            return None
        if number == len(names):
            return [node]
        if node.subtree is None:
            return None
        nodes = repository.load_tree(blob_id(node.subtree))
    return nodes


def _holds_files(repository: Repository, nodes: list[Node]) -> bool:
    if len(nodes) == 1 and nodes[0].type == Kind.SYMLINK:
        return False  # a root that was a link then, too
    waiting = list(nodes)
    while waiting:
        node = waiting.pop()
        if node.type != Kind.DIR:
            return True
        if node.subtree is not None:
            waiting += repository.load_tree(blob_id(node.subtree))
    return False
