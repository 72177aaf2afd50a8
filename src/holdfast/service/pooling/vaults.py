"""The repositories of pools: made when first needed, opened once in a process, their keys sealed.

Each has a random password, so that stock restic opens it with what the recovery kit says; its
master key and that password lie in the catalog, sealed by the server's master key. A second key
file opens with a password that follows from the server's master key alone: whoever has that and the
storage has everything, even where the catalog and every newer kit are lost (I7).
"""

from __future__ import annotations

import base64
import json
import secrets
import threading
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from holdfast.catalog import tables
from holdfast.core.errors import (
    NoRepositoryError,
    ObjectExistsError,
    ObjectNotFoundError,
    RecordExistsError,
    RepositoryExistsError,
    StateError,
    WrongPasswordError,
)
from holdfast.core.records import Custody, PoolKind, RepositoryRecord
from holdfast.core.secret import Secret
from holdfast.repo.format.crypto import Key
from holdfast.repo.keys import add_key, list_keys
from holdfast.repo.repository import Repository
from holdfast.service.pooling.places import SOON, below, room_of, state_of, store_at
from holdfast.store.cache import cached
from holdfast.store.contract import CONFIG_NAME, FileKind

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from holdfast.core.records import Host, Pool
    from holdfast.service.custody import MasterKey
    from holdfast.service.ground import Ground
    from holdfast.store.contract import Store

OWN: Final = "server"
HOSTS: Final = "hosts"
"""Folders of a location: the server's own repository, and those of hosts."""
IN_CUSTODY: Final = "+server"
"""Ends the name of a host's repository whose key the server holds."""
_USER: Final = "holdfast"
_RESTIC: Final = "restic"
_MASTER: Final = "master-key"
"""The host names of the two key files, so that people can tell them apart."""


@dataclass(frozen=True, slots=True)
class KitEntry:
    """What the recovery kit says of one repository: with it stock restic opens it."""

    pool: str
    host: str
    """empty for the server's own"""
    address: str
    repository_uid: str
    password: Secret


