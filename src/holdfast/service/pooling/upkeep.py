"""Keeping the repositories of pools in order: free space, look for damage, copy, notice what
nobody here did.

Maintenance makes the index of a repository anew, so it is given one of its own, not the one that
uploads are kept with. It forks: call it before threads are started.
"""

from __future__ import annotations

import hashlib
import os
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from holdfast.catalog import tables
from holdfast.core.errors import HoldfastError, ObjectNotFoundError, StoreError
from holdfast.core.ids import SHORT_ID
from holdfast.core.records import BackupState
from holdfast.repo.lock import acquire
from holdfast.repo.objects import NOUNS
from holdfast.repo.upkeep.check import ALL, check
from holdfast.repo.upkeep.copy import copy_snapshots
from holdfast.repo.upkeep.prune import prune
from holdfast.repo.upkeep.prune_plan import PruneOptions
from holdfast.store.contract import FileKind

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from holdfast.core.progress import Progress
    from holdfast.core.records import RepositoryRecord
    from holdfast.repo.lock import Lock
    from holdfast.repo.repository import Repository
    from holdfast.service.ground import Ground
    from holdfast.store.contract import Store

_LOCK_WAIT: Final = 300.0
"""Seconds that maintenance waits for others; uploads give way within seconds."""
_SHOWN: Final = 5
"""Things that are named before the rest is counted."""
_STORED: Final = (FileKind.PACK, FileKind.INDEX, FileKind.SNAPSHOT)
_VISIBLE: Final = (BackupState.KEPT, BackupState.RECYCLED)


@dataclass(frozen=True, slots=True)
class Alarm:
    """What a look at a repository found that nobody here did."""

    repository: RepositoryRecord
    problem: str


@contextmanager
def locked(
    repository: Repository, progress: Progress, *, exclusive: bool = False
) -> Iterator[Lock]:
    """Raises LockedError."""
    lock = acquire(
        repository.objects,
        exclusive=exclusive,
        clock=repository.clock,
        wait=_LOCK_WAIT,
        on_wait=progress.note,
    )
    try:
        yield lock
    except BaseException:
        with suppress(HoldfastError):  # the error that is under way tells more
            lock.release()
        raise
    lock.release()


def free_space(repository: Repository, progress: Progress) -> int:
    """Bytes freed."""
    with locked(repository, progress, exclusive=True) as lock:
        report = prune(repository, PruneOptions(), lock=lock, progress=progress, workers=_cores())
    return report.removed_bytes


def problems_of(repository: Repository, *, read_data: bool, progress: Progress) -> list[str]:
    """What is damaged, in words; none where all is well."""
    with locked(repository, progress) as lock:
        report = check(
            repository,
            read=ALL if read_data else None,
            lock=lock,
            progress=progress,
            workers=_cores(),
        )
    found = []
    for finding in report.findings:
        if not finding.harmful:
            continue
        paths = [hit.path.decode("utf-8", "backslashreplace") for hit in finding.hits]
        hits = f"; it hits {_some(paths)}" if paths else ""
        found.append(finding.message + hits)
    return found


def problems_of_sealed(store: Store, *, read_data: bool, progress: Progress) -> list[str]:
    """Of a repository whose key is elsewhere: with `read_data`, whether each object still has the
    digest of its name; else, whether it can be listed.
    """
    found = []
    for kind in (FileKind.KEY, *_STORED):
        objects = list(store.list(kind))
        progress.stage(f"reading {kind}", items=len(objects))
        for each in objects if read_data else ():
            try:
                digest = hashlib.sha256(store.get(kind, each.name)).hexdigest()
            except ObjectNotFoundError:
                continue  # removed meanwhile
            except StoreError as error:
                found.append(f"{NOUNS[kind]} {each.name[:SHORT_ID]}: {error.message}")
                continue
            if digest != each.name:
                found.append(f"{NOUNS[kind]} {each.name[:SHORT_ID]} is damaged")
            progress.add(items=1, bytes=each.size)
    return found


