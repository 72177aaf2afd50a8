"""The transitions of a task's row, each within a write transaction of the caller.

Whoever begins a task takes a token; the row remembers the newest. Everything that a body writes
carries its token, so that a body which was thought dead and wakes up changes nothing.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import TYPE_CHECKING, Any

from sqlalchemy import and_, or_, select

from holdfast.catalog import tables
from holdfast.catalog.journal import note_task
from holdfast.catalog.stages import away
from holdfast.core.errors import DeposedError, RecordNotFoundError, WorkerDiedError
from holdfast.core.records import REMOTE, Json, Task, TaskState, Wanted
from holdfast.jobs.outcomes import told

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement

    from holdfast.catalog.database import Transaction

_ROW = tables.task.c
_POOL = tables.pool.c


def locked(tx: Transaction, task_id: int) -> Task:
    """The task as it is, and stays for others until this transaction ends.

    Raises:
        RecordNotFoundError
    """
    row = tx.connection.execute(
        select(tables.task).where(_ROW.id == task_id).with_for_update()
    ).first()
    if row is None:
        raise RecordNotFoundError(f"there is no task {task_id}")
    return tx.tasks.of(row)


def set_task(tx: Transaction, task: Task, **values: Any) -> Task:
    """Changes a task that is `locked`; as it is now. Its states are in the journal."""
    tx.tasks.change(task.id, **values)
    changed = tx.tasks.get(task.id)
    if changed.state is not task.state:
        note_task(tx, changed, tx.now())
    return changed


# --- beginning ------------------------------------------------------------------------------------


class Cannot(Enum):
    """Why a task does not begin."""

    GONE = auto()
    """it has ended, is paused, or a newer generation is promised"""
    WAIT = auto()
    """an earlier body of it still runs"""
    FULL = auto()
    """its pool has as many running tasks as it may"""
    AWAY = auto()
    """its agent is offline, or is at work on the same series of backups"""


def begin(
    tx: Transaction, task_id: int, generation: int, *, holder: str, attempts: int
) -> Task | Cannot:
    """The task, now run by `holder` under a new token; or why not.

    A task that was running `attempts` times when its node died ends as failed here.
    """
    try:
        task = locked(tx, task_id)
    except RecordNotFoundError:
        return Cannot.GONE
    if task.generation != generation or task.state.ended or task.state is TaskState.PAUSED:
        return Cannot.GONE
    if task.holder:
        return Cannot.WAIT
    if task.attempt >= attempts:
        set_task(tx, task, **_ended(tx, TaskState.FAILED, _too_many(task)))
        return Cannot.GONE
    if task.remote and tx.tasks.count(_ROW.id == task.id, held_up(tx.now())):
        return Cannot.AWAY
    if not _has_room(tx, task):
        return Cannot.FULL
    return set_task(
        tx,
        task,
        state=TaskState.RUNNING,
        holder=holder,
        token=task.token + 1,
        attempt=task.attempt + 1,
        started=tx.now(),
    )


def _too_many(task: Task) -> Json:
    return told(
        WorkerDiedError(
            f"the worker died {task.attempt} times while this task was running",
            remedy="Nothing is damaged. Look at the task's log and the system's, then restart it.",
        )
    )


def held_up(now: int) -> ColumnElement[bool]:
    """Of tasks: they cannot begin yet for a reason that lies with their agent."""
    other = tables.task.alias("other").c
    at_work = select(other.id).where(
        other.kind == _ROW.kind,
        other.host_id == _ROW.host_id,
        other.target_id == _ROW.target_id,
        other.holder > "",
        other.id != _ROW.id,
    )
    remote = _ROW.kind.startswith(REMOTE, autoescape=True)
    return or_(away(now), and_(remote, at_work.exists()))


def _has_room(tx: Transaction, task: Task) -> bool:
    """Whether the task's pool may run one more, and those before it in the queue still can."""
    free = room(tx, task.pool_id)
    if free is None:
        return True
    before = or_(
        _ROW.priority < task.priority, and_(_ROW.priority == task.priority, _ROW.id < task.id)
    )
    return free > tx.tasks.count(_waits_for(task.pool_id), before, ~held_up(tx.now()))


def room(tx: Transaction, pool_id: int | None) -> int | None:
    """How many more tasks the pool may run; None where it has no limit. No other transaction
    begins a task of the pool until this one ends.
    """
    if pool_id is None:
        return None
    # Not FOR UPDATE: rows that refer to the pool may be written meanwhile.
    pool = select(_POOL.options).where(_POOL.id == pool_id).with_for_update(key_share=True)
    limit = (tx.connection.scalar(pool) or {}).get("task_limit")
    if limit is None:
        return None
    running = tx.tasks.count(_ROW.pool_id == pool_id, _ROW.holder > "")
    return max(0, int(limit) - running)


