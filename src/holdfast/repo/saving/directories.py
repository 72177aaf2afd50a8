"""Directories that are being put together: their trees are written as soon as the last of their
nodes is known.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from holdfast.core.entries import Kind
from holdfast.core.errors import DamagedError, SourceError, UnreadableError
from holdfast.core.ids import BlobId
from holdfast.repo.format.pack import BlobKind
from holdfast.repo.format.tree import Node, blob_id, decode_tree, node_texts, tree_text
from holdfast.repo.saving.sealing import Sealed

if TYPE_CHECKING:
    from collections.abc import Callable

    from holdfast.core.entries import Entry
    from holdfast.repo.repository import Repository
    from holdfast.repo.saving.known import KnownBlobs
    from holdfast.repo.saving.packer import Packer


class Before(NamedTuple):
    """A node of the parent snapshot, and its place in the tree that it stands in."""

    node: Node
    place: int


@dataclass(slots=True)
class Directory:
    """One directory in the making.

    `nodes` are in order: the text of one that is new, the place of one that is taken over from the
    parent snapshot's tree as it is, None where one is not known yet, or was lost.
    """

    path: bytes
    entry: Entry | None
    """None for `/`, which has no node of its own."""
    up: Directory | None
    place: int
    """Index of its own node in `up.nodes`."""
    previous: Before | None
    """Its own node in the parent snapshot."""
    before: dict[bytes, Before]
    """What the parent snapshot has in it, by raw name."""
    document: bytes
    """The tree that it had in the parent snapshot."""
    nodes: list[bytes | int | None] = field(default_factory=list)
    waiting: int = 0
    closed: bool = False
    last_name: bytes = b""

    def add(self, node: bytes | int) -> None:
        self.nodes.append(node)

    def reserve(self) -> int:
        """Room for a node that will be known later; its index."""
        self.nodes.append(None)
        self.waiting += 1
        return len(self.nodes) - 1

    def check_order(self, name: bytes) -> None:
        """Raises SourceError where a name does not come after the last one: two nodes of one name,
        or an unsorted tree.
        """
        if self.nodes and name <= self.last_name:
            raise SourceError(f"the source gave {name!r} after {self.last_name!r}")
        self.last_name = name


class Directories:
    """Writes trees bottom-up. `describe` gives the node of a finished directory, and whether it is
    the parent's to the letter.
    """

    def __init__(
        self,
        repository: Repository,
        known: KnownBlobs,
        packer: Packer,
        describe: Callable[[Directory, Entry, BlobId], bytes | int],
    ) -> None:
        self._repository = repository
        self._known = known
        self._packer = packer
        self._describe = describe
        self.sealed = Sealed()
        self.root: BlobId | None = None
        """The tree of `/`, once it is complete."""

    def top(self, tree: BlobId | None) -> Directory:
        return Directory(b"/", None, None, 0, None, *self._nodes_before(tree))

    def enter(self, here: Directory, path: bytes, entry: Entry) -> Directory:
        previous = here.before.get(entry.name)
        if previous is not None and previous.node.type != Kind.DIR:
            previous = None
        subtree = previous.node.subtree if previous else None
        before, document = self._nodes_before(blob_id(subtree) if subtree else None)
        return Directory(path, entry, here, here.reserve(), previous, before, document)

    def _nodes_before(self, tree: BlobId | None) -> tuple[dict[bytes, Before], bytes]:
        """What the parent snapshot has in a directory; nothing where its tree cannot be read: then
        all is read again.
        """
        if tree is None:
            return {}, b""
        try:
            document = self._repository.load_blob(tree, BlobKind.TREE)
            nodes = enumerate(decode_tree(document))
            return {node.raw_name(): Before(node, place) for place, node in nodes}, document
        except (UnreadableError, DamagedError):
            return {}, b""

    def close(self, here: Directory) -> None:
        here.closed = True
        self._finish(here)

    def resolve(self, here: Directory, place: int, text: bytes | None) -> None:
        """A reserved node is known now; None: it is lost, and the tree does without."""
        here.nodes[place] = text
        here.waiting -= 1
        self._finish(here)

    def _finish(self, here: Directory) -> None:
        """Writes the tree of a directory that is complete, and then those above that waited for it
        only.
        """
        while here.closed and not here.waiting:
            tree = self._tree_of(here)
            if here.up is None or here.entry is None:
                self.root = tree
                return
            here.up.nodes[here.place] = self._describe(here, here.entry, tree)
            here.up.waiting -= 1
            here = here.up

    def _tree_of(self, here: Directory) -> BlobId:
        nodes, here.nodes = here.nodes, []
        subtree = here.previous.node.subtree if here.previous else None
        if subtree and len(nodes) == len(here.before) and all(type(n) is int for n in nodes):
            tree = blob_id(subtree)
            if self._known.has(tree, BlobKind.TREE):
                return tree
        old = node_texts(here.document) if here.document else []
        document = tree_text(
            node if isinstance(node, bytes) else old[node] for node in nodes if node is not None
        )
        tree = BlobId(hashlib.sha256(document).digest())
        if self._known.promise(tree, BlobKind.TREE):
            packed = self._packer.add(tree, BlobKind.TREE, document)
            self.sealed.blobs += 1
            self.sealed.bytes += len(document)
            self.sealed.stored += packed.length
        return tree
