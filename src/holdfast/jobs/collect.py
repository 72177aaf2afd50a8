"""What nobody needs any more goes: ended workflows, old log lines, dead nodes. Tasks stay."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import select

from holdfast.catalog import tables
from holdfast.jobs import nodes

if TYPE_CHECKING:
    from holdfast.catalog.database import Catalog
    from holdfast.jobs.durable import Workflows

_BATCH = 5000
_TASK, _LINE = tables.task.c, tables.task_line.c


@dataclass(frozen=True, slots=True)
class Collected:
    workflows: int
    lines: int
    nodes: int


def collect(
    catalog: Catalog, workflows: Workflows, *, keep_ended: float, keep_log: float
) -> Collected:
    """Deletes what ended longer ago than so many seconds. A task that is paused or waits loses
    nothing: a promise that it still needs is a new one.
    """
    with catalog.write() as tx:
        now = tx.now()
        ended_before, log_before = (now - round(keep * 1e9) for keep in (keep_ended, keep_log))
        forgotten = nodes.forget(tx, ended_before)
    return Collected(workflows.forget(ended_before), _lines(catalog, log_before), forgotten)


def _lines(catalog: Catalog, before: int) -> int:
    """A batch for each transaction: others write, too."""
    old = select(_TASK.id).where(_TASK.ended < before)
    batch = select(_LINE.id).where(_LINE.task_id.in_(old)).limit(_BATCH)
    count = 0
    while True:
        with catalog.write() as tx:
            deleted = tx.task_lines.remove(_LINE.id.in_(batch.scalar_subquery()))
        count += deleted
        if deleted < _BATCH:
            return count
