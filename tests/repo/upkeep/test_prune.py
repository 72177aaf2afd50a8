from __future__ import annotations

import hashlib
import random
from contextlib import suppress

import pytest

from holdfast.core.errors import (
    DamagedError,
    LockLostError,
    StorageFullError,
    StoreError,
    UnreadableError,
)
from holdfast.core.progress import Silence
from holdfast.repo.format.pack import BlobKind
from holdfast.repo.lock import acquire
from holdfast.repo.pending import pending_packs
from holdfast.repo.repository import Repository
from holdfast.repo.saving.reconcile import distrusted_packs
from holdfast.repo.upkeep.check import ALL, check
from holdfast.repo.upkeep.forget import forget, lock_to_forget
from holdfast.repo.upkeep.inventory import take_inventory
from holdfast.repo.upkeep.prune import prune
from holdfast.repo.upkeep.prune_plan import PruneOptions, UnusedLimit
from holdfast.repo.upkeep.repack import repack
from holdfast.store.contract import FileKind
from holdfast.store.directory import DirectoryStore
from holdfast.store.memory import MemoryStore
from holdfast.testing.fake_clock import FakeClock
from holdfast.testing.faulty_store import FaultyStore, Trouble, always, each_call_failing

TIGHT = PruneOptions(max_unused=UnusedLimit.parse("0"))
SILENCE = Silence()


def _prune(repository, lock, options=TIGHT, workers=0, **more):
    return prune(repository, options, lock=lock, progress=SILENCE, workers=workers, **more)


def _forget_oldest(repository, count):
    for snapshot in sorted(repository.snapshots(), key=lambda s: s.time)[:count]:
        repository.store.remove(FileKind.SNAPSHOT, snapshot.id)


def _check(repository):
    return check(repository, read=ALL, lock=None, progress=SILENCE, workers=0)


def _assert_tidy(repository):
    """Nothing is wrong, and nothing is left over."""
    report = _check(repository)
    assert not [f for f in report.findings if f.kind is not FileKind.LOCK], report.findings


@pytest.mark.parametrize(("version", "workers"), [(1, 0), (2, 0), (2, 2)])
def test_pruning_keeps_every_byte_of_what_was_not_forgotten(
    story, kept, tmp_path, version, workers
):
    """I1, I3: whatever was forgotten goes, and every file of every other snapshot reads as
    before.
    """
    repository = story(DirectoryStore(tmp_path), version=version)
    _forget_oldest(repository, 2)
    before = kept(repository)
    lock = acquire(repository.objects, exclusive=True, clock=repository.clock)
    report = _prune(repository, lock, workers=workers)
    lock.release()
    assert kept(repository) == before
    stored = {item.name for item in repository.store.list(FileKind.PACK)}
    assert {pack.hex() for pack in repository.index.packs()} == stored
    assert report.counts.unused.blobs > 0
    assert report.removed > 0
    _assert_tidy(repository)


def test_pruning_again_finds_nothing_to_do(story, exclusive):
    """A second prune changes nothing: what is repacked once is not repacked forever."""
    repository = story(MemoryStore())
    _forget_oldest(repository, 2)
    _prune(repository, exclusive(repository))
    kinds = (FileKind.PACK, FileKind.INDEX)
    stored = {item.name for kind in kinds for item in repository.store.list(kind)}
    report = _prune(repository, exclusive(repository))
    assert (report.removed, report.added) == (0, 0)
    assert {item.name for kind in kinds for item in repository.store.list(kind)} == stored


def test_a_repository_without_snapshots_becomes_empty(story, exclusive):
    """When everything is forgotten, no pack stays."""
    repository = story(MemoryStore())
    _forget_oldest(repository, 99)
    _prune(repository, exclusive(repository))
    assert list(repository.store.list(FileKind.PACK)) == []


def test_a_dry_run_says_what_would_go_and_touches_nothing(story):
    """--dry-run, with snapshots that count as forgotten."""
    repository = story(MemoryStore())
    names = {item.name for kind in FileKind for item in repository.store.list(kind)}
    oldest = min(repository.snapshots(), key=lambda s: s.time).id
    options = PruneOptions(max_unused=UnusedLimit.parse("0"), dry_run=True)
    report = _prune(repository, None, options, ignore={oldest})
    assert report.counts.unused.bytes > 0
    assert report.removed == 0
    assert {item.name for kind in FileKind for item in repository.store.list(kind)} == names


