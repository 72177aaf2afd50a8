"""The cache saves requests, and never changes an answer."""

from dataclasses import replace

import pytest

from holdfast.core.errors import ObjectNotFoundError, StoreBusyError
from holdfast.store.cache import SMALL, CachedStore, cached
from holdfast.store.contract import FileKind
from holdfast.store.memory import MemoryStore
from holdfast.testing.faulty_store import FaultyStore, Trouble, always
from holdfast.testing.store_contract import keep, named, sample

PACK, INDEX, SNAPSHOT = FileKind.PACK, FileKind.INDEX, FileKind.SNAPSHOT
DATA = sample(3 * SMALL)


@pytest.fixture
def remote():
    return FaultyStore(MemoryStore())


@pytest.fixture
def store(remote, tmp_path):
    return CachedStore(remote, tmp_path / "cache")


def asked(remote, method):
    return sum(call.method == method for call in remote.calls)


def files(tmp_path):
    return [
        path
        for path in (tmp_path / "cache").rglob("*")
        if path.is_file() and path.name != "CACHEDIR.TAG"
    ]


@pytest.mark.parametrize("kind", [INDEX, SNAPSHOT])
def test_second_read_asks_nobody(remote, store, tmp_path, kind):
    """Neither in this process nor in the next."""
    name = keep(remote, kind, DATA)
    assert store.get(kind, name) == store.get(kind, name) == DATA
    assert CachedStore(remote, tmp_path / "cache").get(kind, name) == DATA
    assert asked(remote, "get") == 1


def test_what_was_written_need_not_be_read(remote, store):
    """A put fills the cache too."""
    name = keep(store, INDEX, DATA)
    assert store.get(INDEX, name) == DATA
    assert asked(remote, "get") == 0


def test_failed_put_is_not_cached(store, tmp_path):
    """What the store may not have is not claimed to be there."""
    faulty = FaultyStore(MemoryStore(), always(Trouble.BUSY, "put"))
    with pytest.raises(StoreBusyError):
        keep(CachedStore(faulty, tmp_path / "cache"), INDEX, DATA)
    assert files(tmp_path) == []


@pytest.mark.parametrize("kind", [FileKind.KEY, FileKind.LOCK, FileKind.CONFIG])
def test_other_kinds_are_asked_for_each_time(remote, store, kind):
    """Keys and locks must be those of now."""
    name = keep(store, kind, DATA)
    store.get(kind, name)
    store.get(kind, name)
    assert asked(remote, "get") == 2


def test_small_pieces_of_packs_are_kept_and_large_ones_not(remote, store):
    """From the start and from the end."""
    name = keep(store, PACK, DATA)
    for offset, length, requests in ((5, SMALL, 1), (-30, 30, 1), (0, SMALL + 1, 2)):
        before = asked(remote, "get_range")
        for _ in range(2):
            assert store.get_range(PACK, name, offset, length) == DATA[offset:][:length]
        assert asked(remote, "get_range") - before == requests


@pytest.mark.parametrize("damage", [b"", b"short", bytes(10_000)], ids=["empty", "short", "zeros"])
def test_damaged_cache_is_not_believed(remote, store, tmp_path, damage):
    """I4: files of any other content are passed over, and written anew."""
    index, pack = keep(remote, INDEX, DATA), keep(remote, PACK, DATA)
    for _ in range(2):
        assert store.get(INDEX, index) == DATA
        assert store.get_range(PACK, pack, 9, 99) == DATA[9:108]
        assert len(files(tmp_path)) == 2
        for path in files(tmp_path):
            path.write_bytes(damage)
    assert asked(remote, "get") == asked(remote, "get_range") == 2


def test_flipped_bit_in_the_cache_is_not_believed(remote, store, tmp_path):
    """I4: in each byte of a cached piece."""
    pack = keep(remote, PACK, DATA)
    store.get_range(PACK, pack, 9, 8)
    [path] = files(tmp_path)
    whole = path.read_bytes()
    for at in range(len(whole)):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        assert store.get_range(PACK, pack, 9, 8) == DATA[9:17]


def test_damaged_object_is_not_cached(remote, store, tmp_path):
    """The store's own damage is handed on, for its reader to find, and not kept."""
    remote.inner.put(INDEX, named(DATA), b"damaged")
    assert store.get(INDEX, named(DATA)) == b"damaged"
    assert files(tmp_path) == []


def test_listing_tidies_up(remote, store, tmp_path):
    """What somebody else removed from the store goes from the cache; the rest stays."""
    gone, stays = keep(store, INDEX, b"gone"), keep(store, INDEX, b"stays")
    pack_gone, pack_stays = keep(store, PACK, b"pack gone"), keep(store, PACK, b"pack stays")
    for pack in (pack_gone, pack_stays):
        store.get_range(PACK, pack, 0, 3)
    remote.remove(INDEX, gone)
    remote.remove(PACK, pack_gone)
    assert [each.name for each in store.list(INDEX)] == [stays]
    assert [each.name for each in store.list(PACK)] == [pack_stays]
    with pytest.raises(ObjectNotFoundError):
        store.get(INDEX, gone)
    assert sorted(path.name for path in files(tmp_path)) == sorted([stays, f"{pack_stays}-0-3"])


def test_unfinished_listing_removes_nothing(remote, store, tmp_path):
    """Only a whole listing says what is gone."""
    for number in range(3):
        keep(store, INDEX, b"%d" % number)
    next(iter(store.list(INDEX)))
    assert len(files(tmp_path)) == 3


def test_cache_that_cannot_be_written_costs_nothing_but_speed(remote, tmp_path):
    """A file where the folder should be, as on a full or read-only disk."""
    (tmp_path / "cache").write_text("in the way")
    store = CachedStore(remote, tmp_path / "cache")
    name = keep(store, INDEX, DATA)
    assert store.get(INDEX, name) == DATA
    store.remove(INDEX, name)
    assert list(store.list(INDEX)) == []
    store.close()


def test_pieces_stay_within_their_budget(remote, tmp_path):
    """Checked at the end of a session; whole objects are never given up for it."""
    store = CachedStore(remote, tmp_path / "cache", budget=20 * 4096)
    index = keep(store, INDEX, DATA)
    pack = keep(store, PACK, DATA)
    for offset in range(30):
        store.get_range(PACK, pack, offset, 1000)
    assert len(files(tmp_path)) == 31
    store.close()
    assert 2 < len(files(tmp_path)) <= 21
    assert (tmp_path / "cache" / "index" / index).exists()


def test_local_stores_are_not_cached(tmp_path):
    """Nor where no cache is wanted."""
    local = MemoryStore()
    assert cached(local, tmp_path, "1234") is local
    remote = MemoryStore()
    remote.properties = replace(remote.properties, local=False)
    assert cached(remote, None, "1234") is remote
    keep(cached(remote, tmp_path, "1234"), INDEX, DATA)
    assert (tmp_path / "1234" / "objects" / "index" / named(DATA)).exists()
    assert (tmp_path / "1234" / "objects" / "CACHEDIR.TAG").exists()
