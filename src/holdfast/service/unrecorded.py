"""What a crash between a pool and the catalog has left, found and put right without anybody's help.

Pools are the truth about what there is, the catalog about what was wanted of it:

- a backup that no row names was durable, and nobody had been answered: it gets its row
- a plain pool's file that is not where its row says, in the recycle bin or out of it, moves there
- a backup that was only taken from the list, and whose storage does not know, is told so
- of a backup whose move was cut short, the place goes that its row does not name

Nothing else is ever deleted. `rebuilding` makes a lost catalog anew by the same means.
"""

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

import structlog
from sqlalchemy import select

from holdfast.catalog import tables
from holdfast.core.access import SERVER, Verb
from holdfast.core.errors import (
    DamagedError,
    HoldfastError,
    NoRepositoryError,
    ObjectNotFoundError,
    StateError,
    StoreError,
)
from holdfast.core.ids import ObjectId
from holdfast.core.progress import Silence
from holdfast.core.records import BackupState, Custody, Made, PoolKind, Target, TaskState
from holdfast.service.audit import write_record
from holdfast.service.backups import MOVED, MOVED_FROM, VISIBLE, row_of
from holdfast.service.ground import new_uid
from holdfast.service.keeping.facts import found_in, is_backup
from holdfast.service.keeping.journal import RECYCLE
from holdfast.service.keeping.naming import HOUSE
from holdfast.service.storing import HostRepository, record_snapshot
from holdfast.store.contract import FileKind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from sqlalchemy import ColumnElement

    from holdfast.catalog.database import Transaction
    from holdfast.core.progress import Progress
    from holdfast.core.records import Backup, Json, Pool, RepositoryRecord
    from holdfast.service.backups import Backups
    from holdfast.service.ground import Ground
    from holdfast.service.keeping.contract import FoundBackup
    from holdfast.service.pools import Pools
    from holdfast.store.contract import Store

    PassedOver = Callable[[str, HoldfastError], None]

IN_FLIGHT: Final = 10.0
"""Seconds within which what has just become durable gets its row from whoever brought it."""
_GROUP: Final = 500
"""Rows of one transaction."""
_READERS: Final = 8
_MOVES: Final = ("move", "relocate")
_TROUBLE: Final = (StoreError, NoRepositoryError, DamagedError, StateError)
_KEPT: Final = [str(state) for state in (*VISIBLE, BackupState.PART, BackupState.GONE)]
_ROW = tables.backup.c
_log = structlog.get_logger("holdfast.catalog")


def find_unrecorded(
    ground: Ground,
    pools: Pools,
    backups: Backups,
    *,
    wait: float = IN_FLIGHT,
    progress: Progress | None = None,
    passed_over: PassedOver | None = None,
) -> int:
    """Looks through all pools; how many backups got a row. Works beside uploads and deletions.

    Pools that cannot be reached are passed over, which `passed_over` is told, or else the log.
    `wait`: what is not known is looked at a second time after so many seconds, as it may be on its
    way; 0 where nobody else is at work.
    """
    passed_over = passed_over or _log_it
    progress = progress or Silence()
    _end_moves(ground, pools, backups)
    places = list(_places(ground, pools, alone=not wait))
    unknown = {place: _unknown(place, passed_over) for place in places}
    if wait and any(unknown.values()):
        time.sleep(wait)
        unknown = {
            place: seen & _unknown(place, passed_over) for place, seen in unknown.items() if seen
        }
    progress.stage("recording backups", items=sum(map(len, unknown.values())))
    entered = 0
    for place, names in unknown.items():
        ordered = sorted(names)
        for begin in range(0, len(ordered), _GROUP):
            group = ordered[begin : begin + _GROUP]
            try:
                entered += place.enter(group)
            except _TROUBLE as error:
                passed_over(place.name, error)
                break
            progress.add(items=len(group))
    if entered:
        _log.info("unrecorded backups found", backups=entered)
    return entered


def rows_without_content(ground: Ground, pools: Pools) -> list[Backup]:
    """Backups whose pools were reached and do not have them. Nobody else is at work meanwhile."""
    missing = []
    for place in _places(ground, pools, alone=True):
        try:
            missing += place.missing()
        except _TROUBLE as error:
            _log_it(place.name, error)
    return missing


