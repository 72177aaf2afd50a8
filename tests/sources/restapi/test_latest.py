"""Each key once, whatever order and type keys have."""

from __future__ import annotations

import pytest

from holdfast.sources.restapi.kept.archive import open_archive
from holdfast.sources.restapi.kept.latest import state
from holdfast.sources.restapi.kept.scratch import KeySet, Rising, scratch
from holdfast.testing.api_projects import store_run, write_project

BIG = 2**70


@pytest.mark.parametrize(
    ("pages", "expected"),
    [
        ([[1, 2], [3, 4], [5]], [1, 2, 3, 4, 5]),
        ([[1, 2], [3, 4], [2, 5]], [1, 2, 3, 4, 5]),
        ([[9, 8], [8, 7]], [9, 8, 7]),
        ([["a", "b"], ["b", "a", "c"]], ["a", "b", "c"]),
        ([[1, "1"], [1, "1", 1.5, True]], [1, "1", 1.5, True]),
        ([[1, BIG], [BIG, 2]], [1, BIG, 2]),
        ([[1, None], [None, 1]], [1, None, None]),
        ([[], [1], [], [1]], [1]),
    ],
)
def test_each_key_comes_once(tmp_path, pages, expected):
    """The first of several records with one key stays in its place; without a key all stay."""
    project = write_project(tmp_path / "p", "http://127.0.0.1:1/")
    store_run(project, [[{"id": key} for key in page] for page in pages])
    with open_archive(project.place) as archive:
        found = [record["id"] for batch in state(project, archive) for record in batch]
    assert list(map(repr, found)) == list(map(repr, expected))


def test_growing_keys_are_known_without_being_kept():
    """As long as keys grow, over batches too, none can repeat."""
    rising = Rising()
    assert rising.goes_on([])
    assert rising.goes_on([1, 2])
    assert rising.goes_on([3])
    assert rising.goes_on([])
    assert not rising.goes_on([3, 4])
    assert not Rising().goes_on([2, 1])
    assert not Rising().goes_on([1, None])
    assert not Rising().goes_on([1, "2"])


def test_met_keys_are_exact():
    """Numbers and texts that look alike are different keys."""
    with scratch() as database:
        met = KeySet(database)
        assert met.fresh([1, "1", b"1", None]) == [True] * 4
        assert met.fresh([2, 1, "1", None, 2]) == [True, False, False, True, False]


def test_the_later_of_two_versions_in_one_run_wins(tmp_path):
    """A record that changed while the list was read is given as it was received last, in its
    place.
    """
    project = write_project(tmp_path / "p", "http://127.0.0.1:1/")
    pages = [[{"id": 1, "v": 1}, {"id": 2, "v": 1}], [{"id": 1, "v": 2}, {"id": 3, "v": 1}]]
    store_run(project, pages)
    with open_archive(project.place) as archive:
        found = [record for batch in state(project, archive) for record in batch]
    assert [(record["id"], record["v"]) for record in found] == [(1, 2), (2, 1), (3, 1)]
