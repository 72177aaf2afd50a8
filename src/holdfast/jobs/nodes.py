"""Nodes: worker processes that prove every second that they live. Each start is a node of its own,
`name#number`, so that what an earlier one left is always found in the same way. Only the clock of
the database counts. Each function is called within a write transaction.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import and_, or_

from holdfast.catalog import tables
from holdfast.core.errors import StateError
from holdfast.core.records import Node

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement

    from holdfast.catalog.database import Transaction
    from holdfast.core.records import Json

LIVE, REAPING, DEAD = "live", "reaping", "dead"
_REAP_FOR = 30 * 1_000_000_000
"""How long a node may take to take over a dead one's tasks, before another tries; nanoseconds."""
_ROW = tables.node.c


class OtherMachineError(StateError):
    code = "node-elsewhere"
    remedy = "Nothing was started. Give each worker a name of its own with --name."


def join(tx: Transaction, name: str, *, place: str, lease: int, facts: Json) -> Node:
    """A new node. `place` tells the lock that this process holds: an earlier start of the name
    that held the same lock is dead, however lately it gave a sign, and is taken over at once.
    `lease` in nanoseconds.

    Raises:
        OtherMachineError: a node of that name lives somewhere else.
    """
    now = tx.now()
    order = (_ROW.number.desc(),)
    earlier = tx.nodes.all(name=name, order=order)
    for node in earlier:
        if node.state != LIVE or node.beat < now - lease:
            continue
        if node.facts.get("place") != place:
            raise OtherMachineError(f"a worker named {name!r} lives on another machine")
        tx.nodes.change(node.id, beat=0)
    number = earlier[0].number + 1 if earlier else 1
    return tx.nodes.add(
        Node(name=name, number=number, beat=now, started=now, facts={**facts, "place": place})
    )


def beat(tx: Transaction, node: Node) -> bool:
    """A sign of life; False where others have given this node up, and do its work."""
    live = (_ROW.id == node.id, _ROW.state == LIVE)
    return tx.nodes.change_where(*live, beat=tx.now()) == 1


def claim_dead(tx: Transaction, mine: Node, *, lease: int) -> Node | None:
    """A node that died, for `mine` and nobody else to take over; None where there is none."""
    now = tx.now()
    given_up = or_(
        and_(_ROW.state == LIVE, _ROW.beat < now - lease),
        and_(_ROW.state == REAPING, _ROW.reap_until < now),
    )
    for node in tx.nodes.all(given_up, _ROW.id != mine.id, limit=20):
        values = {"state": REAPING, "reaper": mine.incarnation, "reap_until": now + _REAP_FOR}
        if tx.nodes.change_where(_ROW.id == node.id, given_up, **values):
            return node
    return None


def bury(tx: Transaction, node: Node) -> None:
    """Nothing of what it held is left with it."""
    tx.nodes.change(node.id, state=DEAD)


def incarnations(tx: Transaction) -> list[str]:
    """The nodes that live, or are not taken over yet."""
    return [node.incarnation for node in tx.nodes.all(_ROW.state != DEAD)]


def forget(tx: Transaction, before: int) -> int:
    """Deletes dead nodes that gave their last sign before that moment, but for the newest of each
    name, whose number goes on; how many.
    """
    newest = {node.name: node.id for node in tx.nodes.all()}
    return tx.nodes.remove(_old(before), _ROW.id.not_in(newest.values()))


def _old(before: int) -> ColumnElement[bool]:
    return and_(_ROW.state == DEAD, _ROW.started < before)
