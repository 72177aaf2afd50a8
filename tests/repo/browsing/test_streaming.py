"""Giving content out: the very bytes, any range of them, authenticated, by a few shared threads."""

from __future__ import annotations

import io
import random
import threading
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.core.errors import (
    ClosedError,
    PathNotFoundError,
    UnreadableError,
    UsageError,
)
from holdfast.core.progress import Silence
from holdfast.core.secret import Secret
from holdfast.repo.browsing import streaming
from holdfast.repo.browsing.streaming import AHEAD, ReadPool, open_file, open_node
from holdfast.repo.format.pack import BlobKind
from holdfast.repo.repository import Repository
from holdfast.repo.saving.backup import BackupOptions, back_up
from holdfast.repo.saving.sealing import SealingPlan
from holdfast.repo.upkeep.prune import prune
from holdfast.repo.upkeep.prune_plan import PruneOptions, UnusedLimit
from holdfast.store.contract import FileKind
from holdfast.store.memory import MemoryStore
from holdfast.store.wrapped import WrappedStore
from holdfast.testing.hostile_trees import Forger
from holdfast.testing.memory_source import MemorySource

MIB = 1 << 20
PASSWORD = Secret("secret")


class _Nobody:
    def item(self, action, path, kind, size):
        pass

    def problem(self, problem):
        raise AssertionError(problem)

    def progress(self, counts, current):
        pass


def _kept(tree, store=None):
    """A repository and the tree of its one snapshot."""
    repository = Repository.init(store or MemoryStore(), PASSWORD)
    snapshot = _back_up(repository, tree)
    return repository, snapshot.tree


def _back_up(repository, tree):
    options = BackupOptions(hostname="h", sealing=SealingPlan(workers=0))
    source = MemorySource({b"data": tree})
    return back_up(repository, source, options, observer=_Nobody(), lock=None).snapshot


CONTENT = random.Random(1).randbytes(9 * MIB) + bytes(3 * MIB) + b"text " * 200_000
SMALL = {b"f%d" % n: b"%d" % n * n for n in range(40)}


@pytest.fixture(scope="module")
def kept():
    return _kept({b"large": CONTENT, b"empty": b"", b"d": SMALL})


@pytest.fixture
def pool(kept):
    with ReadPool(kept[0]) as pool:
        yield pool


@pytest.fixture(scope="module")
def large(kept):
    with ReadPool(kept[0]) as pool:
        yield open_file(pool, kept[1], b"/data/large")


def test_a_file_is_given_whole(kept, pool):
    """I4: size at once, then the very bytes."""
    stream = open_file(pool, kept[1], b"data//large")
    assert stream.size == len(CONTENT)
    assert b"".join(stream.pieces()) == CONTENT
    assert list(open_file(pool, kept[1], b"/data/empty").pieces()) == []
    for name, content in SMALL.items():
        assert b"".join(open_file(pool, kept[1], b"/data/d/" + name).pieces()) == content


@settings(max_examples=60, deadline=None)
@given(st.integers(0, len(CONTENT)), st.integers(0, len(CONTENT)))
def test_a_range_is_that_part(large, one, other):
    """Whatever its ends: in a blob, between two, at the ends of the file."""
    start, stop = sorted((one, other))
    with large.pieces(start, stop) as pieces:
        assert b"".join(pieces) == CONTENT[start:stop]


def test_ranges_that_are_none_are_refused(large):
    for start, stop in ((-1, 5), (5, 4), (0, len(CONTENT) + 1), (len(CONTENT) + 1, None)):
        with pytest.raises(ValueError, match="there are no bytes"):
            large.pieces(start, stop)


def test_what_is_no_file_is_told(kept, pool):
    with pytest.raises(PathNotFoundError):
        open_file(pool, kept[1], b"/data/nowhere")
    with pytest.raises(UsageError):
        open_file(pool, kept[1], b"/data")
    with pytest.raises(UsageError):
        open_node(pool, kept[0].load_tree(kept[1])[0])


def test_asking_gives_the_same_without_waiting(large):
    parts = []
    pieces = large.pieces(5, len(CONTENT) - 7)
    while piece := pieces.ask().result(20):
        parts.append(piece)
    assert b"".join(parts) == CONTENT[5:-7]
    assert pieces.ask().result(20) == b""


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.integers(0, len(CONTENT)), st.integers(0, 700_000)), max_size=8))
def test_as_a_file_it_can_be_read_anywhere(large, reads):
    with large.as_file() as file:
        for at, count in reads:
            assert file.seek(at) == at
            assert file.read(count) == CONTENT[at : at + count]
            assert file.tell() == min(at + count, max(len(CONTENT), at))
        assert file.seek(-3, io.SEEK_END) == len(CONTENT) - 3
        assert file.read() == CONTENT[-3:]


def test_leaving_early_leaves_nothing(kept):
    """Reading on stops, and no thread outlives the pool."""
    before = threading.active_count()
    with ReadPool(kept[0]) as pool:
        for _ in range(50):
            with open_file(pool, kept[1], b"/data/large").pieces() as pieces:
                next(pieces)
        assert threading.active_count() <= before + 2
        assert pool._held == 0
        left = open_file(pool, kept[1], b"/data/large").pieces()
        next(left)
    assert threading.active_count() == before
    with pytest.raises(ClosedError):
        list(left)


