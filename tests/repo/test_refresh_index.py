"""A repository that stays open notices what others store and prune."""

from __future__ import annotations

from holdfast.core.progress import Silence
from holdfast.core.secret import Secret
from holdfast.repo.format.pack import BlobKind
from holdfast.repo.repository import Repository
from holdfast.repo.upkeep.prune import prune
from holdfast.repo.upkeep.prune_plan import PruneOptions
from holdfast.store.contract import FileKind
from holdfast.store.memory import MemoryStore
from holdfast.testing.faulty_store import FaultyStore


def _blobs(repository):
    return {blob.id for _, blobs in repository.index.by_pack() for blob in blobs}


def test_what_others_stored_is_added_by_reading_only_that(story, back_up_tree, reopen):
    store = FaultyStore(MemoryStore())
    repository = story(store, days=2)
    other = reopen(repository, store)
    before = _blobs(other)
    back_up_tree(repository, {b"data": {b"new": b"something new"}})
    store.calls.clear()
    assert other.refresh_index() is False
    assert _blobs(other) == _blobs(repository) > before
    new = {call.name for call in store.calls if call.method == "get"}
    assert len(new) == 1
    store.calls.clear()
    assert other.refresh_index() is False
    assert [call.method for call in store.calls] == ["list"]


def test_its_own_index_files_are_not_read_again(story, back_up_tree):
    store = FaultyStore(MemoryStore())
    repository = story(store, days=1)
    repository.refresh_index()
    back_up_tree(repository, {b"data": {b"new": b"something new"}})
    store.calls.clear()
    assert repository.refresh_index() is False
    assert not [call for call in store.calls if call.method == "get"]


def test_what_was_pruned_is_no_longer_known(story, reopen, exclusive):
    """I1: a blob that a prune let go of may not be taken for stored."""
    repository = story(MemoryStore(), days=3)
    stays_open = reopen(repository, repository.store)
    before = _blobs(stays_open)
    for item in list(repository.store.list(FileKind.SNAPSHOT)):
        repository.store.remove(FileKind.SNAPSHOT, item.name)
    prune(repository, PruneOptions(), lock=exclusive(repository), progress=Silence(), workers=0)
    assert stays_open.refresh_index() is True
    assert before
    assert not _blobs(stays_open)
    assert not any(stays_open.index.contains_many(b"".join(before), BlobKind.DATA))


def test_an_index_put_in_its_place_is_not_relied_on(story, reopen):
    repository = story(MemoryStore(), days=1)
    other = reopen(repository, repository.store)
    other.index = type(repository.index)()
    assert other.refresh_index() is True
    assert _blobs(other) == _blobs(repository)


def test_an_empty_index_is_loaded_once():
    """Asking for it again costs nothing, also where there is nothing in it."""
    store = FaultyStore(MemoryStore())
    repository = Repository.init(store, Secret("secret"))
    assert not _blobs(repository)
    store.calls.clear()
    index = repository.index
    assert repository.index is index
    assert not store.calls
