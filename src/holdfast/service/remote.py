"""What people want done on hosts: backups and restores there are tasks, a look is answered at once.

`service.work.remote` holds the bodies of these tasks; the agent does the work.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from holdfast.core.access import Verb
from holdfast.core.clock import SystemClock
from holdfast.core.errors import InvalidError, StateError, of_code
from holdfast.core.orders import OrderKind, OrderState
from holdfast.core.records import (
    AgentOrder,
    AgentState,
    Custody,
    Face,
    Made,
    PoolKind,
    Shape,
    Target,
)
from holdfast.service.ground import new_uid
from holdfast.service.tasks import PRIORITY
from holdfast.sources.modules import Asked, module

if TYPE_CHECKING:
    from holdfast.catalog.database import Transaction
    from holdfast.core.access import Principal
    from holdfast.core.errors import HoldfastError
    from holdfast.core.records import Agent, Backup, Host, Json, Pool, Task
    from holdfast.service.agents import Agents
    from holdfast.service.ground import Ground
    from holdfast.service.tasks import Tasks

BACKUP: Final = "agent-backup"
RESTORE: Final = "agent-restore"
_PATIENCE: Final = 30.0
_LOOK_AGAIN = 0.1
_LONGEST = 4000
_BANDWIDTH = ("upload", "download")


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A backup to be made on a host. `agent`: number, hwid or name; `pool`: name.

    `bandwidth`: KiB a second, `upload` and `download`, 0 or absent: no limit. `keep`: the rule of
    the series that it belongs to, see `core.keeping`; a series is what one host backs up of one
    resource into one pool, in one custody.
    """

    agent: int | str
    module: str = "files"
    resource: str
    parameters: Json = field(default_factory=dict)
    pool: str
    made: Made = Made.INCREMENTAL
    custody: Custody = Custody.SERVER
    compression: str = "auto"
    bandwidth: Json = field(default_factory=dict)
    keep: Json | None = None
    face: Face = Face.HOLDFAST
    name: str = ""
    facts: Json = field(default_factory=dict)
    """kept with the backup"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Back:
    """A backup to be restored on a host, all of it or the paths `include`. `put_back`: into the
    application, by the module that has backed it up.
    """

    agent: int | str
    destination: str
    include: list[str] = field(default_factory=list)
    overwrite: str = "always"
    verify: bool = False
    put_back: bool = False
    parameters: Json = field(default_factory=dict)
    bandwidth: Json = field(default_factory=dict)


class Remote:
    def __init__(self, ground: Ground, agents: Agents, tasks: Tasks) -> None:
        self._ground = ground
        self._agents = agents
        self._tasks = tasks

    # --- tasks ------------------------------------------------------------------------------------

    def back_up(self, who: Principal, wanted: Wanted, *, priority: int = PRIORITY) -> Task:
        """Puts the backup into the queue; an agent that is offline does it once it is back.

        Raises:
            RecordNotFoundError: there is no such agent or pool.
            StateError: the agent is not authorised.
            InvalidError: module, resource, parameters, or a pool of plain files.
        """
        agent = self._authorised(who, wanted.agent)
        self._check(agent, wanted)
        with self._ground.catalog.write() as tx:
            pool = tx.pools.find(name=wanted.pool)
            if pool is None or pool.kind is not PoolKind.REPOSITORY:
                text = f"{wanted.pool} is no pool that agents can write into"
                raise InvalidError(text, fields={"pool": ("unknown", text)})
            host = tx.hosts.get(agent.host_id or 0)
            target = self._target(tx, wanted, pool, host)
        spec: Json = {
            "module": wanted.module, "resource": wanted.resource, "parameters": wanted.parameters,
            "made": str(wanted.made), "custody": str(wanted.custody), "name": wanted.name,
            "compression": wanted.compression, "bandwidth": _limits(wanted.bandwidth),
            "facts": wanted.facts,
        }  # fmt: skip
        return self._tasks.submit(
            who, Verb.BACKUP_CREATE, BACKUP, subject=f"{wanted.resource} on {host.name}", spec=spec,
            priority=priority, pool_id=pool.id, target_id=target.id, host_id=host.id,
        )  # fmt: skip

    def restore(
        self, who: Principal, backup: Backup, back: Back, *, priority: int = PRIORITY
    ) -> Task:
        """Puts the restore into the queue.

        Raises:
            RecordNotFoundError, StateError, InvalidError
        """
        agent = self._authorised(who, back.agent)
        if not agent.central_restore:
            raise StateError(f"{agent.name} takes no restores from here")
        if not back.put_back and not back.destination.startswith("/"):
            text = f"{back.destination!r} is no absolute folder to restore into"
            raise InvalidError(text, fields={"destination": ("relative", text)})
        with self._ground.catalog.read() as tx:
            self._check_source(tx, backup, agent)
        spec: Json = {
            "destination": back.destination, "include": back.include, "overwrite": back.overwrite,
            "verify": back.verify, "put_back": back.put_back, "parameters": back.parameters,
            "bandwidth": _limits(back.bandwidth),
        }  # fmt: skip
        return self._tasks.submit(
            who, Verb.BACKUP_RESTORE, RESTORE, subject=f"backup {backup.uid} on {agent.name}",
            spec=spec, priority=priority, pool_id=backup.pool_id, target_id=backup.target_id,
            backup_id=backup.id, host_id=agent.host_id,
        )  # fmt: skip

    def _authorised(self, who: Principal, reference: int | str) -> Agent:
        agent = self._agents.get(who, reference)
        if agent.state is not AgentState.AUTHORISED:
            raise StateError(f"{agent.name} is not authorised")
        return agent

    def _check(self, agent: Agent, wanted: Wanted) -> None:
        """As far as can be told from here; the agent looks for itself."""
        if wanted.module not in agent.modules:
            known = ", ".join(agent.modules)
            text = f"{agent.name} has no module {wanted.module!r}; it has {known}"
            raise InvalidError(text, fields={"module": ("unknown", text)})
        asked = Asked(
            resource=wanted.resource, parameters=wanted.parameters,
            scratch=self._ground.folder / "scratch", clock=SystemClock(),
        )  # fmt: skip
        module(wanted.module).check(asked)

    def _target(self, tx: Transaction, wanted: Wanted, pool: Pool, host: Host) -> Target:
        location = f"{wanted.custody}:{wanted.module}:{wanted.resource}"
        source: Json = {"module": wanted.module, "resource": wanted.resource}
        found = tx.targets.find(
            face=wanted.face, host_id=host.id, pool_id=pool.id, location=location
        )
        if found is None:
            return tx.targets.add(
                Target(
                    uid=new_uid(), name=f"{host.name}: {wanted.resource}", face=wanted.face,
                    shape=Shape.MULTI, pool_id=pool.id, host_id=host.id, location=location,
                    keep=wanted.keep or {}, source=source, created=self._ground.now(),
                )
            )  # fmt: skip
        if wanted.keep is not None and wanted.keep != found.keep:
            tx.targets.change(found.id, keep=wanted.keep)
        return found

    def _check_source(self, tx: Transaction, backup: Backup, agent: Agent) -> None:
        record = tx.repositories.find(id=backup.repository_id or 0)
        if record is None or record.host_id is None:
            raise StateError(
                "this backup was not made by an agent",
                remedy="Nothing was done. Restore it on this server.",
            )
        if record.custody is Custody.CLIENT and record.host_id != agent.host_id:
            raise StateError(
                "the key of this backup is with the host that made it, and no other can read it",
                remedy="Nothing was done. Restore it there.",
            )
        if record.host_id != agent.host_id:
            _refuse_strangers(tx, agent, record.host_id)

    # --- looking at a host ------------------------------------------------------------------------

    def look(
        self, who: Principal, reference: int | str, kind: OrderKind, spec: Json,
        *, patience: float = _PATIENCE,
    ) -> Json:  # fmt: skip
        """What an agent sees on its machine, within so many seconds: `entries` of a folder
        (LIST_FILES, `path`), `devices` (`path`), or `resources` of a module (`module`, ...).

        Raises:
            StateError: it is offline, or did not answer in time.
            HoldfastError: what the agent met.
        """
        agent = self._authorised(who, reference)
        self._ground.allow(who, Verb.HOST_LIST, f"agent {agent.name}", host=agent.host_id)
        if not self._agents.is_online(agent):
            raise StateError(f"{agent.name} is offline", remedy="Try again when it is back.")
        now = self._ground.now()
        with self._ground.act(
            who, Verb.HOST_LIST, f"agent {agent.name}", host=agent.host_id,
            detail={"look": str(kind), **spec},
        ) as tx:  # fmt: skip
            order = tx.agent_orders.add(
                AgentOrder(agent_id=agent.id, kind=kind, spec=spec, created=now, touched=now)
            )
        try:
            return self._answer(agent, order, patience)
        finally:
            with self._ground.catalog.write() as tx:
                tx.agent_orders.remove(id=order.id)

    def _answer(self, agent: Agent, order: AgentOrder, patience: float) -> Json:
        until = time.monotonic() + patience
        while time.monotonic() < until:
            with self._ground.catalog.read() as tx:
                now = tx.agent_orders.get(order.id)
            if now.state is OrderState.DONE:
                return now.outcome
            if now.state.over:
                raise met(now.outcome)
            time.sleep(_LOOK_AGAIN)
        raise StateError(f"{agent.name} did not answer in time", remedy="Try again.")


def _refuse_strangers(tx: Transaction, agent: Agent, host_id: int) -> None:
    """Hosts get one another's backups where they are in one group that shares."""
    group = tx.client_groups.get(agent.group_id)
    owner = tx.agents.find(host_id=host_id)
    if not group.shared or owner is None or owner.group_id != group.id:
        raise StateError(
            f"{agent.name} is in no group that shares backups with the host of this one",
            remedy="Nothing was done. Put both into one group, and have it share.",
        )


def met(outcome: Json) -> HoldfastError:
    """What an agent met, as the error that it was there."""
    message, remedy = outcome.get("message"), outcome.get("remedy")
    said = message if isinstance(message, str) and message else "the agent does not say why"
    advice = remedy[:_LONGEST] if isinstance(remedy, str) and remedy else None
    return of_code(outcome.get("code"), said[:_LONGEST], advice)


def _limits(given: Json) -> Json:
    for name in _BANDWIDTH:
        value = given.get(name, 0)
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            text = f"a limit of bandwidth is a number of KiB a second, not {value!r}"
            raise InvalidError(text, fields={"bandwidth": ("type", text)})
    return {name: given.get(name, 0) for name in _BANDWIDTH}