def _unknown(place: _Place, passed_over: PassedOver) -> set[str]:
    try:
        return place.unknown()
    except _TROUBLE as error:
        passed_over(place.name, error)
        return set()


def _log_it(place: str, error: HoldfastError) -> None:
    _log.warning("place passed over", place=place, error=error.message)


class _Place(Protocol):
    name: str

    def unknown(self) -> set[str]:
        """Names of what is there and has no row, or is not as its row says."""
        ...

    def enter(self, names: Sequence[str]) -> int:
        """Puts these right; how many got a row."""
        ...

    def missing(self) -> list[Backup]:
        """Rows of what is not there."""
        ...


def _places(ground: Ground, pools: Pools, *, alone: bool) -> Iterator[_Place]:
    with ground.catalog.read() as tx:
        by_id = {pool.id: pool for pool in tx.pools.all()}
        records = tx.repositories.all()
    for record in records:
        pool = by_id[record.pool_id]
        if record.custody is Custody.CLIENT:
            yield _Sealed(ground, pools, pool, record)
        elif record.repository_uid:
            yield _Vault(ground, pools, pool, record, alone=alone)
    for pool in by_id.values():
        if pool.kind is PoolKind.PLAIN and pool.options.get("made"):
            yield _Folder(ground, pools, pool)


# --- the server's repositories --------------------------------------------------------------------


class _Vault:
    """A repository whose snapshots this server can read. Names are those of snapshots. `alone`:
    nobody deletes any meanwhile.
    """

    def __init__(
        self,
        ground: Ground,
        pools: Pools,
        pool: Pool,
        record: RepositoryRecord,
        *,
        alone: bool,
    ) -> None:
        self.name = record.location
        self._ground = ground
        self._pools = pools
        self._pool = pool
        self._record = record
        self._alone = alone

    def unknown(self) -> set[str]:
        # The rows first: what comes meanwhile is then looked at, what goes is not.
        known = _known_snapshots(self._ground, self._record, _ROW.state != BackupState.FORGOTTEN)
        store = self._pools.repository(self._record).store
        return {each.name for each in store.list(FileKind.SNAPSHOT)} - known

    def enter(self, names: Sequence[str]) -> int:
        with ThreadPoolExecutor(_READERS) as readers:
            read = [each for each in readers.map(self._found, names) if each is not None]
        store = self._pools.repository(self._record).store
        entered = 0
        strays = []
        with self._ground.catalog.write() as tx:
            rows = _rows_of(tx, read)
            for found in read:
                row = rows.get(found.order.uid)
                if row is not None:
                    strays.append((row, found))
                # What was deleted meanwhile had a row until its snapshot was gone.
                elif self._alone or _is_there(store, found.kept.snapshot):
                    entered += _enter(tx, self._pool, found)
        for row, found in strays:
            self._put_right(row, found)
        return entered

    def missing(self) -> list[Backup]:
        store = self._pools.repository(self._record).store
        return _without_snapshot(self._ground, self._record, store)

    def _found(self, name: str) -> FoundBackup | None:
        try:
            snapshot = self._pools.repository(self._record).load_snapshot(ObjectId(name))
        except ObjectNotFoundError:
            return None
        except (DamagedError, StoreError) as error:
            _log.warning("snapshot unreadable", place=self.name, name=name, error=error.message)
            return None
        return found_in(snapshot, self._record.id) if is_backup(snapshot) else None

    def _put_right(self, row: Backup, found: FoundBackup) -> None:
        """A snapshot of a backup whose row names another."""
        keeper = self._pools.keeper(self._record)
        here = replace(
            row, pool_id=self._pool.id, repository_id=self._record.id,
            snapshot=found.kept.snapshot, path="",
        )  # fmt: skip
        if row.state is BackupState.FORGOTTEN:
            keeper.forget(here)
        elif found.order.facts.get(MOVED) and _has_moved(self._ground, self._pools, row):
            _note_removal(self._ground, row, self.name)
            keeper.delete(here)


def _is_there(store: Store, snapshot: str) -> bool:
    try:
        store.stat(FileKind.SNAPSHOT, snapshot)
    except ObjectNotFoundError:
        return False
    return True