class Vaults:
    """One for each process; safe for threads."""

    def __init__(self, ground: Ground) -> None:
        self._ground = ground
        self._guard = threading.Lock()
        self._opening: dict[int, threading.Lock] = {}
        self._opened: dict[int, Repository] = {}

    # --- which ------------------------------------------------------------------------------------

    def find(self, pool: Pool, host: Host | None, custody: Custody) -> RepositoryRecord:
        """The repository of the server or of a host in a pool, made when first needed."""
        if pool.kind is not PoolKind.REPOSITORY:
            raise StateError(f"{pool.name} is a pool of plain files and holds no repositories")
        record = self._known(pool, host, custody) or self._enter(pool, host, custody)
        if record.custody is Custody.CLIENT:
            return record
        if not record.repository_uid:
            with self._lock_of(record.id):
                record = self._make(pool, self._current(record.id))
        return record

    def _known(self, pool: Pool, host: Host | None, custody: Custody) -> RepositoryRecord | None:
        with self._ground.catalog.read() as tx:
            return tx.repositories.find(**_which(pool, host, custody))

    def _current(self, id_: int) -> RepositoryRecord:
        with self._ground.catalog.read() as tx:
            return tx.repositories.get(id_)

    def _enter(self, pool: Pool, host: Host | None, custody: Custody) -> RepositoryRecord:
        """Its row, with the password it is going to have, before anything of it exists."""
        location = place_of(self._roomiest(pool), host, custody)
        sealed = ""
        if custody is Custody.SERVER:
            sealed = _seal(self._ground.master, location, secrets.token_urlsafe(32))
        try:
            with self._ground.catalog.write() as tx:
                known = tx.repositories.find(**_which(pool, host, custody))
                return known or tx.repositories.add(
                    RepositoryRecord(
                        pool_id=pool.id,
                        host_id=host.id if host else None,
                        location=location,
                        custody=custody,
                        sealed_key=sealed,
                        created=self._ground.now(),
                    )
                )
        except RecordExistsError as error:
            known = self._known(pool, host, custody)
            if known is not None:
                return known  # another process was faster
            raise StateError(
                f"another pool keeps a repository in {location}",
                remedy="Nothing was changed. Give this pool a place of its own.",
            ) from error

    def _roomiest(self, pool: Pool) -> str:
        """The location that answers and has most room; where none tells, the first."""
        if len(pool.locations) == 1:
            return pool.locations[0]
        states = [state_of(self._ground, pool, place) for place in pool.locations]
        there = [state for state in states if state.reachable]
        if not there:
            # None has been used yet, maybe: what is to be made lies where it will have room.
            return max(pool.locations, key=lambda place: room_of(place) or 0)
        return max(there, key=lambda state: state.free or 0).address

    # --- making -----------------------------------------------------------------------------------

    def _make(self, pool: Pool, record: RepositoryRecord) -> RepositoryRecord:
        """Repository, second key, row: a crash between any two is gone on from the next time."""
        if record.repository_uid:
            return record  # by another thread meanwhile
        store = store_at(self._ground, pool, record.location)
        password = Secret(_unseal(self._ground.master, record)["password"])
        try:
            try:
                made = Repository.init(store, password, clock=self._ground.clock)
            except (RepositoryExistsError, ObjectExistsError):
                made = self._take_over(store, password)
            self._add_master_key(made)
        finally:
            store.close()
        return self._write_down(record, made, password)

    def _take_over(self, store: Store, password: Secret) -> Repository:
        """One that is there: an earlier try made it, or this server before its catalog was lost."""
        try:
            return Repository.open(store, password, clock=self._ground.clock)
        except WrongPasswordError:
            pass
        try:
            found = self._open_by_master(store)
        except WrongPasswordError as error:
            raise StateError(
                f"there is a repository in {store.address} that was made under another master key",
                remedy="Nothing was changed. Bring that master key back (recovery kit), or give the"
                " pool another place.",
            ) from error
        add_key(
            store, found.objects.key, password, clock=self._ground.clock,
            username=_USER, hostname=_RESTIC,
        )  # fmt: skip
        return found

    def _open_by_master(self, store: Store) -> Repository:
        password = _master_password(self._ground.master)
        return Repository.open(store, password, clock=self._ground.clock)

    def _add_master_key(self, repository: Repository) -> None:
        if not any(key.hostname == _MASTER for key in list_keys(repository.store)):
            add_key(
                repository.store,
                repository.objects.key,
                _master_password(self._ground.master),
                clock=self._ground.clock,
                username=_USER,
                hostname=_MASTER,
            )

    def _write_down(
        self, record: RepositoryRecord, made: Repository, password: Secret
    ) -> RepositoryRecord:
        uid = made.config.id
        sealed = _seal(self._ground.master, record.location, password.reveal(), made.objects.key)
        with self._ground.catalog.write() as tx:
            tx.repositories.change(record.id, repository_uid=uid, sealed_key=sealed)
        return replace(record, repository_uid=uid, sealed_key=sealed)

    def adopt(self, pool: Pool, address: str, host: Host | None) -> RepositoryRecord:
        """Takes a repository that the master key opens back into the catalog.

        Raises:
            WrongPasswordError, NoRepositoryError, RecordExistsError
        """
        store = store_at(self._ground, pool, address)
        try:
            found = self._open_by_master(store)
            password = Secret(secrets.token_urlsafe(32))
            add_key(
                store, found.objects.key, password, clock=self._ground.clock,
                username=_USER, hostname=_RESTIC,
            )  # fmt: skip
        finally:
            store.close()
        record = RepositoryRecord(
            pool_id=pool.id,
            host_id=host.id if host else None,
            location=address,
            repository_uid=found.config.id,
            sealed_key=_seal(self._ground.master, address, password.reveal(), found.objects.key),
            created=self._ground.now(),
        )
        with self._ground.catalog.write() as tx:
            return tx.repositories.add(record)

    # --- opening ----------------------------------------------------------------------------------

    def store(self, record: RepositoryRecord) -> Store:
        with self._ground.catalog.read() as tx:
            pool = tx.pools.get(record.pool_id)
        return store_at(self._ground, pool, record.location)

    def open(self, record: RepositoryRecord) -> Repository:
        """Unlocked, once for each process; scrypt is not run.

        Raises:
            StateError: the client holds the key.
            NoRepositoryError: its storage is not there, or holds another repository.
        """
        self._expect_key(record)
        with self._lock_of(record.id):
            found = self._opened.get(record.id)
            if found is None:
                found = self._opened[record.id] = self._unlocked(self._current(record.id))
            return found

    def _expect_key(self, record: RepositoryRecord) -> None:
        if record.custody is Custody.CLIENT:
            raise StateError(
                "the key of this repository is with its host, not with this server",
                remedy="Nothing was done. Do it on that host, with its password.",
            )

    def _unlocked(self, record: RepositoryRecord) -> Repository:
        key = _unseal(self._ground.master, record).get("key")
        if key is None:
            raise StateError(f"the repository in {record.location} was never made whole")
        caches = self._ground.folder / "cache"
        sealed = self._config_of(record)
        store = cached(self.store(record), caches, record.repository_uid)
        try:
            found = Repository.unlocked(
                store,
                Key.from_bytes(base64.b64decode(key)),
                cache_root=caches,
                clock=self._ground.clock,
                sealed=sealed,
            )
        except BaseException:
            store.close()
            raise
        if found.config.id != record.repository_uid:
            store.close()
            raise NoRepositoryError(
                f"there is another repository in {record.location} than the one that was there",
                remedy="Nothing was changed. Is the right disk mounted?",
            )
        return found

    @contextmanager
    def apart(self, record: RepositoryRecord) -> Iterator[Repository]:
        """Opened once more, for maintenance."""
        self._expect_key(record)
        found = self._unlocked(self._current(record.id))
        try:
            yield found
        finally:
            found.store.close()

    def _config_of(self, record: RepositoryRecord) -> bytes:
        """Raises NoRepositoryError, and StoreError soon where the place does not answer."""
        with self._ground.catalog.read() as tx:
            pool = tx.pools.get(record.pool_id)
        store = store_at(self._ground, pool, record.location, patience=SOON)
        try:
            return store.get(FileKind.CONFIG, CONFIG_NAME)
        except ObjectNotFoundError as error:
            raise NoRepositoryError(
                f"the repository in {record.location} is not there",
                remedy="Nothing was changed. If it lies on a disk of its own: is that mounted?",
            ) from error
        finally:
            store.close()

    def _lock_of(self, id_: int) -> threading.Lock:
        with self._guard:
            return self._opening.setdefault(id_, threading.Lock())

    def close(self) -> None:
        with self._guard:
            opened, self._opened = self._opened, {}
        for repository in opened.values():
            repository.store.close()

    # --- keys -------------------------------------------------------------------------------------

    def kit(self) -> Sequence[KitEntry]:
        with self._ground.catalog.read() as tx:
            pools = {pool.id: pool.name for pool in tx.pools.all()}
            hosts = {host.id: host.name for host in tx.hosts.all()}
            records = tx.repositories.all(tables.repository.c.repository_uid != "")
        return [
            KitEntry(
                pool=pools[record.pool_id],
                host=hosts[record.host_id] if record.host_id else "",
                address=record.location,
                repository_uid=record.repository_uid,
                password=Secret(_unseal(self._ground.master, record)["password"]),
            )
            for record in records
            if record.custody is Custody.SERVER
        ]


