"""A store that shows what was stored, and what is gone, up to a minute late (F12)."""

from __future__ import annotations

import random
from contextlib import contextmanager, suppress
from dataclasses import replace

import pytest

from holdfast.core.errors import LockedError
from holdfast.core.progress import Silence
from holdfast.repo.lock import LAG, REFRESH, acquire
from holdfast.repo.repository import Repository
from holdfast.repo.upkeep.check import ALL, check
from holdfast.repo.upkeep.forget import forget
from holdfast.repo.upkeep.prune import prune
from holdfast.repo.upkeep.prune_plan import PruneOptions, UnusedLimit
from holdfast.store.contract import FileKind
from holdfast.store.memory import MemoryStore
from holdfast.store.wrapped import WrappedStore
from holdfast.testing.fake_clock import FakeClock
from holdfast.testing.memory_source import File

SILENCE = Silence()


class LateStore(WrappedStore):
    """Each object is listed between 1 and 60 s after it was stored, and is listed and can be read
    for as long after it was removed. Stored objects can be read at once. `between` is called with
    the number of each call before that is made.
    """

    def __init__(self, inner, clock, seed):
        super().__init__(inner)
        self.clock = clock
        self.random = random.Random(seed)
        self.shown_from = {}
        self.ghosts = {}
        self.calls = 0
        self.between = lambda _: None
        self.held = []

    @property
    def properties(self):
        return replace(self.inner.properties, local=False, forkable=False)

    def _tick(self):
        self.clock.advance(0.02)
        self.calls += 1
        self.between(self.calls)
        for lock in list(self.held):  # as the thread of each program does it
            if lock.age > REFRESH and not lock._guard.locked():
                self.held.remove(lock)
                lock.refresh()
                self.held.append(lock)

    def _later(self):
        return self.clock.monotonic() + self.random.uniform(1, LAG)

    def put(self, kind, name, data):
        self._tick()
        self.inner.put(kind, name, data)
        self.shown_from[kind, name] = self._later()

    def remove(self, kind, name):
        self._tick()
        stat, data = self.inner.stat(kind, name), self.inner.get(kind, name)
        self.inner.remove(kind, name)
        self.ghosts[kind, name] = (self._later(), stat, data)

    def list(self, kind):
        self._tick()
        now = self.clock.monotonic()
        for item in list(self.inner.list(kind)):
            if self.shown_from.get((kind, item.name), 0) <= now:
                yield item
        for (ghost, _), (until, stat, _) in list(self.ghosts.items()):
            if ghost is kind and now < until:
                yield stat

    def _ghost(self, kind, name):
        until, _, data = self.ghosts.get((kind, name), (0, None, None))
        return data if self.clock.monotonic() < until else None

    def get(self, kind, name):
        self._tick()
        ghost = self._ghost(kind, name)
        return self.inner.get(kind, name) if ghost is None else ghost

    def get_range(self, kind, name, offset, length):
        self._tick()
        ghost = self._ghost(kind, name)
        if ghost is None:
            return self.inner.get_range(kind, name, offset, length)
        start = offset if offset >= 0 else len(ghost) + offset
        return ghost[start : start + length]

    def stat(self, kind, name):
        self._tick()
        return self.inner.stat(kind, name)


