"""Replacing index files: the new ones are durable before the first old one goes, so that every
reader finds every blob.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from holdfast.core.errors import ObjectNotFoundError
from holdfast.repo.blobs.index_file import documents
from holdfast.repo.pending import save_pending
from holdfast.store.contract import FileKind

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from collections.abc import Set as AbstractSet

    from holdfast.core.ids import ObjectId, PackId
    from holdfast.repo.blobs.blobtable import BlobTable
    from holdfast.repo.format.pack import PackedBlob, StoredPack
    from holdfast.repo.lock import Lock
    from holdfast.repo.repository import Repository
    from holdfast.repo.upkeep.inventory import Inventory

_SMALL = 64 << 10
_MANY_SMALL = 16
"""So many index files below this size are made into one when any is rewritten."""


def rewrite_index(
    repository: Repository,
    inventory: Inventory,
    *,
    without: AbstractSet[PackId] = frozenset(),
    adding: Sequence[StoredPack] = (),
    dropping: AbstractSet[ObjectId] = frozenset(),
    lock: Lock | None = None,
) -> int:
    """Makes the index name exactly the packs it named, less those in `without` and plus those in
    `adding`; the number of index files that were replaced.

    Files that name none of `without` are left as they are. `dropping`: files that go in any case
    (damaged, or a list of waiting packs that is settled).

    Raises:
        StorageFullError: there was no room; the old index is untouched, and new files may lie
        beside it.
        LockLostError: likewise.
    """
    gone = set(without) | {pack.id for pack in adding}
    old = {name for name, packs in inventory.files.items() if not gone.isdisjoint(packs)}
    if old or adding:
        small = {name for name, size in inventory.sizes.items() if size < _SMALL}
        small -= inventory.pending.keys()
        old |= small if len(small) >= _MANY_SMALL else set()
    old |= dropping
    for name in old & inventory.pending.keys():
        if not inventory.files[name]:
            continue  # a list alone goes when it is settled
        # rustic keeps both in one file; the packs on its list begin to wait anew
        save_pending(repository, inventory.pending[name])
    staying = {pack for name, packs in inventory.files.items() if name not in old for pack in packs}
    moving = {pack for name in old for pack in inventory.files.get(name, ())} - staying - gone
    made = {
        repository.objects.save(FileKind.INDEX, document)
        for document in documents(_entries(inventory.table, moving, adding))
    }
    if lock and old:
        lock.prove()
    for name in old - made:
        remove_quietly(repository, FileKind.INDEX, name)
    return len(old)


def _entries(
    table: BlobTable, packs: AbstractSet[PackId], adding: Iterable[StoredPack]
) -> Iterator[tuple[PackId, Sequence[PackedBlob]]]:
    if packs:
        yield from table.by_pack(only=packs)
    for pack in adding:
        yield pack.id, pack.blobs


def remove_quietly(repository: Repository, kind: FileKind, name: str) -> None:
    """Removes an object; one that is gone already is well."""
    try:
        repository.store.remove(kind, name)
    except ObjectNotFoundError:
        pass
