"""What hosts write by themselves: repositories of their own, as bytes by name.

The host holds the key, or this server does, which then gives it to the host's agent. What this
server can promise it checks: names are those of the content, nothing that is there is replaced or,
append-only, removed; one host reads another's only while it restores from there by order. Its
snapshots are backups of the catalog, dated by this server's clock; one that an agent has announced
is what was ordered, or nothing.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from holdfast.catalog import tables
from holdfast.catalog.journal import note_kept
from holdfast.core.access import Verb
from holdfast.core.errors import (
    DamagedError,
    DeniedError,
    ObjectNotFoundError,
    QuotaError,
    RecordNotFoundError,
    StateError,
)
from holdfast.core.records import Backup, BackupState, Custody, Face, Made, Shape, Target
from holdfast.service import ordered
from holdfast.service.audit import write_record
from holdfast.service.ground import new_uid
from holdfast.service.pooling.vaults import IN_CUSTODY
from holdfast.store.contract import CONFIG_NAME, FileKind

if TYPE_CHECKING:
    from collections.abc import Sequence

    from holdfast.catalog.database import Transaction
    from holdfast.core.access import Principal
    from holdfast.core.records import AgentOrder, Host, Pool, RepositoryRecord
    from holdfast.service.ground import Ground
    from holdfast.service.pools import Pools
    from holdfast.store.contract import Stat, Store

__all__ = ["CONFIG_NAME", "FileKind", "HostRepository", "Storing"]

_SHORT = 8


@dataclass(frozen=True, slots=True)
class HostRepository:
    """One host's repository in one pool, opened for somebody who may."""

    ground: Ground
    who: Principal
    pool: Pool
    host: Host
    record: RepositoryRecord
    store: Store
    pools: Pools
    lent: bool = False
    """another host restores from it: it may read, and lock what it reads"""

    @property
    def append_only(self) -> bool:
        return bool(self.pool.options.get("append_only"))

    def create(self) -> None:
        self.store.create()

    def list(self, kind: FileKind) -> Sequence[Stat]:
        return list(self.store.list(kind))

    def stat(self, kind: FileKind, name: str) -> Stat:
        return self.store.stat(kind, name)

    def get(self, kind: FileKind, name: str, offset: int, length: int) -> bytes:
        return self.store.get_range(kind, name, offset, length)

    def put(self, kind: FileKind, name: str, content: bytes) -> None:
        """Durable when it returns.

        Raises:
            DamagedError: the content does not have the digest that its name says.
            ObjectExistsError: the name is taken.
            QuotaError: the host has no room left.
        """
        if kind is not FileKind.CONFIG and hashlib.sha256(content).hexdigest() != name:
            raise DamagedError(
                "the content does not have the digest of its name",
                remedy="Nothing was stored. It was damaged on its way: send it again.",
            )
        self._refuse_writing(kind)
        self._check_quota(len(content))
        order = None
        if kind is FileKind.SNAPSHOT:
            order = ordered.announced(self, name)
            if order is not None:
                ordered.check(self, order, content)
        self.store.put(kind, name, content)
        try:
            self._note(kind, name, len(content), order)
        except StateError:  # killed at this very moment: it shall not be found as a backup
            self.store.remove(kind, name)
            raise

    def _note(self, kind: FileKind, name: str, size: int, order: AgentOrder | None) -> None:
        with self.ground.catalog.write() as tx:
            if order is not None:
                ordered.record(tx, self, order, self.ground.now())
            elif kind is FileKind.SNAPSHOT:
                record_snapshot(tx, self, name, self.ground.now())
            if kind is not FileKind.LOCK:
                _add_stored(tx, self.record.id, size)

    def remove(self, kind: FileKind, name: str) -> None:
        """Raises DeniedError where the pool is append-only; a lock may always go."""
        self._refuse_writing(kind)
        if self.append_only and kind is not FileKind.LOCK:
            with self.ground.catalog.write() as tx:
                write_record(
                    tx, self.ground.now(), self.who, Verb.HOST_STORE,
                    f"{kind}/{name[:_SHORT]} of {self.host.name}", outcome="denied",
                    detail={"removal": "append-only"},
                )  # fmt: skip
            raise DeniedError("this pool is append-only: nothing is removed from it")
        size = self.store.stat(kind, name).size
        if kind is FileKind.SNAPSHOT:
            with self.ground.act(
                self.who, Verb.HOST_STORE, f"snapshot {name[:_SHORT]} of {self.host.name}",
                host=self.host.id, pool=self.pool.id, detail={"removal": name},
            ) as tx:  # fmt: skip
                tx.backups.remove(repository_id=self.record.id, snapshot=name)
        self.store.remove(kind, name)
        if kind is not FileKind.LOCK:
            with self.ground.catalog.write() as tx:
                _add_stored(tx, self.record.id, -size)

    def _refuse_writing(self, kind: FileKind) -> None:
        if self.lent and kind is not FileKind.LOCK:
            raise DeniedError(f"{self.who.name} may only read the backups of {self.host.name}")

    def _check_quota(self, more: int) -> None:
        quota = self.pool.options.get("quota")
        if not isinstance(quota, int):
            return
        with self.ground.catalog.read() as tx:
            stored = tx.repositories.get(self.record.id).stored
        if stored + more > quota:
            raise QuotaError(
                f"{self.host.name} may keep {quota} bytes in {self.pool.name}, and that is used up"
            )


