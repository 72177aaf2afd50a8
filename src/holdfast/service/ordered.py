"""The snapshots that agents were ordered to make: announced first, then committed by being stored.

An agent is believed what the server can see: where it holds the key, the snapshot itself says whose
it is and how large, and must say what was ordered and announced. A task that was killed meanwhile,
or an order given anew, takes no snapshot any more.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import func, select

from holdfast.catalog import tables
from holdfast.core.errors import DamagedError, QuotaError, StateError
from holdfast.core.ids import ObjectId
from holdfast.core.orders import Announcement, OrderKind
from holdfast.core.records import Backup, BackupState, Custody, Made, Wanted
from holdfast.repo.format.snapshot import decode_snapshot
from holdfast.store.contract import FileKind

if TYPE_CHECKING:
    from typing import NoReturn

    from holdfast.catalog.database import Transaction
    from holdfast.core.access import Principal
    from holdfast.core.records import Agent, AgentOrder, RepositoryRecord
    from holdfast.service.storing import HostRepository

_PARTIAL = "problems"


def lends(tx: Transaction, who: Principal, record: RepositoryRecord) -> bool:
    """Whether this host restores from that repository right now, by order."""
    if who.host_id is None or who.host_id == record.host_id:
        return False
    agent = tx.agents.find(host_id=who.host_id)
    if agent is None:
        return False
    orders = tx.agent_orders.all(agent_id=agent.id, kind=OrderKind.RESTORE)
    return any(
        order.terms.get("repository_id") == record.id and is_live(tx, order) for order in orders
    )


def is_live(tx: Transaction, order: AgentOrder) -> bool:
    """Whether it is still wanted that the agent does this."""
    if order.task_id is None:
        return True
    task = tx.tasks.find(id=order.task_id)
    return task is not None and not task.state.ended and task.wanted is Wanted.RUN


def announced(repository: HostRepository, name: str) -> AgentOrder | None:
    """The order of the host's agent that this snapshot was announced for."""
    with repository.ground.catalog.read() as tx:
        agent = tx.agents.find(host_id=repository.host.id)
        if agent is None:
            return None
        return tx.agent_orders.find(agent_id=agent.id, snapshot=name)


def check(repository: HostRepository, order: AgentOrder, content: bytes) -> None:
    """Refuses a snapshot that is not what was ordered.

    Raises:
        StateError: nobody wants it any more.
        DamagedError: it is not what the agent said.
        QuotaError: the host's backups may not be so large together.
    """
    with repository.ground.catalog.read() as tx:
        _refuse_unwanted(tx, order, repository.record.id)
        agent = tx.agents.get(order.agent_id)
        _refuse_too_much(tx, agent, order)
    if repository.record.custody is Custody.CLIENT:
        return  # nobody can look inside
    objects = repository.pools.repository(repository.record).objects
    said = Announcement(**order.announced)
    found = decode_snapshot(ObjectId(said.snapshot), objects.opened(FileKind.SNAPSHOT, content))
    summary = found.file.summary
    if summary is None or found.file.hostname != repository.host.name:
        _lie("says that it is of another host")
    if (summary.total_bytes_processed, summary.total_files_processed) != (said.bytes, said.files):
        _lie("says another size than was announced")
    if found.file.tree != said.tree:
        _lie("has another tree than was announced")
    if not set(order.spec["tags"]) <= set(found.tags):
        _lie("does not say for what it was ordered")


def record(tx: Transaction, repository: HostRepository, order: AgentOrder, now: int) -> None:
    """Its row: the agent's work is a backup from here on.

    Raises:
        StateError: it was killed at this very moment. The snapshot is not recorded.
    """
    _refuse_unwanted(tx, order, repository.record.id)
    terms, said = order.terms, Announcement(**order.announced)
    tx.backups.add(
        Backup(
            uid=terms["uid"],
            target_id=terms["target_id"],
            pool_id=repository.pool.id,
            repository_id=repository.record.id,
            snapshot=said.snapshot,
            name=terms["name"],
            size=said.bytes,
            stored=said.stored,
            files=said.files,
            created=now,
            received=now,
            manual=terms["manual"],
            state=BackupState.KEPT,
            made=Made(terms["made"]),
            parent_id=terms["parent_id"],
            flags=_PARTIAL if said.problems else "",
            facts=terms["facts"] | {"problems": said.problems},
        )
    )
    tx.hosts.change(repository.host.id, seen=now)


def _refuse_unwanted(tx: Transaction, order: AgentOrder, repository_id: int) -> None:
    now = tx.agent_orders.find(id=order.id)
    if (
        now is None
        or now.issue != order.issue
        or now.snapshot != order.snapshot
        or order.terms.get("repository_id") != repository_id
        or not is_live(tx, now)
    ):
        raise StateError("nobody waits for this snapshot any more", remedy="It was not stored.")
    if tx.backups.find(uid=order.terms["uid"]) is not None:
        raise StateError("this order has its snapshot already", remedy="It was not stored.")


def _refuse_too_much(tx: Transaction, agent: Agent, order: AgentOrder) -> None:
    if not agent.capacity or agent.host_id is None:
        return
    kept = size_of_host(tx, agent.host_id)
    if kept + Announcement(**order.announced).bytes > agent.capacity:
        raise QuotaError(
            f"{agent.name} may keep {agent.capacity} bytes, and this backup would be beyond that"
        )


def size_of_host(tx: Transaction, host_id: int) -> int:
    """Bytes of content of a host's backups."""
    row, target = tables.backup.c, tables.target.c
    query = select(func.coalesce(func.sum(row.size), 0)).where(
        row.target_id == target.id,
        target.host_id == host_id,
        row.state.in_([str(BackupState.KEPT), str(BackupState.RECYCLED)]),
    )
    return int(tx.connection.scalar(query) or 0)


def _lie(what: str) -> NoReturn:
    raise DamagedError(
        f"the snapshot {what}", remedy="It was not stored. Look at the agent that made it."
    )