def carry_over(
    source: Repository, target: Repository, names: Sequence[str], progress: Progress
) -> Mapping[str, str]:
    """Copies snapshots; names in the target by names in the source. No names: all of them."""
    wanted = [each for each in source.snapshots() if not names or each.id in names]
    missing = set(names) - {each.id for each in wanted}
    if missing:
        raise ObjectNotFoundError(f"there is no snapshot {_some(sorted(missing))}")
    with locked(source, progress) as source_lock, locked(target, progress) as lock:
        report = copy_snapshots(
            source,
            target,
            wanted,
            lock=lock,
            source_lock=source_lock,
            progress=progress,
            workers=_cores(),
        )
    return {each.source: each.copy for each in report.snapshots}


def size_of(store: Store) -> int:
    """Bytes that a repository takes."""
    return sum(each.size for kind in _STORED for each in store.list(kind))


# --- the tripwire ---------------------------------------------------------------------------------


def look(
    ground: Ground, record: RepositoryRecord, store: Store, repository: Repository | None
) -> Sequence[Alarm]:
    """Compares a repository with what is known of it, and writes down what is there now.

    Known are the snapshots of all backups, that there is a repository, and which packs its index
    names. A store that went back in time, or lost something, lacks some of it.

    Raises:
        StoreError, DamagedError: it cannot be looked at.
    """
    known = _known_snapshots(ground, record)
    there = {each.name: each for each in store.list(FileKind.SNAPSHOT)}
    missing = known - there.keys()
    if missing:  # what was deleted in the meantime is no loss
        missing &= _known_snapshots(ground, record)
    problems = []
    if missing:
        problems.append(
            f"{len(missing)} of {len(known)} known snapshots are gone: {_some(missing)}"
        )
    if known and not any(store.list(FileKind.CONFIG)):
        problems.append("its config is gone")
    if repository is not None:
        problems += _problems_of_packs(repository)
    newest = max(there.values(), key=lambda each: (each.mtime, each.name), default=None)
    digest = hashlib.sha256("\n".join(sorted(there)).encode()).hexdigest()
    with ground.catalog.write() as tx:
        tx.repositories.change(
            record.id,
            snapshots=len(there),
            newest=newest.name if newest else "",
            digest=digest,
            checked=ground.now(),
        )
    return [Alarm(record, f"{record.location}: {problem}") for problem in problems]


def _known_snapshots(ground: Ground, record: RepositoryRecord) -> set[str]:
    states = [str(state) for state in _VISIBLE]
    with ground.catalog.read() as tx:
        rows = tx.backups.all(tables.backup.c.state.in_(states), repository_id=record.id)
    return {row.snapshot for row in rows if row.snapshot}


def _problems_of_packs(repository: Repository) -> list[str]:
    """Packs that the index names and the store lacks, or has cut short. The index is read first: a
    pack is stored before it is named, and what a prune takes away meanwhile is looked at once more.
    """
    repository.refresh_index()
    lost = _lost_packs(repository)
    if lost and repository.refresh_index():
        lost = _lost_packs(repository)
    return [f"{len(lost)} packs are gone or cut short: {_some(lost)}"] if lost else []


def _lost_packs(repository: Repository) -> set[str]:
    named = {pack.hex(): size for pack, size in repository.index.pack_sizes()}
    there = {each.name: each.size for each in repository.store.list(FileKind.PACK)}
    return {name for name, size in named.items() if there.get(name) != size}


def _some(names: set[str] | list[str]) -> str:
    ordered = sorted(names)
    shown = ", ".join(name if "/" in name else name[:SHORT_ID] for name in ordered[:_SHOWN])
    return shown + (f" and {len(ordered) - _SHOWN} more" if len(ordered) > _SHOWN else "")


def _cores() -> int:
    return len(os.sched_getaffinity(0))
