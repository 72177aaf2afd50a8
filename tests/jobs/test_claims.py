"""The transitions of a task's row; conformance on both databases."""

from __future__ import annotations

import threading

import pytest

from holdfast.core.errors import DeposedError, RecordNotFoundError
from holdfast.core.records import TaskState, Wanted
from holdfast.jobs import claims, wishes
from holdfast.jobs.claims import Cannot

ATTEMPTS = 3


def _row(home, **values):
    """A task that nobody has promised anything."""
    pool_id, priority = values.pop("pool_id", None), values.pop("priority", 100)
    with home.catalog.write() as tx:
        task = tx.tasks.add(home.task(tx, "note", priority, pool_id))
        if values:
            tx.tasks.change(task.id, **values)
        return tx.tasks.get(task.id)


def _begin(home, task, holder="node#1"):
    with home.catalog.write() as tx:
        return claims.begin(tx, task.id, task.generation, holder=holder, attempts=ATTEMPTS)


def _in_write(home, act, *args, **kwargs):
    with home.catalog.write() as tx:
        return act(tx, *args, **kwargs)


def test_begun_task_has_a_holder_and_a_new_token(home):
    """And counts its attempts."""
    task = _begin(home, _row(home))
    assert (task.state, task.holder, task.token, task.attempt) == ("running", "node#1", 1, 1)
    assert task.started is not None


def test_what_has_ended_is_paused_or_was_promised_anew_does_not_begin(home):
    """Its promise comes to nothing."""
    for values in (
        {"state": TaskState.SUCCEEDED},
        {"state": TaskState.CANCELLED},
        {"state": TaskState.PAUSED},
        {"generation": 2},
    ):
        task = _row(home, **values)
        with home.catalog.write() as tx:
            assert claims.begin(tx, task.id, 1, holder="n#1", attempts=3) is Cannot.GONE, values
    with home.catalog.write() as tx:
        assert claims.begin(tx, 12345, 1, holder="n#1", attempts=3) is Cannot.GONE


def test_a_task_waits_for_its_earlier_body(home):
    """Two bodies of one task never run at once."""
    task = _begin(home, _row(home))
    _in_write(home, wishes.pause, task.id)
    going_on = _in_write(home, wishes.cont, task.id)
    assert _begin(home, going_on, "node#2") is Cannot.WAIT
    _in_write(home, claims.stop, task.id, task.token, generation=task.generation)
    again = _begin(home, going_on, "node#2")
    assert (again.holder, again.token, again.attempt) == ("node#2", 2, 1)


def test_task_that_keeps_killing_its_node_fails(home):
    """After as many attempts as there may be, it says so and is not tried again."""
    task = _row(home)
    for attempt in range(ATTEMPTS):
        begun = _begin(home, task, f"node#{attempt}")
        assert begun.attempt == attempt + 1
        _in_write(home, claims.depose, task.id, begun.holder)
    assert _begin(home, task) is Cannot.GONE
    ended = home.get(task)
    assert (ended.state, ended.outcome["code"]) == (TaskState.FAILED, "worker-died")
    assert "died 3 times" in ended.outcome["message"]


def test_stopping_in_order_is_no_attempt(home):
    """However often a worker is restarted, a task does not fail from it."""
    task = _row(home)
    for _ in range(ATTEMPTS + 2):
        begun = _begin(home, task)
        task = _in_write(home, claims.stop, task.id, begun.token, generation=begun.generation)
    assert (task.state, task.attempt, task.generation) == ("queued", 0, ATTEMPTS + 3)


# --- pools ----------------------------------------------------------------------------------------


