"""What bodies tell, on its way into the catalog."""

from __future__ import annotations

import time

import pytest
from sqlalchemy import text

from holdfast.core.records import TaskState
from holdfast.jobs import claims
from holdfast.jobs.reports import Reports


@pytest.fixture
def reports(home):
    task = home.submit("note")
    with home.catalog.write() as tx:
        task = claims.begin(tx, task.id, 1, holder="node#1", attempts=3)
    return Reports(home.catalog, task.id, task.token), task


def test_long_log_is_cut_with_a_word(home, reports, monkeypatch):
    """A body that talks without end fills nobody's disk."""
    monkeypatch.setattr("holdfast.jobs.reports._MOST_LINES", 5)
    told, task = reports
    for number in range(10):
        told.hear({"line": ["info", f"line {number}"]})
        told.tick()
    assert [line for _, line in home.log(task)] == [
        *(f"line {number}" for number in range(4)),
        "the log is long: further lines are not kept",
    ]


def test_odd_lines_are_kept(home, reports):
    """Whatever they hold; what no database takes is shown as lost."""
    told, task = reports
    told.hear({"line": ["info", "a\0b\n\n\N{SNOWMAN}" + "x" * 9000]})
    told.tick()
    lines = [line for _, line in home.log(task)]
    assert lines[:2] == ["a\N{REPLACEMENT CHARACTER}b", ""]
    assert lines[2].startswith("\N{SNOWMAN}xx")
    assert len(lines[2]) == 8192


def test_what_cannot_be_written_is_kept_for_later(home, reports, caplog):
    """The catalog did not answer for a moment."""
    told, task = reports
    told.hear({"line": ["info", "before"]})
    told.hear({"progress": {"done": 1}})
    with home.catalog.write() as tx:
        tx.connection.execute(text("ALTER TABLE task_line RENAME TO away"))
    told.tick()
    assert "has to wait" in caplog.text
    with home.catalog.write() as tx:
        tx.connection.execute(text("ALTER TABLE away RENAME TO task_line"))
    told.hear({"line": ["info", "after"]})
    told.tick()
    told.tick()
    assert [line for _, line in home.log(task)] == ["before", "after"]
    assert home.get(task).progress["done"] == 1


def test_who_lost_the_task_tells_no_progress(home, reports):
    """Another start of it does."""
    told, task = reports
    with home.catalog.write() as tx:
        claims.depose(tx, task.id, "node#1")
    told.hear({"progress": {"done": 1}})
    told.tick()
    assert home.get(task).progress == {}
    assert home.get(task).state is TaskState.QUEUED


def test_hearing_waits_for_no_catalog(home, reports):
    """Or the process of the task would take its worker for dead."""
    told, _ = reports
    began = time.monotonic()
    with home.catalog.write():
        for number in range(1000):
            told.hear({"line": ["info", str(number)]})
            told.hear({"progress": {"done": number}})
    assert time.monotonic() - began < 20  # a write to the catalog would wait for 30
