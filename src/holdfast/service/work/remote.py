"""The tasks whose work an agent does: the order is handed over through the catalog, and the body
waits for what the agent reports.

The order outlives the body: a server that starts anew finds the agent at work and goes on waiting.
It is gone once the task has ended, so that a restarted task gives a new one. A body whose agent
stays away puts its task back into the queue, where it waits without holding anything.
"""

from __future__ import annotations

import ipaddress
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from holdfast.core.access import SERVER
from holdfast.core.errors import (
    AgentLostError,
    DamagedError,
    HoldfastError,
    InterruptedByUserError,
    InvalidError,
)
from holdfast.core.orders import OrderKind, OrderState
from holdfast.core.outcome import Outcome
from holdfast.core.records import (
    AgentOrder,
    AgentState,
    Custody,
    Made,
    Wanted,
)
from holdfast.core.stages import Stage
from holdfast.core.units import format_size
from holdfast.jobs.body import Ended, LaterError
from holdfast.service.ground import new_uid
from holdfast.service.keeping.contract import Order
from holdfast.service.keeping.in_repository import tags_of
from holdfast.service.pooling.places import is_local
from holdfast.service.pooling.vaults import segment_of
from holdfast.service.remote import met
from holdfast.service.work.parents import parent_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from holdfast.catalog.database import Transaction
    from holdfast.core.records import Agent, Backup, Host, Json, RepositoryRecord
    from holdfast.jobs.body import Run
    from holdfast.service.server import Service

_OFTEN, _SELDOM = 0.2, 1.0
"""Seconds between two looks, in the first ten and after."""
_AWAY: Final = 10.0
"""Seconds that an agent may be offline before its task waits in the queue."""
_STOPPING: Final = 15.0
"""Seconds that an agent has to stop what is not wanted any more."""
_STAGES = {
    OrderState.WAITING: Stage.ASSIGNED,
    OrderState.TAKEN: Stage.ASSIGNED,
    OrderState.RUNNING: Stage.EXECUTION,
    OrderState.TRANSMITTING: Stage.TRANSMISSION,
}
_SPEC = ("module", "resource", "parameters", "compression", "bandwidth")


def back_up(service: Service, run: Run) -> Ended:
    watch = _Watch(service, run)
    order = watch.wait(watch.order(OrderKind.BACKUP, lambda: _backup_order(service, run)))
    backup = watch.committed(order)
    if backup is None:
        watch.drop()
        raise DamagedError(
            "the agent says that it has ended, and its snapshot is not here",
            remedy="Earlier backups are untouched. Look at the agent's journal.",
        )
    _look_inside(service, backup)
    ended = _ended(backup)
    with service.ground.catalog.write() as tx:
        run.fence(tx)
        tx.agent_orders.remove(task_id=run.task.id)
        run.commit(tx, ended)
    return ended


def restore(service: Service, run: Run) -> Ended:
    watch = _Watch(service, run)
    order = watch.wait(watch.order(OrderKind.RESTORE, lambda: _restore_order(service, run)))
    report = {name: order.outcome.get(name, 0) for name in ("files", "bytes", "failures")}
    watch.drop()
    if report["failures"]:
        message = f"{report['failures']} entries could not be restored"
        return Ended(outcome=Outcome.PARTIAL, message=message, report=report)
    return Ended(report=report)


# --- orders ---------------------------------------------------------------------------------------


def _backup_order(service: Service, run: Run) -> tuple[Json, Json]:
    """What the agent is told, and what is kept of it here."""
    spec = run.task.spec
    if run.task.target_id is None:
        raise InvalidError("the task names no target")
    target = service.targets.get(SERVER, run.task.target_id)
    custody = Custody(spec.get("custody", Custody.SERVER))
    with service.ground.catalog.read() as tx:
        pool = tx.pools.get(target.pool_id)
        host = tx.hosts.get(target.host_id or 0)
    record = service.pools.repository_for(pool, host, custody=custody)
    made = Made(spec.get("made", Made.INCREMENTAL))
    parent = parent_of(service, target, made, record)
    made = made if parent is not None else Made.FULL
    order = Order(
        uid=new_uid(),
        target=target,
        name=spec.get("name") or f"{target.name}-{run.task.id}",
        received=service.ground.now(),
        manual=run.task.plan_id is None,
        facts=(spec.get("facts") or {}) | {"made": str(made), "task": run.task.id},
    )
    told = {name: spec.get(name) for name in _SPEC} | _place(pool.name, host, record)
    told |= {
        "skip": _places_here(service, host),
        "tags": tags_of(order),
        "time": order.received,
        "parent": parent.snapshot if parent else "",
        "full": made is Made.FULL,
    }
    kept = {
        "uid": order.uid, "name": order.name, "target_id": target.id, "made": str(made),
        "parent_id": parent.id if parent else None, "manual": order.manual,
        "facts": order.facts | {"custody": str(custody)}, "repository_id": record.id,
    }  # fmt: skip
    return told, kept


