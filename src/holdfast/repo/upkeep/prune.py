"""Prune: letting go of what no snapshot needs, in an order in which a crash loses nothing.

All under the exclusive lock:

1. Every snapshot is followed to every blob it needs. One missing blob, one unreadable snapshot,
   tree or index, and nothing is deleted at all.
2. Packs that no index names go: nobody can refer to them (I3).
3. Needed blobs of partly needed packs are copied into new packs, each verified; these become
   durable, and the store is asked whether it has them.
4. The new index becomes durable beside the old one. Now there are two places for what was moved:
   any reader is right.
5. The old index files go, then the packs that only they named.

Killed between any two steps, the repository is whole: what lies twice or in no index is tidied up
by the next prune. Each batch of deletions is preceded by a proof that the lock is still ours.

With a grace, packs are not deleted but leave the index, and their list stays in the repository
(`pending`). A later prune looks at them with the snapshots of that day: what is needed after all
comes back, the rest is deleted once it has waited for the grace by the store's own clock. So even
a writer whom nobody saw loses nothing.

On a full disk see `make_room`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from holdfast.core.errors import DamagedError, StorageFullError, StoreError, UnreadableError
from holdfast.repo.damage import clear_damage, known_damage, record_damage
from holdfast.repo.format.pack import StoredPack
from holdfast.repo.pending import PendingPack, save_pending
from holdfast.repo.room import keep_room
from holdfast.repo.upkeep import advice
from holdfast.repo.upkeep.index_rewrite import remove_quietly, rewrite_index
from holdfast.repo.upkeep.inventory import take_inventory
from holdfast.repo.upkeep.make_room import make_room
from holdfast.repo.upkeep.prune_plan import Plan, PruneCounts, PruneOptions, plan_prune
from holdfast.repo.upkeep.repack import Repacked, Unmoved, repack
from holdfast.repo.upkeep.used import find_used
from holdfast.store.contract import FileKind

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from collections.abc import Set as AbstractSet

    from holdfast.core.ids import ObjectId, PackId
    from holdfast.core.progress import Progress
    from holdfast.repo.format.pack import PackedBlob
    from holdfast.repo.lock import Lock
    from holdfast.repo.repository import Repository
    from holdfast.repo.upkeep.inventory import Inventory

BATCH = 100
"""Packs that are deleted on one proof of the lock."""
_LEFTOVER_SECONDS = 3600.0


@dataclass(frozen=True, slots=True)
class PruneReport:
    """`counts` is the plan; the rest is what came of it."""

    counts: PruneCounts
    removed: int
    """packs deleted"""
    removed_bytes: int
    added: int
    """new packs"""
    waiting: int = 0
    """packs that are out of the index and wait for their grace to end"""
    rescued: int = 0
    damaged: tuple[Unmoved, ...] = ()
    """needed blobs that could not be moved; their packs were kept"""
    crowded: bool = False
    """there was no room to move blobs: only packs that nobody needs were deleted"""


def prune(
    repository: Repository,
    options: PruneOptions,
    *,
    lock: Lock | None,
    progress: Progress,
    ignore: AbstractSet[ObjectId] = frozenset(),
    workers: int | None = None,
) -> PruneReport:
    """Deletes what no snapshot needs. `lock`: held, exclusive; None only for a dry run.

    `ignore`: snapshots that count as forgotten already, for a dry run. Call before any thread is
    started: it forks.

    Raises:
        UnreadableError, DamagedError: something that snapshots need is missing or unreadable;
        nothing was deleted.
        StorageFullError: not even the packs that nobody needs could be deleted safely; the message
        says what would help.
        LockLostError: the lock was lost; what was not deleted yet stays.
    """
    assert lock is not None or options.dry_run
    run = _Run(repository, options, lock, progress, workers)
    report = _free(run, options, progress, ignore)
    if not options.dry_run:
        keep_room(repository)
    return report


def _free(
    run: _Run, options: PruneOptions, progress: Progress, ignore: AbstractSet[ObjectId]
) -> PruneReport:
    """Prunes; on a full disk first what needs no room."""
    try:
        return run.once(ignore)
    except StorageFullError as error:
        if options.grace:
            raise StorageFullError(
                f"{error.message}; with a grace nothing can be freed at once",
                remedy="Nothing was deleted. Run prune without --grace.",
            ) from error
    progress.note("the disk is full: first making room without moving anything")
    run.undo()
    removed, freed = run.make_room(ignore)
    try:
        report = run.once(ignore)
    except StorageFullError:
        run.undo()
        return PruneReport(run.plan(ignore)[1].counts, removed, freed, 0, crowded=True)
    return replace(
        report, removed=report.removed + removed, removed_bytes=report.removed_bytes + freed
    )


class _Run:
    """One call of prune."""

    def __init__(
        self,
        repository: Repository,
        options: PruneOptions,
        lock: Lock | None,
        progress: Progress,
        workers: int | None,
    ) -> None:
        self._repository = repository
        self._options = options
        self._lock = lock
        self._progress = progress
        self._workers = workers
        self._before: tuple[set[str], set[str]] | None = None

    def plan(self, ignore: AbstractSet[ObjectId]) -> tuple[Inventory, Plan]:
        """Looks at everything there is.

        Raises:
            UnreadableError, DamagedError: something needed is missing or unreadable.
        """
        repository = self._repository
        self._progress.stage("loading the index")
        inventory = take_inventory(repository, with_waiting=True)
        for refused in inventory.refused:
            raise UnreadableError(
                f"{refused.sentence}; nothing was deleted", remedy=f"{advice.INDEX} Then prune."
            )
        self._progress.stage("finding what snapshots need")
        roots = [s.tree for s in repository.snapshots() if s.id not in ignore]
        used = find_used(
            repository,
            inventory.table,
            roots,
            progress=self._progress,
            lock=self._lock,
            workers=self._workers,
        )
        used.require_whole(unnamed=len(inventory.unnamed()))
        plan = plan_prune(
            inventory,
            used,
            self._options,
            distrusted=known_damage(repository),
            version=repository.config.version,
        )
        return inventory, plan

    def once(self, ignore: AbstractSet[ObjectId]) -> PruneReport:
        """Plans, and does it."""
        inventory, plan = self.plan(ignore)
        if self._options.dry_run:
            return PruneReport(plan.counts, 0, 0, 0)
        assert self._lock is not None
        self._lock.refresh()
        self._repository.store.sweep(_LEFTOVER_SECONDS)
        self._before = ({pack.hex() for pack in inventory.stored}, set(inventory.files))
        orphans = frozenset() if self._options.grace else plan.orphans
        freed = self._remove_packs(orphans, inventory.stored)
        self._progress.stage("moving what is needed", items=len(plan.repack))
        moved = (
            repack(
                self._repository,
                plan.repack,
                pack_size=self._options.pack_size,
                progress=self._progress,
                compress=plan.compress,
                lock=self._lock,
                workers=self._workers,
            )
            if plan.repack
            else Repacked((), ())
        )
        leaving = plan.leaving - self._hurt(moved.unmoved)
        with self._lock.refreshing():
            return self._commit(inventory, plan, moved, leaving, freed)

    def _commit(
        self,
        inventory: Inventory,
        plan: Plan,
        moved: Repacked,
        leaving: frozenset[PackId],
        freed: int,
    ) -> PruneReport:
        """From durable new packs to the end."""
        repository, waiting = self._repository, inventory.waiting()
        due = {pack for pack in self._due(inventory) if pack in waiting} - plan.rescue
        to_list = self._to_list(inventory, plan, leaving) if self._options.grace else []
        if to_list:
            save_pending(repository, to_list)
        back = [StoredPack(pack, waiting[pack].size, waiting[pack].blobs) for pack in plan.rescue]
        self._progress.stage("writing the index")
        rewrite_index(
            repository,
            inventory,
            without=leaving,
            adding=[*moved.packs, *(pack for pack in back if pack.id not in leaving)],
            lock=self._lock,
        )
        repository.index.remove_packs(leaving | (waiting.keys() - plan.rescue))
        for new in moved.packs:
            repository.index.add_pack(new.id, new.blobs)
        self._outlive_old_listings()
        going = due | (frozenset() if self._options.grace else leaving)
        freed += self._remove_packs(going, inventory.stored)
        self._settle_lists(inventory, due)
        clear_damage(repository, going | plan.orphans)
        return PruneReport(
            counts=plan.counts,
            removed=len(going & inventory.stored.keys())
            + (0 if self._options.grace else len(plan.orphans)),
            removed_bytes=freed,
            added=len(moved.packs),
            waiting=len(waiting.keys() - due - plan.rescue) + len(to_list),
            rescued=len(plan.rescue),
            damaged=moved.unmoved,
        )

    def _outlive_old_listings(self) -> None:
        """Until nobody finds the old index any more, where a store shows for a while what is gone:
        who still reads it relies on packs that go now.
        """
        assert self._lock is not None
        if self._lock.lag:
            self._progress.stage("waiting until the old index is gone from late listings")
            self._lock.settle(self._lock.lag)

    def _hurt(self, unmoved: Sequence[Unmoved]) -> set[PackId]:
        """Packs that stay because one of their needed blobs could not be moved: every place of such
        a blob is kept.
        """
        record_damage(self._repository, {failure.pack for failure in unmoved})
        return {
            location.pack
            for failure in unmoved
            for location in self._repository.index.find_all(failure.blob, failure.kind)
        }

    # --- the grace ---

    def _due(self, inventory: Inventory) -> set[PackId]:
        """Waiting packs whose grace is over, by the store's clock where it has one."""
        assert self._lock is not None
        store, grace = self._repository.store, self._options.grace * 1e9
        store_now = store.stat(FileKind.LOCK, self._lock.id).mtime
        due = set()
        for name, packs in inventory.pending.items():
            listed = store.stat(FileKind.INDEX, name).mtime
            for pack in packs:
                age = (
                    store_now - listed
                    if store_now and listed
                    else self._repository.clock.now() - pack.time
                )
                if age >= grace:
                    due.add(pack.id)
        return due

    def _to_list(
        self, inventory: Inventory, plan: Plan, leaving: frozenset[PackId]
    ) -> list[PendingPack]:
        """Packs that leave now. Packs in no index are among them: a writer that nobody saw may be
        about to name them.
        """
        now = self._repository.clock.now()
        listed = [
            PendingPack(pack, inventory.stored[pack], now, blobs)
            for pack, blobs in inventory.table.by_pack(only=leaving & inventory.stored.keys())
        ]
        return listed + [
            PendingPack(pack, inventory.stored[pack], now, self._header(pack, inventory))
            for pack in sorted(plan.orphans)
        ]

    def _header(self, pack: PackId, inventory: Inventory) -> Sequence[PackedBlob]:
        try:
            return self._repository.read_pack_header(pack, inventory.stored[pack])
        except (DamagedError, StoreError):
            return ()  # nothing in it can be counted on

    def _settle_lists(self, inventory: Inventory, deleted: AbstractSet[PackId]) -> None:
        """Lists go when none of their packs is waiting any more."""
        waiting = inventory.waiting().keys() - deleted
        for name, packs in inventory.pending.items():
            if waiting.isdisjoint(pack.id for pack in packs) and not inventory.files[name]:
                remove_quietly(self._repository, FileKind.INDEX, name)

    # --- deleting ---

    def _remove_packs(self, packs: Iterable[PackId], stored: dict[PackId, int]) -> int:
        """Deletes those of the packs that are there; how many bytes."""
        assert self._lock is not None
        there = sorted(pack for pack in packs if pack in stored)
        if there:
            self._progress.stage("deleting packs", items=len(there))
        freed = 0
        for at in range(0, len(there), BATCH):
            self._lock.prove()
            for pack in there[at : at + BATCH]:
                remove_quietly(self._repository, FileKind.PACK, pack.hex())
                freed += stored[pack]
                self._progress.add(items=1, bytes=stored[pack])
        return freed

    # --- a full disk ---

    def undo(self) -> None:
        """Takes back what this run has stored: new index files first, for they name the new
        packs.
        """
        assert self._lock is not None
        if self._before is None:
            return
        packs, indexes = self._before
        self._lock.prove()
        for kind, known in ((FileKind.INDEX, indexes), (FileKind.PACK, packs)):
            for item in list(self._repository.store.list(kind)):
                if item.name not in known:
                    self._repository.store.remove(kind, item.name)
        self._before = None

    def make_room(self, ignore: AbstractSet[ObjectId]) -> tuple[int, int]:
        """Deletes packs that nobody needs without moving anything; how many, and their bytes."""
        assert self._lock is not None
        self._repository.store.reserve(0)  # this is the day that it was kept for
        inventory, plan = self.plan(ignore)
        if plan.rescue:
            raise StorageFullError(
                f"{len(plan.rescue)} packs that waited for their deletion are needed again, and"
                " there is no room to put them back into the index",
                remedy="Nothing was deleted. Free a few megabytes, and run prune again.",
            )
        return make_room(self._repository, inventory, plan, self._lock)