def test_nothing_is_deleted_while_anything_needed_is_missing(story, exclusive):
    """I3: a lost pack, a damaged index and a damaged snapshot each stop a prune before its first
    deletion.
    """
    for kind, error in (
        (FileKind.PACK, UnreadableError),
        (FileKind.INDEX, UnreadableError),
        (FileKind.SNAPSHOT, DamagedError),
    ):
        repository = story(MemoryStore())
        _forget_oldest(repository, 1)
        victim = max(repository.store.list(kind), key=lambda item: item.size).name
        content = repository.store.get(kind, victim)
        repository.store.remove(kind, victim)
        if kind is not FileKind.PACK:
            repository.store.put(kind, victim, content[:-1])
        packs = {item.name for item in repository.store.list(FileKind.PACK)}
        with pytest.raises(error):
            _prune(repository, exclusive(repository))
        assert {item.name for item in repository.store.list(FileKind.PACK)} == packs


def test_a_damaged_blob_is_never_copied_and_its_pack_stays(story, exclusive):
    """F8: what cannot be verified is reported, everything else is moved, and nothing is lost by
    it.
    """
    repository = story(MemoryStore())
    _forget_oldest(repository, 3)
    for pack, blobs in take_inventory(repository).table.by_pack():
        if blobs[0].kind != BlobKind.DATA:
            continue
        content = bytearray(repository.store.get(FileKind.PACK, pack.hex()))
        for blob in blobs:
            content[blob.offset + 20] ^= 1
        repository.store.remove(FileKind.PACK, pack.hex())
        repository.store.put(FileKind.PACK, pack.hex(), bytes(content))
    report = _prune(repository, exclusive(repository))
    assert report.damaged
    hurt = {failure.pack for failure in report.damaged}
    assert {p.hex() for p in hurt} <= {item.name for item in repository.store.list(FileKind.PACK)}
    assert hurt <= take_inventory(repository).named()


def test_a_killed_prune_loses_nothing_and_the_next_one_finishes(
    story, kept, exclusive, reopen, killed_everywhere
):
    """I1-I3, I5: dead before or after any single change, the repository is whole, and the next
    prune ends where an undisturbed one does.
    """
    repository = story(MemoryStore(), days=3, files=4)
    _forget_oldest(repository, 2)
    before = kept(repository)
    deaths = 0

    def act(store):
        mortal = reopen(repository, store)
        _prune(mortal, exclusive(mortal))

    for left in killed_everywhere(repository.store, act):
        deaths += 1
        survivor = reopen(repository, left)
        assert kept(survivor) == before
        assert _check(survivor).sound
        _prune(survivor, exclusive(survivor))
        assert kept(survivor) == before
        _assert_tidy(survivor)
    assert deaths > 10


@pytest.mark.parametrize("trouble", [Trouble.BROKEN, Trouble.BUSY_AFTER, Trouble.FULL])
def test_a_store_that_fails_once_loses_nothing(story, kept, exclusive, clone, trouble):
    """F2, F11: whichever call fails, done or not, nothing is lost and the next prune finishes."""
    repository = story(MemoryStore(), days=3, files=3)
    _forget_oldest(repository, 2)
    before = kept(repository)
    for store in each_call_failing(lambda: clone(repository.store), trouble):
        lock = exclusive(_with_clock(repository, store.inner, repository.clock))
        with suppress(StoreError, UnreadableError):
            _prune(_with_clock(repository, store, repository.clock), lock)
        survivor = _with_clock(repository, store.inner, repository.clock)
        assert kept(survivor) == before
        assert _check(survivor).sound
        _prune(survivor, exclusive(survivor))
        assert kept(survivor) == before
        _assert_tidy(survivor)


def test_a_lost_lock_stops_a_prune_before_it_deletes(story, kept, exclusive):
    """F16: a holder whose lock was taken away deletes nothing."""
    repository = story(MemoryStore())
    _forget_oldest(repository, 2)
    lock = exclusive(repository)
    repository.store.remove(FileKind.LOCK, lock.id)
    packs = {item.name for item in repository.store.list(FileKind.PACK)}
    with pytest.raises(LockLostError):
        _prune(repository, lock)
    assert packs <= {item.name for item in repository.store.list(FileKind.PACK)}


