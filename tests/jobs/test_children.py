"""The process of one task, from its worker's side."""

from __future__ import annotations

import os

from holdfast.jobs.children import _LONGEST, Child, Terms, _Lines


def test_order_may_be_larger_than_a_pipe(home):
    """And than anything else that the system takes at once."""
    home.worker()
    done = home.run("note", padding="x" * 500_000)
    assert (done.state, len(done.spec["padding"])) == ("succeeded", 500_000)


def test_process_that_cannot_be_started(home, monkeypatch):
    """I8 Is told as such; nothing is left open."""
    monkeypatch.setattr("sys.executable", str(home.folder / "nowhere"))
    before = len(os.listdir("/proc/self/fd"))
    heard = []
    ended = Child(Terms(order={}, silence=6.0, grace=1.0, hear=heard.append)).run()
    assert (ended["state"], ended["outcome"]["code"]) == ("failed", "worker-died")
    assert "could not be started" in ended["outcome"]["message"]
    assert (heard, len(os.listdir("/proc/self/fd"))) == ([], before)


def test_process_that_was_stopped_before_it_started(home):
    """Is not started at all; stopping what is over does nothing."""
    child = Child(Terms(order={}, silence=6.0, grace=1.0, hear=print))
    child.stop()
    assert child.run() == {"state": "interrupted"}
    child.stop()


def test_composition_that_fails_is_told(home):
    """With what is wrong, not with a dead process."""
    heard = []
    order = {"compose": "no.such:thing", "settings": {}, "task": 1, "token": 1}
    ended = Child(Terms(order=order, silence=6.0, grace=1.0, hear=heard.append)).run()
    assert (ended["state"], ended["outcome"]["code"]) == ("failed", "failed")
    assert "ModuleNotFoundError" in ended["outcome"]["message"]
    assert "ModuleNotFoundError: No module named" in str(heard)


def test_line_without_an_end_is_cut():
    """A program that prints without a new line fills no memory; the rest is taken at the end."""
    taken = []
    reading, writing = os.pipe()
    lines = _Lines(reading, taken.append)
    for _ in range(40):
        os.write(writing, b"x" * 60_000)
        lines.read()
    os.write(writing, b"end\nnext\n\nlast")
    os.close(writing)
    lines.drain()
    os.close(reading)
    assert all(len(line) <= _LONGEST + 65536 for line in taken)
    assert b"".join(taken) == b"x" * 2_400_000 + b"endnextlast"
    assert taken[-2:] == [b"next", b"last"]
