"""Making a lost catalog anew: from its newest copy where there is one, and from the pools (I7).

Where pools are, `recovery_facts`, a recovery kit or the administrator says. The newest sound copy
is the beginning, else an empty catalog; then every backup that the pools hold gets its row, and,
where there was no copy, users and settings come from the newest backup of the server itself. Until
all is done nobody else can open the catalog; after a crash it is run again and goes on.

A catalog that is sound is only added to, beside a running server. One that is damaged is set aside,
never deleted.
"""

from __future__ import annotations

import fcntl
import shutil
import sqlite3
import time
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

from holdfast.catalog import migrating, tables
from holdfast.catalog.database import Catalog, problems_in
from holdfast.core.access import SERVER, SHELL, Verb
from holdfast.core.errors import (
    CatalogError,
    CatalogNewerError,
    ConfigurationError,
    DamagedError,
    DataFolderBusyError,
    HoldfastError,
    NoRepositoryError,
    UsageError,
    WrongPasswordError,
)
from holdfast.core.progress import Silence
from holdfast.core.records import (
    BackupState,
    Custody,
    Face,
    Host,
    PoolKind,
    RepositoryRecord,
    Setting,
    TaskState,
)
from holdfast.service import app_archive, catalog_backup, recovery_facts, state
from holdfast.service.audit import write_record
from holdfast.service.backups import Backups
from holdfast.service.custody import KEY_FILE, MasterKey
from holdfast.service.keeping.in_folder import pool_in
from holdfast.service.opening import CATALOG_FILE, ground_without_tables, make_private
from holdfast.service.pooling.places import is_local
from holdfast.service.pooling.vaults import HOSTS, IN_CUSTODY, place_of
from holdfast.service.pools import Pools
from holdfast.service.unrecorded import IN_FLIGHT, find_unrecorded, rows_without_content
from holdfast.service.whole_files import put_in_place, sync_folder, write_whole

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from holdfast.catalog.database import Transaction
    from holdfast.core.progress import Progress
    from holdfast.core.records import Backup, Json, Pool
    from holdfast.service.ground import Ground
    from holdfast.service.recovery_kit import Kit

_SHARED_BYTES: Final = (510, 0x40000002)
"""Length and start of what every user of an SQLite file holds a lock on, see its file format."""
_PATIENCE: Final = 5.0
"""Seconds within which a server that looks whether the catalog is whole again has looked."""
_BESIDE: Final = ("", "-wal", "-shm")
_BASE: Final = "rebuilt-from"
"""The setting that says, until all is done, which copy it began from."""
_OF_ITS_ROW: Final = (
    "state", "recycled", "hold_until", "created", "received", "manual", "made", "proven", "flags",
)  # fmt: skip
"""What a row of a copy knows, wherever its backup lies now."""
_STATE_PARTS: Final = ("settings", "users", "targets", "plans")


@dataclass(slots=True)
class Rebuilt:
    """What was done."""

    anew: bool = False
    """the catalog was gone or damaged; else it was sound and only added to"""
    base: str = ""
    """what it began from: a copy of the catalog, or a backup of the server itself"""
    set_aside: list[Path] = field(default_factory=list)
    backups: int = 0
    """that got a row"""
    totals: dict[str, int] = field(default_factory=dict)
    """pools, hosts, targets, backups, users that there are now"""
    missing: list[Backup] = field(default_factory=list)
    """of the copy, and not in their pools any more: deleted since it was made, or lost"""
    problems: list[str] = field(default_factory=list)
    """places that could not be read; run it again when they can"""
    seconds: float = 0.0


def rebuild(
    folder: Path,
    config_path: Path | None = None,
    *,
    kit: Kit | None = None,
    pools: Mapping[str, str] | None = None,
    copy: Path | None = None,
    progress: Progress | None = None,
) -> Rebuilt:
    """`pools`: locations by name, where nothing else tells them; `copy`: a copy of the catalog to
    begin from, instead of the newest in the data folder.

    Raises:
        UsageError: nothing says where the pools are, or the copy is none.
        ConfigurationError: the master key is missing, or is not the kit's.
        DataFolderBusyError: a server works on the catalog.
        CatalogError
    """
    began = time.monotonic()
    folder = folder.absolute()
    done = Rebuilt()
    if kit is not None:
        _bring_master_key(folder, kit)
    ground = ground_without_tables(folder, config_path)
    try:
        places = _places(folder, kit, done, needed=not pools)
        done.anew = _begin(ground, copy, done, certain=places is not None or bool(pools))
        _fill(ground, places, pools or {}, done, progress or Silence())
        _note(ground, done)
        if done.anew:
            migrating.end_rebuilding(ground.catalog)
        recovery_facts.write(ground)
    finally:
        ground.catalog.close()
    done.seconds = time.monotonic() - began
    return done