def test_of_a_blob_in_two_packs_one_copy_goes(story, kept, exclusive):
    """Blobs that two runs stored at once are kept once, never nowhere."""
    repository = story(MemoryStore(), days=2)
    inventory = take_inventory(repository)
    doubled = repack(
        repository,
        dict(inventory.table.by_pack()),
        pack_size=1 << 20,
        progress=SILENCE,
        workers=0,
    )
    repository.save_index(doubled.packs)
    before = kept(repository)
    report = _prune(repository, exclusive(repository))
    assert report.counts.duplicate.blobs > 0
    assert kept(repository) == before
    _assert_tidy(repository)


# --- with a grace ---


def _with_clock(repository, store, clock):
    return Repository.unlocked(store, repository.objects.key, clock=clock)


@pytest.fixture
def waiting_repository(story, exclusive):
    """Pruned with a grace of a day, by a clock that tests move."""
    clock = FakeClock(now=1_700_000_000 * 10**9)
    store = MemoryStore(clock=clock)
    repository = _with_clock(story(store), store, clock)
    _forget_oldest(repository, 2)
    options = PruneOptions(max_unused=UnusedLimit.parse("0"), grace=86400.0)
    report = _prune(repository, exclusive(repository), options)
    assert report.waiting > 0
    assert report.removed == 0
    return repository, clock, options


def test_with_a_grace_packs_wait_out_of_the_index(waiting_repository, kept):
    """Packs leave the index but not the store; a backup neither counts on them nor adopts them."""
    repository, _, _ = waiting_repository
    waiting = pending_packs(repository)
    assert waiting
    assert waiting.isdisjoint(take_inventory(repository).named())
    stored = {item.name for item in repository.store.list(FileKind.PACK)}
    assert {pack.hex() for pack in waiting} <= stored
    distrusted_packs(repository)
    assert waiting.isdisjoint(take_inventory(repository).named())
    assert _check(repository).sound


def test_waiting_packs_go_when_their_grace_is_over(waiting_repository, kept, exclusive):
    """By the store's clock: a minute early nothing goes, a minute late everything does."""
    repository, clock, options = waiting_repository
    before = kept(repository)
    waiting = pending_packs(repository)
    clock.advance(86400 - 60)
    assert _prune(repository, exclusive(repository), options).removed == 0
    assert pending_packs(repository) == waiting
    clock.advance(120)
    assert _prune(repository, exclusive(repository), options).removed == len(waiting)
    assert pending_packs(repository) == set()
    assert kept(repository) == before
    _assert_tidy(repository)


def test_a_waiting_pack_that_is_needed_again_comes_back(story, kept, exclusive):
    """F15: a snapshot that was saved by a writer nobody saw is whole after the next prune."""
    clock = FakeClock(now=1_700_000_000 * 10**9)
    store = MemoryStore(clock=clock)
    repository = _with_clock(story(store), store, clock)
    oldest = min(repository.snapshots(), key=lambda s: s.time)
    everything = kept(repository)
    raw = store.get(FileKind.SNAPSHOT, oldest.id)
    store.remove(FileKind.SNAPSHOT, oldest.id)
    options = PruneOptions(max_unused=UnusedLimit.parse("0"), grace=3600.0)
    _prune(repository, exclusive(repository), options)
    store.put(FileKind.SNAPSHOT, oldest.id, raw)
    assert not _check(repository).sound
    clock.advance(7200)
    report = _prune(repository, exclusive(repository), options)
    assert report.rescued > 0
    assert kept(repository) == everything
    assert _check(repository).sound


def test_a_killed_prune_with_a_grace_loses_nothing(
    story, kept, exclusive, reopen, killed_everywhere
):
    """I1-I3, I5, for both phases."""
    repository = story(MemoryStore(), days=3, files=4)
    _forget_oldest(repository, 2)
    before = kept(repository)
    first = PruneOptions(max_unused=UnusedLimit.parse("0"), grace=1e-6)

    def act(store):
        mortal = reopen(repository, store)
        _prune(mortal, exclusive(mortal), first)
        _prune(mortal, exclusive(mortal), first)

    for left in killed_everywhere(repository.store, act):
        survivor = reopen(repository, left)
        assert kept(survivor) == before
        assert _check(survivor).sound
        _prune(survivor, exclusive(survivor))
        assert kept(survivor) == before
        _assert_tidy(survivor)


# --- without room ---


