"""Small repositories with a history, what they hold, and stores that die."""

from __future__ import annotations

import random

import pytest

from holdfast.core.progress import Silence
from holdfast.core.secret import Secret
from holdfast.repo.format.pack import BlobKind
from holdfast.repo.format.tree import blob_id
from holdfast.repo.lock import Lock
from holdfast.repo.repository import Repository
from holdfast.repo.saving.backup import BackupOptions, back_up
from holdfast.repo.saving.sealing import SealingPlan
from holdfast.store.contract import FileKind
from holdfast.store.memory import MemoryStore
from holdfast.store.wrapped import WrappedStore
from holdfast.testing.memory_source import File, MemorySource

PASSWORD = Secret("secret")
DAY = 86400 * 10**9
FIRST_DAY = 1_600_000_000 * 10**9


class _Nobody:
    def item(self, action, path, kind, size):
        pass

    def problem(self, problem):
        pass

    def progress(self, counts, current):
        pass


def _back_up(repository, tree, *, time=None, host="here", lock=None, **options):
    """One snapshot of a tree."""
    return back_up(
        repository,
        MemorySource(tree),
        BackupOptions(hostname=host, time=time, sealing=SealingPlan(workers=0), **options),
        observer=_Nobody(),
        lock=lock,
    ).snapshot


def _content(repository, tree, path=b""):
    found = {}
    for node in repository.load_tree(tree):
        here = path + b"/" + node.raw_name()
        if node.type == "dir":
            found |= _content(repository, blob_id(node.subtree), here)
        else:
            found[here] = b"".join(repository.load_blob(b, BlobKind.DATA) for b in node.blobs())
            assert len(found[here]) == node.size
    return found


def _kept(repository):
    """Every byte of every file of every snapshot, as somebody else reads them."""
    fresh = Repository.unlocked(repository.store, repository.objects.key)
    return {s.id: _content(fresh, s.tree) for s in fresh.snapshots()}


def _story(store, *, days=4, version=2, seed=1, files=6):
    """A repository with one snapshot for each day; a part of the files changes each day."""
    repository = Repository.init(store, PASSWORD, version=version)
    rnd = random.Random(seed)
    tree = {b"data": {b"dir": {}, b"sub": {b"deep": {}}}}
    folders = [tree[b"data"][b"dir"], tree[b"data"][b"sub"][b"deep"]]
    for day in range(days):
        for number in range(files):
            if day == 0 or rnd.random() < 0.5:
                body = rnd.randbytes(rnd.randint(1, 900)) + b"text " * rnd.randint(0, 99)
                folders[number % 2][b"f%d" % number] = File(body, mtime=FIRST_DAY + day * DAY)
        _back_up(repository, tree, time=FIRST_DAY + day * DAY)
    return repository


@pytest.fixture
def back_up_tree():
    return _back_up


@pytest.fixture
def story():
    return _story


@pytest.fixture
def kept():
    return _kept


@pytest.fixture
def silence():
    return Silence()


def _reopen(repository, store):
    return Repository.unlocked(store, repository.objects.key, key_id=repository.key_id)


@pytest.fixture
def reopen():
    """The repository again, on another store that holds the same."""
    return _reopen


@pytest.fixture
def exclusive():
    """A lock, taken whatever others there are: those who held them are dead."""

    def take(repository):
        for item in list(repository.store.list(FileKind.LOCK)):
            repository.store.remove(FileKind.LOCK, item.name)
        return Lock(repository.objects, repository.clock, exclusive=True)

    return take


@pytest.fixture
def clone():
    """All objects of a store in a new one in memory."""

    def copy(store):
        other = MemoryStore()
        for kind in FileKind:
            for item in store.list(kind):
                other.put(kind, item.name, store.get(kind, item.name))
        return other

    return copy


class Killed(BaseException):
    """The process is gone: nothing of it runs any more."""


class MortalStore(WrappedStore):
    """Dies at the n-th change, before or after it was made; then nothing works."""

    def __init__(self, inner, life, *, after):
        super().__init__(inner)
        self.life = life
        self.after = after
        self.dead = False

    @property
    def properties(self):
        from dataclasses import replace

        return replace(self.inner.properties, forkable=False)

    def _change(self, act, *args):
        self._live()
        self.life -= 1
        if self.life == 0:
            self.dead = True
            if self.after:
                act(*args)
            raise Killed
        act(*args)

    def _live(self):
        if self.dead:
            raise Killed

    def put(self, kind, name, data):
        self._change(self.inner.put, kind, name, bytes(data))

    def remove(self, kind, name):
        self._change(self.inner.remove, kind, name)

    def get(self, kind, name):
        self._live()
        return self.inner.get(kind, name)

    def get_range(self, kind, name, offset, length):
        self._live()
        return self.inner.get_range(kind, name, offset, length)

    def list(self, kind):
        self._live()
        return self.inner.list(kind)


@pytest.fixture
def killed_everywhere(clone):
    """Runs `act(store)` on copies of a store, killed before and after each change; yields what each
    left behind.
    """

    def run(store, act):
        for after in (False, True):
            life = 0
            while True:
                life += 1
                mortal = MortalStore(clone(store), life, after=after)
                try:
                    act(mortal)
                except Killed:
                    yield mortal.inner
                else:
                    assert life > 1
                    break

    return run