def _places_here(service: Service, host: Host) -> list[str]:
    """Where pools lie on the agent's machine, if that is this one: a repository is not backed up
    into itself.
    """
    with service.ground.catalog.read() as tx:
        agent = tx.agents.find(host_id=host.id)
        pools = tx.pools.all()
    if agent is None or not _is_here(agent.address):
        return []
    places = (place for pool in pools for place in pool.locations)
    return [str(Path(place).absolute()) for place in places if is_local(place)]


def _is_here(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False


def _restore_order(service: Service, run: Run) -> tuple[Json, Json]:
    if run.task.backup_id is None:
        raise InvalidError("the task names no backup")
    backup = service.backups.get(SERVER, run.task.backup_id)
    with service.ground.catalog.read() as tx:
        record = tx.repositories.get(backup.repository_id or 0)
        pool = tx.pools.get(record.pool_id)
        host = tx.hosts.get(record.host_id or 0)
        target = tx.targets.get(backup.target_id)
    told = dict(run.task.spec) | _place(pool.name, host, record)
    told |= {
        "snapshot": backup.snapshot,
        "module": target.source.get("module", "files"),
        "resource": target.source.get("resource", ""),
    }
    return told, {"repository_id": record.id}


def _place(pool: str, host: Host, record: RepositoryRecord) -> Json:
    return {
        "pool": pool,
        "place": segment_of(host, record.custody),
        "custody": str(record.custody),
        "repository": record.repository_uid,
    }


# --- waiting --------------------------------------------------------------------------------------


class _Watch:
    """The body's side of an order."""

    def __init__(self, service: Service, run: Run) -> None:
        self._catalog = service.ground.catalog
        self._now = service.ground.now
        self._run = run
        self._stage = Stage(run.task.stage)
        self._told: Json = {}
        self._away_since: float | None = None

    def order(self, kind: OrderKind, make: Callable[[], tuple[Json, Json]]) -> AgentOrder:
        """The one that an earlier start of this body gave; a new one where there is none."""
        with self._catalog.read() as tx:
            found = tx.agent_orders.find(task_id=self._run.task.id)
        if found is not None and found.state is not OrderState.STOPPED:
            return found
        spec, terms = make() if found is None else (found.spec, found.terms)
        now = self._now()
        with self._catalog.write() as tx:
            self._run.fence(tx)
            if found is not None:
                return self._again(tx, found)
            agent = self._agent(tx)
            return tx.agent_orders.add(
                AgentOrder(
                    agent_id=agent.id, task_id=self._run.task.id, kind=kind, spec=spec,
                    terms=terms, created=now, touched=now,
                )
            )  # fmt: skip

    def _again(self, tx: Transaction, order: AgentOrder) -> AgentOrder:
        """After a pause: what is stored already is found by the agent."""
        tx.agent_orders.change(
            order.id, issue=order.issue + 1, state=OrderState.WAITING, heard=0, outcome={},
            touched=self._now(),
        )  # fmt: skip
        return tx.agent_orders.get(order.id)

    def _agent(self, tx: Transaction) -> Agent:
        found = tx.agents.find(host_id=self._run.task.host_id or 0, state=AgentState.AUTHORISED)
        if found is None:
            raise AgentLostError("the host of this task has no authorised agent any more")
        return found

    def wait(self, order: AgentOrder) -> AgentOrder:
        """The order once it is done. Everything else is raised."""
        began = time.monotonic()
        while True:
            with self._catalog.read() as tx:
                now = tx.agent_orders.find(id=order.id)
                agent = tx.agents.find(id=order.agent_id)
            if now is None or agent is None:
                raise AgentLostError("the agent of this task is gone")
            online = agent.online_until > self._now()
            self._tell(now, online=online)
            if self._is_over(now, online=online):
                return now
            if self._run.stopping:
                return self._stop(now, online=online)
            if now.state is OrderState.STOPPED:
                raise LaterError("the agent has stopped: it is told to go on, or what was wished")
            self._be_patient(online=online)
            time.sleep(_OFTEN if time.monotonic() - began < _AWAY else _SELDOM)

    def _is_over(self, order: AgentOrder, *, online: bool) -> bool:
        if order.state is OrderState.DONE:
            return True
        if order.state is OrderState.FAILED:
            error = met(order.outcome)
            self.drop()
            raise error
        # Its snapshot is here, and it will not say so any more.
        return not online and self.committed(order) is not None

    def committed(self, order: AgentOrder) -> Backup | None:
        with self._catalog.read() as tx:
            uid = order.terms.get("uid")
            return tx.backups.find(uid=uid) if uid else None

    def drop(self) -> None:
        with self._catalog.write() as tx:
            self._run.fence(tx)
            tx.agent_orders.remove(task_id=self._run.task.id)

    # --- telling ----------------------------------------------------------------------------------

    def _tell(self, order: AgentOrder, *, online: bool) -> None:
        stage = _STAGES.get(order.state, self._stage) if online else Stage.SUSPENDED
        if stage is not self._stage:
            self._stage = stage
            with self._catalog.write() as tx:
                self._run.fence(tx)
                tx.tasks.change(self._run.task.id, stage=stage)
        if order.progress != self._told:
            self._told = order.progress
            self._run.progress(
                done=_number(order.progress.get("done")),
                total=_number(order.progress.get("total")),
                unit=_text(order.progress.get("unit")),
                current=_text(order.progress.get("current")),
            )

    def _be_patient(self, *, online: bool) -> None:
        if online:
            self._away_since = None
            return
        self._away_since = self._away_since or time.monotonic()
        if time.monotonic() - self._away_since > _AWAY:
            self._run.log("warning", "the agent is offline: the task waits for it in the queue")
            raise LaterError("the agent is offline")

    # --- stopping ---------------------------------------------------------------------------------

    def _stop(self, order: AgentOrder, *, online: bool) -> AgentOrder:
        """Nothing of it runs any more, where the agent can be asked; a snapshot that came before
        makes it done.
        """
        with self._catalog.read() as tx:
            wanted = tx.tasks.get(self._run.task.id).wanted
        if wanted is Wanted.RUN:  # this worker ends, the agent goes on
            raise InterruptedByUserError("the worker ends")
        until = time.monotonic() + _STOPPING
        while online and not order.state.over and time.monotonic() < until:
            time.sleep(_OFTEN)
            with self._catalog.read() as tx:
                found = tx.agent_orders.find(id=order.id)
                agent = tx.agents.find(id=order.agent_id)
            if found is None or agent is None:
                break
            order, online = found, agent.online_until > self._now()
        if self.committed(order) is not None:
            return replace(order, state=OrderState.DONE)
        with self._catalog.write() as tx:
            if wanted is Wanted.KILLED:
                tx.agent_orders.remove(id=order.id)
            else:  # whether or not the agent has heard: it is given anew
                tx.agent_orders.change(order.id, state=OrderState.STOPPED, issue=order.issue)
        raise InterruptedByUserError("the task was stopped")


# --- what came ------------------------------------------------------------------------------------


def _look_inside(service: Service, backup: Backup) -> None:
    """Whether the snapshot leads to a tree that is here.

    Raises:
        DamagedError: it does not; the backup is marked.
    """
    with service.ground.catalog.read() as tx:
        record = tx.repositories.get(backup.repository_id or 0)
        order = tx.agent_orders.find(snapshot=backup.snapshot)
    if record.custody is Custody.CLIENT or order is None:
        return
    try:
        service.pools.prove_tree(record, str(order.announced["tree"]))
    except HoldfastError as error:
        with service.ground.catalog.write() as tx:
            tx.backups.change(backup.id, damaged=f"its tree is not here: {error.message}")
            tx.agent_orders.remove(id=order.id)
        raise DamagedError(
            f"the agent's snapshot leads to nothing: {error.message}",
            remedy="Earlier backups are untouched. Look at the agent that made it.",
        ) from error


def _ended(backup: Backup) -> Ended:
    problems = int(backup.facts.get("problems", 0))
    report = {
        "backup": backup.uid, "files": backup.files, "bytes": backup.size,
        "stored": backup.stored, "problems": problems, "made": str(backup.made),
    }  # fmt: skip
    if problems:
        message = f"{problems} things could not be read as they are"
        return Ended(outcome=Outcome.PARTIAL, message=message, report=report)
    return Ended(report=report, message=f"{backup.files} files, {format_size(backup.size)}")


def _number(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None
