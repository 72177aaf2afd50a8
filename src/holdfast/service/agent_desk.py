"""What agents come with: to be known, to ask what there is to do, to tell how it goes.

Agents come by their secret, and each reaches its own row and its own orders only. What it says of
itself is bounded and plain text; what it says of a backup, `ordered` looks at.
"""

from __future__ import annotations

import base64
import json
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import select

from holdfast.catalog import tables
from holdfast.catalog.journal import note
from holdfast.core.access import HOST_RIGHTS, Principal, Scope, Verb
from holdfast.core.agent_secret import hwid_of, is_secret
from holdfast.core.errors import (
    BusyError,
    DeniedError,
    InvalidError,
    NotSignedInError,
    RecordNotFoundError,
)
from holdfast.core.orders import (
    SILENCE,
    Announcement,
    Hello,
    Order,
    OrderKind,
    OrderState,
    Report,
    Standing,
    Wish,
)
from holdfast.core.records import (
    Agent,
    AgentOrder,
    AgentState,
    Area,
    Custody,
    TaskState,
    Wanted,
)
from holdfast.service.agents import called, shown
from holdfast.service.audit import write_record
from holdfast.service.hosts import check_name
from holdfast.service.ordered import is_live
from holdfast.service.tokens import digest_of

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from holdfast.catalog.database import Transaction
    from holdfast.core.secret import Secret
    from holdfast.service.ground import Ground
    from holdfast.service.pools import Pools

_MOST_WAITING: Final = 1000
"""Agents that nobody has authorised; more are told to come again."""
_MOST_WAITING_HERE: Final = 100
"""The same from one address."""
_LONGEST_WORD = 200
_MOST_MODULES = 100
_MOST_LINES = 1000
_LONGEST_LINE = 8192
_LARGEST_OUTCOME = 4 << 20
"""Bytes of what an agent found, as JSON."""
_LARGEST_PROGRESS = 16 << 10
_SECOND = 1_000_000_000
_LEVELS = {"debug", "info", "warning", "error"}


@dataclass(frozen=True, slots=True)
class Live:
    """What agents may wait for, at one moment."""

    authorised: frozenset[int] = frozenset()
    orders: Mapping[int, Mapping[str, Wish]] = field(default_factory=dict)
    """by agent: its orders that are not over, as `<id>.<issue>`, and what is wanted of each"""

    def due(self, agent_id: int, held: Collection[str]) -> tuple[list[str], dict[str, Wish]]:
        """The orders that an agent which holds these is to get, and what it is to be told of its
        own. What it holds and nobody knows is void.
        """
        own = self.orders.get(agent_id, {})
        missing = [name for name, wish in own.items() if wish is Wish.RUN and name not in held]
        told = {name: own.get(name, Wish.VOID) for name in held}
        return missing, {name: wish for name, wish in told.items() if wish is not Wish.RUN}