def test_full_pool_begins_nothing(home):
    """Until one of its tasks has let go; other pools and tasks without one go on."""
    pool, other = home.pool("full", limit=2), home.pool("other")
    running = [_begin(home, _row(home, pool_id=pool)) for _ in range(2)]
    waiting = _row(home, pool_id=pool)
    assert _begin(home, waiting) is Cannot.FULL
    assert _begin(home, _row(home, pool_id=other)).state is TaskState.RUNNING
    assert _begin(home, _row(home)).state is TaskState.RUNNING
    _in_write(home, claims.finish, running[0].id, 1, TaskState.SUCCEEDED, {})
    assert _begin(home, waiting).state is TaskState.RUNNING


def test_pool_whose_limit_is_nought_runs_nothing(home):
    """Unlike one without a limit."""
    assert _begin(home, _row(home, pool_id=home.pool("closed", limit=0))) is Cannot.FULL


def test_limit_of_a_pool_holds_at_once_when_it_is_changed(home):
    """Without a restart of anything."""
    pool = home.pool("pool", limit=1)
    _begin(home, _row(home, pool_id=pool))
    waiting = _row(home, pool_id=pool)
    assert _begin(home, waiting) is Cannot.FULL
    with home.catalog.write() as tx:
        tx.pools.change(pool, options={"task_limit": 2})
    assert _begin(home, waiting).state is TaskState.RUNNING


def test_in_a_pool_the_first_of_the_queue_begins_first(home):
    """By priority, then by age: a later one does not slip in when a place gets free."""
    pool = home.pool("pool", limit=1)
    running = _begin(home, _row(home, pool_id=pool))
    first, second = (_row(home, pool_id=pool) for _ in range(2))
    urgent = _row(home, pool_id=pool, priority=1)
    _in_write(home, claims.finish, running.id, 1, TaskState.SUCCEEDED, {})
    with home.catalog.read() as tx:
        assert [task.id for task in claims.first_waiting(tx, pool, 3)] == [
            urgent.id,
            first.id,
            second.id,
        ]
    assert _begin(home, second) is Cannot.FULL
    assert _begin(home, first) is Cannot.FULL
    assert _begin(home, urgent).state is TaskState.RUNNING


