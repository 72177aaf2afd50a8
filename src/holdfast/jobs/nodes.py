"""Nodes: worker processes that prove every second that they live. Each start is a node of its own,
`name#number`, so that what an earlier one left is always found in the same way.

No two clocks are compared: a node is dead once another has seen the same beat for as long as the
lease, by its own monotonic clock. Clocks that are set harm nobody.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from sqlalchemy import and_

from holdfast.catalog import tables
from holdfast.core.errors import StateError
from holdfast.core.records import Node

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement

    from holdfast.catalog.database import Transaction
    from holdfast.core.records import Json

LIVE, REAPING, DEAD = "live", "reaping", "dead"
_REAP_FOR = 30.0
"""Seconds that a node may take to take over a dead one's tasks, before another tries."""
_ROW = tables.node.c


def join(tx: Transaction, name: str, *, place: str, facts: Json) -> Node:
    """A new node. `place` tells the lock that this process holds: an earlier start of the name
    that held the same lock is dead, however lately it gave a sign, and is taken over at once.

    Raises:
        StateError: a node of that name lives somewhere else, or died there unnoticed.
    """
    now = tx.now()
    earlier = tx.nodes.all(name=name, order=(_ROW.number.desc(),))
    for node in earlier:
        if node.state == LIVE:
            if node.facts.get("place") != place:
                raise StateError(
                    f"a worker named {name!r} lives on another machine",
                    remedy="Nothing was started. Give each worker a name of its own.",
                )
            tx.nodes.change(node.id, beat=0)
    number = earlier[0].number + 1 if earlier else 1
    return tx.nodes.add(
        Node(name=name, number=number, beat=now, started=now, facts={**facts, "place": place})
    )


def beat(tx: Transaction, node: Node) -> bool:
    """A sign of life; False where others have given this node up, and do its work."""
    live = (_ROW.id == node.id, _ROW.state == LIVE)
    return tx.nodes.change_where(*live, beat=tx.now()) == 1


class Watch:
    """What one process has seen of the others; `lease` in seconds."""

    def __init__(self, lease: float) -> None:
        self._lease = lease
        self._seen: dict[int, tuple[tuple[object, ...], float]] = {}

    def silent(self, tx: Transaction) -> list[Node]:
        """Nodes that gave no sign for a lease, as far as was seen, and so are to be claimed."""
        now = time.monotonic()
        nodes = tx.nodes.all(_ROW.state != DEAD)
        living = {node.incarnation for node in nodes if node.state == LIVE}
        seen = {}
        for node in nodes:
            sign = (node.state, node.beat, node.reaper)
            before = self._seen.get(node.id)
            seen[node.id] = before if before and before[0] == sign else (sign, now)
        self._seen = seen
        return [node for node in nodes if now - seen[node.id][1] >= self._patience(node, living)]

    def _patience(self, node: Node, living: set[str]) -> float:
        if node.state == REAPING:
            return _REAP_FOR if node.reaper in living else 0.0
        return self._lease if node.beat else 0.0


def claim(tx: Transaction, silent: Node, reaper: str) -> bool:
    """Whether the node is `reaper`'s to take over, and nobody else's: it is as it was seen."""
    same = (_ROW.state == silent.state, _ROW.beat == silent.beat, _ROW.reaper == silent.reaper)
    # One more beat for each reaper: the sign changes even where the same one tries again.
    values = {"state": REAPING, "reaper": reaper, "beat": silent.beat + 1}
    return tx.nodes.change_where(_ROW.id == silent.id, *same, **values) == 1


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
