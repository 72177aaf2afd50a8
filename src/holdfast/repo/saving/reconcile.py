"""Comparing the index with what is really there, before a backup relies on it.

- A pack that the index names but the store has lost cannot give its blobs; nor can all of one that
  is shorter than what the index says of it, nor one that a check found damaged. Their blobs count
  as absent and are written again if the source still has them (F8, F9).
- A pack that the store has but no index names was stored by a run that was killed: its blobs are
  used (F1). One that a prune in two phases took out of the index is left to it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from holdfast.core.errors import DamagedError, StoreError
from holdfast.repo.damage import doubtful_packs, stored_packs
from holdfast.repo.format.pack import StoredPack
from holdfast.repo.pending import pending_packs

if TYPE_CHECKING:
    from holdfast.core.ids import PackId
    from holdfast.repo.repository import Repository


def distrusted_packs(repository: Repository) -> set[PackId]:
    """Packs that the index names and a backup must not rely on. Adopts packs that no index names.

    One listing of the packs: a millisecond for a thousand on a disk, a request for a thousand
    elsewhere.
    """
    stored = stored_packs(repository)
    distrusted = doubtful_packs(repository, stored)
    unnamed = stored.keys() - set(repository.index.packs())
    if unnamed:
        unnamed -= pending_packs(repository)
        orphans = _readable(repository, {pack: stored[pack] for pack in unnamed})
        repository.save_index(orphans)
    return distrusted


def _readable(repository: Repository, stored: dict[PackId, int]) -> list[StoredPack]:
    packs = []
    for pack, size in stored.items():
        try:
            packs.append(StoredPack(pack, size, repository.read_pack_header(pack, size)))
        except (DamagedError, StoreError):
            continue  # half-written by somebody else's tool, or gone meanwhile: `check` tells of it
    return packs
