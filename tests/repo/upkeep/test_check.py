from __future__ import annotations

import random

import pytest

from holdfast.core.errors import (
    DamagedError,
    HoldfastError,
    NoRepositoryError,
    UnreadableError,
)
from holdfast.core.progress import Silence
from holdfast.core.secret import Secret
from holdfast.repo.damage import known_damage
from holdfast.repo.format.pack import BlobKind
from holdfast.repo.format.tree import blob_id
from holdfast.repo.repository import Repository
from holdfast.repo.upkeep import advice
from holdfast.repo.upkeep.check import ALL, Subset, check
from holdfast.repo.upkeep.inventory import take_inventory
from holdfast.repo.upkeep.prune import prune
from holdfast.repo.upkeep.prune_plan import PruneOptions
from holdfast.repo.upkeep.repack import repack
from holdfast.repo.upkeep.repair import repair_index, repair_packs
from holdfast.store.contract import FileKind
from holdfast.store.directory import DirectoryStore
from holdfast.store.memory import MemoryStore
from holdfast.testing.memory_source import File

SILENCE = Silence()
NAMED = (FileKind.KEY, FileKind.SNAPSHOT, FileKind.INDEX, FileKind.PACK)


def _check(repository, *, read=ALL, workers=0):
    return check(repository, read=read, lock=None, progress=SILENCE, workers=workers)


def _replace(store, kind, name, content):
    store.remove(kind, name)
    store.put(kind, name, content)


def _harmful(report):
    return {finding.name for finding in report.findings if finding.harmful}


def _unreadable(repository):
    """(snapshot, path) of every file that cannot be read, found by reading them all."""
    lost = set()
    fresh = Repository.unlocked(repository.store, repository.objects.key)
    refused = []
    for snapshot in fresh.snapshots(refused):
        _read(fresh, snapshot.id, snapshot.tree, b"", lost)
    return lost


def _read(repository, snapshot, tree, path, lost):
    try:
        nodes = repository.load_tree(tree)
    except HoldfastError:
        lost.add((snapshot, path + b"/"))
        return
    for node in nodes:
        here = path + b"/" + node.raw_name()
        if node.type == "dir":
            _read(repository, snapshot, blob_id(node.subtree), here, lost)
            continue
        try:
            for blob in node.blobs():
                repository.load_blob(blob, BlobKind.DATA)
        except HoldfastError:
            lost.add((snapshot, here))


def _hits(report):
    return {(s, hit.path) for f in report.findings for hit in f.hits for s in hit.snapshots}


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("version", [1, 2])
def test_a_sound_repository_is_found_sound(story, tmp_path, workers, version):
    """Nothing to report, every pack read, in both versions of the format."""
    repository = story(DirectoryStore(tmp_path), version=version)
    report = _check(repository, workers=workers)
    assert report.sound
    assert report.findings == []
    assert report.packs_read == report.packs > 0


def test_every_flipped_byte_is_found_and_named(story, clone, reopen):
    """F8: each byte of each stored object flipped once, all of them found, the right object named,
    and exactly the files named that can no longer be read.
    """
    origin = story(MemoryStore(), days=2, files=2)
    flips = 0
    for kind in NAMED:
        for item in list(origin.store.list(kind)):
            content = origin.store.get(kind, item.name)
            step = 1 if kind is FileKind.PACK else 7
            for at in range(0, len(content), step):
                _assert_flip_found(origin, reopen, content, at, kind=kind, name=item.name)
                flips += 1
            _replace(origin.store, kind, item.name, content)
    assert flips > 1000


def _assert_flip_found(origin, reopen, content, at, *, kind, name):
    flipped = bytearray(content)
    flipped[at] ^= 0x04
    _replace(origin.store, kind, name, bytes(flipped))
    repository = reopen(origin, origin.store)
    report = _check(repository)
    assert not report.sound, f"byte {at} of {kind} {name} went unnoticed"
    assert name in _harmful(report), f"byte {at} of {kind} {name}: {report.findings}"
    if kind is FileKind.PACK and at % 5 == 0:
        assert _hits(report) == _unreadable(repository)


