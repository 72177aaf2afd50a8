"""Freeing space where there is none: what prune does when the disk is full to the last block.

The trouble: before an unneeded pack may go, no index may name it, or a later backup of restic
would rely on blobs that are gone. So a smaller index must be written first, and nothing can be
written. There are steps after each of which a repository is whole, and this takes them in the
order of what they ask for:

1. Packs that no index names. Nothing needs to be written. After a backup that filled the disk there
   are always some: everything that it stored since its last index.
2. Index files that nobody needs: each of their packs is named by another index file too, or holds
   nothing that a snapshot needs. Such a file goes without a successor; the unneeded packs that only
   it named are then of the first sort.
3. Index files that name unneeded packs, smallest first: each is replaced by one without them, which
   is smaller, and is all that must fit. Then those packs go, and the next file has their room.

The lock that prune holds took a block before all this. Room for it and for the first index file was
kept aside while there was any (`room`), `forget` gave a block back for each snapshot, and
half-written leftovers are swept away first. Where not even the smallest replacement fits, nothing
more can be done safely, and the error says how much room would do. Deleting an index file before
its successor is durable would need no room, but a crash in between would leave snapshots that
cannot be read: that is never done.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from holdfast.core.errors import StorageFullError
from holdfast.core.units import format_size
from holdfast.repo.blobs.index_file import documents
from holdfast.repo.upkeep.index_rewrite import remove_quietly
from holdfast.store.contract import FileKind

if TYPE_CHECKING:
    from collections.abc import Iterable

    from holdfast.core.ids import ObjectId, PackId
    from holdfast.repo.lock import Lock
    from holdfast.repo.repository import Repository
    from holdfast.repo.upkeep.inventory import Inventory
    from holdfast.repo.upkeep.prune_plan import Plan

_FRESH = 60.0
"""Seconds within which a half-written file may still be somebody's who waits for the lock."""


def make_room(
    repository: Repository, inventory: Inventory, plan: Plan, lock: Lock
) -> tuple[int, int]:
    """Deletes the packs that nobody needs without moving a blob; how many, and how many bytes.

    Raises:
        StorageFullError: not all of them could be, and none was.
    """
    return _Clearing(repository, inventory, plan, lock).run()


class _Clearing:
    def __init__(
        self, repository: Repository, inventory: Inventory, plan: Plan, lock: Lock
    ) -> None:
        self._repository = repository
        self._stored = dict(inventory.stored)
        self._table = inventory.table
        lists = inventory.pending.keys()
        self._files = {n: set(packs) for n, packs in inventory.files.items() if n not in lists}
        self._fixed = {pack for name in lists for pack in inventory.files[name]}
        self._sizes = inventory.sizes
        self._unneeded = plan.remove | plan.missing
        self._orphans = plan.orphans
        self._lock = lock
        self._packs = self._bytes = 0

    def run(self) -> tuple[int, int]:
        self._repository.store.sweep(_FRESH)
        self._remove_packs(self._orphans)
        self._drop_spare_files()
        full: StorageFullError | None = None
        for name in sorted(self._files, key=self._sizes.__getitem__):
            if self._files[name].isdisjoint(self._unneeded):
                continue
            try:
                self._shrink(name)
            except StorageFullError as error:
                full = error  # a later file may be replaced by a smaller one
        if full and not self._packs:
            raise full
        return self._packs, self._bytes

    def _drop_spare_files(self) -> None:
        """Index files whose packs are all unneeded or named elsewhere."""
        for name in sorted(self._files, key=self._sizes.__getitem__, reverse=True):
            elsewhere = self._named(besides=name)
            if self._files[name] <= elsewhere | self._unneeded:
                self._remove_file(name, elsewhere)

    def _shrink(self, name: ObjectId) -> None:
        """Replaces an index file by one without unneeded packs, and deletes those."""
        keep = self._files[name] - self._unneeded
        entries = list(self._table.by_pack(only=keep))
        made: dict[ObjectId, set[PackId]] = {}
        try:
            for document in documents(entries):
                made[self._repository.objects.save(FileKind.INDEX, document)] = keep
        except StorageFullError as error:
            for file in made:
                self._repository.store.remove(FileKind.INDEX, file)
            raise StorageFullError(
                f"{error.message}; the smallest index that must be written first takes about"
                f" {format_size(self._sizes[name])}",
                remedy="Nothing needed was deleted. Forget more snapshots, or free that much on the"
                " disk, and run prune again.",
            ) from error
        self._files |= made
        self._remove_file(name, self._named(besides=name))

    def _remove_file(self, name: ObjectId, elsewhere: set[PackId]) -> None:
        self._lock.prove()
        remove_quietly(self._repository, FileKind.INDEX, name)
        self._remove_packs(self._files.pop(name) & self._unneeded - elsewhere)

    def _named(self, *, besides: ObjectId) -> set[PackId]:
        others = {pack for name, packs in self._files.items() if name != besides for pack in packs}
        return others | self._fixed

    def _remove_packs(self, packs: Iterable[PackId]) -> None:
        there = [pack for pack in packs if pack in self._stored]
        if there:
            self._lock.prove()
        for pack in there:
            remove_quietly(self._repository, FileKind.PACK, pack.hex())
            self._packs += 1
            self._bytes += self._stored.pop(pack)
