"""Rows and promises: whatever waits in the catalog and may run gets a workflow.

Whoever puts a row into the queue promises it a start at once; where that did not come to pass, the
leader does so here. A task whose pool is full lets its promise go, and gets a new one here when its
turn has come: so it blocks no slot, and those of other pools overtake it. The same goes for one
whose agent is offline.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING

from holdfast.catalog import tables
from holdfast.core.errors import CatalogError
from holdfast.core.records import Task, TaskState
from holdfast.jobs import claims, nodes
from holdfast.jobs.durable import FAILURES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from holdfast.catalog.database import Catalog, Transaction
    from holdfast.jobs.durable import Workflows

_ROW = tables.task.c
_PAGE = 500
_FRESH = 2 * 1_000_000_000
"""Nanoseconds in which whoever submitted a task has surely promised it a start."""

_logger = logging.getLogger(__name__)


class Feeder:
    """Promises starts to tasks; safe for threads, but for `feed`."""

    def __init__(self, catalog: Catalog, workflows: Workflows) -> None:
        self._catalog = catalog
        self._workflows = workflows
        self._seen = 0

    def promise_after(self, tx: Transaction, tasks: Sequence[Task]) -> None:
        """Promises each task's generation a start once the transaction is durable."""
        tx.after_commit(lambda: self.attempt(self._workflows.enqueue, tasks))

    def withdraw_after(self, tx: Transaction, tasks: Sequence[Task]) -> None:
        """Takes back what was promised to each task's generation once that is durable."""
        tx.after_commit(lambda: self.attempt(self._workflows.cancel, tasks))

    @staticmethod
    def attempt(act: Callable[[Iterable[Task]], None], tasks: Sequence[Task]) -> None:
        """The rows are durable, and say it all: what fails here is done by a worker later."""
        try:
            act(tasks)
        except FAILURES as error:
            _logger.warning("%d tasks have to wait for a second: %s", len(tasks), error)

    # --- what was not promised --------------------------------------------------------------------

    def feed(self) -> None:
        """One pass of the leader: the next page of what waits, and the first of each full pool."""
        with self._catalog.read() as tx:
            fresh = tx.now() - _FRESH
            free = {pool: claims.room(tx, pool) for pool in claims.waiting_pools(tx)}
            limited = [pool for pool, room in free.items() if room is not None]
            unlimited = _ROW.pool_id.is_(None) | _ROW.pool_id.not_in(limited)
            waiting = (_ROW.state == TaskState.QUEUED, _ROW.created < fresh, _ROW.id > self._seen)
            ready = ~claims.held_up(tx.now())
            page = list(tx.tasks.all(*waiting, unlimited, ready, limit=_PAGE))
            self._seen = page[-1].id if len(page) == _PAGE else 0
        for pool in limited:
            page += self._first_of(pool)
        self._make_up(page)

    def feed_pool(self, pool_id: int | None) -> None:
        """A task of the pool has ended: the next may begin. Raises nothing: should it fail, the
        leader's next pass does it.
        """
        if pool_id is None:
            return
        try:
            self._make_up(self._first_of(pool_id))
        except (CatalogError, *FAILURES) as error:
            _logger.warning("the next task of pool %d has to wait: %s", pool_id, error)

    def _first_of(self, pool_id: int) -> list[Task]:
        with self._catalog.read() as tx:
            room = claims.room(tx, pool_id)
            return claims.first_waiting(tx, pool_id, room) if room else []

    def _make_up(self, tasks: Sequence[Task]) -> None:
        promised = self._kept_promises(tasks)
        missing = [task for task in tasks if (task.id, task.generation) not in promised]
        if not missing:
            return
        with self._catalog.write() as tx:
            renewed = [task for task in map(renew, [tx] * len(missing), missing) if task]
            self.promise_after(tx, renewed)

    def _kept_promises(self, tasks: Sequence[Task]) -> set[tuple[int, int]]:
        """What is promised and will come true; what a dead node had taken is put back."""
        promises = self._workflows.promised(tasks)
        with self._catalog.read() as tx:
            alive = set(nodes.incarnations(tx))
        for promise in promises:
            if promise.running and promise.executor not in alive:
                self._workflows.requeue(promise)
        return {(promise.task_id, promise.generation) for promise in promises}


def renew(tx: Transaction, task: Task) -> Task | None:
    """The task with a new generation, where it still waits with the one it had."""
    generation = task.generation + 1
    same = (_ROW.id == task.id, _ROW.generation == task.generation)
    waits = _ROW.state == TaskState.QUEUED
    if tx.tasks.change_where(*same, waits, generation=generation):
        return replace(task, generation=generation)
    return None