def test_every_flipped_byte_of_the_config_is_found(story):
    """F8: a damaged config does not open, and says so."""
    repository = story(MemoryStore(), days=1, files=1)
    content = repository.store.get(FileKind.CONFIG, "config")
    for at in range(len(content)):
        flipped = bytearray(content)
        flipped[at] ^= 1
        _replace(repository.store, FileKind.CONFIG, "config", bytes(flipped))
        with pytest.raises(DamagedError):
            Repository.unlocked(repository.store, repository.objects.key)


@pytest.mark.parametrize("kind", NAMED)
@pytest.mark.parametrize(
    "spoil",
    [
        lambda _: b"",
        lambda content: content[:-1],
        lambda content: bytes(min(4096, len(content))) + content[4096:],
        lambda content: content + b"garbage",
    ],
    ids=["empty", "short", "zeroed", "tail"],
)
def test_half_written_objects_are_found_and_named(story, reopen, kind, spoil):
    """F3: each object empty, a byte short, with a block of zeros, or with garbage behind it."""
    repository = story(MemoryStore(), days=2)
    for item in list(repository.store.list(kind)):
        content = repository.store.get(kind, item.name)
        _replace(repository.store, kind, item.name, spoil(content))
        assert item.name in _harmful(_check(reopen(repository, repository.store)))
        _replace(repository.store, kind, item.name, content)


def test_each_lost_object_is_reported_with_what_it_hits(story, reopen):
    """F9: each pack and index deleted in turn: the files named are just those that cannot be
    read.
    """
    repository = story(MemoryStore(), days=3)
    for kind in (FileKind.PACK, FileKind.INDEX):
        for item in list(repository.store.list(kind)):
            content = repository.store.get(kind, item.name)
            repository.store.remove(kind, item.name)
            fresh = reopen(repository, repository.store)
            report = _check(fresh)
            assert not report.sound
            assert _hits(report) == _unreadable(fresh)
            if kind is FileKind.PACK:
                assert item.name in _harmful(report)
            repository.store.put(kind, item.name, content)
    assert _check(reopen(repository, repository.store)).sound


def test_a_repository_without_its_config_or_keys_says_so(story):
    """F9: the two objects without which nothing opens."""
    repository = story(MemoryStore(), days=1)
    for item in list(repository.store.list(FileKind.KEY)):
        repository.store.remove(FileKind.KEY, item.name)
    with pytest.raises(NoRepositoryError, match="key"):
        Repository.open(repository.store, Secret("secret"))
    repository.store.remove(FileKind.CONFIG, "config")
    with pytest.raises(NoRepositoryError):
        Repository.open(repository.store, Secret("secret"))


def test_untidiness_is_told_apart_from_damage(story, silence):
    """Packs in no index and blobs in two places are harmless."""
    repository = story(MemoryStore(), days=2)
    packs = dict(take_inventory(repository).table.by_pack())
    twice = repack(repository, packs, pack_size=1 << 20, progress=silence, workers=0)
    repository.save_index(twice.packs)
    orphans = repack(repository, packs, pack_size=1 << 20, progress=silence, workers=0)
    report = _check(repository)
    assert report.sound
    names = {f.name for f in report.findings}
    assert {pack.id.hex() for pack in orphans.packs} <= names
    assert any("more than once" in f.message for f in report.findings)