def _known_snapshots(
    ground: Ground, record: RepositoryRecord, *conditions: ColumnElement[bool]
) -> set[str]:
    query = select(_ROW.snapshot).where(_ROW.repository_id == record.id, *conditions)
    with ground.catalog.read() as tx:
        return set(tx.connection.scalars(query))


def _without_snapshot(ground: Ground, record: RepositoryRecord, store: Store) -> list[Backup]:
    there = {each.name for each in store.list(FileKind.SNAPSHOT)}
    with ground.catalog.read() as tx:
        rows = tx.backups.all(_ROW.state.in_(_KEPT), repository_id=record.id)
    return [row for row in rows if row.snapshot not in there]


# --- repositories whose key a host holds ----------------------------------------------------------


class _Sealed:
    """Nothing of it can be read here; when a snapshot came, its file tells."""

    def __init__(self, ground: Ground, pools: Pools, pool: Pool, record: RepositoryRecord) -> None:
        self.name = record.location
        self._ground = ground
        self._pools = pools
        self._pool = pool
        self._record = record

    def unknown(self) -> set[str]:
        known = _known_snapshots(self._ground, self._record)
        store = self._pools.store(self._record)
        try:
            return {each.name for each in store.list(FileKind.SNAPSHOT)} - known
        finally:
            store.close()

    def enter(self, names: Sequence[str]) -> int:
        store = self._pools.store(self._record)
        entered = 0
        try:
            with self._ground.catalog.write() as tx:
                host = tx.hosts.get(self._record.host_id or 0)
                repository = HostRepository(
                    self._ground, SERVER, self._pool, host, self._record, store, self._pools
                )
                for name in names:
                    if tx.backups.count(repository_id=self._record.id, snapshot=name):
                        continue
                    try:
                        came = store.stat(FileKind.SNAPSHOT, name).mtime
                    except ObjectNotFoundError:
                        continue
                    record_snapshot(tx, repository, name, came or self._ground.now())
                    entered += 1
        finally:
            store.close()
        return entered

    def missing(self) -> list[Backup]:
        store = self._pools.store(self._record)
        try:
            return _without_snapshot(self._ground, self._record, store)
        finally:
            store.close()


# --- plain pools ----------------------------------------------------------------------------------


class _Folder:
    """A plain pool. Names are uids of backups."""

    def __init__(self, ground: Ground, pools: Pools, pool: Pool) -> None:
        self.name = pool.locations[0]
        self._ground = ground
        self._pools = pools
        self._pool = pool
        self._found: dict[str, FoundBackup] = {}

    def unknown(self) -> set[str]:
        query = select(_ROW.uid, _ROW.state, _ROW.path).where(_ROW.pool_id == self._pool.id)
        with self._ground.catalog.read() as tx:
            rows = {uid: (state, path) for uid, state, path in tx.connection.execute(query)}
        self._found = {each.order.uid: each for each in self._pools.keeper(self._pool).found()}
        return {uid for uid, each in self._found.items() if not _is_as_said(each, rows.get(uid))}

    def enter(self, names: Sequence[str]) -> int:
        read = [self._found[name] for name in names if name in self._found]
        entered = 0
        with self._ground.catalog.write() as tx:
            rows = _rows_of(tx, read)
            for found in read:
                if found.order.uid not in rows:
                    entered += _enter(tx, self._pool, found)
        for found in read:
            if found.order.uid in rows:
                self._put_right(rows[found.order.uid], found)
        return entered

    def missing(self) -> list[Backup]:
        """A file that is there and was changed is not missing, but damaged."""
        there = {each.order.uid for each in self._pools.keeper(self._pool).found()}
        with self._ground.catalog.read() as tx:
            rows = tx.backups.all(_ROW.state.in_(_KEPT), pool_id=self._pool.id)
        root = Path(self._pool.locations[0])
        return [
            row
            for row in rows
            if row.uid not in there
            and not os.path.lexists(root / row.path)
            and not os.path.lexists(root / HOUSE / RECYCLE / row.uid)
        ]

    def _put_right(self, row: Backup, found: FoundBackup) -> None:
        keeper = self._pools.keeper(self._pool)
        here = replace(row, path=found.kept.path, repository_id=None, pool_id=self._pool.id)
        if row.state is BackupState.FORGOTTEN:
            keeper.forget(here)
        elif row.pool_id != self._pool.id:
            if found.order.facts.get(MOVED) and _has_moved(self._ground, self._pools, row):
                _note_removal(self._ground, row, self.name)
                keeper.delete(here)
        else:
            with self._ground.catalog.write() as tx:
                tx.backups.change_where(
                    _ROW.id == row.id, _ROW.path == row.path, path=found.kept.path
                )
            if row.state in {BackupState.KEPT, BackupState.RECYCLED}:
                keeper.move(here, recycled=row.state is BackupState.RECYCLED)


