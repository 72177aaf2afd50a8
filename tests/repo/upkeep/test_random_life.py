from __future__ import annotations

import random
from contextlib import suppress

import pytest

from holdfast.core.errors import HoldfastError
from holdfast.core.progress import Silence
from holdfast.core.secret import Secret
from holdfast.repo.repository import Repository
from holdfast.repo.upkeep.check import ALL, check
from holdfast.repo.upkeep.copy import copy_snapshots
from holdfast.repo.upkeep.forget import forget, retag
from holdfast.repo.upkeep.inventory import take_inventory
from holdfast.repo.upkeep.prune import prune
from holdfast.repo.upkeep.prune_plan import PruneOptions, UnusedLimit
from holdfast.repo.upkeep.repack import repack
from holdfast.repo.upkeep.repair import repair_index
from holdfast.store.contract import FileKind
from holdfast.store.directory import DirectoryStore
from holdfast.store.memory import MemoryStore
from holdfast.testing.fake_clock import FakeClock
from holdfast.testing.faulty_store import FaultyStore, Trouble, at_random
from holdfast.testing.memory_source import File

SILENCE = Silence()
PASSWORD = Secret("secret")


class _Life:
    """A repository that goes through random acts, and what its snapshots must hold."""

    def __init__(self, store, clock, rnd, tools):
        self.clock = clock
        self.store = store
        self.rnd = rnd
        self.back_up_tree, self.kept, self.exclusive = tools
        version = rnd.choice([1, 2])
        self.repository = Repository.init(store, PASSWORD, version=version, clock=clock)
        self.tree = {b"data": {b"a": {}, b"b": {}}}
        self.model = {}
        self.days = 0

    def again(self, store=None):
        """As another process opens it, on a store that may be faulty."""
        key = self.repository.objects.key
        return Repository.unlocked(store or self.store, key, clock=self.clock)

    def act(self):
        acts = [self.back_up] * 4 + [self.forget] * 2 + [self.prune] * 3
        acts += [self.retag, self.repair, self.duplicate, self.leave_orphans, self.copy, self.fail]
        self.rnd.choice(acts)()
        self.clock.advance(self.rnd.choice([1, 3600, 86400]))

    def back_up(self):
        for _ in range(self.rnd.randint(0, 4)):
            folder = self.tree[b"data"][self.rnd.choice([b"a", b"b"])]
            name = b"f%d" % self.rnd.randint(0, 5)
            if name in folder and self.rnd.random() < 0.3:
                del folder[name]
            else:
                body = self.rnd.randbytes(self.rnd.randint(0, 300)) * self.rnd.randint(1, 3)
                folder[name] = File(body, mtime=self.clock.now())
        repository = self.again()
        snapshot = self.back_up_tree(repository, self.tree, time=self.clock.now(), allow_empty=True)
        self.model[snapshot.id] = self.kept(repository)[snapshot.id]

    def forget(self):
        names = self.rnd.sample(sorted(self.model), min(len(self.model), self.rnd.randint(0, 3)))
        repository = self.again()
        forget(repository, names, lock=self.exclusive(repository), progress=SILENCE)
        for name in names:
            del self.model[name]

    def options(self):
        return PruneOptions(
            max_unused=UnusedLimit.parse(self.rnd.choice(["0", "5%", "unlimited", "1k"])),
            max_repack=self.rnd.choice([None, None, 0, 2000]),
            cacheable_only=self.rnd.random() < 0.1,
            small=self.rnd.random() < 0.3,
            uncompressed=self.rnd.random() < 0.2,
            grace=self.rnd.choice([0.0, 0.0, 7200.0, 90000.0]),
        )

    def prune(self):
        repository = self.again()
        lock = self.exclusive(repository)
        prune(repository, self.options(), lock=lock, progress=SILENCE, workers=0)

    def retag(self):
        repository = self.again()
        snapshots = [s for s in repository.snapshots() if self.rnd.random() < 0.5]
        tag = self.rnd.choice(["x", "y"])
        lock = self.exclusive(repository)
        for change in retag(repository, snapshots, lock=lock, add=[tag]):
            self.model[change.new.id] = self.model.pop(change.old)

    def repair(self):
        repository = self.again()
        if self.rnd.random() < 0.5:
            for item in list(self.store.list(FileKind.INDEX)):
                if self.rnd.random() < 0.5:
                    self.store.remove(FileKind.INDEX, item.name)
        lock = self.exclusive(repository)
        repair_index(repository, lock=lock, progress=SILENCE, workers=0)

    def _repacked(self):
        repository = self.again()
        packs = dict(take_inventory(repository).table.by_pack())
        some = {pack: blobs for pack, blobs in packs.items() if self.rnd.random() < 0.4}
        new = repack(repository, some, pack_size=1 << 20, progress=SILENCE, workers=0)
        return repository, new.packs

    def duplicate(self):
        """As two writers at once leave it."""
        repository, packs = self._repacked()
        repository.save_index(packs)

    def leave_orphans(self):
        """As a killed writer leaves it."""
        self._repacked()

    def copy(self):
        other = Repository.init(MemoryStore(), PASSWORD)
        copy_snapshots(
            self.again(), other, self.again().snapshots(), lock=None, progress=SILENCE, workers=0
        )
        copies = self.kept(other)
        assert sorted(map(str, copies.values())) == sorted(map(str, self.model.values()))

    def fail(self):
        """A prune on a store that fails now and then."""
        troubles = {Trouble.BUSY, Trouble.BUSY_AFTER, Trouble.FULL, Trouble.BROKEN, Trouble.WRONG}
        plan = at_random(self.rnd.randrange(10**6), 0.05, troubles)
        repository = self.again()
        lock = self.exclusive(repository)
        with suppress(HoldfastError):
            faulty = self.again(FaultyStore(self.store, plan))
            prune(faulty, self.options(), lock=lock, progress=SILENCE, workers=0)

    def assert_whole(self):
        repository = self.again()
        assert self.kept(repository) == self.model
        report = check(repository, read=ALL, lock=None, progress=SILENCE, workers=0)
        assert report.sound, report.findings