def first_waiting(tx: Transaction, pool_id: int, count: int) -> list[Task]:
    """The tasks of a pool that are next."""
    order = (_ROW.priority, _ROW.id)
    ready = ~held_up(tx.now())
    return list(tx.tasks.all(_waits_for(pool_id), ready, order=order, limit=count))


def _waits_for(pool_id: int | None) -> ColumnElement[bool]:
    return and_(_ROW.pool_id == pool_id, _ROW.state == TaskState.QUEUED, _ROW.holder == "")


# --- running --------------------------------------------------------------------------------------


def fence(tx: Transaction, task_id: int, token: int) -> Task:
    """The task, which nobody takes over until this transaction ends.

    Raises:
        DeposedError: somebody has, or has deleted it.
    """
    try:
        task = locked(tx, task_id)
    except RecordNotFoundError as error:
        raise DeposedError(error.message) from error
    if task.token != token or not task.holder:
        raise DeposedError(f"another worker has taken over task {task_id}")
    return task


def commit(tx: Transaction, task_id: int, token: int, state: TaskState, outcome: Json) -> None:
    """Ends the task together with what its body changed in the same transaction. The holder stays
    until its process is gone.

    Raises:
        DeposedError
    """
    task = fence(tx, task_id, token)
    if task.state.ended:
        raise DeposedError(f"task {task_id} has ended already")
    set_task(tx, task, committed=True, **_ended(tx, state, outcome, keep_holder=True))


# --- ending ---------------------------------------------------------------------------------------


def finish(tx: Transaction, task_id: int, token: int, state: TaskState, outcome: Json) -> Task:
    """Nothing of the body is left, and this is how it ended, where it has not committed before.

    Raises:
        DeposedError
    """
    task = fence(tx, task_id, token)
    if task.state.ended:
        return set_task(tx, task, holder="")
    return set_task(tx, task, **_ended(tx, state, outcome))


def stop(
    tx: Transaction, task_id: int, token: int, *, generation: int, in_order: bool = True
) -> Task:
    """Nothing of the body of that generation is left, and it did not come to an end: the task is
    now as is wanted. Where that is to run, it has a newer generation, which the caller promises it.
    Where it stopped `in_order`, the attempt does not count.

    Raises:
        DeposedError
    """
    task = fence(tx, task_id, token)
    if task.generation == generation and task.wanted is Wanted.RUN:
        task = set_task(tx, task, generation=generation + 1)
    return _let_go(tx, task, attempt=max(0, task.attempt - in_order))


def depose(tx: Transaction, task_id: int, holder: str) -> Task:
    """Takes the task from a holder that is dead: should that wake up, its token is void. Its
    generation stays, and so does what is promised for it.
    """
    task = locked(tx, task_id)
    if task.holder != holder:
        return task
    task = set_task(tx, task, token=task.token + 1)
    return _let_go(tx, task, attempt=task.attempt)


def _let_go(tx: Transaction, task: Task, *, attempt: int) -> Task:
    if task.state.ended:
        return set_task(tx, task, holder="")
    if task.wanted is Wanted.KILLED:
        return set_task(tx, task, **_ended(tx, TaskState.CANCELLED, {}))
    state = TaskState.PAUSED if task.wanted is Wanted.PAUSED else TaskState.QUEUED
    return set_task(tx, task, state=state, holder="", attempt=attempt)


def _ended(
    tx: Transaction, state: TaskState, outcome: Json, *, keep_holder: bool = False
) -> dict[str, Any]:
    values: dict[str, Any] = {"state": state, "outcome": outcome, "ended": tx.now()}
    return values if keep_holder else values | {"holder": ""}


# --- looking --------------------------------------------------------------------------------------


def held_by(tx: Transaction, holder: str) -> list[Task]:
    return list(tx.tasks.all(holder=holder))


def all_held(tx: Transaction) -> list[Task]:
    return list(tx.tasks.all(_ROW.holder > ""))


def waiting_pools(tx: Transaction) -> list[int]:
    """Pools for which tasks wait."""
    query = select(_ROW.pool_id).where(_ROW.state == TaskState.QUEUED, _ROW.pool_id.is_not(None))
    return list(tx.connection.scalars(query.distinct()))
