"""Making snapshots whole again by leaving out what is lost. A last resort: a backup of what the
source still has loses less.

A file of which some content is lost is shortened by it; one of which nothing is left is dropped. A
directory that cannot be read becomes an empty one. The repaired snapshot is a new one that names
the old one as its `original`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from hashlib import sha256
from typing import TYPE_CHECKING

import msgspec

from holdfast.core.errors import DamagedError, HoldfastError
from holdfast.core.ids import BlobId
from holdfast.repo.browsing.walk import join
from holdfast.repo.damage import doubtful_packs, stored_packs
from holdfast.repo.format.codec import Codec
from holdfast.repo.format.crypto import OVERHEAD
from holdfast.repo.format.pack import BlobKind
from holdfast.repo.format.tree import blob_id, decode_tree_texts, tree_text
from holdfast.repo.saving.packer import Packer
from holdfast.repo.upkeep.forget import refreshed
from holdfast.store.contract import FileKind

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from holdfast.core.ids import ObjectId
    from holdfast.core.progress import Progress
    from holdfast.repo.format.pack import StoredPack
    from holdfast.repo.format.snapshot import Snapshot
    from holdfast.repo.format.tree import Node
    from holdfast.repo.lock import Lock
    from holdfast.repo.repository import Repository

TAG = "repaired"


@dataclass(frozen=True, slots=True)
class SnapshotRepair:
    """`new` is None where the root or the snapshot itself is lost, and on a dry run. Paths are from
    the top of the snapshot.
    """

    old: ObjectId
    new: ObjectId | None
    shortened: tuple[bytes, ...] = ()
    dropped: tuple[bytes, ...] = ()
    emptied: tuple[bytes, ...] = ()
    """directories that could not be read"""
    removed: bool = False
    """the old one is gone, or would be but for the dry run"""

    @property
    def lost(self) -> bool:
        """Nothing of it is left."""
        return b"/" in self.emptied


def repair_snapshots(
    repository: Repository,
    snapshots: Iterable[Snapshot],
    *,
    lock: Lock | None,
    progress: Progress,
    forget: bool = False,
    damaged: Sequence[ObjectId] = (),
    dry_run: bool = False,
) -> list[SnapshotRepair]:
    """Writes each snapshot that has lost something anew without it; those that had. `forget`
    removes the originals, and the snapshot files in `damaged`, which are not what was written. New
    trees are durable and indexed before the first new snapshot, and that before its original goes.

    `lock`: held, exclusive. Run `repair_index` before.
    """
    chosen = list(snapshots)
    progress.stage("looking for what is lost", items=len(chosen))
    mending = _Mending(repository, dry_run=dry_run)
    repairs = []
    with refreshed(lock):
        try:
            mended = []
            for snapshot in chosen:
                mended.append((snapshot, mending.tree_of(snapshot)))
                progress.add(items=1)
            mending.finish()
        finally:
            mending.close()
        for snapshot, found in mended:
            if found is not None and found.tree == snapshot.tree:
                continue
            new = None
            if lock and not dry_run:
                lock.prove()
            if found is not None and not dry_run:
                new = _replace(repository, snapshot, found.tree, tag=not forget)
            if forget and not dry_run:
                repository.store.remove(FileKind.SNAPSHOT, snapshot.id)
            repairs.append(_describe(snapshot, new, found, removed=forget))
        for name in damaged:
            if forget and not dry_run:
                repository.store.remove(FileKind.SNAPSHOT, name)
            repairs.append(SnapshotRepair(name, None, emptied=(b"/",), removed=forget))
    return repairs


def _replace(repository: Repository, snapshot: Snapshot, tree: BlobId, *, tag: bool) -> ObjectId:
    tags = list(dict.fromkeys([*snapshot.tags, TAG])) if tag else snapshot.file.tags
    file = msgspec.structs.replace(
        snapshot.file, tree=tree.hex(), original=snapshot.id, tags=tags, parent=None, summary=None
    )
    return repository.save_snapshot(file).id


def _describe(
    snapshot: Snapshot, new: ObjectId | None, found: _Mended | None, *, removed: bool
) -> SnapshotRepair:
    if found is None:
        return SnapshotRepair(snapshot.id, None, emptied=(b"/",), removed=removed)
    return SnapshotRepair(
        snapshot.id,
        new,
        tuple(sorted(found.shortened)),
        tuple(sorted(found.dropped)),
        tuple(sorted(found.emptied)),
        removed,
    )


@dataclass(slots=True)
class _Mended:
    """A tree without what is lost. Paths are from that tree."""

    tree: BlobId
    shortened: list[bytes] = field(default_factory=list)
    dropped: list[bytes] = field(default_factory=list)
    emptied: list[bytes] = field(default_factory=list)

    def take_over(self, path: bytes, below: _Mended) -> None:
        self.shortened += [path + each for each in below.shortened]
        self.dropped += [path + each for each in below.dropped]
        self.emptied += [path + each for each in below.emptied]


class _Mending:
    """Trees of one run: each is looked at once, from the leaves upwards."""

    def __init__(self, repository: Repository, *, dry_run: bool) -> None:
        self._repository = repository
        self._dry_run = dry_run
        self._known: dict[BlobId, _Mended | None] = {}
        self._readable: dict[BlobId, bool] = {}
        self._doubtful = doubtful_packs(repository, stored_packs(repository))
        self._new: set[BlobId] = set()
        self._stored: list[StoredPack] = []
        self._packer = Packer(repository.objects, Codec(), self._stored.append)

    def tree_of(self, snapshot: Snapshot) -> _Mended | None:
        """None where the root is lost."""
        opened: dict[BlobId, list[tuple[Node, bytes]]] = {}
        stack = [snapshot.tree]
        while stack:
            tree = stack[-1]
            if tree in self._known:
                stack.pop()
                continue
            if tree not in opened:
                try:
                    document = self._repository.load_blob(tree, BlobKind.TREE)
                    opened[tree] = decode_tree_texts(document)
                    subtrees = [blob_id(n.subtree) for n, _ in opened[tree] if n.subtree]
                except HoldfastError:
                    self._known[tree] = None
                    continue
                unseen = [subtree for subtree in subtrees if subtree not in self._known]
                if unseen:
                    stack += unseen
                    continue
            self._known[tree] = self._mend(tree, opened.pop(tree))
            stack.pop()
        return self._known[snapshot.tree]

    def _mend(self, tree: BlobId, nodes: list[tuple[Node, bytes]]) -> _Mended:
        mended = _Mended(tree)
        texts = []
        for node, text in nodes:
            path = join(b"/", _name(node))
            if node.type == "dir":
                texts.append(self._mend_directory(path, node, text, mended))
            elif node.content:
                whole = self._mend_file(path, node, text, mended)
                if whole is not None:
                    texts.append(whole)
            else:
                texts.append(text)
        if texts != [text for _, text in nodes]:
            mended.tree = self._add_tree(tree_text(texts))
        return mended

    def _mend_directory(self, path: bytes, node: Node, text: bytes, mended: _Mended) -> bytes:
        below = self._known[blob_id(node.subtree)] if node.subtree else None
        if below is None:
            mended.emptied.append(path)
            return _edited(text, subtree=self._add_tree(tree_text(())).hex())
        mended.take_over(path, below)
        subtree = below.tree.hex()
        return text if subtree == node.subtree else _edited(text, subtree=subtree)

    def _mend_file(self, path: bytes, node: Node, text: bytes, mended: _Mended) -> bytes | None:
        """The node without lost content, None where nothing is left."""
        kept = [blob for blob in node.blobs() if self._can_read(blob)]
        if len(kept) == len(node.content or ()):
            return text
        if not kept:
            mended.dropped.append(path)
            return None
        mended.shortened.append(path)
        content = [blob.hex() for blob in kept]
        return _edited(text, content=content, size=sum(map(self._length, kept)))

    def _can_read(self, blob: BlobId) -> bool:
        """Taken as readable where a place is in no doubt; else it is tried."""
        if blob not in self._readable:
            places = self._repository.index.find_all(blob, BlobKind.DATA)
            good = any(place.pack not in self._doubtful for place in places)
            if places and not good:
                try:
                    self._repository.load_blob(blob, BlobKind.DATA)
                    good = True
                except HoldfastError:
                    good = False
            self._readable[blob] = good
        return self._readable[blob]

    def _length(self, blob: BlobId) -> int:
        place = self._repository.index.find_all(blob, BlobKind.DATA)[0]
        return place.raw_length or place.length - OVERHEAD

    def _add_tree(self, document: bytes) -> BlobId:
        tree = BlobId(sha256(document).digest())
        known = tree in self._new or self._repository.index.find(tree, BlobKind.TREE) is not None
        if not known and not self._dry_run:
            self._packer.add(tree, BlobKind.TREE, document)
        self._new.add(tree)
        return tree

    def finish(self) -> None:
        """All new trees durable and indexed."""
        self._packer.flush()
        if self._stored:
            self._repository.save_index(self._stored)

    def close(self) -> None:
        self._packer.close()


def _edited(text: bytes, **changes: object) -> bytes:
    """The text of a node with other values in the same places."""
    return msgspec.json.encode(msgspec.json.decode(text) | changes)


def _name(node: Node) -> bytes:
    try:
        return node.raw_name()
    except DamagedError:
        return node.name.encode("utf-8", "backslashreplace")