def _note(ground: Ground, done: Rebuilt) -> None:
    with ground.catalog.write() as tx:
        tx.settings.remove(name=_BASE)
        write_record(
            tx, ground.now(), SHELL, Verb.CATALOG_REBUILD, "catalog",
            detail={"anew": done.anew, "from": done.base, "backups": done.backups,
                    "missing": len(done.missing)},
        )  # fmt: skip
        done.totals = {
            "pools": tx.pools.count(),
            "hosts": tx.hosts.count(),
            "targets": tx.targets.count(),
            "backups": tx.backups.count(
                tables.backup.c.state.in_([BackupState.KEPT, BackupState.RECYCLED])
            ),
            "users": tx.users.count(),
        }


# --- what is known before -------------------------------------------------------------------------


def _bring_master_key(folder: Path, kit: Kit) -> None:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = folder / KEY_FILE
    try:
        write_whole(path, kit.master.text().encode() + b"\n", replace=False)
    except FileExistsError:
        if MasterKey.of_file(path).text() != kit.master.text():
            raise ConfigurationError(
                "the recovery kit is of another server: its master key is not the one of the data"
                " folder",
                remedy="Nothing was changed. Name the right kit, or another data folder.",
            ) from None


def _places(folder: Path, kit: Kit | None, done: Rebuilt, *, needed: bool) -> Json | None:
    """What the data folder says, and what the kit says besides."""
    try:
        own = recovery_facts.read(folder)
    except DamagedError as error:
        if kit is None and needed:
            raise
        done.problems.append(error.message)
        own = None
    if own is None or kit is None:
        return own or (kit.places if kit else None)
    merged = dict(own)
    for part, key in (("hosts", "name"), ("pools", "name"), ("repositories", "location")):
        known = {each[key] for each in own[part]}
        merged[part] = own[part] + [each for each in kit.places[part] if each[key] not in known]
    return merged


# --- where it begins ------------------------------------------------------------------------------


def _begin(ground: Ground, copy: Path | None, done: Rebuilt, *, certain: bool) -> bool:
    """Opens the catalog for rebuilding; False where it is sound and stays as it is. `certain`:
    somebody says where the pools are.
    """
    catalog = ground.catalog
    path = ground.folder / CATALOG_FILE
    trouble = _trouble(catalog, path)
    if trouble is None:
        if copy is not None:
            raise UsageError(
                "the catalog is sound: it does not begin from a copy",
                remedy="Nothing was changed. Without --from, what is missing is added to it.",
            )
        migrating.upgrade(catalog)
        return False
    if copy is None:
        copy = _newest_copy(ground)
    if copy is None and not certain:
        raise UsageError(
            "nothing says where the pools are",
            remedy="Nothing was changed. Name a recovery kit with --kit, or each pool with --pool.",
        )
    if catalog.embedded and not _is_going_on(catalog, path):
        catalog.close()
        _set_aside(path, done)
        if copy is not None:
            _begin_from(copy, path)
        make_private(path)
    migrating.begin_rebuilding(catalog)
    with catalog.read() as tx:
        base = tx.settings.find(name=_BASE)
    done.base = f"the copy {base.value}" if base else ""
    return True


def _trouble(catalog: Catalog, path: Path) -> str | None:
    """Why the catalog cannot be used; None where it can.

    Raises:
        CatalogNewerError: it is not damaged, but newer.
    """
    if catalog.embedded and not path.exists():
        return "it is gone"
    try:
        found = migrating.revision_of(catalog)
        if found is None:
            return "its database is empty"
        if migrating.is_rebuilding(catalog):
            return "making it anew was interrupted"
        migrating.upgrade(catalog)
        problems = catalog.problems(thorough=True)
    except CatalogNewerError:
        raise
    except CatalogError as error:
        if not catalog.embedded:
            raise  # PostgreSQL does not answer
        return error.message
    return problems[0] if problems else None


def _is_going_on(catalog: Catalog, path: Path) -> bool:
    """An earlier rebuild has begun it."""
    if not path.exists():
        return False
    try:
        return migrating.is_rebuilding(catalog) and not catalog.problems()
    except CatalogError:
        return False


def _newest_copy(ground: Ground) -> Path | None:
    if not ground.catalog.embedded:
        return None
    for path in catalog_backup.copies(ground.folder):
        if path.suffix == f".{catalog_backup.Form.DATABASE}" and not _problems_of(path):
            return path
    return None