def test_a_full_disk_is_pruned_without_moving_anything(story, kept, exclusive):
    """ENOSPC for every pack: what nobody needs goes all the same, and the rest is left as it is."""
    repository = story(MemoryStore())
    _forget_oldest(repository, 3)
    before = kept(repository)
    inner = repository.store
    packs = len(list(inner.list(FileKind.PACK)))
    crowded = _with_clock(
        repository,
        FaultyStore(inner, always(Trouble.FULL, "put", kinds={FileKind.PACK})),
        repository.clock,
    )
    report = _prune(crowded, exclusive(crowded))
    assert report.crowded
    assert len(list(inner.list(FileKind.PACK))) == packs - report.removed
    assert report.removed > 0
    assert kept(repository) == before
    assert _check(repository).sound


def test_no_room_even_for_an_index_deletes_only_what_no_index_names(story, kept, exclusive):
    """ENOSPC for packs and indexes: orphans and index files that nobody needs go; nothing else."""
    repository = story(MemoryStore())
    orphan = random.Random(5).randbytes(3000)
    name = hashlib.sha256(orphan).hexdigest()
    repository.store.put(FileKind.PACK, name, orphan)
    before = kept(repository)
    _forget_oldest(repository, 1)
    crowded = _with_clock(
        repository,
        FaultyStore(
            repository.store,
            always(Trouble.FULL, "put", kinds={FileKind.PACK, FileKind.INDEX}),
        ),
        repository.clock,
    )
    with suppress(StorageFullError):
        _prune(crowded, exclusive(crowded))
    assert name not in {item.name for item in repository.store.list(FileKind.PACK)}
    after = kept(repository)
    assert {s: before[s] for s in after} == after
    assert _check(repository).sound


def test_forgetting_needs_no_room(story, silence):
    """F2: where not even a lock can be written, snapshots can still be forgotten."""
    repository = story(MemoryStore())
    full = _with_clock(
        repository, FaultyStore(repository.store, always(Trouble.FULL, "put")), repository.clock
    )
    oldest = min(full.snapshots(), key=lambda s: s.time).id
    lock = lock_to_forget(full)
    assert lock is None
    assert forget(full, [oldest], lock=lock, progress=silence) == [oldest]


# --- with the real restic ---


@pytest.mark.interop
def test_restic_accepts_what_is_left_and_we_what_restic_left(
    story, kept, exclusive, stock_restic, tmp_path
):
    """I6: after our prune restic finds every byte in order; after restic's so do we; a repository
    with waiting packs is accepted, too.
    """
    store = DirectoryStore(tmp_path / "r")
    repository = story(store, days=6)
    _forget_oldest(repository, 2)
    before = kept(repository)
    grace = PruneOptions(max_unused=UnusedLimit.parse("0"), grace=86400.0)
    assert _prune(repository, exclusive(repository), grace).waiting > 0
    lock = exclusive(repository)
    lock.release()
    restic = stock_restic(tmp_path / "r")
    restic("check", "--read-data")
    assert kept(repository) == before
    _prune(repository, lock := exclusive(repository))
    lock.release()
    restic("check", "--read-data")
    restic("forget", "--keep-last", "2", "--prune", "--max-unused", "0")
    left = kept(repository)
    assert left == {s: before[s] for s in left}
    assert len(left) == 2
    fresh = _with_clock(repository, store, repository.clock)
    assert _check(fresh).sound
    restic("backup", str(tmp_path / "r" / "config"))
    _forget_oldest(fresh, 1)
    before = kept(fresh)
    _prune(fresh, lock := exclusive(fresh))
    lock.release()
    restic("check", "--read-data")
    assert kept(fresh) == before


def test_what_is_left_of_a_pack_that_was_cut_short_counts(story, exclusive):
    """F3: once its content lies elsewhere, the remnant goes, and the plan says how much that is."""
    repository = story(MemoryStore(), days=2)
    store = repository.store
    pack = max(store.list(FileKind.PACK), key=lambda item: item.size)
    content = store.get(FileKind.PACK, pack.name)
    packs = dict(take_inventory(repository).table.by_pack())
    twice = repack(repository, packs, pack_size=1 << 20, progress=SILENCE, workers=0)
    repository.save_index(twice.packs)
    store.remove(FileKind.PACK, pack.name)
    store.put(FileKind.PACK, pack.name, content[:1000])
    lock = exclusive(repository)
    report = _prune(repository, lock)
    lock.release()
    assert report.counts.remnant_bytes == 1000
    assert report.removed_bytes >= 1000
    assert pack.name not in {item.name for item in store.list(FileKind.PACK)}
    _assert_tidy(repository)