def place_of(location: str, host: Host | None, custody: Custody = Custody.CLIENT) -> str:
    """Where in a location of a pool a repository lies. A server of restic's protocol gives one
    place, and the server's own repository lies right there.
    """
    if host is not None:
        return below(location, HOSTS, segment_of(host, custody))
    return location if location.startswith("rest:") else below(location, OWN)


def segment_of(host: Host, custody: Custody) -> str:
    """What a repository of a host is called, in a pool's folder and in addresses: the host's name
    where the host holds the key, as stock restic does. Names of hosts have no plus sign.
    """
    return host.name if custody is Custody.CLIENT else host.name + IN_CUSTODY


def _which(pool: Pool, host: Host | None, custody: Custody) -> dict[str, Any]:
    """A host may have two repositories in a pool, one in each custody."""
    if host is None:
        return {"pool_id": pool.id, "host_id": None}
    return {"pool_id": pool.id, "host_id": host.id, "custody": custody}


def _master_password(master: MasterKey) -> Secret:
    """What opens every repository that was made under a master key."""
    return Secret(base64.urlsafe_b64encode(master.derive("password of repositories")).decode())


def _seal(master: MasterKey, location: str, password: str, key: Key | None = None) -> str:
    values = {"password": password}
    if key is not None:
        values["key"] = base64.b64encode(key.encrypt + key.mac_k + key.mac_r).decode()
    return master.seal(json.dumps(values).encode(), _purpose(location))


def _unseal(master: MasterKey, record: RepositoryRecord) -> dict[str, str]:
    found: dict[str, str] = json.loads(master.open(record.sealed_key, _purpose(record.location)))
    return found


def _purpose(location: str) -> str:
    return f"key of the repository in {location}"