class World:
    """A repository on such a store, programs that work on it, and what was acknowledged."""

    def __init__(self, story, back_up_tree, seed):
        self.clock = FakeClock()
        self.plain = MemoryStore(clock=self.clock)
        self.key = story(self.plain, days=5, seed=seed, files=4).objects.key
        self.store = LateStore(self.plain, self.clock, seed)
        self.random = random.Random(seed)
        self._back_up_tree = back_up_tree
        self.content = self.random.randbytes(700)

    def opened(self):
        return Repository.unlocked(self.store, self.key, clock=self.clock)

    @contextmanager
    def locked(self, repository, *, exclusive):
        lock = acquire(repository.objects, exclusive=exclusive, clock=self.clock)
        self.store.held.append(lock)
        try:
            yield lock
        finally:
            self.store.held.remove(lock)
            lock.release()

    def back_up(self):
        """A run of its own program; nothing where somebody else is at work."""
        repository = self.opened()
        with suppress(LockedError), self.locked(repository, exclusive=False) as lock:
            # The same content each time: it relies on what an earlier one has stored.
            tree = {b"data": {b"same": File(self.content), b"new": self.random.randbytes(50)}}
            self._back_up_tree(repository, tree, time=self.clock.now(), lock=lock)

    def prune(self, *, keep):
        """Forgets all but the last snapshots that it sees, and prunes."""
        repository = self.opened()
        with suppress(LockedError), self.locked(repository, exclusive=True) as lock:
            seen = sorted(repository.snapshots([]), key=lambda s: s.time)
            forget(repository, [s.id for s in seen[:-keep]], lock=lock, progress=SILENCE)
            options = PruneOptions(max_unused=UnusedLimit.parse("0"))
            prune(repository, options, lock=lock, progress=SILENCE, workers=0)

    def require_whole(self):
        """Every snapshot that was not forgotten can be read, byte for byte; no lock is left."""
        self.clock.advance(10 * LAG)
        plain = Repository.unlocked(self.plain, self.key, clock=self.clock)
        report = check(plain, read=ALL, lock=None, progress=SILENCE, workers=0)
        assert report.sound, [finding.message for finding in report.findings]
        assert list(self.plain.list(FileKind.LOCK)) == []
        return len(list(plain.snapshots()))


@pytest.fixture
def world(story, back_up_tree):
    def make(seed):
        return World(story, back_up_tree, seed)

    return make


def calls_of(world, seed, act):
    """How many calls one run of `act` makes."""
    one = world(seed)
    act(one)
    return one.store.calls


def interrupted(world, seed, number, outer, inner):
    """A run of `outer`, with a run of `inner` before its call of this number."""
    one = world(seed)

    def between(call):
        if call == number:
            one.store.between = lambda _: None
            inner(one)

    one.store.between = between
    outer(one)
    assert one.store.calls > number
    return one


def prune_two(world):
    world.prune(keep=2)


def back_up(world):
    world.back_up()


@pytest.mark.parametrize("seed", range(2))
def test_a_backup_at_any_moment_of_a_prune(world, seed):
    """I1, I3, F12: it either waits for another time or is whole; nothing it relies on goes."""
    last = calls_of(world, seed, prune_two)
    made = set()
    for number in range(1, last, 3):
        made.add(interrupted(world, seed, number, prune_two, back_up).require_whole())
    assert made == {2, 6}  # the prune was refused where the backup was first


@pytest.mark.parametrize("seed", range(2))
def test_a_prune_at_any_moment_of_a_backup(world, seed):
    """I1, I3, F12: the other way round."""
    last = calls_of(world, seed, back_up)
    for number in range(1, last, 2):
        interrupted(world, seed, number, back_up, prune_two).require_whole()


@pytest.mark.parametrize("seed", range(5))
def test_one_after_another_without_a_pause(world, seed):
    """I1, F12: what was stored or removed a moment ago is not in the listings, and nothing comes of
    it.
    """
    one = world(seed)
    for _ in range(6):
        one.random.choice([back_up, back_up, prune_two])(one)
    assert one.require_whole() >= 2


def test_a_lock_is_seen_all_the_time(world):
    """However often its file was replaced, some file of it is in every listing from a minute on."""
    one = world(1)
    repository = one.opened()
    held = acquire(repository.objects, exclusive=True, clock=one.clock)
    for _ in range(300):
        with pytest.raises(LockedError):
            acquire(repository.objects, exclusive=False, clock=one.clock)
        one.clock.advance(1)
        if held.age > REFRESH:
            held.refresh()
    held.release()
    assert list(one.plain.list(FileKind.LOCK)) == []


def test_a_store_that_lists_at_once_is_not_waited_for(story):
    """Nor are its locks left behind."""
    clock = FakeClock()
    store = MemoryStore(clock=clock)
    repository = story(store)
    lock = acquire(repository.objects, exclusive=True, clock=clock)
    assert clock.slept < 1
    lock.refresh()
    assert len(list(store.list(FileKind.LOCK))) == 1
