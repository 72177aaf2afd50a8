"""Differences between runs."""

from __future__ import annotations

import pytest

from holdfast.core.errors import UsageError
from holdfast.sources.restapi.giving.diff import Change, Kind, changes, choose_runs
from holdfast.sources.restapi.kept.archive import open_archive
from holdfast.testing.api_projects import store_run, write_project


@pytest.fixture
def project(tmp_path):
    return write_project(tmp_path / "shop", "http://127.0.0.1:1/items")


def compare(project, old=None, new=None):
    with open_archive(project.place) as archive:
        return list(changes(project, archive, *choose_runs(archive.runs(), old, new)))


def test_added_changed_and_removed_are_told_apart(project):
    """Each record that differs is named with what happened to it and which fields changed."""
    store_run(project, [[{"id": 1, "a": {"x": 1, "y": [1]}}, {"id": 2}, {"id": "k"}]])
    store_run(
        project,
        [[{"a": {"y": [2], "x": 1}, "id": 1, "new": 0}, {"id": 2}, {"id": 4}]],
        mode="update",
    )
    assert compare(project) == [
        Change(Kind.ADDED, "4"),
        Change(Kind.CHANGED, "1", ("a.y", "new")),
        Change(Kind.REMOVED, '"k"'),
    ]


def test_a_run_of_changes_removes_nothing(project):
    """What an update of changes does not mention is still there."""
    store_run(project, [[{"id": 1}, {"id": 2}]])
    store_run(project, [[{"id": 2, "v": 1}]], mode="update", whole=False)
    assert compare(project) == [Change(Kind.CHANGED, "2", ("v",))]


def test_the_order_of_fields_is_no_change(project):
    """A record that says the same in another order is the same."""
    store_run(project, [[{"id": 1, "b": 1, "a": 2}]])
    store_run(project, [[{"a": 2, "b": 1, "id": 1}]])
    assert compare(project) == []


def test_true_is_not_one(project):
    """A type that changes is a change."""
    store_run(project, [[{"id": 1, "b": 1}]])
    store_run(project, [[{"id": 1, "b": True}]])
    assert compare(project) == [Change(Kind.CHANGED, "1", ("b",))]


def test_any_two_runs_compare_even_over_full_runs(project):
    """Runs are chosen by name or the beginning of it, also backwards."""
    first = store_run(project, [[{"id": 1}]])
    store_run(project, [[{"id": 1}, {"id": 2}]])
    last = store_run(project, [[{"id": 3}]])
    assert [change.key for change in compare(project, first.id, last.id)] == ["3", "1"]
    assert [change.kind for change in compare(project, last.id, first.id)] == ["added", "removed"]


def test_without_an_item_key_records_are_their_own_keys(tmp_path):
    """Whole records are compared where nothing names them."""
    project = write_project(tmp_path / "p", "http://127.0.0.1:1/", data={"item_key": None})
    store_run(project, [[{"b": 1, "a": 1}, "x"]])
    store_run(project, [["x", {"a": 2}]])
    assert compare(project) == [
        Change(Kind.ADDED, '{"a":2}'),
        Change(Kind.REMOVED, '{"a":1,"b":1}'),
    ]


def test_runs_that_are_not_there_are_explained(project):
    """One run has nothing to compare with; a wrong name lists the right ones."""
    run = store_run(project, [[{"id": 1}]])
    with pytest.raises(UsageError, match="only one run"):
        compare(project)
    store_run(project, [[{"id": 1}]])
    with pytest.raises(UsageError, match="names no runs") as caught:
        compare(project, "nope")
    assert run.id in caught.value.advice
    with pytest.raises(UsageError, match="no run before"):
        compare(project, None, run.id)
