from __future__ import annotations

import random

import pytest

from holdfast.core.errors import HoldfastError
from holdfast.core.ids import PackId
from holdfast.core.progress import Silence
from holdfast.core.secret import Secret
from holdfast.repo.format.pack import BlobKind
from holdfast.repo.format.tree import blob_id
from holdfast.repo.repository import Repository
from holdfast.repo.upkeep.check import ALL, check
from holdfast.repo.upkeep.inventory import take_inventory
from holdfast.repo.upkeep.repair import repair_index, repair_packs
from holdfast.repo.upkeep.repair_snapshots import TAG, repair_snapshots
from holdfast.store.contract import FileKind
from holdfast.store.directory import DirectoryStore
from holdfast.store.memory import MemoryStore
from holdfast.testing.memory_source import File

SILENCE = Silence()
POLYNOMIAL = 0x3DA3358B4DC173


def _check(repository):
    return check(repository, read=ALL, lock=None, progress=SILENCE, workers=0)


def _index(repository, lock, **options):
    return repair_index(repository, lock=lock, progress=SILENCE, workers=0, **options)


def _packs(repository, kind):
    """Names of the packs that hold blobs of that kind."""
    table = take_inventory(repository).table
    return [pack.hex() for pack, blobs in table.by_pack() if blobs[0].kind == kind]


def _spoil(store, name, at):
    content = bytearray(store.get(FileKind.PACK, name))
    content[at] ^= 1
    store.remove(FileKind.PACK, name)
    store.put(FileKind.PACK, name, bytes(content))


def test_a_lost_index_is_rebuilt_from_the_packs(story, kept, exclusive, reopen):
    """F9: with every index file gone or damaged, the packs give everything back."""
    repository = story(MemoryStore())
    before = kept(repository)
    [*indexes] = repository.store.list(FileKind.INDEX)
    for number, item in enumerate(indexes):
        content = repository.store.get(FileKind.INDEX, item.name)
        repository.store.remove(FileKind.INDEX, item.name)
        if number % 2:
            repository.store.put(FileKind.INDEX, item.name, content[:-3])
    fresh = reopen(repository, repository.store)
    packs = {item.name for item in repository.store.list(FileKind.PACK)}
    report = _index(fresh, exclusive(fresh))
    assert {pack.hex() for pack in report.added} == packs
    assert kept(repository) == before
    assert _check(reopen(repository, repository.store)).sound


def test_packs_that_are_gone_leave_the_index(story, exclusive, reopen):
    """The index names what is there, and nothing else; a dry run changes nothing."""
    repository = story(MemoryStore())
    victim = _packs(repository, BlobKind.DATA)[0]
    repository.store.remove(FileKind.PACK, victim)
    fresh = reopen(repository, repository.store)
    indexes = {item.name for item in repository.store.list(FileKind.INDEX)}
    assert [pack.hex() for pack in _index(fresh, None, dry_run=True).dropped] == [victim]
    assert {item.name for item in repository.store.list(FileKind.INDEX)} == indexes
    assert [pack.hex() for pack in _index(fresh, exclusive(fresh)).dropped] == [victim]
    assert victim not in {pack.hex() for pack in take_inventory(fresh).named()}


@pytest.mark.parametrize("read_all", [False, True])
def test_a_sound_index_is_left_as_it_says(story, kept, exclusive, read_all):
    """Repairing what is whole changes nothing that anybody can see."""
    repository = story(MemoryStore())
    before = kept(repository)
    rows = bytes(take_inventory(repository).table.rows)
    report = _index(repository, exclusive(repository), read_all=read_all)
    assert (report.added, report.dropped, report.unreadable) == ((), (), ())
    assert bytes(take_inventory(repository).table.rows) == rows
    assert kept(repository) == before


def test_a_killed_index_repair_loses_nothing(story, kept, exclusive, reopen, killed_everywhere):
    """I5: dead at any change, a second repair ends well, and nothing that could be read cannot."""
    repository = story(MemoryStore(), days=3)
    before = kept(repository)

    def act(store):
        mortal = reopen(repository, store)
        _index(mortal, exclusive(mortal), read_all=True)

    for left in killed_everywhere(repository.store, act):
        survivor = reopen(repository, left)
        assert kept(survivor) == before
        _index(survivor, exclusive(survivor))
        assert _check(survivor).sound


def test_readable_blobs_are_saved_from_damaged_packs(story, exclusive, reopen):
    """F9: only what is really damaged is lost; the damaged packs are gone afterwards."""
    repository = story(MemoryStore())
    tables = dict(take_inventory(repository).table.by_pack())
    pack, blobs = max(
        (item for item in tables.items() if item[1][0].kind == BlobKind.DATA),
        key=lambda item: len(item[1]),
    )
    assert len(blobs) > 1
    _spoil(repository.store, pack.hex(), blobs[0].offset + 20)
    fresh = reopen(repository, repository.store)
    report = repair_packs(fresh, [pack], lock=exclusive(fresh), progress=SILENCE, workers=0)
    assert report.saved == len(blobs) - 1
    assert [failure.blob for failure in report.lost] == [blobs[0].id]
    assert pack.hex() not in {item.name for item in repository.store.list(FileKind.PACK)}
    for blob in blobs[1:]:
        assert reopen(repository, repository.store).load_blob(blob.id, BlobKind.DATA)


