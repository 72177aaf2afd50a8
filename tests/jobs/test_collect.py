"""What nobody needs any more goes."""

from __future__ import annotations

import time

from holdfast.core.records import TaskLine, TaskState
from holdfast.jobs import nodes
from holdfast.jobs.collect import Collected, collect


def _end(home, *tasks, ago=0):
    with home.catalog.write() as tx:
        for task in tasks:
            ended = tx.now() - ago * 10**9
            tx.tasks.change(task.id, state=TaskState.SUCCEEDED, ended=ended)


def test_ended_workflows_go_and_what_waits_stays(home):
    """A paused task can be continued afterwards, and its promise is kept."""
    ended, paused, waiting = (home.submit("light-note") for _ in range(3))
    home.queue.kill(ended.id)
    home.queue.pause(paused.id)
    time.sleep(0.01)
    assert collect(home.catalog, home.workflows, keep_ended=0, keep_log=0).workflows == 2
    assert len(home.workflows.promised([waiting])) == 1
    home.queue.cont(paused.id)
    home.worker()
    for task in (paused, waiting):
        assert home.queue.wait(task.id, 10).state is TaskState.SUCCEEDED


def test_logs_are_kept_for_a_time(home):
    """From the end of the task; the task itself stays."""
    old, young, running = (home.submit("light-note") for _ in range(3))
    _end(home, old, ago=1000)
    _end(home, young, ago=10)
    with home.catalog.write() as tx:
        tx.task_lines.add_all(
            TaskLine(task_id=task.id, at=1, text="x") for task in (old, young, running)
        )
    collected = collect(home.catalog, home.workflows, keep_ended=1000, keep_log=100)
    assert collected == Collected(workflows=0, lines=1, nodes=0)
    assert [len(home.log(task)) for task in (old, young, running)] == [0, 1, 1]
    assert home.get(old).state is TaskState.SUCCEEDED


def test_recent_endings_are_remembered(home):
    """And dead nodes, for as long."""
    home.queue.kill(home.submit("light-note").id)
    with home.catalog.write() as tx:
        for _ in range(2):
            node = nodes.join(tx, "a", place="here", facts={})
            nodes.bury(tx, node)
    assert collect(home.catalog, home.workflows, keep_ended=60, keep_log=60) == Collected(0, 0, 0)
    assert collect(home.catalog, home.workflows, keep_ended=-1, keep_log=60) == Collected(1, 0, 1)
