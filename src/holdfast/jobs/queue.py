"""The client's half: submits tasks and says what is wanted of them. It runs nothing.

A task is a row of the catalog; the durable engine behind it keeps a workflow for it. The row is
the truth: should a process die between the two, a worker gives the row its workflow.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from holdfast.catalog.database import Catalog, Transaction
    from holdfast.core.records import Task


class Queue:
    """The tasks of a catalog; safe for threads. Closing it leaves the catalog open."""

    def __init__(self, catalog: Catalog) -> None:
        self.catalog = catalog

    # --- within a transaction of the caller -------------------------------------------------------

    def submit(self, tx: Transaction, task: Task) -> Task:
        """Puts a new task in the queue; the same value with its `id`.

        It starts once `tx` is committed, and never where it is undone.

        Raises:
            InvalidError: the priority is not 1 or more.
        """
        raise NotImplementedError

    def submit_all(self, tx: Transaction, tasks: Iterable[Task]) -> list[Task]:
        """The same for many at once, which costs less than one after another."""
        raise NotImplementedError

    # --- each a transaction of its own ------------------------------------------------------------

    def pause(self, task_id: int) -> Task:
        """Stops the task so that it can go on later. A running body is asked, then killed.

        Raises:
            RecordNotFoundError
            StateError: it has ended.
        """
        raise NotImplementedError

    def cont(self, task_id: int) -> Task:
        """Lets a paused task go on, as soon as its earlier body has stopped.

        Raises:
            RecordNotFoundError
            StateError: it is not paused.
        """
        raise NotImplementedError

    def kill(self, task_id: int) -> Task:
        """Ends the task as cancelled. A running body is asked, then killed with all its children.

        Raises:
            RecordNotFoundError
            StateError: it has ended.
        """
        raise NotImplementedError

    def restart(self, task_id: int) -> Task:
        """Puts a task that has ended into the queue again, as if it were new.

        Raises:
            RecordNotFoundError
            StateError: it has not ended.
        """
        raise NotImplementedError

    def set_priority(self, task_id: int, priority: int) -> Task:
        """1 is first. A running task keeps running.

        Raises:
            RecordNotFoundError
            InvalidError: the priority is not 1 or more.
            StateError: it has ended.
        """
        raise NotImplementedError

    # --- looking ----------------------------------------------------------------------------------

    def wait(self, task_id: int, timeout: float) -> Task:
        """The task once it has ended or is paused, as it is after `timeout` seconds otherwise."""
        raise NotImplementedError

    # --- limits -----------------------------------------------------------------------------------

    def slots(self) -> int:
        """How many tasks each worker runs at once."""
        raise NotImplementedError

    def set_slots(self, slots: int) -> None:
        """Holds for what starts from now on; 0 starts nothing any more. Running tasks go on."""
        raise NotImplementedError

    def close(self) -> None:
        raise NotImplementedError
