"""Packs that a check found damaged, kept beside the cache of the machine that found them.

A backup writes again what lies in them and is still in the source (F8); readers go on trying them.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import msgspec

from holdfast.core.ids import ID_SIZE, PackId

if TYPE_CHECKING:
    from collections.abc import Iterable
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