def _problems_of(path: Path) -> list[str]:
    """Of a database that nobody writes."""
    try:
        with closing(sqlite3.connect(f"file:{path}?mode=ro&immutable=1", uri=True)) as opened:
            opened.execute("SELECT version_num FROM alembic_version").fetchone()
            return problems_in(opened.execute, thorough=True)
    except sqlite3.DatabaseError as error:
        return [str(error)]


def _set_aside(path: Path, done: Rebuilt) -> None:
    """Renames the files of the catalog and of the task engine, whose rows mean nothing without it.

    Raises:
        DataFolderBusyError
    """
    moment = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    engine = path.with_name(f"{path.stem}-tasks.sqlite")
    with closing(_Locked(path)):
        for file in (engine, path):
            for end in _BESIDE:
                there = file.with_name(file.name + end)
                if there.exists():
                    aside = there.with_name(f"{file.name}.damaged-{moment}{end}")
                    there.rename(aside)
                    done.set_aside.append(aside)
    sync_folder(path.parent)


class _Locked:
    """Nobody has the SQLite file open while this is.

    Raises:
        DataFolderBusyError
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("r+b") if path.exists() else None
        until = time.monotonic() + _PATIENCE
        while self._file is not None:
            try:
                fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, *_SHARED_BYTES)
            except BlockingIOError as error:
                if time.monotonic() > until:
                    self._file.close()
                    raise DataFolderBusyError(
                        "a process has the damaged catalog open",
                        remedy="Nothing was changed. Stop the server, and run this again.",
                    ) from error
                time.sleep(0.05)
            else:
                return

    def close(self) -> None:
        if self._file is not None:
            self._file.close()


def _begin_from(copy: Path, path: Path) -> None:
    """A copy of the copy, shut and without work that was under way then, gets the name."""
    temporary = path.with_name(f".{path.name}.new")
    for end in _BESIDE:
        temporary.with_name(temporary.name + end).unlink(missing_ok=True)
    try:
        problems = _problems_of(copy)
        if problems:
            raise UsageError(f"{copy} is no copy of a catalog: {problems[0]}")
        shutil.copyfile(copy, temporary)
        temporary.chmod(0o600)
        begun = Catalog(str(temporary))
        try:
            migrating.begin_rebuilding(begun)
            with begun.write() as tx:
                _end_work(tx)
                tx.settings.remove(name=_BASE)
                tx.settings.add(Setting(name=_BASE, value=copy.name))
            with closing(sqlite3.connect(temporary, isolation_level=None)) as opened:
                opened.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        finally:
            begun.close()
        put_in_place(temporary, path)
    except OSError as error:
        raise UsageError(f"{copy} cannot be used: {error.strerror}") from error
    finally:
        for end in _BESIDE:
            temporary.with_name(temporary.name + end).unlink(missing_ok=True)


def _end_work(tx: Transaction) -> None:
    """What was queued or running when the copy was made is not begun again."""
    under_way = [str(each) for each in TaskState if not each.ended]
    said = {"code": "catalog-rebuilt", "message": "the catalog was made anew since"}
    tx.tasks.change_where(
        tables.task.c.state.in_(under_way),
        state=TaskState.CANCELLED, outcome=said, ended=tx.now(), holder="",
    )  # fmt: skip
    tx.leases.remove(tables.lease.c.id > 0)
    tx.nodes.remove(tables.node.c.id > 0)


# --- filling it -----------------------------------------------------------------------------------


def _fill(
    ground: Ground,
    places: Json | None,
    added: Mapping[str, str],
    done: Rebuilt,
    progress: Progress,
) -> None:
    if places is not None:
        with ground.catalog.write() as tx:
            state.add_places(tx, places)
    pools = Pools(ground)
    backups = Backups(ground, pools)
    try:
        for name, location in added.items():
            _add_pool(ground, pools, name, location)
        _open_folders(ground, pools, done)

        def passed_over(place: str, error: HoldfastError) -> None:
            done.problems.append(f"{place}: {error.message}")

        from_copy = done.anew and bool(done.base)
        moved = _take_rows_without_content(ground, pools) if from_copy else []
        done.backups = find_unrecorded(
            ground, pools, backups,
            wait=0 if done.anew else IN_FLIGHT, progress=progress, passed_over=passed_over,
        )  # fmt: skip
        done.missing = _bring_rows_back(ground, moved)
        if done.anew and not from_copy:
            _bring_state(ground, backups, done)
    finally:
        pools.close()


def _add_pool(ground: Ground, pools: Pools, name: str, location: str) -> None:
    """A pool that is known by its place only.

    Raises:
        NoRepositoryError: nothing of a pool is there.
        WrongPasswordError: it was made under another master key.
    """
    with ground.catalog.read() as tx:
        known = tx.pools.find(name=name)
    plain = is_local(location) and pool_in(Path(location)) is not None
    kind = PoolKind.PLAIN if plain else PoolKind.REPOSITORY
    pool = known or pools.add(SHELL, name, [location], kind=kind)
    if location not in pool.locations:
        raise UsageError(f"{name} is known already, and lies in {pool.locations[0]}")
    if plain:
        return
    with ground.catalog.read() as tx:
        had = {each.location for each in tx.repositories.all(pool_id=pool.id)}
    place = location
    if place_of(place, None) not in had:
        pools.adopt(pool, place_of(place, None))
    for host, custody in _hosts_in(place):
        if place_of(place, host, custody) not in had:
            _add_hosts_repository(ground, pools, pool, host, custody)


def _hosts_in(location: str) -> Sequence[tuple[Host, Custody]]:
    """Whose repositories lie there, and who should hold their keys; elsewhere than in a folder
    nobody can look.
    """
    folder = Path(location, HOSTS)
    if not is_local(location) or not folder.is_dir():
        return []
    found = []
    for each in sorted(folder.iterdir()):
        if each.is_dir():
            custody = Custody.SERVER if each.name.endswith(IN_CUSTODY) else Custody.CLIENT
            found.append((Host(name=each.name.removesuffix(IN_CUSTODY)), custody))
    return found


def _add_hosts_repository(
    ground: Ground, pools: Pools, pool: Pool, host: Host, custody: Custody
) -> None:
    with ground.catalog.write() as tx:
        known = tx.hosts.find(name=host.name)
        host = known or tx.hosts.add(Host(name=host.name, created=ground.now()))
    location = place_of(pool.locations[0], host, custody)
    try:
        pools.adopt(pool, location, host)
    except WrongPasswordError:  # the host holds the key
        with ground.catalog.write() as tx:
            tx.repositories.add(
                RepositoryRecord(
                    pool_id=pool.id, host_id=host.id, location=location, custody=Custody.CLIENT,
                    created=ground.now(),
                )
            )  # fmt: skip
    except NoRepositoryError:
        return  # a folder and no more


def _open_folders(ground: Ground, pools: Pools, done: Rebuilt) -> None:
    """Plain pools say that they are there when they are opened first."""
    with ground.catalog.read() as tx:
        plain = tx.pools.all(kind=PoolKind.PLAIN)
    for pool in plain:
        if pool_in(Path(pool.locations[0])) is not None:
            try:
                pools.keeper(pool)
            except HoldfastError as error:
                done.problems.append(f"{pool.locations[0]}: {error.message}")


def _take_rows_without_content(ground: Ground, pools: Pools) -> list[Backup]:
    """Rows of a copy whose backups are not where they were then; out of the catalog, so that they
    are found where they are now, if anywhere.
    """
    rows = rows_without_content(ground, pools)
    with ground.catalog.write() as tx:
        for row in rows:
            tx.backups.change_where(tables.backup.c.parent_id == row.id, parent_id=None)
            tx.backups.remove(id=row.id)
    return rows


def _bring_rows_back(ground: Ground, rows: Sequence[Backup]) -> list[Backup]:
    """What the copy knew of those that were found; the others."""
    missing = []
    with ground.catalog.write() as tx:
        for row in rows:
            found = tx.backups.find(uid=row.uid)
            if found is None:
                missing.append(row)
            else:
                known = {name: getattr(row, name) for name in _OF_ITS_ROW}
                tx.backups.change(found.id, **known)
    return missing


def _bring_state(ground: Ground, backups: Backups, done: Rebuilt) -> None:
    """Users, settings, plans, and what targets are beyond their backups."""
    with ground.catalog.read() as tx:
        own = tx.targets.all(face=Face.APPLICATION)
    found = [row for target in own for row in backups.list(SERVER, target)]
    for row in sorted(found, key=lambda each: each.received, reverse=True):
        try:
            document = app_archive.state_in(backups.open(SERVER, row))
        except HoldfastError as error:
            done.problems.append(f"the server's own backup {row.name}: {error.message}")
            continue
        if document is not None:
            with ground.catalog.write() as tx:
                state.add_places(tx, document)
                state.restore(tx, document, _STATE_PARTS)
            done.base = f"the server's own backup {row.name}"
            return