class AgentDesk:
    def __init__(self, ground: Ground, pools: Pools) -> None:
        self._ground = ground
        self._pools = pools

    # --- who comes --------------------------------------------------------------------------------

    def enrol(self, secret: Secret, hello: Hello, address: str) -> tuple[Agent, Standing]:
        """Enters an agent that was not here before, and takes down what it says of itself.

        Raises:
            NotSignedInError: that is no secret of an agent.
            InvalidError: a name that cannot be.
            BusyError: too many wait to be authorised.
        """
        digest = self._digest(secret)
        check_name(hello.name)
        facts = _facts(hello)
        now = self._ground.now()
        with self._ground.catalog.write() as tx:
            found = tx.agents.find(digest=digest)
            if found is None:
                _refuse_crowd(tx, address)
                found = tx.agents.add(
                    Agent(
                        hwid=hwid_of(secret), digest=digest, address=address, created=now,
                        **facts,
                    )
                )  # fmt: skip
                text = f"{hello.name} came for the first time, from {address}"
                note(tx, Area.CLIENTS, now, text, host=called(found))
            until = now + int(SILENCE * _SECOND)
            tx.agents.change(found.id, address=address, seen=now, online_until=until, **facts)
            found = tx.agents.get(found.id)
            serves = found.state is AgentState.AUTHORISED
            host = tx.hosts.get(found.host_id).name if serves and found.host_id else ""
        standing = Standing(hwid=found.hwid, authorised=bool(host), host=host)
        return shown(found), standing

    def known(self, secret: Secret) -> Agent:
        """Who comes by this secret. Raises NotSignedInError: it has not enrolled."""
        digest = self._digest(secret)
        with self._ground.catalog.read() as tx:
            found = tx.agents.find(digest=digest)
        if found is None:
            raise NotSignedInError("this agent has not enrolled")
        return shown(found)

    def _digest(self, secret: Secret) -> str:
        if not is_secret(secret):
            raise NotSignedInError("this is no secret of an agent")
        return digest_of(secret)

    def heard(self, ids: Iterable[int], *, silence: float = SILENCE) -> None:
        """These have just been here: they count as online for so many seconds."""
        now = self._ground.now()
        row = tables.agent.c
        with self._ground.catalog.write() as tx:
            tx.agents.change_where(
                row.id.in_(sorted(ids)), seen=now, online_until=now + int(silence * _SECOND)
            )

    def left(self, agent: Agent) -> None:
        """It has said goodbye."""
        with self._ground.catalog.write() as tx:
            tx.agents.change(agent.id, online_until=0)

    # --- what there is to do ----------------------------------------------------------------------

    def live(self) -> Live:
        """Who is authorised, and every order that is not over, with what is wanted of it. One look
        for all agents.
        """
        order, task, agent = tables.agent_order.c, tables.task.c, tables.agent.c
        query = (
            select(
                order.agent_id, order.id, order.issue, order.task_id, task.state, task.wanted,
            )
            .join_from(tables.agent_order, tables.agent, agent.id == order.agent_id)
            .outerjoin(tables.task, task.id == order.task_id)
            .where(
                agent.state == AgentState.AUTHORISED,
                order.state.not_in([str(state) for state in OrderState if state.over]),
            )
        )  # fmt: skip
        orders: dict[int, dict[str, Wish]] = {}
        with self._ground.catalog.read() as tx:
            ids = select(agent.id).where(agent.state == AgentState.AUTHORISED)
            authorised = frozenset(tx.connection.scalars(ids))
            for agent_id, id_, issue, task_id, state, wanted in tx.connection.execute(query):
                wish = Wish.RUN if task_id is None else _wish(state, wanted)
                orders.setdefault(agent_id, {})[f"{id_}.{issue}"] = wish
        return Live(authorised, orders)

    def orders(self, agent: Agent, names: Iterable[str]) -> Sequence[Order]:
        """These orders of the agent, in full."""
        issues = dict(_split(name) for name in names)
        with self._ground.catalog.read() as tx:
            found = tx.agent_orders.all(
                tables.agent_order.c.id.in_(sorted(issues)), agent_id=agent.id
            )
        return [
            Order(id=each.id, issue=each.issue, kind=each.kind, spec=each.spec)
            for each in found
            if issues[each.id] == each.issue and not each.state.over
        ]

    # --- how it goes ------------------------------------------------------------------------------

    def report(self, agent: Agent, report: Report) -> Wish:
        """Takes down how an order goes; what is wanted of it.

        Raises:
            InvalidError: the report is larger than reports may be.
        """
        _check_size(report)
        with self._ground.catalog.write() as tx:
            order = self._own(tx, agent, report.order)
            if order is None:
                return Wish.VOID
            if report.number > order.heard and not order.state.over:
                self._take_down(tx, order, report)
            return _wish_of(tx, order)

    def _take_down(self, tx: Transaction, order: AgentOrder, report: Report) -> None:
        now = self._ground.now()
        changes: dict[str, Any] = {
            "heard": report.number, "state": report.state, "touched": now,
            "progress": report.progress or order.progress,
        }  # fmt: skip
        if report.state.over:
            changes["outcome"] = report.outcome
        tx.agent_orders.change(order.id, **changes)
        agent = tx.agents.get(order.agent_id)
        for level, text in report.lines:
            note(
                tx, Area.CLIENTS, now, _plain(text, _LONGEST_LINE),
                level=level if level in _LEVELS else "info", task_id=order.task_id,
                host_id=agent.host_id, host=called(agent),
            )  # fmt: skip

    def announce(self, agent: Agent, said: Announcement) -> Wish:
        """An agent is about to commit a snapshot: from here on it is known what that will be.

        Raises:
            InvalidError: figures or names that cannot be.
        """
        _check_announcement(said)
        with self._ground.catalog.write() as tx:
            order = self._own(tx, agent, said.order)
            if order is None or order.kind is not OrderKind.BACKUP:
                return Wish.VOID
            wish = _wish_of(tx, order)
            if wish is Wish.RUN:
                tx.agent_orders.change(
                    order.id, snapshot=said.snapshot, announced=asdict(said),
                    touched=self._ground.now(),
                )  # fmt: skip
            return wish

    def key(self, agent: Agent, name: str, address: str) -> str:
        """The master key of the repository that one of its orders is about, in base64.

        Raises:
            RecordNotFoundError: it has no such order, or nobody waits for it any more.
            DeniedError: this server does not hold that key.
        """
        with self._ground.catalog.read() as tx:
            order = self._own(tx, agent, name)
            if order is None or _wish_of(tx, order) is not Wish.RUN:
                raise RecordNotFoundError("there is no such order")
            record = tx.repositories.find(id=order.terms.get("repository_id", 0))
        if record is None or record.custody is not Custody.SERVER:
            raise DeniedError("the key of that repository is not with this server")
        key = self._pools.repository(record).objects.key
        with self._ground.catalog.write() as tx:
            write_record(
                tx, self._ground.now(), _principal(agent, address), Verb.HOST_STORE,
                f"key of repository {record.id}", detail={"order": name},
            )  # fmt: skip
        return base64.b64encode(key.encrypt + key.mac_k + key.mac_r).decode()

    def _own(self, tx: Transaction, agent: Agent, name: str) -> AgentOrder | None:
        """An order as it was given last; None where it is another's, or void."""
        id_, issue = _split(name)
        order = tx.agent_orders.find(id=id_, agent_id=agent.id)
        authorised = tx.agents.get(agent.id).state is AgentState.AUTHORISED
        return order if authorised and order is not None and order.issue == issue else None


