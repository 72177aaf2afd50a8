"""Keeping what is stored of uploads under way while others have the repository for themselves.

A prune lets nothing be that no snapshot refers to. So before the lock is released there is a
snapshot for a while that refers to it: one file for each upload, with the blobs it has so far.
"""

from __future__ import annotations

import hashlib
import os
import stat
from typing import TYPE_CHECKING, Protocol

from holdfast.core.entries import Kind
from holdfast.core.errors import HoldfastError, ObjectNotFoundError, StoreError
from holdfast.core.ids import ID_SIZE, BlobId
from holdfast.repo.format.gotext import format_time
from holdfast.repo.format.pack import BlobKind
from holdfast.repo.format.snapshot import SnapshotFile
from holdfast.repo.format.tree import node_text, tree_text
from holdfast.repo.lock import machine_identity, process_start
from holdfast.repo.saving.intake_commit import entry
from holdfast.repo.saving.intake_ledger import Account
from holdfast.repo.saving.intake_packs import Lane
from holdfast.repo.saving.sealing import SealingPlan
from holdfast.store.contract import FileKind

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from holdfast.core.ids import ObjectId
    from holdfast.repo.format.snapshot import Snapshot
    from holdfast.repo.repository import Repository
    from holdfast.repo.saving.intake_ledger import Ledger

UNFINISHED = "holdfast:unfinished"
"""The tag of such a snapshot. Whoever lists backups passes it over."""
_MAKER = UNFINISHED + "="
_ABANDONED = 24 * 3600 * 10**9
_BLOBS_IN_FILE = 10_000


class HasBlobs(Protocol):
    def blobs(self) -> Iterator[bytes]: ...


class Unfinished:
    """Belongs to the thread that holds the lock."""

    def __init__(self, repository: Repository, ledger: Ledger) -> None:
        self._repository = repository
        self._ledger = ledger
        self._lane: Lane | None = None
        self._snapshots: list[ObjectId] = []

    def protect(self, uploads: Iterable[HasBlobs]) -> None:
        """Makes the snapshot. What cannot be protected, as on a full disk, is left to chance: it is
        looked for afterwards.
        """
        try:
            self._ledger.save_index()
            tree = self._tree(uploads)
            if tree is not None:
                self._snapshots.append(self._save(tree))
        except HoldfastError:
            return

    def release(self) -> None:
        """Removes it: what it kept is pending, or in the index, and the lock is held."""
        for name in list(self._snapshots):
            try:
                self._repository.store.remove(FileKind.SNAPSHOT, name)
            except ObjectNotFoundError:
                pass
            except StoreError:
                continue  # it is passed over by all, and goes the next time
            self._snapshots.remove(name)

    def _tree(self, uploads: Iterable[HasBlobs]) -> BlobId | None:
        nodes: list[bytes] = []
        now = self._repository.clock.now()
        for stored in self._stored(uploads):
            file = entry(b"%08d" % len(nodes), Kind.FILE, stat.S_IFREG | 0o600, now)
            nodes.append(node_text(file, content=stored))
        if not nodes:
            return None
        document = tree_text(nodes)
        tree = BlobId(hashlib.sha256(document).digest())
        if self._lane is None:
            objects, plan = self._repository.objects, SealingPlan()
            self._lane = Lane(objects, self._ledger, plan, BlobKind.TREE)
        account = Account(lambda _: None)
        self._lane.seal(tree, document, account)
        self._lane.close_pack()
        self._ledger.save_index()
        return None if account.packs else tree

    def _stored(self, uploads: Iterable[HasBlobs]) -> Iterator[list[BlobId]]:
        """Blobs that are in the index by now; the others are in memory, where they are safe."""
        for upload in uploads:
            for blobs in upload.blobs():
                there = self._ledger.in_index(blobs, BlobKind.DATA)
                ids = [BlobId(there[at : at + ID_SIZE]) for at in range(0, len(there), ID_SIZE)]
                for at in range(0, len(ids), _BLOBS_IN_FILE):
                    yield ids[at : at + _BLOBS_IN_FILE]

    def _save(self, tree: BlobId) -> ObjectId:
        file = SnapshotFile(
            time=format_time(self._repository.clock.now()),
            tree=tree.hex(),
            paths=["/"],
            hostname="holdfast-unfinished",  # a group of its own for every rule
            tags=[UNFINISHED, _MAKER + _maker()],
        )
        return self._repository.save_snapshot(file).id


def _maker() -> str:
    return f"{os.getpid()}/{process_start(os.getpid()) or 0}/{machine_identity()}"


def remove_unfinished(repository: Repository, snapshots: Iterable[Snapshot]) -> int:
    """Removes those of the snapshots that only kept what was under way, and whose maker is dead or
    has long forgotten them; how many. For whoever looks through all snapshots at a start.
    """
    removed = 0
    for snapshot in snapshots:
        if UNFINISHED in snapshot.tags and _is_left_behind(repository, snapshot):
            try:
                repository.store.remove(FileKind.SNAPSHOT, snapshot.id)
                removed += 1
            except ObjectNotFoundError:
                continue
    return removed


def _is_left_behind(repository: Repository, snapshot: Snapshot) -> bool:
    if repository.clock.now() - snapshot.time > _ABANDONED:
        return True
    for tag in snapshot.tags:
        if tag.startswith(_MAKER):
            pid, started, machine = tag.removeprefix(_MAKER).split("/", 2)
            return machine == machine_identity() and process_start(int(pid)) != int(started)
    return False
