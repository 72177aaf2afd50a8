"""Packs that cannot be relied on: missing, cut short, or found damaged by a check.

A backup writes again what lies in them and is still in the source (F8, F9); readers go on trying
them. What a check found by reading is kept beside the cache, for one user of one machine.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import msgspec

from holdfast.core.errors import ObjectNotFoundError
from holdfast.core.ids import ID_SIZE, PackId
from holdfast.store.contract import FileKind

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from holdfast.repo.repository import Repository

_FILE = "damaged.json"


class _Record(msgspec.Struct):
    packs: list[str]


def known_damage(repository: Repository) -> set[PackId]:
    """Packs that are known to be damaged; none where nothing is recorded or the record cannot be
    read.
    """
    if repository.cache is None:
        return set()
    try:
        record = msgspec.json.decode((repository.cache / _FILE).read_bytes(), type=_Record)
        packs = {PackId(bytes.fromhex(pack)) for pack in record.packs}
    except (OSError, ValueError):  # a hint: the next check finds the damage again
        return set()
    return {pack for pack in packs if len(pack) == ID_SIZE}


def stored_packs(repository: Repository) -> dict[PackId, int]:
    """Each pack that the store has, with its size."""
    return {
        PackId(bytes.fromhex(item.name)): item.size for item in repository.store.list(FileKind.PACK)
    }


def unlisted_packs(repository: Repository, missing: Iterable[PackId]) -> dict[PackId, int]:
    """Those of the packs missing in a listing that are there all the same, with their sizes: a
    distant store may list late what was stored (F12).
    """
    found: dict[PackId, int] = {}
    if repository.store.properties.local:
        return found
    for pack in missing:
        try:
            found[pack] = repository.store.stat(FileKind.PACK, pack.hex()).size
        except ObjectNotFoundError:
            continue
    return found


def doubtful_packs(repository: Repository, stored: Mapping[PackId, int]) -> set[PackId]:
    """Packs of the index that cannot give all that it says of them: those known to be damaged, and
    those that are missing or shorter. `stored`: size of each pack that is there.
    """
    damaged = known_damage(repository)
    sizes = dict(repository.index.pack_sizes())
    stored = {**stored, **unlisted_packs(repository, sizes.keys() - stored.keys())}
    return {pack for pack, size in sizes.items() if pack in damaged or stored.get(pack, -1) < size}


def record_damage(repository: Repository, packs: Iterable[PackId]) -> None:
    """Remembers packs as damaged; without a cache there is nowhere to."""
    _write(repository, known_damage(repository) | set(packs))


def clear_damage(repository: Repository, packs: Iterable[PackId]) -> None:
    """Forgets packs that were read whole, or are gone."""
    _write(repository, known_damage(repository) - set(packs))


def _write(repository: Repository, packs: set[PackId]) -> None:
    if repository.cache is None or packs == known_damage(repository):
        return
    path = repository.cache / _FILE
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    _replace(path, msgspec.json.encode(_Record(sorted(pack.hex() for pack in packs))))


def _replace(path: Path, content: bytes) -> None:
    unfinished = path.with_suffix(f".{os.getpid()}.part")
    unfinished.write_bytes(content)
    unfinished.replace(path)
