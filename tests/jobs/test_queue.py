"""Submitting, and what people want of tasks; without a worker where none is needed."""

from __future__ import annotations

import logging
import time

import pytest
from sqlalchemy import text

from holdfast.core.records import TaskState
from holdfast.jobs import claims
from holdfast.jobs.feeding import Feeder


def _promised(home, *tasks):
    return {(p.task_id, p.generation) for p in home.workflows.promised(map(home.get, tasks))}


def _older(home, *tasks):
    """As if they had been submitted a while ago."""
    with home.catalog.write() as tx:
        for task in tasks:
            tx.tasks.change(task.id, created=task.created - 60 * 10**9)


def _feed(home):
    Feeder(home.catalog, home.workflows).feed()


def _forget(home, *tasks):
    """As if the process had died between the row and the promise."""
    home.workflows._client.delete_workflows(
        [f"{task.id}.{task.generation}" for task in map(home.get, tasks)]
    )


def test_submitted_task_waits_and_has_its_promise(home):
    """Once the transaction is durable, and not before."""
    with home.catalog.write() as tx:
        task = home.queue.submit(tx, home.task(tx, "note", 7))
        assert home.workflows.promised([task]) == []
    assert (task.state, task.priority, task.generation) == (TaskState.QUEUED, 7, 1)
    assert _promised(home, task) == {(task.id, 1)}


def test_transaction_that_is_undone_leaves_nothing(home):
    """Neither a row nor a promise."""

    def fail():
        with home.catalog.write() as tx:
            home.queue.submit(tx, home.task(tx, "note"))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    with home.catalog.read() as tx:
        assert tx.tasks.count() == 0
    assert home.workflows._client.list_workflows() == []


def test_many_at_once(home):
    """Each with its own."""
    with home.catalog.write() as tx:
        tasks = home.queue.submit_all(tx, [home.task(tx, "note", 1 + n) for n in range(50)])
    assert len(_promised(home, *tasks)) == 50


def test_engine_that_does_not_answer_loses_no_task(home, caplog):
    """The row is durable, so submitting succeeds; the leader makes the promise up."""
    with home.workflows.engine.begin() as connection:
        schema = "" if home.catalog.embedded else "holdfast_tasks."
        connection.execute(text(f"ALTER TABLE {schema}workflow_status RENAME TO away"))
    task = home.submit("note")
    with home.workflows.engine.begin() as connection:
        connection.execute(text(f"ALTER TABLE {schema}away RENAME TO workflow_status"))
    assert "1 tasks have to wait" in caplog.text
    assert _promised(home, task) == set()
    _older(home, task)
    _feed(home)
    assert _promised(home, task) == {(task.id, 2)}


def test_row_without_a_promise_gets_one(home):
    """The process died in between, or the engine's database was lost."""
    kept, *lost = (home.submit("note") for _ in range(4))
    _forget(home, *lost)
    _older(home, kept, *lost)
    _feed(home)
    assert _promised(home, kept, *lost) == {(kept.id, 1)} | {(task.id, 2) for task in lost}


def test_fresh_rows_are_left_to_whoever_submits_them(home):
    """Who may be just about to promise."""
    task = home.submit("note")
    _forget(home, task)
    _feed(home)
    assert _promised(home, task) == set()


def test_promise_that_a_dead_node_had_taken_comes_back(home):
    """Also where nobody saw that it took it."""
    task = home.submit("note")
    with home.workflows.engine.begin() as connection:
        schema = "" if home.catalog.embedded else "holdfast_tasks."
        connection.execute(
            text(
                f"UPDATE {schema}workflow_status SET status='PENDING', executor_id='ghost#1', "
                "application_version='1'"
            )
        )
    _older(home, task)
    _feed(home)
    [promise] = home.workflows.promised([task])
    assert (promise.generation, promise.running) == (1, False)


def test_tasks_of_a_full_pool_are_promised_nothing_until_it_is_their_turn(home):
    """So a thousand of them do not keep the engine busy."""
    pool = home.pool("pool", limit=1)
    running, second, first = (
        home.submit("note", pool_id=pool, priority=priority) for priority in (1, 9, 5)
    )
    with home.catalog.write() as tx:
        claims.begin(tx, running.id, 1, holder="node#1", attempts=3)
    _forget(home, first, second)
    _older(home, first, second)
    _feed(home)
    assert _promised(home, first, second) == set()
    with home.catalog.write() as tx:
        claims.finish(tx, running.id, 1, TaskState.SUCCEEDED, {})
    Feeder(home.catalog, home.workflows).feed_pool(pool)
    assert _promised(home, first, second) == {(first.id, 2)}


def test_killed_and_paused_tasks_lose_their_promise(home):
    """What was only waiting ends or rests at once."""
    killed, paused = home.submit("note"), home.submit("note")
    assert home.queue.kill(killed.id).state is TaskState.CANCELLED
    assert home.queue.pause(paused.id).state is TaskState.PAUSED
    assert _promised(home, killed, paused) == set()
    assert home.queue.cont(paused.id).state is TaskState.QUEUED
    assert _promised(home, paused) == {(paused.id, 2)}


def test_priority_reaches_the_engine(home):
    """Under a new generation: the engine itself knows no change of it."""
    task = home.submit("note", priority=50)
    assert home.queue.set_priority(task.id, 3).priority == 3
    assert _promised(home, task) == {(task.id, 2)}
    found = home.workflows._client.list_workflows(workflow_ids=[f"{task.id}.2"])
    assert [workflow.priority for workflow in found] == [3]


def test_wait_gives_up(home):
    """With the task as it is then."""
    task = home.submit("note")
    began = time.monotonic()
    assert home.queue.wait(task.id, 0.1).state is TaskState.QUEUED
    assert 0.1 <= time.monotonic() - began < 20


def test_slots_are_remembered(home):
    """For all workers, until they are changed."""
    assert home.queue.slots() == 4
    home.queue.set_slots(0)
    assert home.queue.slots() == 0


def test_ordinary_use_logs_nothing(home, caplog):
    """The engine behind is talkative otherwise."""
    caplog.set_level(logging.INFO)
    home.queue.kill(home.submit("note").id)
    home.queue.set_slots(2)
    assert caplog.text == ""