def test_many_at_once_never_overfill_a_pool(either_home):
    """Whichever transactions run side by side."""
    home = either_home
    pool = home.pool("pool", limit=3)
    tasks = [_row(home, pool_id=pool) for _ in range(12)]
    begun, together = [], threading.Barrier(6)

    def node(number):
        together.wait()
        begun.extend(_begin(home, task, f"node#{number}") for task in tasks[number::6])

    threads = [threading.Thread(target=node, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(begun) == 12
    with home.catalog.read() as tx:
        assert len(claims.all_held(tx)) == sum(one is not Cannot.FULL for one in begun) <= 3


def test_one_task_is_begun_by_one_node(either_home):
    """Of many that try at once."""
    home = either_home
    task = _row(home)
    begun, together = [], threading.Barrier(6)

    def node(number):
        together.wait()
        begun.append(_begin(home, task, f"node#{number}"))

    threads = [threading.Thread(target=node, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(one is Cannot.WAIT for one in begun) == [False] + 5 * [True]


# --- tokens ---------------------------------------------------------------------------------------


def test_who_lost_a_task_cannot_commit(home):
    """I8 Nor fence, finish or stop it: what another goes on with stays untouched."""
    task = _begin(home, _row(home))
    _in_write(home, claims.depose, task.id, "node#1")
    for act, rest in (
        (claims.fence, ()),
        (claims.commit, (TaskState.SUCCEEDED, {})),
        (claims.finish, (TaskState.FAILED, {})),
    ):
        with pytest.raises(DeposedError):
            _in_write(home, act, task.id, task.token, *rest)
    with pytest.raises(DeposedError):
        _in_write(home, claims.stop, task.id, task.token, generation=1)
    again = _begin(home, home.get(task), "node#2")
    with pytest.raises(DeposedError):
        _in_write(home, claims.commit, task.id, task.token, TaskState.SUCCEEDED, {})
    assert home.get(task) == again


def test_body_of_a_task_that_was_deleted_commits_nothing(home):
    """Like one whose task another has taken over."""
    task = _begin(home, _row(home))
    with home.catalog.write() as tx:
        tx.tasks.remove(id=task.id)
    with pytest.raises(DeposedError):
        _in_write(home, claims.commit, task.id, task.token, TaskState.SUCCEEDED, {})


def test_commit_ends_the_task_together_with_what_it_changed(home):
    """I8 Undone together, too; what its process does afterwards changes nothing of the outcome."""
    task = _begin(home, _row(home))

    def commit_and_fail(tx):
        claims.commit(tx, task.id, task.token, TaskState.SUCCEEDED, {})
        tx.pools.get(999)

    with pytest.raises(RecordNotFoundError):
        _in_write(home, commit_and_fail)
    assert home.get(task).state is TaskState.RUNNING
    _in_write(home, claims.commit, task.id, task.token, TaskState.PARTIAL, {"files": 3})
    committed = home.get(task)
    assert (committed.state, committed.committed, committed.holder) == ("partial", True, "node#1")
    with pytest.raises(DeposedError):
        _in_write(home, claims.commit, task.id, task.token, TaskState.SUCCEEDED, {})
    _in_write(home, claims.finish, task.id, task.token, TaskState.FAILED, {"code": "late"})
    ended = home.get(task)
    assert (ended.state, ended.outcome, ended.holder) == ("partial", {"files": 3}, "")


@pytest.mark.parametrize(
    ("wish", "state"), [(wishes.pause, TaskState.PAUSED), (wishes.kill, TaskState.CANCELLED)]
)
@pytest.mark.parametrize("dead", [False, True])
def test_stopped_task_is_as_was_wanted(home, wish, state, dead):
    """Whether its body was stopped or its node had died."""
    task = _begin(home, _row(home))
    _in_write(home, wish, task.id)
    if dead:
        _in_write(home, claims.depose, task.id, "node#1")
    else:
        _in_write(home, claims.stop, task.id, task.token, generation=1)
    stopped = home.get(task)
    assert (stopped.state, stopped.holder) == (state, "")
    assert (stopped.ended is not None) == (state is TaskState.CANCELLED)


def test_node_that_died_after_a_commit_leaves_a_task_that_has_ended(home):
    """I8 It is not run a second time."""
    task = _begin(home, _row(home))
    _in_write(home, claims.commit, task.id, task.token, TaskState.SUCCEEDED, {})
    _in_write(home, claims.depose, task.id, "node#1")
    ended = home.get(task)
    assert (ended.state, ended.holder, ended.committed) == (TaskState.SUCCEEDED, "", True)
    assert _begin(home, ended) is Cannot.GONE


def test_only_the_holder_named_is_deposed(home):
    """A reaper that comes late takes nothing from the node that goes on."""
    task = _begin(home, _row(home), "node#2")
    _in_write(home, claims.depose, task.id, "node#1")
    assert home.get(task) == task


# --- wishes ---------------------------------------------------------------------------------------


def test_kill_of_a_waiting_task_ends_it(home):
    """At once, and for good."""
    task = _in_write(home, wishes.kill, _row(home).id)
    assert (task.state, task.wanted) == (TaskState.CANCELLED, Wanted.KILLED)
    assert task.ended is not None
    assert _begin(home, task) is Cannot.GONE


def test_restarted_task_is_as_new(home):
    """But for its log, and with a token that grows on."""
    task = _begin(home, _row(home))
    _in_write(home, claims.commit, task.id, task.token, TaskState.FAILED, {"code": "x"})
    _in_write(home, claims.finish, task.id, task.token, TaskState.FAILED, {})
    again = _in_write(home, wishes.restart, task.id)
    assert (again.state, again.outcome, again.attempt, again.committed) == ("queued", {}, 0, False)
    assert (again.started, again.ended, again.generation) == (None, None, 2)
    assert _begin(home, again).token == task.token + 1