class Slow(WrappedStore):
    """Counts what is read of packs."""

    def __init__(self, inner):
        super().__init__(inner)
        self.reads = 0

    def get_range(self, kind, name, offset, length):
        self.reads += kind is FileKind.PACK
        return super().get_range(kind, name, offset, length)


def test_who_is_slow_holds_little(kept):
    """A consumer that does not ask has one batch waiting, not the whole file; many of them
    together stay within the memory of the pool.
    """
    store = Slow(kept[0].store)
    repository = Repository.unlocked(store, kept[0].objects.key)
    with ReadPool(repository) as pool:
        pieces = open_file(pool, kept[1], b"/data/large").pieces()
        store.reads = 0
        for _ in range(4):
            next(pieces)
            time.sleep(0.2)  # slower than the repository
        assert store.reads <= 4 + 2
        pieces.close()
    with ReadPool(repository, memory=0) as pool:
        stream = open_file(pool, kept[1], b"/data/large")
        store.reads = 0
        readers = [stream.pieces() for _ in range(20)]
        for reader in readers:
            next(reader)
        time.sleep(0.2)
        assert store.reads <= 2 * len(readers)
        assert AHEAD > 2
        for reader in readers:
            assert b"".join(reader) == CONTENT[-len(CONTENT) :][len(next(stream.pieces())) :]


def test_a_damaged_blob_is_an_error_and_never_content(kept):
    """I4: what does not have the digest of its name is not given, nor is anything after it."""
    store = MemoryStore()
    repository, tree = _kept({b"large": CONTENT}, store)
    (pack, size) = max(((p.name, p.size) for p in store.list(FileKind.PACK)), key=lambda p: p[1])
    content = bytearray(store.get(FileKind.PACK, pack))
    content[size // 2] ^= 1
    store._objects[FileKind.PACK, pack] = bytes(content), 0
    with ReadPool(repository) as pool:
        got = []
        pieces = open_file(pool, tree, b"/data/large").pieces()
        with pytest.raises(UnreadableError):
            got.extend(pieces)
        with pytest.raises(ClosedError):  # and not an end, which could be taken for the file's
            next(pieces)
    assert CONTENT.startswith(b"".join(got))
    assert len(b"".join(got)) < len(CONTENT)


def test_a_blob_that_lies_twice_is_read_where_it_is_whole():
    """One of two places is damaged: the other gives it."""
    store = MemoryStore()
    repository, tree = _kept({b"a": CONTENT[: 3 * MIB]}, store)
    (old,) = [p.name for p in store.list(FileKind.PACK) if p.size > MIB]
    with ReadPool(repository) as pool:
        blobs = list(open_file(pool, tree, b"/data/a").node.blobs())
    for blob in blobs:
        Forger(repository).blob(repository.load_blob(blob, BlobKind.DATA))
    content = bytearray(store.get(FileKind.PACK, old))
    content[100] ^= 1
    store._objects[FileKind.PACK, old] = bytes(content), 0
    with ReadPool(repository) as pool:
        assert b"".join(open_file(pool, tree, b"/data/a").pieces()) == CONTENT[: 3 * MIB]


def test_a_prune_in_between_is_noticed():
    """I2: packs are repacked while a file is given: the reader goes on with the new ones, and a
    pool that was open before finds trees and files.
    """
    store = MemoryStore()
    repository, first = _kept({b"a": CONTENT, b"b": random.Random(5).randbytes(6 * MIB)}, store)
    second = _back_up(repository, {b"a": CONTENT}).tree
    served = Repository.unlocked(store, repository.objects.key)
    with ReadPool(served) as pool:
        pieces = open_file(pool, second, b"/data/a").pieces()
        got = next(pieces)
        (old,) = [s for s in repository.snapshots() if s.tree == first]
        store.remove(FileKind.SNAPSHOT, old.id)
        before = {p.name for p in store.list(FileKind.PACK)}
        lock = _exclusive(repository)
        options = PruneOptions(max_unused=UnusedLimit(size=0))
        prune(repository, options, lock=lock, progress=Silence(), workers=0)
        lock.release()
        assert not before & {p.name for p in store.list(FileKind.PACK) if p.size > MIB}
        assert got + b"".join(pieces) == CONTENT
        assert b"".join(open_file(pool, second, b"/data/a").pieces()) == CONTENT


def _exclusive(repository):
    from holdfast.repo.lock import acquire

    return acquire(repository.objects, exclusive=True, clock=repository.clock)


def test_many_readers_at_once(kept):
    failures = []
    with ReadPool(kept[0], memory=4 * MIB) as pool:
        stream = open_file(pool, kept[1], b"/data/large")

        def read(seed):
            rnd = random.Random(seed)
            for _ in range(5):
                start = rnd.randrange(len(CONTENT))
                stop = min(start + rnd.randrange(3 * MIB), len(CONTENT))
                if b"".join(stream.pieces(start, stop)) != CONTENT[start:stop]:
                    failures.append((start, stop))

        threads = [threading.Thread(target=read, args=(n,)) for n in range(10)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert pool._held == 0
    assert not failures


def test_an_index_that_claims_too_much_is_refused(kept, monkeypatch):
    """No memory is spent on what a forged index claims."""
    monkeypatch.setattr(streaming, "_MAX_SEALED", 1000)
    with ReadPool(kept[0]) as pool, pytest.raises(UnreadableError, match="claims"):
        open_file(pool, kept[1], b"/data/large")
