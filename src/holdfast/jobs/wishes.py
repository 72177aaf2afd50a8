"""What people want of a task, as changes of its row within a write transaction. Whoever runs it
sees the wish; what is promised for the older generation comes to nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from holdfast.core.errors import InvalidError, StateError
from holdfast.core.records import Task, TaskState, Wanted
from holdfast.jobs.claims import locked, set_task

if TYPE_CHECKING:
    from holdfast.catalog.database import Transaction

_LOWEST = 2**31 - 1


def check_priority(priority: int) -> None:
    """Raises InvalidError."""
    if not 1 <= priority <= _LOWEST:
        text = f"a priority is a number from 1 (first) to {_LOWEST}, not {priority}"
        raise InvalidError(text, fields={"priority": ("bad-priority", text)})


def pause(tx: Transaction, task_id: int) -> Task:
    task = _unended(tx, task_id)
    if task.state is TaskState.RUNNING:
        return set_task(tx, task, wanted=Wanted.PAUSED)
    return set_task(tx, task, wanted=Wanted.PAUSED, state=TaskState.PAUSED)


def cont(tx: Transaction, task_id: int) -> Task:
    task = locked(tx, task_id)
    if task.wanted is not Wanted.PAUSED or task.state.ended:
        raise StateError(f"task {task_id} is not paused, but {_how(task)}")
    # One that is still stopping goes back into the queue when it has stopped.
    state = TaskState.QUEUED if task.state is TaskState.PAUSED else task.state
    return set_task(
        tx, task, wanted=Wanted.RUN, state=state, generation=task.generation + 1, attempt=0
    )


def kill(tx: Transaction, task_id: int) -> Task:
    task = _unended(tx, task_id)
    if task.state is TaskState.RUNNING:
        return set_task(tx, task, wanted=Wanted.KILLED)
    return set_task(
        tx, task, wanted=Wanted.KILLED, state=TaskState.CANCELLED, ended=tx.now(), outcome={}
    )


def restart(tx: Transaction, task_id: int) -> Task:
    task = locked(tx, task_id)
    if not task.state.ended:
        raise StateError(f"task {task_id} has not ended: it is {_how(task)}")
    return set_task(
        tx,
        task,
        state=TaskState.QUEUED,
        wanted=Wanted.RUN,
        generation=task.generation + 1,
        attempt=0,
        started=None,
        ended=None,
        committed=False,
        progress={},
        outcome={},
    )


def set_priority(tx: Transaction, task_id: int, priority: int) -> Task:
    check_priority(priority)
    task = _unended(tx, task_id)
    if task.state is TaskState.QUEUED:
        # The engine behind knows no change of a priority: it is promised anew.
        return set_task(tx, task, priority=priority, generation=task.generation + 1)
    return set_task(tx, task, priority=priority)


def _unended(tx: Transaction, task_id: int) -> Task:
    task = locked(tx, task_id)
    if task.state.ended or task.wanted is Wanted.KILLED:
        raise StateError(f"task {task_id} has ended: it is {_how(task)}")
    return task


def _how(task: Task) -> str:
    if task.state is TaskState.RUNNING and task.wanted is not Wanted.RUN:
        return f"being {task.wanted}"
    return str(task.state)
