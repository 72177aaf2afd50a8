"""A worker at work, in this process; the processes of tasks are real."""

from __future__ import annotations

import os
import signal
import time
from itertools import pairwise
from pathlib import Path

import pytest
from sqlalchemy import select

from holdfast.catalog import tables
from holdfast.core.errors import DataFolderBusyError
from holdfast.core.records import TaskState
from holdfast.jobs import nodes


def test_task_runs_from_submission_to_its_end(either_home):
    """In a process of its own; and the queue goes on through a restart of the worker."""
    home = either_home
    worker = home.worker()
    done = home.run("note")
    assert (done.state, done.outcome) == ("succeeded", {"message": "", "attempt": 1})
    assert done.created <= done.started <= done.ended
    assert (done.holder, done.token, done.attempt) == ("", 1, 1)
    assert worker.stop(5)
    later = home.submit("light-note")
    assert home.queue.wait(later.id, 0.2).state is TaskState.QUEUED
    home.worker()
    assert home.queue.wait(later.id, 10).state is TaskState.SUCCEEDED


@pytest.mark.parametrize("light", [pytest.param("", marks=pytest.mark.long), "light-"])
@pytest.mark.parametrize(
    ("kind", "ending", "says"),
    [
        ("partial", ("partial", "partial"), "2 files could not be read"),
        ("partial_error", ("partial", "partial"), "3 files could not be read"),
        ("refuse", ("failed", "source-missing"), "/data is not there"),
        ("bug", ("failed", "failed"), "an error that Holdfast does not know: KeyError"),
        ("unheard-of", ("failed", "configuration"), "knows no tasks of the kind"),
    ],
)
def test_outcome_is_the_truth(home, light, kind, ending, says):
    """I8 Whatever the body does; with what to do next, and no word of an unknown error's text."""
    home.worker()
    done = home.run(light + kind)
    assert (done.state, done.outcome["code"]) == ending
    assert says in done.outcome["message"]
    assert done.outcome["remedy"]
    assert "hunter2" not in str(done.outcome)
    assert ("Traceback" in str(home.log(done))) == (kind == "bug")
    assert done.outcome.get("files") == (7 if kind == "partial" else None)


@pytest.mark.parametrize(
    ("kind", "says"), [("leave", "exit code 7"), ("die", "signal 9 (SIGKILL)")]
)
def test_process_that_dies_has_failed(home, kind, says):
    """I8 Without a word of its own; the outcome says how it died."""
    home.worker()
    done = home.run(kind)
    assert (done.state, done.outcome["code"]) == ("failed", "worker-died")
    assert says in done.outcome["message"]


def test_what_a_body_tells_is_kept(home):
    """Its lines, what it and its programs print, and how far it has come."""
    home.worker()
    done = home.run("talk")
    assert home.log(done) == [
        ("warning", "something is odd"),
        ("warning", "and goes on"),
        ("info", "printed"),
        ("info", "to the other"),
        ("info", "by a program"),
    ]
    told = {"done": 29, "total": 100, "unit": "files", "current": "file 29"}
    assert done.progress == done.progress | told


@pytest.mark.parametrize("kind", [pytest.param("talk", marks=pytest.mark.long), "light-talk"])
def test_progress_is_seen_while_it_runs(home, kind):
    """With its rate and the time left, once a second at most."""
    home.worker()
    task = home.submit(kind, pause=0.12)
    seen = []

    def has_seen_a_rate():
        progress = home.get(task).progress
        if progress not in seen:
            seen.append(progress)
        return "eta" in progress

    seconds = home.until(has_seen_a_rate)
    assert len(seen) <= seconds + 2
    assert 2 < seen[-1]["rate"] < 12
    assert 5 < seen[-1]["eta"] < 60
    home.queue.wait(task.id, 20)


def test_grandchild_that_holds_the_output_holds_nobody_up(home):
    """A task ends with its body, whoever has inherited its descriptors."""
    home.worker()
    began = time.monotonic()
    assert home.run("orphan").state is TaskState.SUCCEEDED
    assert time.monotonic() - began < 10


