"""Pools: where backups are kept, and the way to what keeps them.

The verbs that take a `Principal` authorise, act and audit. The others serve the rest of `service`
and the bodies of tasks, which have asked already.
"""

from __future__ import annotations

import os
import re
import threading
from dataclasses import dataclass
from itertools import chain, count
from pathlib import Path
from typing import TYPE_CHECKING, Final

from holdfast.catalog import tables
from holdfast.core.access import SERVER, Verb
from holdfast.core.errors import (
    DamagedError,
    InvalidError,
    NoRepositoryError,
    RecordExistsError,
    RecordNotFoundError,
    StateError,
    StoreError,
)
from holdfast.core.progress import Silence
from holdfast.core.records import Backup, BackupState, Custody, Pool, PoolKind, RepositoryRecord
from holdfast.repo.format.tree import blob_id
from holdfast.repo.saving.intake import IntakePlan
from holdfast.service.generation import bump
from holdfast.service.ground import new_uid
from holdfast.service.keeping.in_custody import CustodyKeeper
from holdfast.service.keeping.in_folder import FolderKeeper, pool_in
from holdfast.service.keeping.in_repository import RepositoryKeeper
from holdfast.service.keeping.naming import HOUSE
from holdfast.service.pooling import upkeep
from holdfast.service.pooling.places import (
    CREDENTIALS,
    LocationState,
    checked,
    credentials_of,
    is_local,
    room_of,
    seal_credentials,
    state_of,
    store_at,
)
from holdfast.service.pooling.upkeep import Alarm
from holdfast.service.pooling.vaults import KitEntry, Vaults
from holdfast.store.probe import Verdict, probe

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from holdfast.catalog.database import Transaction
    from holdfast.core.access import Principal
    from holdfast.core.errors import HoldfastError
    from holdfast.core.progress import Progress
    from holdfast.core.records import Host, Json
    from holdfast.repo.repository import Repository
    from holdfast.service.ground import Ground
    from holdfast.service.keeping.contract import Keeper, Kept, Order, Recorder
    from holdfast.store.contract import Store

__all__ = ["Alarm", "KitEntry", "LocationState", "PoolState", "Pools"]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_OPTIONS: Final[Mapping[str, type]] = {"quota": int, "append_only": bool, "task_limit": int}
"""What people may set."""
_UID, _MADE, _ABOVE, _STORED = "uid", "made", "above", "stored"
"""Options of plain pools that are ours: which pool it is, whether its folder was made, the folder
from which no link may lead on, and the bytes that were measured last."""


@dataclass(frozen=True, slots=True)
class PoolState:
    pool: Pool
    locations: tuple[LocationState, ...]
    repositories: int
    backups: int
    stored: int
    """bytes that its repositories and files take, as measured last"""

    @property
    def reachable(self) -> bool:
        return any(location.reachable for location in self.locations)

    @property
    def free(self) -> int | None:
        known = [place.free for place in self.locations if place.free is not None]
        return sum(known) if known else None


