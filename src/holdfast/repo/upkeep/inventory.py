"""What is really there: every index file with the packs it names, every pack with its size. Never
from a cache.

Whoever deletes (prune), judges (check) or mends (repair) starts from this.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from holdfast.core.errors import DamagedError, StoreError, UnknownVersionError
from holdfast.core.ids import ID_SIZE, ObjectId, PackId
from holdfast.repo.blobs.blobtable import BlobTable, build, part_of
from holdfast.repo.blobs.index import Index
from holdfast.repo.blobs.index_file import decode_rows
from holdfast.repo.damage import stored_packs, unlisted_packs
from holdfast.repo.pending import PendingPack, decode_pending
from holdfast.repo.repository import Refused
from holdfast.store.contract import FileKind

if TYPE_CHECKING:
    from collections.abc import Iterator

    from holdfast.repo.blobs.blobtable import Part
    from holdfast.repo.repository import Repository


@dataclass(frozen=True, slots=True)
class Inventory:
    """`files`: for each index file the packs it names. `stored`: size of each pack that the store
    has.

    `pending`: packs that wait for their deletion, by the index file that lists them.
    """

    table: BlobTable
    files: dict[ObjectId, tuple[PackId, ...]]
    sizes: dict[ObjectId, int]
    pending: dict[ObjectId, tuple[PendingPack, ...]]
    stored: dict[PackId, int]
    refused: tuple[Refused, ...]

    def named(self) -> set[PackId]:
        """Packs that an index file names."""
        return {pack for packs in self.files.values() for pack in packs}

    def unnamed(self) -> set[PackId]:
        """Packs that are stored, and that neither an index file nor a list names."""
        return self.stored.keys() - self.named() - self.waiting().keys()

    def waiting(self) -> dict[PackId, PendingPack]:
        """Packs on the way out: on a list, stored, and in no index file."""
        named = self.named()
        return {
            pack.id: pack
            for packs in self.pending.values()
            for pack in packs
            if pack.id in self.stored and pack.id not in named
        }


def take_inventory(repository: Repository, *, with_waiting: bool = False) -> Inventory:
    """Reads every index file and lists the packs; makes what it found the index of the repository.

    Index files that cannot be read are in `refused`. `with_waiting`: packs that wait for their
    deletion are in the table too, for whoever asks whether they are needed after all.
    """
    stored = stored_packs(repository)
    files: dict[ObjectId, tuple[PackId, ...]] = {}
    sizes: dict[ObjectId, int] = {}
    pending: dict[ObjectId, tuple[PendingPack, ...]] = {}
    refused: list[Refused] = []

    def parts() -> Iterator[Part]:
        for item in sorted(repository.store.list(FileKind.INDEX), key=lambda item: item.name):
            name = ObjectId(item.name)
            try:
                document = repository.objects.load(FileKind.INDEX, name)
                part = decode_rows(document, name=name)
                listed = decode_pending(document, name=name)
            except (DamagedError, UnknownVersionError, StoreError) as error:
                refused.append(Refused(FileKind.INDEX, name, error))
                continue
            ids = bytes(part.packs)
            files[name] = tuple(
                PackId(ids[at : at + ID_SIZE]) for at in range(0, len(ids), ID_SIZE)
            )
            sizes[name] = item.size
            yield part
            if listed:
                pending[name] = listed
                if with_waiting:
                    yield part_of((pack.id, pack.blobs) for pack in listed)

    table = build(parts())
    repository.index = Index(table)
    named = {pack for packs in files.values() for pack in packs}
    stored |= unlisted_packs(repository, named - stored.keys())
    return Inventory(table, files, sizes, pending, stored, tuple(refused))
