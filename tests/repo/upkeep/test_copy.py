from __future__ import annotations

import json

import pytest

from holdfast.core.progress import Silence
from holdfast.core.secret import Secret
from holdfast.repo.repository import Repository
from holdfast.repo.upkeep.check import ALL, check
from holdfast.repo.upkeep.copy import copy_snapshots, same_polynomial
from holdfast.store.contract import FileKind
from holdfast.store.directory import DirectoryStore
from holdfast.store.memory import MemoryStore

SILENCE = Silence()
PASSWORD = Secret("secret")


def _copy(source, destination, snapshots=None, workers=0):
    return copy_snapshots(
        source,
        destination,
        source.snapshots() if snapshots is None else snapshots,
        lock=None,
        progress=SILENCE,
        workers=workers,
    )


@pytest.mark.parametrize("versions", [(2, 2), (1, 2), (2, 1)])
@pytest.mark.parametrize("workers", [0, 2])
def test_copies_hold_every_byte(story, kept, tmp_path, versions, workers):
    """I1: between repositories of any versions, under another key, each copy reads as its
    origin.
    """
    source = story(DirectoryStore(tmp_path / "a"), version=versions[0])
    destination = Repository.init(DirectoryStore(tmp_path / "b"), PASSWORD, version=versions[1])
    report = _copy(source, destination, workers=workers)
    before, after = kept(source), kept(destination)
    assert {c.source for c in report.snapshots} == set(before)
    for copied in report.snapshots:
        assert after[copied.copy] == before[copied.source]
        file = destination.load_snapshot(copied.copy).file
        assert file.original == copied.source
        assert file.parent is None
    assert check(destination, read=ALL, lock=None, progress=SILENCE, workers=0).findings == []


def test_what_is_there_is_not_copied_again(story):
    """A second copy stores nothing; a new snapshot brings only what is new."""
    source = story(MemoryStore())
    destination = Repository.init(MemoryStore(), PASSWORD)
    newest = max(source.snapshots(), key=lambda s: s.time)
    some = [s for s in source.snapshots() if s.id != newest.id]
    first = _copy(source, destination, some)
    assert not any(copied.skipped for copied in first.snapshots)
    again = _copy(source, destination, some)
    assert all(copied.skipped for copied in again.snapshots)
    assert (again.blobs, again.bytes) == (0, 0)
    rest = _copy(source, destination)
    assert [c.source for c in rest.snapshots if not c.skipped] == [newest.id]
    assert 0 < rest.blobs < first.blobs


def test_a_copy_of_a_copy_keeps_the_first_name(story):
    """`original` is the name that the snapshot had at first, so copying back copies nothing."""
    source = story(MemoryStore(), days=1)
    middle = Repository.init(MemoryStore(), PASSWORD)
    last = Repository.init(MemoryStore(), PASSWORD)
    [first] = _copy(source, middle).snapshots
    [second] = _copy(middle, last).snapshots
    assert last.load_snapshot(second.copy).file.original == first.source
    assert all(copied.skipped for copied in _copy(last, source).snapshots)


def test_a_killed_copy_leaves_nothing_half_and_the_next_one_finishes(
    story, kept, clone, reopen, killed_everywhere
):
    """I1, I5: dead at any change, every snapshot in the destination is whole."""
    source = story(MemoryStore(), days=2, files=3)
    everything = sorted(map(str, kept(source).values()))
    destination = Repository.init(MemoryStore(), PASSWORD)

    def act(store):
        _copy(source, reopen(destination, store))

    for left in killed_everywhere(destination.store, act):
        survivor = reopen(destination, left)
        assert set(map(str, kept(survivor).values())) <= set(everything)
        assert check(survivor, read=ALL, lock=None, progress=SILENCE, workers=0).sound
        _copy(source, reopen(destination, left))
        assert sorted(map(str, kept(survivor).values())) == everything


def test_content_is_cut_alike_where_the_polynomial_was_taken_over(story):
    """`init --copy-chunker-params`."""
    source = story(MemoryStore(), days=1)
    twin = Repository.init(MemoryStore(), PASSWORD, polynomial=source.config.polynomial)
    assert same_polynomial(source, twin)
    assert not same_polynomial(source, Repository.init(MemoryStore(), PASSWORD))


@pytest.mark.interop
def test_restic_accepts_our_copies_and_skips_them(story, stock_restic, tmp_path):
    """I6: restic checks a copy of ours, and its own copy finds that all is there already."""
    source = story(DirectoryStore(tmp_path / "a"), days=3)
    destination = Repository.init(DirectoryStore(tmp_path / "b"), PASSWORD)
    _copy(source, destination)
    restic = stock_restic(tmp_path / "b")
    restic("check", "--read-data")
    (tmp_path / "p").write_text("secret")
    words = ("copy", "--from-repo", tmp_path / "a", "--from-password-file", tmp_path / "p")
    answer = restic(*words)
    assert answer.count("was already copied") == 3
    assert len(json.loads(restic("snapshots", "--json"))) == 3
    third = tmp_path / "c"
    restic = stock_restic(third)
    restic("init")
    restic(*words)
    theirs = Repository.open(DirectoryStore(third), PASSWORD)
    assert all(copied.skipped for copied in _copy(source, theirs).snapshots)
    assert len(list(theirs.store.list(FileKind.SNAPSHOT))) == 3