def _refuse_crowd(tx: Transaction, address: str) -> None:
    """Nobody fills the catalog with agents that nobody wants."""
    waiting = {"state": AgentState.WAITING}
    here = tx.agents.count(**waiting, address=address)
    if here >= _MOST_WAITING_HERE or tx.agents.count(**waiting) >= _MOST_WAITING:
        raise BusyError(
            "too many agents wait to be authorised already",
            remedy="Authorise or forget some of them; this one comes again.",
        )


def _wish_of(tx: Transaction, order: AgentOrder) -> Wish:
    if order.task_id is None or is_live(tx, order):
        return Wish.RUN
    task = tx.tasks.find(id=order.task_id)
    return Wish.VOID if task is None else _wish(task.state, task.wanted)


def _wish(state: str | None, wanted: str | None) -> Wish:
    if state is None or TaskState(state).ended or wanted == Wanted.KILLED:
        return Wish.VOID
    return Wish.PAUSED if wanted == Wanted.PAUSED else Wish.RUN


def _split(name: str) -> tuple[int, int]:
    id_, dot, issue = name.partition(".")
    sound = dot and all(part.isascii() and part.isdigit() for part in (id_, issue))
    if not sound or len(name) > 30:  # noqa: PLR2004  two numbers
        raise InvalidError(f"{name[:40]!r} names no order")
    return int(id_), int(issue)


def _facts(hello: Hello) -> Mapping[str, Any]:
    modules = [_plain(each, _LONGEST_WORD) for each in hello.modules[:_MOST_MODULES]]
    return {
        "name": hello.name,
        "version": _plain(hello.version, _LONGEST_WORD),
        "os": _plain(hello.os, _LONGEST_WORD),
        "modules": modules,
    }


def _plain(text: str, length: int) -> str:
    """Nothing that a terminal or a database would stumble over."""
    return "".join(
        each if each.isprintable() or each == "\t" else "\N{REPLACEMENT CHARACTER}"
        for each in text[:length]
    )


def _check_size(report: Report) -> None:
    if report.number < 1 or len(report.lines) > _MOST_LINES:
        raise InvalidError("this report cannot be: it has no number, or too many lines")
    for what, size in ((report.outcome, _LARGEST_OUTCOME), (report.progress, _LARGEST_PROGRESS)):
        if len(json.dumps(what)) > size:
            raise InvalidError("this report is too large")


def _check_announcement(said: Announcement) -> None:
    for name in (said.snapshot, said.tree):
        if len(name) != 64 or not set(name) <= set("0123456789abcdef"):  # noqa: PLR2004  SHA-256
            raise InvalidError("an announcement names a snapshot and its tree by their digests")
    if min(said.files, said.bytes, said.problems, said.stored) < 0 or said.bytes >= 1 << 62:
        raise InvalidError("an announcement has sizes that cannot be")


def _principal(agent: Agent, address: str) -> Principal:
    hosts = frozenset({agent.host_id or 0})
    return Principal(
        f"agent:{agent.name}", HOST_RIGHTS, scope=Scope(hosts=hosts), address=address,
        host_id=agent.host_id, narrowed=True,
    )  # fmt: skip