def test_a_pack_cut_short_gives_what_it_still_has(story, exclusive, reopen):
    """Without its header a pack is read by what the index says of it."""
    repository = story(MemoryStore())
    tables = dict(take_inventory(repository).table.by_pack())
    pack, blobs = max(tables.items(), key=lambda item: len(item[1]))
    content = repository.store.get(FileKind.PACK, pack.hex())
    repository.store.remove(FileKind.PACK, pack.hex())
    repository.store.put(FileKind.PACK, pack.hex(), content[: blobs[-1].offset])
    fresh = reopen(repository, repository.store)
    report = _index(fresh, exclusive(fresh))
    assert [name for name, _ in report.unreadable] == [pack]
    saved = repair_packs(fresh, [pack], lock=exclusive(fresh), progress=SILENCE, workers=0)
    assert saved.saved == len(blobs) - 1


def _repair(repository, lock, **options):
    return repair_snapshots(
        repository, list(repository.snapshots()), lock=lock, progress=SILENCE, **options
    )


@pytest.fixture
def damaged_repository(back_up_tree, monkeypatch):
    """One file with two blobs of which one is lost, one lost wholly, one whole; a lost
    directory.
    """
    rnd = random.Random(4)
    first, second = rnd.randbytes(2 << 20), rnd.randbytes(1000)
    tree = {
        b"data": {
            b"long": File(first + rnd.randbytes(2 << 20)),
            b"short": File(second),
            b"whole": File(b"whole"),
            b"dir": {b"inside": File(b"inside")},
        }
    }
    repository = Repository.init(MemoryStore(), Secret("x"), polynomial=POLYNOMIAL)
    snapshot = back_up_tree(repository, tree)
    nodes = {n.name: n for n in _nodes(repository, snapshot.tree)}
    lost = [next(iter(nodes["long"].blobs())), *nodes["short"].blobs()]
    for pack, blobs in take_inventory(repository).table.by_pack():
        for blob in blobs:
            if blob.id in lost or blob.id.hex() == nodes["dir"].subtree:
                _spoil(repository.store, pack.hex(), blob.offset + 20)
    # as after a check that read the packs and had a cache to remember them in
    packs = take_inventory(repository).named()
    monkeypatch.setattr("holdfast.repo.damage.known_damage", lambda _: set(packs))
    return repository, snapshot


def _nodes(repository, tree):
    for node in repository.load_tree(tree):
        yield node
        if node.type == "dir":
            try:
                yield from _nodes(repository, blob_id(node.subtree))
            except HoldfastError:
                continue


@pytest.mark.parametrize("forget", [False, True])
def test_repaired_snapshots_can_be_read_whole(damaged_repository, kept, exclusive, reopen, forget):
    """Lost content is left out and named; everything else keeps every byte; the original goes only
    when that is asked for.
    """
    repository, snapshot = damaged_repository
    fresh = reopen(repository, repository.store)
    [repair] = _repair(fresh, exclusive(fresh), forget=forget)
    assert repair.shortened == (b"/data/long",)
    assert repair.dropped == (b"/data/short",)
    assert repair.emptied == (b"/data/dir",)
    again = reopen(repository, repository.store)
    names = {s.id for s in again.snapshots()}
    assert names == ({repair.new} if forget else {repair.new, snapshot.id})
    new = again.load_snapshot(repair.new)
    assert new.file.original == snapshot.id
    assert new.tags == ([] if forget else [TAG])
    if not forget:
        repository.store.remove(FileKind.SNAPSHOT, snapshot.id)
    content = kept(again)[repair.new]
    assert content[b"/data/whole"] == b"whole"
    assert content[b"/data/long"]
    assert set(content) == {b"/data/whole", b"/data/long"}


def test_a_dry_run_of_a_repair_changes_nothing(damaged_repository):
    """--dry-run says what would be lost."""
    repository, _ = damaged_repository
    names = {item.name for kind in FileKind for item in repository.store.list(kind)}
    [repair] = _repair(repository, None, dry_run=True)
    assert repair.new is None
    assert repair.shortened == (b"/data/long",)
    assert {item.name for kind in FileKind for item in repository.store.list(kind)} == names


def test_whole_snapshots_are_left_alone(story, exclusive):
    """Nothing lost, nothing written."""
    repository = story(MemoryStore())
    assert _repair(repository, exclusive(repository)) == []


