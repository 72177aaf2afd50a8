"""Plans become tasks."""

from __future__ import annotations

import threading

import pytest
from tests.jobs import bodies

from holdfast.core.records import TaskState
from holdfast.jobs.sweep import first_due, sweep

_NS = 1_000_000_000
_HOUR = 3600 * _NS


def _now(home):
    with home.catalog.read() as tx:
        return tx.now()


def _plan(home, plan):
    with home.catalog.read() as tx:
        return tx.plans.get(plan.id)


def _tasks(home, plan):
    with home.catalog.read() as tx:
        return tx.tasks.all(plan_id=plan.id)


def _sweep(home):
    return sweep(home.queue, bodies._make_task)


def test_due_plan_becomes_a_task_with_a_promise(home):
    """Which names the plan and the moment; the plan moves on."""
    now = _now(home)
    plan = home.plan(every=3600, created=now - 5 * _HOUR - _NS, next_at=now - _NS, priority=7)
    later = home.plan(every=3600, created=now, next_at=now + _HOUR)
    assert _sweep(home) == 1
    [task] = _tasks(home, plan)
    assert (task.due, task.priority, task.kind) == (plan.next_at, 7, "note")
    assert len(home.workflows.promised([task])) == 1
    moved = _plan(home, plan)
    assert moved.last_at == plan.next_at
    assert moved.next_at == plan.created + 6 * _HOUR
    assert _tasks(home, later) == []
    assert _sweep(home) == 0
    with home.catalog.read() as tx:
        assert first_due(tx) == min(moved.next_at, later.next_at)


def test_missed_runs_come_down_to_one(home):
    """F19 However long nobody swept; the one says for when it was."""
    now = _now(home)
    plan = home.plan(every=60, created=now - 100 * _HOUR, next_at=now - 50 * _HOUR)
    assert _sweep(home) == 1
    assert [task.due for task in _tasks(home, plan)] == [plan.next_at]
    assert now < _plan(home, plan).next_at <= now + 120 * _NS
    assert _sweep(home) == 0


def test_disabled_plans_and_plans_without_times_rest(home):
    """Whatever moment they have left."""
    now = _now(home)
    home.plan(every=60, next_at=now - _HOUR, enabled=False)
    home.plan(next_at=None)
    assert _sweep(home) == 0
    with home.catalog.read() as tx:
        assert first_due(tx) is None


def test_many_that_are_due_at_once(home):
    """More than a batch, each once."""
    now = _now(home)
    plans = [home.plan(uid=f"p{n}", every=60, next_at=now - _HOUR) for n in range(450)]
    assert _sweep(home) == 450
    assert sum(len(_tasks(home, plan)) for plan in plans) == 450


def test_two_that_sweep_at_once_run_nothing_twice(either_home):
    """The lease of the leader may change hands in the middle."""
    home = either_home
    now = _now(home)
    plans = [home.plan(uid=f"p{n}", every=60, next_at=now - _HOUR) for n in range(60)]
    together = threading.Barrier(3)

    def leader():
        together.wait()
        _sweep(home)

    threads = [threading.Thread(target=leader) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [len(_tasks(home, plan)) for plan in plans] == 60 * [1]


def test_edit_holds_against_a_sweep_that_saw_the_plan_before(home):
    """The edit wins: the sweep leaves alone what is not as it read it."""
    now = _now(home)
    plan = home.plan(every=60, next_at=now - _HOUR)
    with home.catalog.write() as tx:
        [stale] = tx.plans.all()
        tx.plans.change(plan.id, rev=plan.rev + 1, next_at=now + _HOUR)
        from holdfast.jobs.sweep import _run

        assert _run(tx, stale, now, bodies._make_task) is None
    assert _tasks(home, plan) == []
    assert _plan(home, plan).next_at == now + _HOUR


@pytest.mark.parametrize(
    ("values", "code"),
    [
        ({"spec": {"broken": True}, "every": 60}, "failed"),
        ({"cron": "61 * * * *"}, "invalid"),
        ({"every": 60, "priority": 0}, "invalid"),
    ],
)
def test_plan_that_cannot_run_is_seen_and_holds_up_nobody(home, values, code):
    """As a task that has failed; the others become theirs."""
    now = _now(home)
    broken = home.plan(next_at=now - _HOUR, **values)
    sound = home.plan(every=60, next_at=now - _NS)
    assert _sweep(home) == 1
    [failed] = _tasks(home, broken)
    assert (failed.state, failed.outcome["code"]) == (TaskState.FAILED, code)
    assert failed.due == broken.next_at
    assert len(_tasks(home, sound)) == 1
    following = _plan(home, broken).next_at
    assert following is None if "cron" in values else following > now
    assert _sweep(home) == 0


def test_plan_may_have_nothing_to_do(home):
    """Then there is no task, and it moves on."""
    now = _now(home)
    plan = home.plan(every=60, next_at=now - _NS, spec={"nothing": True})
    assert _sweep(home) == 0
    assert _plan(home, plan).next_at > now


def test_worker_runs_plans_within_a_second(home):
    """From the moment on that they are due."""
    now = _now(home)
    plan = home.plan(
        kind="light-note",
        cron="* * * * *",
        next_at=now + _NS,
        spec={"file": str(home.notes)},
    )
    home.worker()
    home.until(lambda: [task for task in _tasks(home, plan) if task.state.ended])
    [task] = _tasks(home, plan)
    assert task.due == now + _NS
    assert 0 <= task.started - task.due < 2 * _NS
