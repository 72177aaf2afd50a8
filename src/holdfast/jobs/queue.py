"""The client's half: submits tasks and says what is wanted of them. It runs nothing.

A task is a row of the catalog; the durable engine behind it keeps a workflow for it. The row is
the truth: should a process die between the two, a worker gives the row its workflow.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

from holdfast.catalog.journal import note_task
from holdfast.core.records import Task, TaskState, Wanted
from holdfast.jobs import wishes
from holdfast.jobs.durable import Workflows, beside
from holdfast.jobs.feeding import Feeder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from holdfast.catalog.database import Catalog, Transaction

_FIRST_LOOK, _LAST_LOOK = 0.02, 0.5
"""Seconds between two looks of `wait`, at first and in the end."""


class Queue:
    """The tasks of a catalog; safe for threads. Closing it leaves the catalog open.

    `workflows` and `feeder` are for workers.
    """

    def __init__(self, catalog: Catalog) -> None:
        self.catalog = catalog
        self.workflows = Workflows(beside(catalog.url))
        self.feeder = Feeder(catalog, self.workflows)

    # --- within a transaction of the caller -------------------------------------------------------

    def submit(self, tx: Transaction, task: Task) -> Task:
        """Puts a new task in the queue; the same value with its `id`.

        It starts once `tx` is committed, and never where it is undone.

        Raises:
            InvalidError: the priority is not 1 or more.
        """
        return self.submit_all(tx, [task])[0]

    def submit_all(self, tx: Transaction, tasks: Iterable[Task]) -> list[Task]:
        """The same for many at once, which costs less than one after another."""
        added = []
        for task in tasks:
            wishes.check_priority(task.priority)
            added.append(tx.tasks.add(_new(task)))
            note_task(tx, added[-1], task.created)
        self.feeder.promise_after(tx, added)
        return added

    # --- each a transaction of its own ------------------------------------------------------------

    def pause(self, task_id: int) -> Task:
        """Stops the task so that it can go on later. A running body is asked, then killed.

        Raises:
            RecordNotFoundError
            StateError: it has ended.
        """
        return self._stop(task_id, wishes.pause)

    def cont(self, task_id: int) -> Task:
        """Lets a paused task go on, as soon as its earlier body has stopped.

        Raises:
            RecordNotFoundError
            StateError: it is not paused.
        """
        return self._start(task_id, wishes.cont)

    def kill(self, task_id: int) -> Task:
        """Ends the task as cancelled. A running body is asked, then killed with all its children.

        Raises:
            RecordNotFoundError
            StateError: it has ended.
        """
        return self._stop(task_id, wishes.kill)

    def restart(self, task_id: int) -> Task:
        """Puts a task that has ended into the queue again, as if it were new.

        Raises:
            RecordNotFoundError
            StateError: it has not ended.
        """
        return self._start(task_id, wishes.restart)

    def set_priority(self, task_id: int, priority: int) -> Task:
        """1 is first. A running task keeps running.

        Raises:
            RecordNotFoundError
            InvalidError: the priority is not 1 or more.
            StateError: it has ended.
        """

        def wish(tx: Transaction, task_id: int) -> Task:
            return wishes.set_priority(tx, task_id, priority)

        return self._start(task_id, wish)

    def _stop(self, task_id: int, wish: Callable[[Transaction, int], Task]) -> Task:
        with self.catalog.write() as tx:
            task = wish(tx, task_id)
            self.feeder.withdraw_after(tx, [task])
        return task

    def _start(self, task_id: int, wish: Callable[[Transaction, int], Task]) -> Task:
        with self.catalog.write() as tx:
            task = wish(tx, task_id)
            if task.state in {TaskState.QUEUED, TaskState.RUNNING}:
                self.feeder.promise_after(tx, [task])
        return task

    # --- looking ----------------------------------------------------------------------------------

    def wait(self, task_id: int, timeout: float) -> Task:
        """The task once it has ended or is paused, as it is after `timeout` seconds otherwise.

        Raises:
            RecordNotFoundError
        """
        until = time.monotonic() + timeout
        pause = _FIRST_LOOK
        while True:
            with self.catalog.read() as tx:
                task = tx.tasks.get(task_id)
            left = until - time.monotonic()
            if task.state.ended or task.state is TaskState.PAUSED or left <= 0:
                return task
            time.sleep(min(pause, left))
            pause = min(pause * 1.5, _LAST_LOOK)

    # --- limits -----------------------------------------------------------------------------------

    def slots(self) -> int:
        """How many tasks each worker runs at once. What a pool may run at once is `task_limit`
        among the pool's options.
        """
        return self.workflows.slots()

    def set_slots(self, slots: int) -> None:
        """Holds for what starts from now on; 0 starts nothing any more. Running tasks go on."""
        self.workflows.set_slots(slots)

    def close(self) -> None:
        self.workflows.close()


def _new(task: Task) -> Task:
    return replace(
        task,
        id=0,
        state=TaskState.QUEUED,
        wanted=Wanted.RUN,
        started=None,
        ended=None,
        attempt=0,
        generation=1,
        token=0,
        holder="",
        committed=False,
    )
