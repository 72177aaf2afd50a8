"""Making the index anew from the packs themselves, and saving what can be read of damaged packs.
Under the exclusive lock.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from holdfast.core.errors import DamagedError, StoreError, UnknownVersionError
from holdfast.core.ids import ObjectId, PackId
from holdfast.repo.damage import clear_damage, known_damage, record_damage
from holdfast.repo.format.pack import DEFAULT_PACK_SIZE, PackedBlob, StoredPack
from holdfast.repo.spread import answers, spread_work
from holdfast.repo.upkeep import advice
from holdfast.repo.upkeep.check_packs import expected_size
from holdfast.repo.upkeep.forget import refreshed
from holdfast.repo.upkeep.index_rewrite import remove_quietly, rewrite_index
from holdfast.repo.upkeep.inventory import take_inventory
from holdfast.repo.upkeep.repack import Unmoved, repack
from holdfast.store.contract import FileKind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from holdfast.core.progress import Progress
    from holdfast.repo.lock import Lock
    from holdfast.repo.processes import Message
    from holdfast.repo.repository import Repository
    from holdfast.repo.spread import Spread
    from holdfast.repo.upkeep.inventory import Inventory

_BATCH = 32
"""Packs whose headers a worker is asked for at once."""


@dataclass(frozen=True, slots=True)
class IndexRepair:
    added: tuple[PackId, ...]
    """packs that the index did not name, or named wrongly"""
    dropped: tuple[PackId, ...]
    """packs that the index named and the store does not have"""
    unreadable: tuple[tuple[PackId, str], ...]
    """packs whose headers cannot be read, and why; what the index knew of them stays, as far as
    they reach
    """
    files: int
    """index files that were replaced, damaged ones among them"""


def repair_index(
    repository: Repository,
    *,
    lock: Lock | None,
    progress: Progress,
    read_all: bool = False,
    dry_run: bool = False,
    workers: int | None = None,
) -> IndexRepair:
    """Makes the index name what is there. Headers are read of packs that it does not name or whose
    size it has wrong, or, with `read_all`, of every pack. The new index is durable before anything
    of the old one goes; packs are not touched.

    `lock`: held, exclusive. Call before any thread is started.

    Raises:
        StoreError: the store cannot be read or written; the old index is as it was, new files may
        lie beside it.
    """
    progress.stage("loading the index")
    inventory = take_inventory(repository)
    damaged = set()
    for refused in inventory.refused:
        if not isinstance(refused.error, DamagedError | UnknownVersionError):
            raise refused.error
        damaged.add(ObjectId(refused.name))
    right, wrong = _sizes(inventory)
    unnamed = inventory.stored.keys() - right - wrong.keys() - inventory.waiting().keys()
    suspects = (right | wrong.keys() | unnamed) if read_all else (wrong.keys() | unnamed)
    wanted = {pack: inventory.stored[pack] for pack in suspects if pack in inventory.stored}
    progress.stage("reading pack headers", items=len(wanted))
    spread = spread_work(repository.store, lambda: _header_reader(repository), workers=workers)
    read: list[StoredPack] = []
    unreadable: dict[PackId, str] = {}
    with refreshed(lock):
        for pack, size, blobs, why in _headers(spread, wanted, progress):
            if why:
                unreadable[pack] = why
            else:
                read.append(StoredPack(pack, size, blobs))
        for pack in unreadable:
            reach = [b for b in wrong.get(pack, ()) if b.offset + b.length <= wanted[pack]]
            if reach:
                read.append(StoredPack(pack, wanted[pack], reach))
        dropped = wrong.keys() - inventory.stored.keys()
        known = set(unreadable) & right
        outdated = (wrong.keys() | {pack.id for pack in read}) - known
        files = len(damaged)
        if not dry_run:
            files = rewrite_index(
                repository,
                inventory,
                without=outdated,
                adding=read,
                dropping=damaged,
                lock=lock,
            )
            repository.load_index()
            record_damage(repository, unreadable)
    named = inventory.named()
    return IndexRepair(
        added=tuple(sorted(p.id for p in read if p.id not in named or p.id in wrong)),
        dropped=tuple(sorted(dropped)),
        unreadable=tuple(sorted(unreadable.items())),
        files=files,
    )


def _sizes(inventory: Inventory) -> tuple[set[PackId], dict[PackId, list[PackedBlob]]]:
    """Packs of the index that are there in the right size, and the others with their blobs."""
    right, wrong = set(), {}
    for pack, blobs in inventory.table.by_pack():
        if inventory.stored.get(pack) == expected_size(blobs):
            right.add(pack)
        else:
            wrong[pack] = blobs
    return right, wrong


def _headers(
    spread: Spread, packs: Mapping[PackId, int], progress: Progress
) -> Iterator[tuple[PackId, int, list[PackedBlob], str]]:
    items = list(packs.items())
    pieces = ((items[at : at + _BATCH],) for at in range(0, len(items), _BATCH))
    try:
        for (found,) in answers(spread, pieces):
            progress.add(items=len(found))
            for pack, size, blobs, why in found:
                yield PackId(pack), size, [PackedBlob(*blob) for blob in blobs], why
    finally:
        spread.close()


def _header_reader(repository: Repository) -> Callable[[Message], Message]:
    def read(piece: Message) -> Message:
        found = []
        for pack, size in piece[0]:
            blobs, why = [], ""
            try:
                blobs = [tuple(b) for b in repository.read_pack_header(PackId(pack), size)]
            except (DamagedError, StoreError) as error:
                why = error.message
            found.append((pack, size, blobs, why))
        return (found,)

    return read


@dataclass(frozen=True, slots=True)
class PackRepair:
    packs: tuple[PackId, ...]
    """damaged packs that were taken apart"""
    saved: int
    """blobs that were moved into new packs"""
    lost: tuple[Unmoved, ...]
    """blobs that could not be read and lie nowhere else"""


def repair_packs(
    repository: Repository,
    packs: Iterable[PackId] | None = None,
    *,
    lock: Lock,
    progress: Progress,
    workers: int | None = None,
) -> PackRepair:
    """Moves every readable blob of damaged packs into new ones and lets the damaged packs go: new
    packs durable, then the index, then the old packs. `packs`: those that are missing,
    of another size than the index says, or found damaged by a check, where None.

    `lock`: held, exclusive. Call before any thread is started.

    Raises:
        DamagedError: the index cannot be read: repair it first.
        StoreError: no damaged pack was removed.
    """
    progress.stage("loading the index")
    inventory = take_inventory(repository)
    for refused in inventory.refused:
        raise DamagedError(refused.sentence, remedy=f"Nothing was changed. First: {advice.INDEX}")
    chosen = _damaged(repository, inventory) if packs is None else set(packs)
    chosen &= inventory.stored.keys() | inventory.named()
    if not chosen:
        return PackRepair((), 0, ())
    contents = dict(inventory.table.by_pack(only=chosen))
    for pack in chosen & inventory.stored.keys():
        try:
            blobs = repository.read_pack_header(pack, inventory.stored[pack])
        except (DamagedError, StoreError):
            continue  # what the index says of it must do
        contents[pack] = list({*contents.get(pack, ()), *blobs})
    progress.stage("saving what can be read", items=len(contents))
    moved = repack(
        repository,
        contents,
        pack_size=DEFAULT_PACK_SIZE,
        progress=progress,
        lock=lock,
        workers=workers,
    )
    with lock.refreshing():
        rewrite_index(repository, inventory, without=chosen, adding=moved.packs, lock=lock)
        lock.settle(lock.lag)  # see prune: nobody may find the old index any more
        lock.prove()
        for pack in sorted(chosen & inventory.stored.keys()):
            remove_quietly(repository, FileKind.PACK, pack.hex())
    clear_damage(repository, chosen)
    repository.index.remove_packs(chosen)
    for new in moved.packs:
        repository.index.add_pack(new.id, new.blobs)
    lost = [f for f in moved.unmoved if repository.index.find(f.blob, f.kind) is None]
    saved = sum(len(new.blobs) for new in moved.packs)
    return PackRepair(tuple(sorted(chosen)), saved, tuple(lost))


def _damaged(repository: Repository, inventory: Inventory) -> set[PackId]:
    """Packs that a check found damaged, and those whose size is not what the index says."""
    sizes = inventory.table.pack_sizes()
    return known_damage(repository) | {
        pack for pack, size in sizes if inventory.stored.get(pack) != size
    }
