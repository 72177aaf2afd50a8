"""What may be wanted of a task in which state."""

from __future__ import annotations

import pytest

from holdfast.core.errors import InvalidError, RecordNotFoundError, StateError
from holdfast.core.records import TaskState, Wanted

_ENDED = ("succeeded", "partial", "failed", "cancelled")
_ALLOWED = {
    "pause": {"queued", "running", "paused", "pausing"},
    "cont": {"paused", "pausing"},
    "kill": {"queued", "running", "paused", "pausing"},
    "restart": set(_ENDED),
    "set_priority": {"queued", "running", "paused", "pausing"},
}
_TOLD = {"pausing": "being paused", "dying": "being killed"}


def _task(home, how):
    states = {"pausing": ("running", "paused"), "dying": ("running", "killed")}
    state, wanted = states.get(how, (how, "paused" if how == "paused" else "run"))
    with home.catalog.write() as tx:
        task = tx.tasks.add(home.task(tx, "note"))
        tx.tasks.change(task.id, state=TaskState(state), wanted=Wanted(wanted))
    return task


@pytest.mark.parametrize("verb", _ALLOWED)
@pytest.mark.parametrize("how", ["queued", "running", "paused", "pausing", "dying", *_ENDED])
def test_wishes_fit_the_state(home, verb, how):
    """What cannot be is refused with a sentence that names the state, and changes nothing."""
    task = _task(home, how)
    before = home.get(task)
    args = (7,) if verb == "set_priority" else ()
    if how in _ALLOWED[verb]:
        getattr(home.queue, verb)(task.id, *args)
        return
    with pytest.raises(StateError, match=_TOLD.get(how, how)):
        getattr(home.queue, verb)(task.id, *args)
    assert home.get(task) == before


@pytest.mark.parametrize("verb", _ALLOWED)
def test_task_that_is_not_there(home, verb):
    """Is told as such."""
    with pytest.raises(RecordNotFoundError, match="no task 4711"):
        getattr(home.queue, verb)(4711, *((1,) if verb == "set_priority" else ()))


@pytest.mark.parametrize("priority", [0, -1, 2**31])
def test_priority_that_cannot_be(home, priority):
    """Is refused wherever it is given, and nothing is queued: 0 would overtake everything."""
    with pytest.raises(InvalidError, match="priority"):
        home.submit("note", priority=priority)
    task = home.submit("note")
    with pytest.raises(InvalidError, match="priority"):
        home.queue.set_priority(task.id, priority)
    with home.catalog.read() as tx:
        assert tx.tasks.count() == 1