class Pools:
    """One for each process; safe for threads. `record` writes down what keepers have made durable;
    it is set before the first upload.
    """

    def __init__(self, ground: Ground, record: Recorder | None = None) -> None:
        self.ground = ground
        self.record = record
        self._vaults = Vaults(ground)
        self._guard = threading.Lock()
        self._opening: dict[tuple[str, int], threading.Lock] = {}
        self._keepers: dict[tuple[str, int], RepositoryKeeper | FolderKeeper | CustodyKeeper] = {}

    # --- for people -------------------------------------------------------------------------------

    def add(
        self,
        who: Principal,
        name: str,
        locations: Sequence[str],
        *,
        kind: PoolKind = PoolKind.REPOSITORY,
        options: Mapping[str, object] | None = None,
        credentials: Mapping[str, str] | None = None,
        note: str = "",
    ) -> Pool:
        """A new pool. Directories need not exist yet.

        `options`: quota (bytes of each host's repository), append_only, task_limit. `credentials`:
        access_key, secret_key, session_token, region; user, password.

        Raises:
            RecordExistsError: the name or a location is taken.
            InvalidError: a name, kind, option or location that cannot be.
            EgressDeniedError: an endpoint where this server may not go.
        """
        if not _NAME.fullmatch(name):
            said = "A pool's name has up to 64 letters, digits, hyphens, dots and underscores."
            raise InvalidError(
                f"a pool cannot be called {name!r}: {said}", fields={"name": ("shape", said)}
            )
        places, carried = _places(locations)
        kept = _options(options or {})
        carried |= dict(credentials or {})
        if carried:
            kept[CREDENTIALS] = seal_credentials(self.ground, name, carried)
        if kind is PoolKind.PLAIN:
            kept |= _plain_options(places)
        pool = Pool(
            name=name, kind=kind, locations=places, options=kept, note=note,
            created=self.ground.now(),
        )  # fmt: skip
        for place in places:
            if not is_local(place):
                store_at(self.ground, pool, place).close()  # is it an address, and one to go to?
        with self.ground.act(
            who, Verb.POOL_CHANGE, f"pool {name}", detail={"added": places, "kind": str(kind)}
        ) as tx:
            if tx.pools.find(name=name):
                raise RecordExistsError(f"there is a pool {name} already")
            _refuse_taken(tx, places)
            return tx.pools.add(pool)

    def list(self, who: Principal) -> Sequence[PoolState]:
        """By name, each as it is right now."""
        with self.ground.read(who, Verb.POOL_LIST, "pools") as tx:
            pools = tx.pools.all(order=(tables.pool.c.name,))
        return [self._state(pool) for pool in pools]

    def get(self, who: Principal, name: str) -> PoolState:
        """Raises RecordNotFoundError."""
        return self._state(self._named(who, Verb.POOL_LIST, name))

    def _named(self, who: Principal, verb: Verb, name: str) -> Pool:
        with self.ground.catalog.read() as tx:
            pool = tx.pools.find(name=name)
        self.ground.allow(who, verb, f"pool {name}", pool=pool.id if pool else None)
        if pool is None:
            raise RecordNotFoundError(f"there is no pool {name}")
        return pool

    def _state(self, pool: Pool) -> PoolState:
        with self.ground.catalog.read() as tx:
            records = tx.repositories.all(pool_id=pool.id)
            backups = tx.backups.count(
                tables.backup.c.state.in_([str(BackupState.KEPT), str(BackupState.RECYCLED)]),
                pool_id=pool.id,
            )
        return PoolState(
            pool=pool,
            locations=tuple(state_of(self.ground, pool, place) for place in pool.locations),
            repositories=len(records),
            backups=backups,
            stored=sum(record.stored for record in records) + int(pool.options.get(_STORED, 0)),
        )

    def remove(self, who: Principal, name: str) -> None:
        """Forgets a pool without backups; what lies in its storage stays there.

        Raises:
            StateError: backups, targets or a host's repository are in it.
        """
        pool = self._named(who, Verb.POOL_CHANGE, name)
        with self.ground.act(
            who, Verb.POOL_CHANGE, f"pool {name}", pool=pool.id, detail={"removed": name}
        ) as tx:
            for count, what in (
                (tx.backups.count(pool_id=pool.id), "backups"),
                (tx.targets.count(pool_id=pool.id), "targets"),
                (tx.plans.count(pool_id=pool.id), "plans"),
                (
                    tx.repositories.count(
                        tables.repository.c.host_id.is_not(None), pool_id=pool.id
                    ),
                    "repositories of hosts",
                ),
            ):
                if count:
                    raise StateError(
                        f"there are {count} {what} in {name}",
                        remedy="Nothing was changed. Move or delete them first.",
                    )
            tx.repositories.remove(pool_id=pool.id)
            tx.pools.remove(id=pool.id)
        self._drop_keepers()

    def check(
        self,
        who: Principal,
        name: str,
        *,
        read_data: bool = False,
        progress: Progress | None = None,
    ) -> Sequence[str]:
        """Problems in words, none where all is well. Forks: call it before threads are started."""
        pool = self._named(who, Verb.POOL_MAINTAIN, name)
        progress = progress or Silence()
        if pool.kind is PoolKind.PLAIN:
            if not pool.options.get(_MADE):
                return []
            return self._folder(pool).problems(read_data=read_data, progress=progress)
        problems: list[str] = []
        with self.ground.catalog.read() as tx:
            records = tx.repositories.all(pool_id=pool.id)
        for record in records:
            problems += self._check(record, read_data=read_data, progress=progress)
        return problems

    def _check(
        self, record: RepositoryRecord, *, read_data: bool, progress: Progress
    ) -> Sequence[str]:
        if record.custody is Custody.CLIENT:
            store = self.store(record)
            try:
                return upkeep.problems_of_sealed(store, read_data=read_data, progress=progress)
            finally:
                store.close()
        if not record.repository_uid:
            return []  # nothing was ever put into it
        with self._vaults.apart(record) as repository:
            return upkeep.problems_of(repository, read_data=read_data, progress=progress)

    # --- for the rest of `service` ----------------------------------------------------------------

    def named(self, name: str) -> Pool:
        """Raises RecordNotFoundError."""
        return self._named(SERVER, Verb.POOL_LIST, name)

    def at(self, address: str) -> Pool | None:
        """The pool that has this location."""
        with self.ground.catalog.read() as tx:
            return next((each for each in tx.pools.all() if address in each.locations), None)

    def free_name(self, name: str) -> str:
        """The name, or where it is taken the next one like it."""
        with self.ground.catalog.read() as tx:
            taken = {each.name for each in tx.pools.all()}
        others = (f"{name}-{number}" for number in count(2))
        return next(each for each in chain([name], others) if each not in taken)

    def change_credentials(
        self, who: Principal, pool: Pool, credentials: Mapping[str, str]
    ) -> None:
        """Every process starts anew, as they hold connections with the old ones."""
        if credentials_of(self.ground, pool) == credentials:
            return
        sealed = seal_credentials(self.ground, pool.name, credentials)
        with self.ground.act(
            who, Verb.POOL_CHANGE, f"pool {pool.name}", detail={"changed": ["credentials"]}
        ) as tx:
            now = tx.pools.get(pool.id).options
            tx.pools.change(pool.id, options=now | {CREDENTIALS: sealed})
            bump(tx)

    def try_out(self, address: str, credentials: Mapping[str, str]) -> None:
        """Writes, reads and removes small objects at an address that is no pool yet.

        Raises:
            InvalidError, EgressDeniedError, StoreError: it is not fit for backups.
        """
        clean, carried = checked(address)
        options: Json = {}
        if credentials or carried:
            sealed = seal_credentials(self.ground, "", {**carried, **credentials})
            options = {CREDENTIALS: sealed}
        store = store_at(self.ground, Pool(name="", locations=[clean], options=options), clean)
        try:
            store.create()
            bad = [each for each in probe(store) if each.verdict is Verdict.BAD]
        finally:
            store.close()
        if bad:
            raise StoreError(f"{clean} is not fit for backups: {bad[0].message}")

    def default(self) -> Pool:
        """The first repository pool.

        Raises:
            StateError: there is none.
        """
        found = self._first_repository_pool()
        if found is None:
            raise StateError(
                "there is no pool yet",
                remedy="Nothing was changed. Make one with `holdfast pool add NAME DIRECTORY`.",
            )
        return found

    def default_or(self, pool_id: int) -> int:
        """The number of the first repository pool, or that one where there is none."""
        found = self._first_repository_pool()
        return found.id if found else pool_id

    def _first_repository_pool(self) -> Pool | None:
        with self.ground.catalog.read() as tx:
            return next(iter(tx.pools.all(kind=PoolKind.REPOSITORY, limit=1)), None)

    def room(self, pool: Pool) -> int | None:
        """Bytes free in the roomiest of its places; None where none of them tells."""
        return max(
            (room for place in pool.locations if (room := room_of(place)) is not None),
            default=None,
        )

    def plain_pool_at(self, location: str) -> Pool | None:
        """The plain pool whose root is this directory, made when first needed; None where the
        directory is not below one of `backupchan.location_roots`.

        Raises:
            InvalidError: not absolute, or a symbolic link leads out of the roots.
        """
        if not location.startswith("/"):
            raise InvalidError(f"{location!r} is no absolute directory")
        wanted, real = Path(os.path.normpath(location)), Path(os.path.realpath(location))
        for each in self.ground.configuration.backupchan.location_roots:
            root = Path(os.path.realpath(each))
            if real.is_relative_to(root):
                if HOUSE in real.parts:
                    raise InvalidError(
                        f"{location}: the folders called {HOUSE} are the pools' own",
                        remedy="Nothing was changed. Choose another folder.",
                    )
                return self._plain_pool(real, root)
            if wanted.is_relative_to(each):
                raise InvalidError(f"{location} leads out of {each}", remedy="Nothing was changed.")
        return None

    def _plain_pool(self, path: Path, above: Path) -> Pool:
        place = str(path)
        known = self._plain_at(place)
        if known is not None:
            return known
        pool = Pool(
            name=place,
            kind=PoolKind.PLAIN,
            locations=[place],
            options=_plain_options([place]) | {_ABOVE: str(above)},
            note="a location of Backup-chan targets",
            created=self.ground.now(),
        )
        try:
            with self.ground.act(
                SERVER, Verb.POOL_CHANGE, f"pool {place}",
                detail={"added": [place], "kind": "plain"},
            ) as tx:  # fmt: skip
                return tx.pools.add(pool)
        except RecordExistsError:
            known = self._plain_at(place)
            if known is None:
                raise
            return known  # another was faster

    def _plain_at(self, place: str) -> Pool | None:
        with self.ground.catalog.read() as tx:
            pools = tx.pools.all(kind=PoolKind.PLAIN)
        return next((pool for pool in pools if pool.locations == [place]), None)

    def keeper(self, of: Pool | Backup | RepositoryRecord) -> Keeper:
        """What keeps the backups of a pool (its own repository's or its folder's), of a repository,
        or this backup.

        Raises:
            StateError: it cannot be used so.
            StoreError, NoRepositoryError: the storage is not there.
        """
        if isinstance(of, Backup):
            of = self._home(of)
        if isinstance(of, Pool):
            if of.kind is PoolKind.PLAIN:
                return self._folder(of)
            of = self.repository_for(of)
        return self._keeper_of(of)

    def _home(self, backup: Backup) -> Pool | RepositoryRecord:
        with self.ground.catalog.read() as tx:
            if backup.repository_id is not None:
                return tx.repositories.get(backup.repository_id)
            return tx.pools.get(backup.pool_id)

    def _keeper_of(self, record: RepositoryRecord) -> Keeper:
        key = ("repository", record.id)
        with self._lock_of(key):
            found = self._keepers.get(key)
            if found is None:
                if record.custody is Custody.CLIENT:
                    found = CustodyKeeper(self.store(record))
                else:
                    found = RepositoryKeeper(
                        self._vaults.open(record), record.id, self._record, plan=self._plan()
                    )
                self._keepers[key] = found
            return found

    def _plan(self) -> IntakePlan:
        limits = self.ground.configuration.limits
        return IntakePlan(admitted=limits.uploads, admission_wait=limits.upload_wait)

    def _folder(self, pool: Pool) -> FolderKeeper:
        key = ("folder", pool.id)
        with self._lock_of(key):
            found = self._keepers.get(key)
            if found is None:
                found = self._keepers[key] = self._opened_folder(pool)
        assert isinstance(found, FolderKeeper)
        return found

    def _lock_of(self, key: tuple[str, int]) -> threading.Lock:
        """One for each keeper: a place that answers slowly keeps nobody from another."""
        with self._guard:
            return self._opening.setdefault(key, threading.Lock())

    def _opened_folder(self, pool: Pool) -> FolderKeeper:
        """Its own folder is made once. If it is gone later, then its disk is, and no other is made
        in its place.
        """
        with self.ground.catalog.read() as tx:
            pool = tx.pools.get(pool.id)
        above = pool.options.get(_ABOVE)
        keeper = FolderKeeper(
            Path(pool.locations[0]),
            self._record,
            pool=pool.options[_UID],
            above=Path(above) if above else None,
        )
        try:
            keeper.prepare(create=not pool.options.get(_MADE))
        except BaseException:
            keeper.close()
            raise
        self._set_options(pool, {_MADE: True})
        return keeper

    def _set_options(self, pool: Pool, options: Json) -> None:
        with self.ground.catalog.write() as tx:
            now = tx.pools.get(pool.id).options
            if now | options != now:
                tx.pools.change(pool.id, options=now | options)

    def _record(self, group: Sequence[tuple[Order, Kept]]) -> Mapping[str, HoldfastError]:
        if self.record is None:
            raise StateError("nobody writes down what is kept here")
        return self.record(group)

    def repository_for(
        self, pool: Pool, host: Host | None = None, *, custody: Custody = Custody.SERVER
    ) -> RepositoryRecord:
        """The server's own repository in a pool, or that of one host; made when first needed, in
        the location with most free space. With `custody` client only its place is made: the client
        brings key and config.
        """
        return self._vaults.find(pool, host, custody)

    def store(self, record: RepositoryRecord) -> Store:
        """The storage of a repository, as bytes by name. The caller closes it."""
        return self._vaults.store(record)

    def repository(self, record: RepositoryRecord) -> Repository:
        """Unlocked, once for each process.

        Raises:
            StateError: the client holds the key.
        """
        return self._vaults.open(record)

    def prove_tree(self, record: RepositoryRecord, tree: str) -> None:
        """Reads that tree of a repository.

        Raises:
            UnreadableError, DamagedError: it is not there, or not whole.
        """
        with self._vaults.apart(record) as repository:
            repository.load_tree(blob_id(tree))

    def kit(self) -> Sequence[KitEntry]:
        """For the recovery kit: how stock restic opens each repository."""
        return self._vaults.kit()

    def adopt(self, pool: Pool, address: str, host: Host | None = None) -> RepositoryRecord:
        """Takes an existing repository that this server's master key opens back into the catalog.

        Raises:
            WrongPasswordError: it was made under another master key.
        """
        return self._vaults.adopt(pool, address, host)

    # --- bodies of tasks --------------------------------------------------------------------------

    def prune(self, record: RepositoryRecord, progress: Progress | None = None) -> int:
        """Frees what no backup needs; bytes. Forks: call it before threads are started."""
        if not record.repository_uid:
            return 0
        with self._vaults.apart(record) as repository:
            freed = upkeep.free_space(repository, progress or Silence())
            self._write_size(record, upkeep.size_of(repository.store))
        return freed

    def copy(
        self,
        source: RepositoryRecord,
        target: RepositoryRecord,
        snapshots: Sequence[str] = (),
        progress: Progress | None = None,
    ) -> Mapping[str, str]:
        """Snapshots (none named: all) into another repository; names there by names here. Forks:
        call it before threads are started.
        """
        with self._vaults.apart(source) as one, self._vaults.apart(target) as other:
            return upkeep.carry_over(one, other, snapshots, progress or Silence())

    def tripwire(self, record: RepositoryRecord) -> Sequence[Alarm]:
        """Compares a repository with what was seen last, and writes down what is there now."""
        if record.custody is Custody.SERVER and not record.repository_uid:
            return []
        try:
            if record.custody is Custody.SERVER:
                with self._vaults.apart(record) as repository:
                    return upkeep.look(self.ground, record, repository.store, repository)
            store = self.store(record)
            try:
                return upkeep.look(self.ground, record, store, None)
            finally:
                store.close()
        except (NoRepositoryError, DamagedError, StoreError) as error:
            return [Alarm(record, error.message)]

    def measure(self, pool: Pool, progress: Callable[[int], None] | None = None) -> int:
        """Bytes that a pool takes, written down."""
        with self.ground.catalog.read() as tx:
            pool = tx.pools.get(pool.id)
            records = tx.repositories.all(pool_id=pool.id)
        if pool.kind is PoolKind.PLAIN:
            size = self._folder(pool).size() if pool.options.get(_MADE) else 0
            self._set_options(pool, {_STORED: size})
            return size
        total = 0
        for record in records:
            store = self.store(record)
            try:
                size = upkeep.size_of(store)
            finally:
                store.close()
            self._write_size(record, size)
            total += size
            if progress:
                progress(size)
        return total

    def _write_size(self, record: RepositoryRecord, size: int) -> None:
        with self.ground.catalog.write() as tx:
            tx.repositories.change(record.id, stored=size)

    def close(self) -> None:
        """Ends all threads; uploads on their way are abandoned."""
        self._drop_keepers()
        self._vaults.close()

    def _drop_keepers(self) -> None:
        with self._guard:
            keepers, self._keepers = self._keepers, {}
        for keeper in keepers.values():
            keeper.close()