def test_smallest_priority_is_first_across_pools(home):
    """Whatever was submitted first, and in whichever pool."""
    pools = [home.pool("one"), home.pool("two"), None]
    order = [50, 5, 1, 90, 7, 30, 2]
    tasks = [
        home.submit("light-note", priority=priority, pool_id=pools[number % 3])
        for number, priority in enumerate(order)
    ]
    home.worker(slots=1)
    for task in tasks:
        assert home.queue.wait(task.id, 10).state is TaskState.SUCCEEDED
    started = [id_ for what, id_, _ in home.noted() if what == "start"]
    assert started == [tasks[order.index(priority)].id for priority in sorted(order)]


def test_full_pool_holds_back_only_its_own(home):
    """Two slots, a pool that may run one: its tasks run one after another, in their order, and
    others overtake them.
    """
    pool = home.pool("narrow", limit=1)
    narrow = [home.submit("light-note", pool_id=pool, seconds=0.1) for _ in range(4)]
    free = home.submit("light-note", priority=200)
    home.worker(slots=2)
    for task in [*narrow, free]:
        assert home.queue.wait(task.id, 10).state is TaskState.SUCCEEDED
    ended = [id_ for what, id_, _ in home.noted() if what == "end"]
    assert ended.index(free.id) < 2
    spans = [tuple(at for _, id_, at in home.noted() if id_ == task.id) for task in narrow]
    assert all(before[1] <= after[0] for before, after in pairwise(spans))


def test_slots_change_at_run_time(home):
    """0 starts nothing; what runs goes on."""
    home.worker(slots=1)
    running = home.submit("light-note", seconds=0.5)
    home.until(lambda: home.started(running))
    home.queue.set_slots(0)
    time.sleep(3 * 0.05)
    waiting = home.submit("light-note")
    assert home.queue.wait(running.id, 5).state is TaskState.SUCCEEDED
    assert home.queue.wait(waiting.id, 0.3).state is TaskState.QUEUED
    home.queue.set_slots(2)
    assert home.queue.wait(waiting.id, 5).state is TaskState.SUCCEEDED


def test_catalog_that_stalls_kills_nobody(home):
    """Longer than the lease: a process of a task lives as long as its worker does."""
    home.worker(lease=1.0, beat=0.3, silence=2.0)
    task = home.submit("talkative", seconds=4.0)
    home.until(lambda: home.started(task))
    with home.catalog.write() as tx:
        tx.connection.execute(select(tables.task).with_for_update())
        time.sleep(2.5)
    done = home.queue.wait(task.id, 20)
    assert (done.state, done.token) == (TaskState.SUCCEEDED, 1)
    assert len(home.noted()) == 1
    assert len(home.log(done)) > 5


# --- pause, continue, kill ------------------------------------------------------------------------


def _alive(pid):
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def test_kill_means_killed(home):
    """Within two seconds and the grace time, with all that the body had started."""
    home.worker(grace=0.5)
    file = home.folder / "pids"
    task = home.submit("stubborn", file=str(file))
    home.until(lambda: file.exists() and len(file.read_text().split()) == 2)
    pids = [int(pid) for pid in file.read_text().split()]
    assert all(map(_alive, pids))
    home.queue.kill(task.id)
    gone = home.until(lambda: not any(map(_alive, pids)))
    assert gone < 2.5
    ended = home.queue.wait(task.id, 5)
    assert (ended.state, ended.outcome) == (TaskState.CANCELLED, {})


def test_killed_body_may_clean_up_first(home):
    """What it waits for ends at once, well before the grace time."""
    home.worker(grace=30.0)
    task = home.submit("polite")
    home.until(lambda: home.started(task))
    home.queue.kill(task.id)
    assert home.queue.wait(task.id, 5).state is TaskState.CANCELLED


def test_paused_task_goes_on_later(home):
    """With a new start of its body, once; it counts as no attempt."""
    home.worker()
    task = home.submit("once", seconds=1.5)
    home.until(lambda: home.started(task))
    home.queue.pause(task.id)
    paused = home.queue.wait(task.id, 5)
    assert (paused.state, paused.holder, paused.ended) == (TaskState.PAUSED, "", None)
    home.queue.cont(task.id)
    done = home.queue.wait(task.id, 10)
    assert (done.state, done.attempt, done.committed) == ("succeeded", 1, True)
    assert [what for what, *_ in home.noted()] == ["start", "start", "committed"]