def test_a_missing_index_is_told_from_lost_data(story, exclusive):
    """F9: packs that no index names may hold what is missed; check and prune name the same way
    out, and it is one.
    """
    repository = story(MemoryStore(), days=3)
    store = repository.store
    newest = max(repository.snapshots(), key=lambda s: s.time)
    [place] = repository.index.find_all(newest.tree, BlobKind.TREE)
    for name, packs in take_inventory(repository).files.items():
        if place.pack in packs:
            store.remove(FileKind.INDEX, name)
    report = _check(repository)
    assert newest.id in report.affected
    assert report.advice.startswith(advice.INDEX)
    assert any(f.kind is FileKind.INDEX and f.harmful for f in report.findings)
    lock = exclusive(repository)
    with pytest.raises(UnreadableError) as caught:
        prune(repository, PruneOptions(), lock=lock, progress=SILENCE, workers=0)
    assert caught.value.advice == advice.INDEX
    repair_index(repository, lock=lock, progress=SILENCE, workers=0)
    lock.release()
    assert _check(repository).findings == []


def test_a_pack_cut_short_is_called_so(story, exclusive):
    """F3: by check and by prune, with the same advice."""
    repository = story(MemoryStore(), days=2)
    pack = max(repository.store.list(FileKind.PACK), key=lambda item: item.size)
    content = repository.store.get(FileKind.PACK, pack.name)
    _replace(repository.store, FileKind.PACK, pack.name, content[: pack.size // 2])
    report = _check(repository, read=None)
    [finding] = [f for f in report.findings if f.kind is FileKind.PACK]
    assert f"cut short, with {pack.size // 2} of {pack.size} bytes" in finding.message
    assert report.affected
    assert report.advice == advice.PACKS
    with pytest.raises(UnreadableError, match="missing or cut short: 1 pack ") as caught:
        prune(repository, PruneOptions(), lock=exclusive(repository), progress=SILENCE, workers=0)
    assert caught.value.advice.endswith(advice.PACKS)


@pytest.mark.parametrize("cached", [False, True])
def test_whether_damage_is_remembered_is_said(story, tmp_path, cached):
    """F8: a backup of somebody else, or without a cache, cannot know what a check has read."""
    repository = story(MemoryStore())
    repository.cache = tmp_path if cached else None
    pack = next(iter(repository.store.list(FileKind.PACK)))
    content = bytearray(repository.store.get(FileKind.PACK, pack.name))
    content[60] ^= 1
    _replace(repository.store, FileKind.PACK, pack.name, bytes(content))
    report = _check(repository)
    first = advice.REMEMBERED if cached else advice.NOT_REMEMBERED
    assert report.advice == f"{first} {advice.PACKS}"


def test_a_damaged_snapshot_counts_as_hit(story):
    """I8: of all the snapshots there are."""
    repository = story(MemoryStore(), days=3)
    name = next(iter(repository.store.list(FileKind.SNAPSHOT))).name
    _replace(repository.store, FileKind.SNAPSHOT, name, b"x" * 100)
    report = _check(repository)
    assert report.affected == [name]
    assert report.snapshots == 3
    assert report.advice == advice.SNAPSHOTS


def test_a_damaged_copy_hits_nothing_while_another_is_whole(story, silence):
    """A blob that lies elsewhere too is not lost: the pack is named, and no file."""
    repository = story(MemoryStore(), days=2)
    packs = dict(take_inventory(repository).table.by_pack())
    twice = repack(repository, packs, pack_size=1 << 20, progress=silence, workers=0)
    repository.save_index(twice.packs)
    victim = twice.packs[0].id.hex()
    content = bytearray(repository.store.get(FileKind.PACK, victim))
    content[twice.packs[0].blobs[0].offset + 20] ^= 1
    _replace(repository.store, FileKind.PACK, victim, bytes(content))
    report = _check(repository)
    assert _harmful(report) == {victim}
    assert _hits(report) == set()


def test_damage_is_remembered_until_it_is_gone(story, tmp_path, back_up_tree):
    """F8: the next backup writes again what lies in packs that a check found damaged, and the files
    are whole again.
    """
    store = DirectoryStore(tmp_path / "r")
    tree = {b"data": {b"f": File(b"content" * 100)}}
    repository = story(store, days=1)
    repository = Repository.unlocked(store, repository.objects.key, cache_root=tmp_path / "cache")
    snapshot = back_up_tree(repository, tree)
    for pack in take_inventory(repository).named():
        path = store.path_of(FileKind.PACK, pack.hex())
        content = bytearray(path.read_bytes())
        content[20] ^= 1
        path.write_bytes(bytes(content))
    repository = Repository.unlocked(store, repository.objects.key, cache_root=tmp_path / "cache")
    assert not _check(repository).sound
    assert known_damage(repository)
    repository = Repository.unlocked(store, repository.objects.key, cache_root=tmp_path / "cache")
    again = back_up_tree(repository, tree)
    assert again.tree == snapshot.tree
    assert {s for s, _ in _unreadable(repository)}.isdisjoint({again.id, snapshot.id})


def test_subsets_together_are_everything():
    """--read-data-subset n/t: each pack in exactly one slice; shares and sizes are kept to."""
    rnd = random.Random(7)
    packs = {rnd.randbytes(32): 100 for _ in range(500)}
    slices = [Subset.parse(f"{n}/7").choose(packs, rnd) for n in range(1, 8)]
    assert sum(map(len, slices)) == len(packs)
    assert set().union(*slices) == set(packs)
    assert len(Subset.parse("10%").choose(packs, rnd)) == 50
    assert len(Subset.parse("2000").choose(packs, rnd)) == 20
    assert Subset.parse("1/1").choose(packs, rnd) == packs


@pytest.mark.parametrize("text", ["0/5", "6/5", "1/300", "0%", "101%", "many", "-1%"])
def test_impossible_subsets_are_refused(text):
    """A subset that means nothing is an error, not an empty check."""
    with pytest.raises(ValueError, match=r"write|size"):
        Subset.parse(text)


@pytest.mark.interop
def test_what_restic_wrote_is_read_whole_and_its_damage_found(stock_restic, tmp_path):
    """I6: a repository of restic's is sound, and a flipped byte in it is found by both."""
    (tmp_path / "src").mkdir()
    rnd = random.Random(3)
    for number in range(20):
        (tmp_path / "src" / f"f{number}").write_bytes(rnd.randbytes(2000) + b"a" * 5000)
    restic = stock_restic(tmp_path / "r")
    restic("init")
    restic("backup", str(tmp_path / "src"))
    store = DirectoryStore(tmp_path / "r")
    repository = Repository.open(store, Secret("secret"))
    assert _check(repository).findings == []
    pack = max(repository.store.list(FileKind.PACK), key=lambda item: item.size).name
    path = store.path_of(FileKind.PACK, pack)
    path.chmod(0o600)
    content = bytearray(path.read_bytes())
    content[50] ^= 1
    path.write_bytes(bytes(content))
    report = _check(Repository.open(DirectoryStore(tmp_path / "r"), Secret("secret")))
    assert pack in _harmful(report)
    assert len(_hits(report)) == 1
    restic("check", "--read-data", allowed=(1,))


@pytest.mark.parametrize("spoil", [lambda pack: pack + b"more", lambda pack: pack[:-20]])
def test_where_nothing_is_lost_nobody_is_sent_to_look_for_it(story, exclusive, spoil):
    """A pack with too much at its end, or without the end of its header: each blob can be read, and
    repairing it is all there is to do.
    """
    repository = story(MemoryStore(), days=2)
    pack = max(repository.store.list(FileKind.PACK), key=lambda item: item.size)
    content = repository.store.get(FileKind.PACK, pack.name)
    _replace(repository.store, FileKind.PACK, pack.name, spoil(content))
    report = _check(repository, read=None)
    assert not report.sound
    assert report.affected == []
    assert report.advice == advice.SPARE_PACKS
    lock = exclusive(repository)
    repair_packs(repository, lock=lock, progress=SILENCE, workers=0)
    lock.release()
    assert _check(repository).findings == []