@pytest.mark.parametrize("index_first", [False, True])
def test_packs_cut_short_are_taken_apart_unnamed(story, exclusive, reopen, index_first):
    """F3: nobody has to check first, and repairing the index before is no dead end."""
    repository = story(MemoryStore(), days=3)
    store = repository.store
    largest = max(store.list(FileKind.PACK), key=lambda item: item.size)
    content = store.get(FileKind.PACK, largest.name)
    store.remove(FileKind.PACK, largest.name)
    store.put(FileKind.PACK, largest.name, content[: len(content) * 2 // 3])
    fresh = reopen(repository, store)
    lock = exclusive(fresh)
    if index_first:
        unreadable = repair_index(fresh, lock=lock, progress=SILENCE, workers=0).unreadable
        assert [pack.hex() for pack, _ in unreadable] == [largest.name]
    repair = repair_packs(fresh, lock=lock, progress=SILENCE, workers=0)
    assert [pack.hex() for pack in repair.packs] == [largest.name]
    assert repair.saved > 0
    report = check(fresh, read=ALL, lock=None, progress=SILENCE, workers=0)
    assert {finding.kind for finding in report.findings} == {None}
    repair_snapshots(fresh, list(fresh.snapshots()), lock=lock, progress=SILENCE, forget=True)
    assert check(fresh, read=ALL, lock=None, progress=SILENCE, workers=0).sound
    assert repair_packs(fresh, lock=lock, progress=SILENCE, workers=0).packs == ()


def test_a_snapshot_whose_root_is_lost_can_only_be_forgotten(story, exclusive, reopen):
    """It is named, and goes with `forget`, as do snapshot files that cannot be read at all."""
    repository = story(MemoryStore(), days=2)
    oldest = min(repository.snapshots(), key=lambda s: s.time)
    unreadable = max(repository.snapshots(), key=lambda s: s.time).id
    content = repository.store.get(FileKind.SNAPSHOT, unreadable)
    repository.store.remove(FileKind.SNAPSHOT, unreadable)
    repository.store.put(FileKind.SNAPSHOT, unreadable, content[:-1])
    [location] = repository.index.find_all(oldest.tree, BlobKind.TREE)
    _spoil(repository.store, location.pack.hex(), location.offset + 20)
    fresh = reopen(repository, repository.store)
    refused = []
    whole = list(fresh.snapshots(refused))
    for forget in (False, True):
        repairs = repair_snapshots(
            fresh,
            whole,
            lock=exclusive(fresh),
            progress=SILENCE,
            forget=forget,
            damaged=[each.name for each in refused],
        )
        assert [repair.old for repair in repairs] == [oldest.id, unreadable]
        assert all(repair.lost and repair.new is None for repair in repairs)
        assert all(repair.removed is forget for repair in repairs)
        left = len(list(fresh.store.list(FileKind.SNAPSHOT)))
        assert left == (0 if forget else 2)


@pytest.mark.interop
def test_restic_accepts_what_was_repaired(story, exclusive, stock_restic, tmp_path, reopen):
    """I6: a lost pack, then index and snapshots repaired and pruned by us: restic finds no
    error.
    """
    store = DirectoryStore(tmp_path)
    repository = story(store)
    repository.store.remove(FileKind.PACK, _packs(repository, BlobKind.DATA)[0])
    fresh = reopen(repository, store)
    lock = exclusive(fresh)
    _index(fresh, lock)
    fresh = reopen(repository, store)
    assert _repair(fresh, lock, forget=True)
    lock.release()
    restic = stock_restic(tmp_path)
    restic("check", "--read-data")
    for item in list(store.list(FileKind.INDEX)):
        store.remove(FileKind.INDEX, item.name)
    lock = exclusive(fresh)
    _index(reopen(repository, store), lock)
    lock.release()
    restic("check", "--read-data")


def test_what_is_left_of_a_pack_that_was_cut_short_is_saved(back_up_tree, kept, exclusive, reopen):
    """I2, F3: a pack without its end gives up only what lay behind the cut."""
    repository = Repository.init(MemoryStore(), Secret("x"))
    tree = {b"data": {b"f%d" % n: File(random.Random(n).randbytes(60_000)) for n in range(8)}}
    back_up_tree(repository, tree)
    (name,) = _packs(repository, BlobKind.DATA)
    content = repository.store.get(FileKind.PACK, name)
    whole = next(blobs for pack, blobs in repository.index.by_pack() if pack.hex() == name)
    readable = [blob for blob in whole if blob.offset + blob.length <= 250_000]
    repository.store.remove(FileKind.PACK, name)
    repository.store.put(FileKind.PACK, name, content[:250_000])
    fresh = reopen(repository, repository.store)
    report = repair_packs(
        fresh, [PackId(bytes.fromhex(name))], lock=exclusive(fresh), progress=SILENCE, workers=0
    )
    assert len(readable) >= 4
    assert report.saved == len(readable)
    assert len(report.lost) == len(whole) - len(readable)
    again = reopen(repository, repository.store)
    for blob in readable:
        assert again.load_blob(blob.id, BlobKind.DATA)
