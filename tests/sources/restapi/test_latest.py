"""Each key once, whatever order and type keys have."""

from __future__ import annotations

import json
import random
import zipfile

import pytest

from holdfast.sources.restapi.kept.archive import open_archive
from holdfast.sources.restapi.kept.keycount import KeyCount
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


@pytest.mark.parametrize("key", ["id", "code", "a.b"])
@pytest.mark.parametrize("data_key", ["data", "result.rows", None])
@pytest.mark.parametrize("again", [None, 3, 250])
def test_repetitions_in_what_nobody_counted_are_found(tmp_path, key, data_key, again):
    """An archive of another program: records are given once each, the last version of those that
    come again, whatever their keys are like.
    """
    project = write_project(
        tmp_path / "p", "http://127.0.0.1:1/x", data={"data_key": data_key, "item_key": key}
    )
    keyed = {
        "id": lambda n: {"id": n},
        "code": lambda n: {"code": f"{n * 7919 % 1000:x}"},
        "a.b": lambda n: {"a": {"b": n}},
    }[key]
    rows = [{**keyed(n), "version": 1} for n in range(300)]
    if again is not None:
        rows += [{**keyed(again), "version": 2}, {"version": "no key"}]
    project.place.folder.mkdir(parents=True)
    with zipfile.ZipFile(project.place.pages, "w") as archive:
        for page in range(0, len(rows), 100):
            document = rows[page : page + 100]
            for part in reversed((data_key or "").split(".") if data_key else []):
                document = {part: document}
            archive.writestr(f"page_{page // 100 + 1}.json", json.dumps(document))
    with open_archive(project.place) as archive:
        found = [record for batch in state(project, archive) for record in batch]
    expected = rows[:300]
    if again is not None:
        expected[again] = rows[300]
        expected += rows[301:]
    assert found == expected


def test_different_keys_are_counted_beyond_memory():
    """Numbers, texts and others, some of them again, in many batches and between counts."""
    count, seen = KeyCount(), set()
    draw = random.Random(3)
    for _ in range(60):
        numbers = [draw.randrange(40_000) for _ in range(1000)]
        count.add(numbers)
        count.add(map(str, numbers[:200]))
        count.add((number, None) for number in numbers[:50])
        seen |= {*numbers, *map(str, numbers[:200]), *((n, None) for n in numbers[:50])}
        if draw.random() < 0.1:
            assert count.distinct() == len(seen)
    assert count.distinct() == len(seen)
    count.close()
