"""Agents: which there are, which are authorised, and what they have said."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from holdfast.catalog import tables
from holdfast.catalog.journal import note
from holdfast.core.access import Verb
from holdfast.core.agent_secret import hwid_of
from holdfast.core.errors import InvalidError, RecordNotFoundError, StateError
from holdfast.core.records import (
    Agent,
    AgentState,
    Area,
    Host,
    Token,
    TokenKind,
)
from holdfast.service.ground import new_uid
from holdfast.service.tokens import digest_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import ColumnElement

    from holdfast.catalog.database import Transaction
    from holdfast.core.access import Principal
    from holdfast.core.records import JournalLine
    from holdfast.core.secret import Secret
    from holdfast.service.ground import Ground

_ROW = tables.agent.c
_TASK = tables.task.c
CHANGEABLE: Final = frozenset(
    {
        "note", "group_id", "capacity", "central_restore", "own_backup", "own_restore",
        "local_schedule", "local_restrictions", "local_pool_id",
    }
)  # fmt: skip
"""What people may set; everything else is what the agent says, or follows."""
_OF_AGENTS: Final = "agent"
"""What the tokens are called by which agents reach their repositories."""


class Agents:
    """Every `Agent` that is handed up has an empty `digest`."""

    def __init__(self, ground: Ground) -> None:
        self.ground = ground

    # --- looking ----------------------------------------------------------------------------------

    def list(
        self,
        who: Principal,
        *conditions: ColumnElement[bool],
        state: AgentState | None = None,
        limit: int | None = None,
        offset: int = 0,
    ) -> Sequence[Agent]:
        """Those with this state, by name."""
        equal = {} if state is None else {"state": state}
        with self.ground.read(who, Verb.HOST_LIST, "agents") as tx:
            found = tx.agents.all(
                *conditions, *_scope(who), order=(_ROW.name, _ROW.id), limit=limit, offset=offset,
                **equal,
            )  # fmt: skip
        return [shown(each) for each in found]

    def get(self, who: Principal, reference: int | str) -> Agent:
        """By number, by hwid, or by name where just one is called so.

        Raises:
            RecordNotFoundError: none, or one that `who` may not see.
        """
        with self.ground.read(who, Verb.HOST_LIST, f"agent {reference}") as tx:
            return shown(_find(tx, who, reference))

    def is_online(self, agent: Agent) -> bool:
        return agent.state is AgentState.AUTHORISED and agent.online_until > self.ground.now()

    def log(
        self, who: Principal, *, host_id: int | None = None, task_id: int | None = None,
        after: int = 0, limit: int | None = None,
    ) -> Sequence[JournalLine]:  # fmt: skip
        """What agents have said, in order: of one, of one task, or all."""
        row = tables.journal.c
        equal = {"host_id": host_id, "task_id": task_id}
        given = {name: value for name, value in equal.items() if value is not None}
        with self.ground.read(who, Verb.HOST_LIST, "journals of agents") as tx:
            return tx.journal.all(
                row.id > after, area=Area.CLIENTS, order=(row.id,), limit=limit, **given
            )

    # --- changing ---------------------------------------------------------------------------------

    def authorise(self, who: Principal, reference: int | str, *, host: str = "") -> Agent:
        """Lets an agent in, as the host of its name. `host`: as this one, which is there already,
        with all of its backups; that is for a machine that was set up anew.

        Nobody gets at the backups of a host by calling itself so: where the name is taken, the new
        host has the hwid behind its name.

        Raises:
            RecordNotFoundError
            StateError: it is authorised already, or another agent serves that host.
        """
        with self.ground.act(
            who, Verb.HOST_CHANGE, f"agent {reference}", detail={"authorised": True, "as": host}
        ) as tx:
            agent = _find(tx, who, reference)
            if agent.state is AgentState.AUTHORISED:
                raise StateError(f"{agent.name} is authorised already")
            serves = self._host_for(tx, agent, host)
            tx.tokens.remove(digest=agent.digest)
            tx.tokens.add(
                Token(
                    uid=new_uid(), kind=TokenKind.HOST, name=_OF_AGENTS, digest=agent.digest,
                    host_id=serves.id, created=self.ground.now(),
                )
            )  # fmt: skip
            tx.agents.change(agent.id, state=AgentState.AUTHORISED, host_id=serves.id)
            self._say(tx, agent, f"authorised as {serves.name} by {who.name}")
            return shown(tx.agents.get(agent.id))

    def _host_for(self, tx: Transaction, agent: Agent, name: str) -> Host:
        if name:
            found = tx.hosts.find(name=name)
            if found is None:
                raise RecordNotFoundError(f"there is no host {name}")
            before = tx.agents.find(host_id=found.id)
            if before is not None and before.id != agent.id:
                if before.state is AgentState.AUTHORISED:
                    raise StateError(
                        f"another agent serves {name}",
                        remedy="Nothing was changed. Take back that one's authorisation first.",
                    )
                tx.agents.change(before.id, host_id=None)
            return found
        if agent.host_id is not None:
            return tx.hosts.get(agent.host_id)
        taken = tx.hosts.find(name=agent.name)
        free = agent.name if taken is None else f"{agent.name}-{agent.hwid}"
        return tx.hosts.find(name=free) or tx.hosts.add(
            Host(name=free, note="by its agent", created=self.ground.now())
        )

    def withdraw(self, who: Principal, reference: int | str) -> Agent:
        """Takes an authorisation back: the agent waits again, and reaches no backup from now on.
        Its backups stay, and a new authorisation finds them.

        Raises:
            RecordNotFoundError
            StateError: it is not authorised, or tasks of it are not over.
        """
        with self.ground.act(
            who, Verb.HOST_CHANGE, f"agent {reference}", detail={"authorised": False}
        ) as tx:
            agent = _find(tx, who, reference)
            if agent.state is not AgentState.AUTHORISED:
                raise StateError(f"{agent.name} is not authorised")
            _refuse_busy(tx, agent)
            tx.tokens.remove(digest=agent.digest)
            tx.agent_orders.remove(agent_id=agent.id)
            tx.agents.change(agent.id, state=AgentState.WAITING)
            self._say(tx, agent, f"authorisation taken back by {who.name}")
            return shown(tx.agents.get(agent.id))

    def forget(self, who: Principal, reference: int | str) -> None:
        """Removes an agent that waits; it comes back when it comes by again, unless it is shut off.

        Raises:
            RecordNotFoundError
            StateError: it is authorised.
        """
        with self.ground.act(
            who, Verb.HOST_CHANGE, f"agent {reference}", detail={"forgotten": True}
        ) as tx:
            agent = _find(tx, who, reference)
            if agent.state is AgentState.AUTHORISED:
                raise StateError(
                    f"{agent.name} is authorised",
                    remedy="Nothing was changed. Take the authorisation back first.",
                )
            tx.agent_orders.remove(agent_id=agent.id)
            tx.agents.remove(id=agent.id)

    def change(self, who: Principal, reference: int | str, **changes: Any) -> Agent:
        """Sets what is `CHANGEABLE`.

        Raises:
            RecordNotFoundError, InvalidError
        """
        wrong = {
            name: ("fixed", f"{name} is not to be set.") for name in changes.keys() - CHANGEABLE
        }
        if wrong:
            raise InvalidError(f"{', '.join(wrong)} cannot be set", fields=wrong)
        with self.ground.act(
            who, Verb.HOST_CHANGE, f"agent {reference}", detail={"changed": sorted(changes)}
        ) as tx:
            agent = _find(tx, who, reference)
            if changes:
                tx.agents.change(agent.id, **changes)
            return shown(tx.agents.get(agent.id))

    def admit(self, who: Principal, secret: Secret, name: str) -> Agent:
        """Enters an agent whose secret was made right here, authorised at once; does nothing where
        it is in already.
        """
        with self.ground.catalog.write() as tx:
            found = tx.agents.find(digest=digest_of(secret)) or tx.agents.add(
                Agent(
                    hwid=hwid_of(secret), name=name, digest=digest_of(secret),
                    created=self.ground.now(),
                )
            )  # fmt: skip
        if found.state is AgentState.AUTHORISED:
            return shown(found)
        return self.authorise(who, found.id)

    def _say(self, tx: Transaction, agent: Agent, text: str) -> None:
        now = tx.agents.get(agent.id)
        note(tx, Area.CLIENTS, self.ground.now(), text, host_id=now.host_id, host=called(now))


def called(agent: Agent) -> str:
    """As journals name it."""
    return f"{agent.name} ({agent.hwid})"


def shown(agent: Agent) -> Agent:
    """As it may leave `service`."""
    return replace(agent, digest="")


def _find(tx: Transaction, who: Principal, reference: int | str) -> Agent:
    if isinstance(reference, int):
        among = tx.agents.all(*_scope(who), id=reference)
    else:
        among = tx.agents.all(*_scope(who), hwid=reference) or tx.agents.all(
            *_scope(who), name=reference
        )
    if not among:
        raise RecordNotFoundError(f"there is no agent {reference}")
    if len(among) > 1:
        raise StateError(
            f"{len(among)} agents are called {reference}",
            remedy="Nothing was changed. Name it by its hwid.",
        )
    return among[0]


def _scope(who: Principal) -> list[ColumnElement[bool]]:
    """Who is narrowed to some hosts sees their agents only."""
    return [] if who.scope.hosts is None else [_ROW.host_id.in_(who.scope.hosts)]


def _refuse_busy(tx: Transaction, agent: Agent) -> None:
    under_way = ["queued", "running", "paused"]
    if tx.tasks.count(_TASK.state.in_(under_way), host_id=agent.host_id):
        raise StateError(
            f"tasks of {agent.name} are not over",
            remedy="Nothing was changed. Wait for them, or kill them first.",
        )