def test_quick_continue_waits_for_the_earlier_body(home):
    """Paused and continued at once: two bodies never overlap, and one commits."""
    home.worker(slots=2, grace=0.5)
    task = home.submit("once", seconds=1.5)
    for _ in range(3):
        home.until(lambda: home.get(task).state is TaskState.RUNNING)
        home.queue.pause(task.id)
        home.queue.cont(task.id)
        time.sleep(0.3)
    assert home.queue.wait(task.id, 15).state is TaskState.SUCCEEDED
    with home.catalog.read() as tx:
        assert tx.settings.count() == 1
    starts = [at for what, _, at in home.noted() if what == "start"]
    [committed] = [at for what, _, at in home.noted() if what == "committed"]
    assert committed - starts[-1] >= 1.5


def test_light_body_is_asked_and_waited_for(home):
    """It cannot be killed; the task is paused when it has returned."""
    home.worker()
    task = home.submit("light-note", seconds=30)
    home.until(lambda: home.started(task))
    home.queue.pause(task.id)
    # This body returns when it is asked, so it has come to its end.
    assert home.queue.wait(task.id, 5).state is TaskState.SUCCEEDED


def test_restarted_task_runs_again(home):
    """With its log kept."""
    home.worker()
    failed = home.run("light-bug")
    home.queue.restart(failed.id)
    home.until(lambda: home.get(failed).generation == 2 and home.get(failed).state.ended)
    assert home.get(failed).token == 2
    assert str(home.log(failed)).count("Traceback") == 2


def test_wish_is_seen_even_if_the_engine_was_not_told(home):
    """The process that wished died in between: the row alone is enough."""
    home.worker(grace=0.3)
    task = home.submit("polite")
    home.until(lambda: home.started(task))
    with home.catalog.write() as tx:
        tx.tasks.change(task.id, wanted="killed")
    assert home.queue.wait(task.id, 5).state is TaskState.CANCELLED


def test_row_that_lost_its_body_starts_again(home):
    """Whatever went wrong in between: nothing is running for ever that is not."""
    worker = home.worker()
    task = home.submit("light-note")
    home.queue.wait(task.id, 5)
    with home.catalog.write() as tx:
        holder = worker._node.incarnation
        tx.tasks.change(task.id, state="running", holder=holder, token=7, ended=None)
    home.until(lambda: home.get(task).state.ended)
    assert home.get(task).token > 7


def test_task_held_by_nobody_known_is_freed(home):
    """A node that was given up had begun it before it noticed."""
    home.worker()
    task = home.submit("light-note")
    home.queue.wait(task.id, 5)
    with home.catalog.write() as tx:
        tx.tasks.change(task.id, state="running", holder="ghost#9", token=7, ended=None)
    home.until(lambda: home.get(task).state.ended)
    assert home.get(task).token > 8


# --- the worker itself ----------------------------------------------------------------------------


def test_graceful_stop_waits_and_then_interrupts(home):
    """What was interrupted waits for the next worker, and counts as no attempt."""
    worker = home.worker(grace=0.5)
    short, long_ = home.submit("light-note", seconds=0.3), home.submit("polite")
    home.until(lambda: home.started(short) and home.started(long_))
    assert not worker.stop(1)
    assert home.get(short).state is TaskState.SUCCEEDED
    waiting = home.get(long_)
    assert (waiting.state, waiting.holder, waiting.attempt) == (TaskState.QUEUED, "", 0)
    with home.catalog.read() as tx:
        assert nodes.incarnations(tx) == []
    [promise] = home.workflows.promised([waiting])
    assert not promise.running


def test_one_worker_of_a_name_on_a_machine(home):
    """The second is refused, with a sentence; the first goes on."""
    home.worker()
    with pytest.raises(DataFolderBusyError, match=r"worker\.lock"):
        home.worker()
    assert home.run("light-note").state is TaskState.SUCCEEDED


def test_child_ignores_the_terminal(home):
    """Control-C goes to the worker, which decides what becomes of its tasks."""
    home.worker()
    task = home.submit("polite")
    home.until(lambda: home.started(task))
    pid = int(next(what for what, *_ in home.noted()).split()[1])
    assert os.getsid(pid) == pid != os.getsid(0)
    os.kill(pid, signal.SIGKILL)
    assert home.queue.wait(task.id, 5).state is TaskState.FAILED
