"""Worker processes that die, freeze and come back."""

from __future__ import annotations

import subprocess
import time
from contextlib import suppress
from pathlib import Path

import pytest

from holdfast.core.errors import DeposedError
from holdfast.core.records import TaskState

# A start takes a token; so does taking over, which makes the one before void.
LEASE = {"beat": 0.3, "lease": 1.0}
LONG = pytest.mark.long


def _alive(pid):
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def _effects(home):
    with home.catalog.read() as tx:
        return [setting.name for setting in tx.settings.all()]


def _wait_all(home, tasks, seconds=60):
    for task in tasks:
        ended = home.queue.wait(task.id, seconds)
        assert ended.state is TaskState.SUCCEEDED, ended


def test_tasks_of_a_killed_worker_go_on_with_another(either_home):
    """I5 Within seconds of the lease's end, each commits once, and no process is left behind."""
    home = either_home
    first = home.process("first", slots=4, **LEASE)
    file = home.folder / "pids"
    stubborn = home.submit("stubborn", file=str(file))
    go = home.folder / "go"
    tasks = [home.submit("once", go=str(go)) for _ in range(3)]
    home.until(lambda: file.exists() and len(file.read_text().split()) == 2)
    home.until(lambda: all(map(home.started, tasks)))
    pids = [int(pid) for pid in file.read_text().split()]
    second = home.process("second", **LEASE)
    first.kill()
    killed = time.monotonic()
    home.until(lambda: not any(map(_alive, pids)), 2)
    home.queue.kill(stubborn.id)
    home.until(lambda: all(home.get(task).token == 3 for task in tasks))
    assert time.monotonic() - killed < 12
    go.touch()
    _wait_all(home, tasks)
    assert home.queue.wait(stubborn.id, 10).state is TaskState.CANCELLED
    assert len(_effects(home)) == len(tasks)
    assert {home.get(task).attempt for task in tasks} == {2}
    assert second.stop() == 0


def test_restarted_worker_goes_on_at_once(home):
    """I5 Without waiting for the lease of its earlier start: who holds its lock is its heir."""
    lease = {"lease": 60.0}
    first = home.process(**lease)
    go = home.folder / "go"
    task = home.submit("once", go=str(go))
    home.until(lambda: home.started(task))
    first.kill()
    second = home.process(**lease)
    ready = time.monotonic()
    home.until(lambda: home.get(task).token == 3)
    assert time.monotonic() - ready < lease["lease"] / 2
    go.touch()
    _wait_all(home, [task])
    assert len(_effects(home)) == 1
    assert second.stop() == 0


def test_frozen_worker_is_deposed(home):
    """I8 Others do its work meanwhile; woken, it commits nothing and ends with its own code."""
    frozen = home.process("frozen", **LEASE)
    go = home.folder / "go"
    task = home.submit("fenced", go=str(go))
    home.until(lambda: home.started(task))
    frozen.freeze()
    home.process("other", **LEASE)
    home.until(lambda: home.get(task).token == 3)
    frozen.thaw()
    assert frozen.popen.wait(10) == DeposedError.exit_code
    go.touch()
    _wait_all(home, [task])
    assert _effects(home) == [f"effect-{task.id}-3"]
    assert "was given up by the others" in frozen.log.read_text()


@LONG
def test_child_of_a_frozen_worker_ends_itself(home):
    """After a time without a sign; where nobody has taken over, it is started once more."""
    worker = home.process(silence=1.0, **LEASE)
    task = home.submit("polite")
    home.until(lambda: home.started(task))
    pid = int(home.noted()[0][0].split()[1])
    worker.freeze()
    home.until(lambda: not _alive(pid), 5)
    worker.thaw()
    home.until(lambda: len(home.noted()) == 2)
    assert home.get(task).token == 1
    home.queue.kill(task.id)
    assert home.queue.wait(task.id, 10).state is TaskState.CANCELLED


@LONG
def test_task_that_kills_its_worker_fails_in_the_end(home):
    """It is not taken over for ever."""
    task = home.submit("kill_node")
    for _ in range(2):
        worker = home.process(attempts=2)
        assert worker.popen.wait(20) == -9
    home.process(attempts=2)
    ended = home.queue.wait(task.id, 10)
    assert (ended.state, ended.outcome["code"]) == (TaskState.FAILED, "worker-died")
    assert [what for what, *_ in home.noted()] == ["start", "start"]


@LONG
def test_committed_task_is_not_run_again(home):
    """I8 Its worker died between the commit and the end of the process."""
    first = home.process()
    task = home.submit("once", after=60)
    home.until(lambda: home.get(task).committed)
    assert home.get(task).state is TaskState.SUCCEEDED
    first.kill()
    home.process()
    home.until(lambda: not home.get(task).holder)
    time.sleep(0.5)
    assert home.get(task).token == 2
    assert [what for what, *_ in home.noted()] == ["start", "committed"]


@LONG
def test_kill_and_pause_hold_although_the_worker_dies(home):
    """The wish is in the row: the next worker fulfils it."""
    first = home.process()
    killed, paused = home.submit("polite"), home.submit("polite")
    home.until(lambda: home.started(killed) and home.started(paused))
    first.freeze()
    home.queue.kill(killed.id)
    home.queue.pause(paused.id)
    first.kill()
    home.process()
    assert home.queue.wait(killed.id, 10).state is TaskState.CANCELLED
    assert home.queue.wait(paused.id, 10).state is TaskState.PAUSED
    assert len(home.noted()) == 2


# --- campaigns ------------------------------------------------------------------------------------


@LONG
@pytest.mark.parametrize("round_", range(5))
def test_many_tasks_outlive_many_deaths(home, round_):
    """F18 Workers are killed and frozen over and over: each effect comes about once."""
    tasks = [home.submit("once" if n % 4 == 0 else "light-once", seconds=0.4) for n in range(40)]
    workers = [home.process(f"w{n}", slots=4, attempts=99, **LEASE) for n in range(3)]
    for turn in range(8):
        time.sleep(0.7)
        victim = turn % 3
        if turn % 2:
            workers[victim].kill()
        else:
            workers[victim].freeze()
            time.sleep(2.0)
            workers[victim].thaw()
            with suppress(subprocess.TimeoutExpired):  # nobody had noticed: it goes on
                assert workers[victim].popen.wait(3) == DeposedError.exit_code
        workers[victim].end()
        workers[victim] = home.process(f"w{victim}", slots=4, attempts=99, **LEASE)
    _wait_all(home, tasks, 120)
    effects = _effects(home)
    assert sorted(int(name.split("-")[1]) for name in effects) == sorted(t.id for t in tasks)


@LONG
def test_thousand_light_tasks(home):
    """All of them end well, with three workers at once."""
    with home.catalog.write() as tx:
        tasks = home.queue.submit_all(tx, [home.task(tx, "light-nothing") for _ in range(1000)])
    for number in range(3):
        home.process(f"w{number}")
    _wait_all(home, tasks, 120)


@LONG
def test_sixteen_tasks_of_one_of_four_workers(home):
    """Killed at once: all are taken over, each once."""
    first = home.process("w0", slots=16, **LEASE)
    go = home.folder / "go"
    tasks = [home.submit("light-once", go=str(go)) for _ in range(16)]
    home.until(lambda: all(map(home.started, tasks)))
    for number in range(1, 4):
        home.process(f"w{number}", slots=4, **LEASE)
    first.kill()
    home.until(lambda: sum(home.get(task).token == 3 for task in tasks) == 12)
    go.touch()
    _wait_all(home, tasks)
    assert len(_effects(home)) == 16
    assert {home.get(task).token for task in tasks} == {3}