@pytest.fixture
def lifes_tools(back_up_tree, kept, exclusive):
    return back_up_tree, kept, exclusive


def _live(seed, store, clock, tools):
    life = _Life(store, clock, random.Random(seed), tools)
    for _ in range(14):
        life.act()
        life.assert_whole()
    return life


@pytest.mark.parametrize("seed", range(15))
def test_no_sequence_of_acts_loses_a_byte(seed, lifes_tools):
    """I1-I3, I5: backups, forgetting, prunes with and without grace, repairs, twins, orphans and a
    failing store in any order: after each, every snapshot holds just what it held.
    """
    clock = FakeClock(now=1_700_000_000 * 10**9)
    _live(seed, MemoryStore(clock=clock), clock, lifes_tools)


@pytest.mark.long
@pytest.mark.parametrize("block", range(40))
def test_no_sequence_of_acts_loses_a_byte_in_a_thousand_lives(block, lifes_tools):
    """The same, many times over."""
    for seed in range(1000 + block * 25, 1000 + (block + 1) * 25):
        clock = FakeClock(now=1_700_000_000 * 10**9)
        _live(seed, MemoryStore(clock=clock), clock, lifes_tools)


@pytest.mark.interop
@pytest.mark.parametrize("seed", [101, 102])
def test_restic_accepts_what_a_random_life_leaves(seed, tmp_path, lifes_tools, stock_restic):
    """I6: stock restic finds no error, and reads the same snapshots."""
    clock = FakeClock(now=1_700_000_000 * 10**9)
    life = _live(seed, DirectoryStore(tmp_path, clock=clock), clock, lifes_tools)
    for item in list(life.store.list(FileKind.LOCK)):
        life.store.remove(FileKind.LOCK, item.name)
    stock_restic(tmp_path)("check", "--read-data")
