from __future__ import annotations

import hashlib
import random

import msgspec
import pytest

from holdfast.core.errors import StorageFullError, UnreadableError
from holdfast.core.progress import Silence
from holdfast.core.secret import Secret
from holdfast.repo.blobs.index_file import encode
from holdfast.repo.format.codec import Compression
from holdfast.repo.pending import PendingPack, encode_pending
from holdfast.repo.repository import Repository
from holdfast.repo.saving.backup import BackupOptions, back_up
from holdfast.repo.saving.sealing import SealingPlan
from holdfast.repo.upkeep.inventory import take_inventory
from holdfast.repo.upkeep.prune import prune
from holdfast.repo.upkeep.prune_plan import PruneOptions, UnusedLimit
from holdfast.store.contract import FileKind
from holdfast.store.memory import MemoryStore
from holdfast.testing.faulty_store import FaultyStore, Trouble, always
from holdfast.testing.memory_source import File, MemorySource

NONE_UNUSED = UnusedLimit.parse("0")


def _prune(repository, lock, **options):
    options.setdefault("max_unused", NONE_UNUSED)
    return prune(repository, PruneOptions(**options), lock=lock, progress=Silence(), workers=0)


def _names(repository, kind=FileKind.PACK):
    return {item.name for item in repository.store.list(kind)}


def _forget_oldest(repository, count):
    for snapshot in sorted(repository.snapshots(), key=lambda s: s.time)[:count]:
        repository.store.remove(FileKind.SNAPSHOT, snapshot.id)


@pytest.mark.parametrize(
    ("text", "used", "allowed"),
    [("5%", 950, 50), ("0%", 10**9, 0), ("200k", 5, 204800), ("0", 5, 0), ("50%", 10, 10)],
)
def test_the_limit_of_unused_data_is_a_share_of_all_or_a_size(text, used, allowed):
    """5 % unused means 5 % of what is then there, as in restic."""
    assert UnusedLimit.parse(text).bytes_beside(used) == pytest.approx(allowed)


def test_unlimited_and_nonsense():
    """A word for any amount is a limit; a hundred per cent and other words are not."""
    assert UnusedLimit.parse("unlimited").bytes_beside(1) == float("inf")
    for text in ("100%", "-1%", "much", "x%"):
        with pytest.raises(ValueError, match=r"."):
            UnusedLimit.parse(text)


@pytest.mark.parametrize(
    "limit", [{"max_unused": UnusedLimit.parse("unlimited")}, {"max_repack": 0}], ids=str
)
def test_nothing_is_moved_beyond_the_limits(story, exclusive, kept, limit):
    """--max-unused unlimited, --max-repack-size 0: unneeded packs go, no data is moved."""
    repository = story(MemoryStore(), days=6)
    _forget_oldest(repository, 5)
    before = kept(repository)
    partly = _prune(repository, None, dry_run=True).counts.repack_drop.bytes
    report = _prune(repository, exclusive(repository), pack_size=1000, **limit)
    assert partly > 0
    assert report.removed > 0
    assert report.counts.repack_drop.bytes < partly
    assert report.added == 0
    assert kept(repository) == before


def test_only_packs_of_trees_are_moved_where_that_is_asked_for(story, exclusive, kept):
    """--repack-cacheable-only: partly needed packs of data stay as they are."""
    repository = story(MemoryStore(), days=6)
    _forget_oldest(repository, 5)
    table = dict(take_inventory(repository).table.by_pack())
    data = {pack.hex() for pack, blobs in table.items() if not blobs[0].kind}
    before = kept(repository)
    report = _prune(repository, exclusive(repository), cacheable_only=True)
    after = dict(take_inventory(repository).table.by_pack())
    assert {pack.hex() for pack, blobs in after.items() if not blobs[0].kind} < data
    assert report.counts.unused.bytes > report.counts.remove.bytes + report.counts.repack_drop.bytes
    assert kept(repository) == before