def _places(locations: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """Locations as they are kept, and the credentials that were in them."""
    if not locations:
        raise InvalidError("a pool needs a place", remedy="Nothing was changed. Name a directory.")
    places: list[str] = []
    credentials: dict[str, str] = {}
    for text in locations:
        place, carried = checked(text)
        if place in places:
            raise InvalidError(f"{place} is named twice")
        places.append(place)
        credentials |= carried
    return places, credentials


def _options(given: Mapping[str, object]) -> Json:
    for name, value in given.items():
        if not isinstance(value, _OPTIONS.get(name, type(None))):
            raise InvalidError(f"{name}: {value!r} is no option of a pool, or no value for it")
    return dict(given)


def _plain_options(places: Sequence[str]) -> Json:
    """A new plain pool has a uid of its own; one that was there before keeps its."""
    if len(places) != 1 or not is_local(places[0]):
        raise InvalidError(
            "a plain pool is one directory on this machine",
            remedy="Nothing was changed. Name one, or make a repository pool.",
        )
    return {_UID: pool_in(Path(places[0])) or new_uid()}


def _refuse_taken(tx: Transaction, places: Sequence[str]) -> None:
    for pool in tx.pools.all():
        for place in places:
            for other in pool.locations:
                if _overlap(place, other):
                    raise RecordExistsError(
                        f"{place} is taken by pool {pool.name} ({other})",
                        remedy="Nothing was changed. Give the pool a place of its own.",
                    )


def _overlap(one: str, other: str) -> bool:
    return one == other or one.startswith(other + "/") or other.startswith(one + "/")