class Storing:
    def __init__(self, ground: Ground, pools: Pools) -> None:
        self._ground = ground
        self._pools = pools

    def open(
        self, who: Principal, pool_name: str, segment: str, *, create: bool = False
    ) -> HostRepository:
        """A repository of a host in a pool: `segment` is as `vaults.segment_of` gives it. `create`:
        makes its place where there is none and the host holds the key.

        Raises:
            DeniedError: not this host's token; said also where there is no such host.
            RecordNotFoundError: there is no such pool.
            ObjectNotFoundError: it has no repository there yet.
        """
        host_name = segment.removesuffix(IN_CUSTODY)
        custody = Custody.CLIENT if segment == host_name else Custody.SERVER
        with self._ground.catalog.read() as tx:
            pool = tx.pools.find(name=pool_name)
            host = tx.hosts.find(name=host_name)
            where = {"pool_id": pool.id if pool else -1, "host_id": host.id if host else -1}
            record = tx.repositories.find(**where, custody=custody)
            lent = record is not None and ordered.lends(tx, who, record)
        if not lent:
            self._ground.allow(
                who,
                Verb.HOST_STORE,
                f"repository of {host_name} in {pool_name}",
                host=where["host_id"],
                pool=where["pool_id"],
            )
        if pool is None or host is None:
            raise RecordNotFoundError(f"there is no pool {pool_name}, or no host {host_name}")
        if record is None and not (create and custody is Custody.CLIENT):
            raise ObjectNotFoundError(f"{segment} has no repository in {pool_name}")
        if record is None:
            record = self._pools.repository_for(pool, host, custody=custody)
        store = self._pools.store(record)
        return HostRepository(self._ground, who, pool, host, record, store, self._pools, lent=lent)


def record_snapshot(tx: Transaction, repository: HostRepository, name: str, now: int) -> None:
    """Its row, and that of its host's target where there is none. `now`: when it came."""
    target = _target(tx, repository, now)
    added = tx.backups.add(
        Backup(
            uid=new_uid(),
            target_id=target.id,
            pool_id=repository.pool.id,
            repository_id=repository.record.id,
            snapshot=name,
            name=name[:_SHORT],
            created=now,
            received=now,
            manual=False,
            state=BackupState.KEPT,
            made=Made.FULL,
            facts={"custody": str(repository.record.custody), "by": repository.who.name},
        )
    )
    note_kept(tx, [added])
    tx.hosts.change(repository.host.id, seen=now)


def _target(tx: Transaction, repository: HostRepository, now: int) -> Target:
    found = tx.targets.find(
        face=Face.RESTIC, host_id=repository.host.id, pool_id=repository.pool.id
    )
    return found or tx.targets.add(
        Target(
            uid=new_uid(),
            name=repository.host.name,
            face=Face.RESTIC,
            shape=Shape.MULTI,
            pool_id=repository.pool.id,
            host_id=repository.host.id,
            created=now,
        )
    )


def _add_stored(tx: Transaction, repository_id: int, size: int) -> None:
    column = tables.repository.c.stored
    tx.repositories.change(repository_id, stored=column + size)
