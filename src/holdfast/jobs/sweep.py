"""Plans that are due become tasks. Only the leader sweeps; should two do so, each run still comes
about once: its task and the plan's next moment are one transaction.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING

from holdfast.catalog import tables
from holdfast.catalog.journal import note_task
from holdfast.core.errors import HoldfastError
from holdfast.core.records import Task
from holdfast.jobs import outcomes
from holdfast.jobs.due import next_due
from holdfast.jobs.wishes import check_priority

if TYPE_CHECKING:
    from holdfast.catalog.database import Transaction
    from holdfast.core.records import Plan
    from holdfast.jobs.body import MakeTask
    from holdfast.jobs.queue import Queue

_ROW = tables.plan.c
_BATCH = 200

_logger = logging.getLogger(__name__)


def sweep(queue: Queue, make_task: MakeTask) -> int:
    """Submits a task for every plan that is due; how many. Runs that were missed meanwhile come
    down to one.
    """
    count = 0
    while True:
        with queue.catalog.write() as tx:
            now = tx.now()
            due = (_ROW.enabled, _ROW.next_at <= now)
            plans = tx.plans.all(*due, order=(_ROW.next_at, _ROW.id), limit=_BATCH)
            tasks = [task for plan in plans if (task := _run(tx, plan, now, make_task))]
            queue.submit_all(tx, tasks)
        count += len(tasks)
        if len(plans) < _BATCH:
            return count


def first_due(tx: Transaction) -> int | None:
    """When the next plan is due."""
    timed = (_ROW.enabled, _ROW.next_at.is_not(None))
    plans = tx.plans.all(*timed, order=(_ROW.next_at,), limit=1)
    return plans[0].next_at if plans else None


def _run(tx: Transaction, plan: Plan, now: int, make_task: MakeTask) -> Task | None:
    """Moves the plan on; its task, where no other sweep has moved it and nobody has edited it."""
    moment = plan.next_at
    assert moment is not None
    try:
        following = next_due(plan, now)
        made = _made(tx, plan, moment, make_task) if _move(tx, plan, following) else None
    except HoldfastError as error:
        _logger.warning("plan %r was due and could not run: %s", plan.name, error.message)
        _note_failure(tx, plan, moment, now, error)
        return None
    except Exception as error:  # one plan must not hold up the others
        _logger.exception("plan %r was due and could not run", plan.name)
        _note_failure(tx, plan, moment, now, error)
        return None
    return made and replace(made, plan_id=plan.id, due=moment)


def _made(tx: Transaction, plan: Plan, moment: int, make_task: MakeTask) -> Task | None:
    with tx.connection.begin_nested():  # what it has written is undone where it raises
        made = make_task(tx, plan, moment)
        if made is not None:
            check_priority(made.priority)
        return made


def _move(tx: Transaction, plan: Plan, following: int | None) -> bool:
    same = (_ROW.id == plan.id, _ROW.next_at == plan.next_at, _ROW.rev == plan.rev)
    return tx.plans.change_where(*same, next_at=following, last_at=plan.next_at) == 1


def _note_failure(tx: Transaction, plan: Plan, moment: int, now: int, error: Exception) -> None:
    """Moves the plan on, and leaves a task that failed before it was one, so that people see it
    where they look.
    """
    _move(tx, plan, _following(plan, now))
    state, outcome = outcomes.of_error(error)
    failed = tx.tasks.add(
        Task(
            kind=plan.kind,
            state=state,
            priority=plan.priority,
            pool_id=plan.pool_id,
            target_id=plan.target_id,
            plan_id=plan.id,
            outcome=outcome,
            created=now,
            due=moment,
            ended=now,
        )
    )
    note_task(tx, failed, now)


def _following(plan: Plan, now: int) -> int | None:
    """None where that cannot be: such a plan stands still until somebody edits it."""
    try:
        return next_due(plan, now)
    except HoldfastError:
        return None
