"""Copying snapshots to another repository, which has another key: each blob is opened, verified and
sealed anew.

Trees and chunks are taken over to the letter, so a copy has the same tree name as its origin. Blobs
that the destination has already are not copied; content deduplicates with backups made there only
where both repositories cut files by the same polynomial (`same_polynomial`).
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from holdfast.core.ids import BlobId
from holdfast.repo.format.pack import DEFAULT_PACK_SIZE, BlobKind
from holdfast.repo.format.tree import blob_id
from holdfast.repo.saving.reconcile import distrusted_packs
from holdfast.repo.spread import answers, spread_work
from holdfast.repo.upkeep.repack import Outlet, read_news

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from holdfast.core.ids import ObjectId
    from holdfast.core.progress import Progress
    from holdfast.repo.format.pack import StoredPack
    from holdfast.repo.format.snapshot import Snapshot
    from holdfast.repo.lock import Lock
    from holdfast.repo.processes import Message
    from holdfast.repo.repository import Repository

_BATCH = 512
"""Blobs that a worker is given at once."""


@dataclass(frozen=True, slots=True)
class Copied:
    """A snapshot and its copy; `skipped` where the copy was there already."""

    source: ObjectId
    copy: ObjectId
    skipped: bool = False


@dataclass(frozen=True, slots=True)
class CopyReport:
    snapshots: tuple[Copied, ...]
    blobs: int
    bytes: int
    """of packs stored"""


def same_polynomial(one: Repository, other: Repository) -> bool:
    """Whether content that is backed up into both is cut into the same blobs."""
    return one.config.polynomial == other.config.polynomial


def copy_snapshots(
    source: Repository,
    destination: Repository,
    snapshots: Iterable[Snapshot],
    *,
    lock: Lock | None,
    progress: Progress,
    source_lock: Lock | None = None,
    pack_size: int = DEFAULT_PACK_SIZE,
    workers: int | None = None,
) -> CopyReport:
    """Copies snapshots, oldest first, each with all that it needs: packs durable, then the index,
    then the snapshots.

    A copy has no parent and remembers the name that the snapshot had at first as `original`, as
    restic's does. One that is there already, alike in all but these two, is not copied again.
    `lock`: held on the destination; `source_lock`: on the source; neither needs to be exclusive.
    Call before any thread is started.

    Raises:
        UnreadableError, DamagedError: the source lacks something; no snapshot was copied, packs may
        have been.
        StoreError, LockLostError: likewise.
    """
    destination.index.remove_packs(distrusted_packs(destination))
    present: dict[str, list[Snapshot]] = {}
    for there in destination.snapshots():
        for name in {there.id, there.file.original or there.id}:
            present.setdefault(name, []).append(there)
    skipped, wanted = [], []
    for snapshot in sorted(snapshots, key=lambda s: (s.time, s.id)):
        twins = present.get(snapshot.file.original or snapshot.id, ())
        twin = next((twin for twin in twins if _alike(twin, snapshot)), None)
        if twin:
            skipped.append(Copied(snapshot.id, twin.id, skipped=True))
        else:
            wanted.append(snapshot)
    blobs = _missing_blobs(source, destination, [snapshot.tree for snapshot in wanted], progress)
    count = len(blobs[BlobKind.DATA]) + len(blobs[BlobKind.TREE])
    progress.stage("copying blobs", items=count)
    packs = _carry(
        source,
        destination,
        blobs,
        [held for held in (lock, source_lock) if held],
        pack_size=pack_size,
        progress=progress,
        workers=workers,
    )
    if packs:
        destination.save_index(packs)
    if lock:
        lock.prove()
    copied = []
    for snapshot in wanted:
        original = snapshot.file.original or snapshot.id
        file = msgspec.structs.replace(snapshot.file, parent=None, original=original)
        copied.append(Copied(snapshot.id, destination.save_snapshot(file).id))
    return CopyReport((*skipped, *copied), count, sum(pack.size for pack in packs))


def _alike(one: Snapshot, other: Snapshot) -> bool:
    """Everything but parent and original."""
    a, b = one.file, other.file
    return (
        one.time == other.time
        and a.tree == b.tree
        and (a.hostname, a.username, a.uid, a.gid) == (b.hostname, b.username, b.uid, b.gid)
        and sorted(a.paths) == sorted(b.paths)
        and sorted(one.tags) == sorted(other.tags)
        and (a.excludes or []) == (b.excludes or [])
    )


def _missing_blobs(
    source: Repository, destination: Repository, roots: Sequence[BlobId], progress: Progress
) -> dict[BlobKind, list[BlobId]]:
    """What the trees need and the destination lacks. A tree that is there is still gone into: a
    killed run may have left it there without what it names.
    """
    progress.stage("finding what is to be copied")
    needed: dict[BlobKind, dict[BlobId, None]] = {kind: {} for kind in BlobKind}
    waiting = list(dict.fromkeys(roots))
    seen = set(waiting)
    while waiting:
        tree = waiting.pop()
        if destination.index.find(tree, BlobKind.TREE) is None:
            needed[BlobKind.TREE][tree] = None
        for node in source.load_tree(tree):
            needed[BlobKind.DATA].update(dict.fromkeys(node.blobs()))
            if node.subtree is not None and (subtree := blob_id(node.subtree)) not in seen:
                seen.add(subtree)
                waiting.append(subtree)
        progress.add(items=1)
    data = list(needed[BlobKind.DATA])
    have = destination.index.contains_many(b"".join(data), BlobKind.DATA)
    return {
        BlobKind.DATA: [blob for blob, there in zip(data, have, strict=True) if not there],
        BlobKind.TREE: list(needed[BlobKind.TREE]),
    }


def _carry(
    source: Repository,
    destination: Repository,
    blobs: dict[BlobKind, list[BlobId]],
    locks: Sequence[Lock],
    *,
    pack_size: int,
    progress: Progress,
    workers: int | None,
) -> list[StoredPack]:
    """Seals blobs into durable packs of the destination, in the order in which the source has
    them.
    """
    if not any(blobs.values()):
        return []

    def make() -> Callable[[Message], Message]:
        return _Carrier(source, destination, pack_size).carry

    spread = spread_work(destination.store, make, workers=workers)
    packs: list[StoredPack] = []
    try:
        with ExitStack() as stack:
            for lock in locks:
                stack.enter_context(lock.refreshing())
            for count, news in answers(spread, _pieces(source, blobs)):
                progress.add(items=count)
                packs += read_news(news)
            for _, news in spread.every(()):
                packs += read_news(news)
    finally:
        spread.close()
    return packs


def _pieces(source: Repository, blobs: dict[BlobKind, list[BlobId]]) -> Iterator[Message]:
    for kind, ids in blobs.items():
        places = [(source.index.find(blob, kind), blob) for blob in ids]
        ordered = [blob for _, blob in sorted(places, key=lambda item: item[0] or ())]
        for at in range(0, len(ordered), _BATCH):
            yield int(kind), ordered[at : at + _BATCH]


class _Carrier:
    """The worker's side."""

    def __init__(self, source: Repository, destination: Repository, pack_size: int) -> None:
        self._source = source
        self._outlet = Outlet(destination.objects, pack_size)

    def carry(self, piece: Message) -> Message:
        """(kind, ids) -> (count, news); () finishes."""
        count = 0
        if piece:
            kind = BlobKind(piece[0])
            packer = self._outlet.packers[kind]
            for raw in piece[1]:
                blob = BlobId(raw)
                packer.add(blob, kind, self._source.load_blob(blob, kind))
                count += 1
        else:
            self._outlet.finish()
        return count, self._outlet.news()