def _is_as_said(found: FoundBackup, row: tuple[str, str] | None) -> bool:
    if row is None:
        return False
    state, path = row
    if state == BackupState.FORGOTTEN:
        return False
    in_bin = state == BackupState.RECYCLED
    return path == found.kept.path and (state == BackupState.GONE or found.recycled == in_bin)


# --- rows -----------------------------------------------------------------------------------------


def _rows_of(tx: Transaction, found: Iterable[FoundBackup]) -> Mapping[str, Backup]:
    """Those that there are, by uid."""
    uids = [each.order.uid for each in found]
    return {row.uid: row for row in tx.backups.all(_ROW.uid.in_(uids))}


def _enter(tx: Transaction, pool: Pool, found: FoundBackup) -> int:
    target = _target(tx, pool, found)
    facts = {name: each for name, each in found.order.facts.items() if name != MOVED}
    order = replace(found.order, target=replace(target, pool_id=pool.id), facts=facts)
    row = row_of(order, found.kept, made=_made(facts))
    if found.recycled:
        row = replace(row, state=BackupState.RECYCLED, recycled=row.received)
    return tx.backups.add_new([row], unique="uid")


def _made(facts: Json) -> Made:
    told = facts.get("made")
    return Made(told) if told in set(Made) else Made.FULL


def _target(tx: Transaction, pool: Pool, found: FoundBackup) -> Target:
    """The one that the backup says; made anew as far as the backup tells of it."""
    told = found.order.target
    known = tx.targets.find(uid=told.uid) if told.uid else None
    if known is not None:
        return known
    name = told.name or "recovered"
    if not told.uid:
        nameless = tx.targets.find(name=name, face=told.face, pool_id=pool.id)
        if nameless is not None:
            return nameless
    return tx.targets.add(
        replace(
            told,
            id=0,
            uid=told.uid or new_uid(),
            name=name,
            pool_id=pool.id,
            created=found.order.received,
            alias=None if _is_taken(tx, alias=told.alias) else told.alias,
            name_template=(
                None if _is_taken(tx, name_template=told.name_template) else told.name_template
            ),
        )
    )


def _is_taken(tx: Transaction, **equal: str | None) -> bool:
    return tx.targets.count(**equal) > 0


# --- moves that were cut short --------------------------------------------------------------------


def _end_moves(ground: Ground, pools: Pools, backups: Backups) -> None:
    """The row names the new place and remembers the old one: that goes."""
    with ground.catalog.read() as tx:
        moved = tx.backups.all(_ROW.facts[MOVED_FROM].as_string().is_not(None))
    for row in moved:
        try:
            if _has_moved(ground, pools, row):
                backups.end_move(row)
        except _TROUBLE as error:
            _log.warning("backup.move", subject=f"backup {row.uid}", error=error.message)


def _has_moved(ground: Ground, pools: Pools, row: Backup) -> bool:
    """Whether the row's own place has it, and nobody is moving it right now."""
    going_on = [str(state) for state in TaskState if not state.ended]
    task = tables.task.c
    with ground.catalog.read() as tx:
        if tx.tasks.count(
            task.kind.in_(_MOVES),
            task.state.in_(going_on),
            (task.backup_id == row.id) | (task.target_id == row.target_id),
        ):
            return False
    keeper = pools.keeper(row)
    try:
        next(iter(keeper.entries(row)), None)
    except HoldfastError as error:
        _log.warning("backup unreadable", backup=row.uid, error=error.message)
        return False
    return True


def _note_removal(ground: Ground, row: Backup, place: str) -> None:
    with ground.catalog.write() as tx:
        write_record(
            tx, ground.now(), SERVER, Verb.BACKUP_DELETE, f"backup {row.uid}",
            detail={"left by a move": place},
        )  # fmt: skip