def test_many_small_packs_become_one(back_up_tree, exclusive, kept):
    """--repack-small: eleven backups, then one pack of data and one of trees."""
    repository = Repository.init(MemoryStore(), Secret("x"))
    files = {}
    for number in range(11):
        files[b"f%d" % number] = File(random.Random(number).randbytes(500))
        back_up_tree(repository, {b"data": dict(files)}, time=number)
    before = kept(repository)
    assert len(_names(repository)) == 22
    _prune(repository, exclusive(repository), small=True)
    assert len(_names(repository)) == 2
    assert kept(repository) == before


def test_what_was_stored_plain_is_compressed_when_asked(exclusive, kept):
    """--repack-uncompressed: fewer bytes, the same files."""

    class Nobody:
        def item(self, *_):
            pass

        problem = progress = item

    repository = Repository.init(MemoryStore(), Secret("x"))
    plain = SealingPlan(compression=Compression.OFF, workers=0)
    tree = {b"data": {b"f%d" % n: File(b"the same words " * 500 + bytes([n])) for n in range(9)}}
    back_up(
        repository,
        MemorySource(tree),
        BackupOptions(sealing=plain),
        observer=Nobody(),
        lock=None,
    )
    before = kept(repository)
    size = sum(item.size for item in repository.store.list(FileKind.PACK))
    _prune(repository, exclusive(repository), uncompressed=True)
    assert sum(item.size for item in repository.store.list(FileKind.PACK)) < size / 5
    assert kept(repository) == before


def test_a_needed_pack_that_was_cut_short_stops_everything(story, exclusive):
    """I3: the index knows a blob, but the file ends before it."""
    repository = story(MemoryStore(), days=2)
    victim = next(iter(_names(repository)))
    content = repository.store.get(FileKind.PACK, victim)
    repository.store.remove(FileKind.PACK, victim)
    repository.store.put(FileKind.PACK, victim, content[:-1])
    names = _names(repository)
    with pytest.raises(UnreadableError):
        _prune(repository, exclusive(repository))
    assert _names(repository) == names


def test_with_a_grace_a_full_disk_is_an_error(story, exclusive, kept):
    """A grace frees nothing at once, so it cannot help on a full disk: it says so, and deletes
    nothing.
    """
    repository = story(MemoryStore())
    _forget_oldest(repository, 3)
    before, names = kept(repository), _names(repository)
    full = FaultyStore(repository.store, always(Trouble.FULL, "put", kinds={FileKind.INDEX}))
    crowded = Repository.unlocked(full, repository.objects.key)
    with pytest.raises(StorageFullError, match="grace"):
        _prune(crowded, exclusive(crowded), grace=60.0)
    assert names <= _names(repository)
    assert kept(repository) == before


def test_a_list_inside_an_index_is_kept_when_that_index_is_rewritten(story, exclusive, kept):
    """rustic keeps packs and its list of packs to delete in one file: both are honoured."""
    repository = story(MemoryStore(), days=4)
    _forget_oldest(repository, 3)
    inventory = take_inventory(repository)
    table = dict(inventory.table.by_pack())
    spare = random.Random(1).randbytes(100)
    listed = hashlib.sha256(spare).digest()
    repository.store.put(FileKind.PACK, listed.hex(), spare)
    document = msgspec.json.decode(encode(table.items()))
    pending = PendingPack(listed, 100, repository.clock.now(), ())
    document |= {
        "packs_to_delete": msgspec.json.decode(encode_pending([pending]))["packs_to_delete"]
    }
    for name in inventory.files:
        repository.store.remove(FileKind.INDEX, name)
    repository.objects.save(FileKind.INDEX, msgspec.json.encode(document))
    before = kept(repository)
    report = _prune(repository, exclusive(repository), grace=3600.0)
    assert report.waiting > 1
    after = take_inventory(repository)
    assert listed in after.waiting()
    assert kept(repository) == before
    _prune(repository, exclusive(repository))
    assert listed.hex() not in _names(repository)
    assert kept(repository) == before
