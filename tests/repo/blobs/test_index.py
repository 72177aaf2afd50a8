"""The index: what is where, in any order of loading, adding and losing."""

import errno
import hashlib
import os
import random
import shutil
import tempfile
import threading
from pathlib import Path
from unittest import mock

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from holdfast.core.errors import DamagedError
from holdfast.core.ids import BlobId, PackId
from holdfast.repo.blobs import index, index_cache
from holdfast.repo.blobs.blobtable import build, part_of
from holdfast.repo.blobs.index import Index, Location
from holdfast.repo.blobs.index_file import encode
from holdfast.repo.format import _kernel, _reference
from holdfast.repo.format.pack import BlobKind, PackedBlob, header_size

DATA, TREE = BlobKind.DATA, BlobKind.TREE


def blob_of(number):
    return BlobId(hashlib.sha256(b"%d" % number).digest())


def pack_of(*blobs):
    """A pack's id and its blobs: (number, kind) each."""
    placed = [PackedBlob(blob_of(n), kind, 100 * i, 50 + n, n) for i, (n, kind) in enumerate(blobs)]
    return PackId(hashlib.sha256(repr(placed).encode()).digest()), placed


class Files:
    """Index files by name, and which of them were loaded."""

    def __init__(self, *files):
        self.content = {}
        self.loaded = []
        for packs in files:
            self.add(packs)

    def add(self, packs, document=None):
        document = encode(packs) if document is None else document
        name = hashlib.sha256(document).hexdigest()
        self.content[name] = document
        return name

    def load(self, name):
        self.loaded.append(name)
        return self.content[name]

    def open(self, cache=None):
        self.loaded.clear()
        return Index.load(self.content.keys(), self.load, cache)


def places(packs):
    """What an index of these packs must know."""
    known = {}
    for pack, blobs in packs:
        for blob in blobs:
            location = Location(pack, blob.offset, blob.length, blob.raw_length, blob.kind)
            known.setdefault((blob.id, blob.kind), set()).add(location)
    return known


def everything(opened):
    return dict(opened.by_pack())


@pytest.fixture(params=["c", "python"])
def kernel(request, monkeypatch):
    """With the extension and without it."""
    if request.param == "python":
        for name in _kernel.__all__:
            monkeypatch.setattr(_kernel, name, getattr(_reference, name))
    else:
        pytest.importorskip("holdfast.repo.format._rabin")


some_blobs = st.lists(
    st.tuples(st.integers(0, 30), st.sampled_from([0, 1])), max_size=6, unique=True
)
some_packs = st.lists(some_blobs.map(lambda blobs: pack_of(*blobs)), max_size=4)


class IndexAgainstDictionary(RuleBasedStateMachine):
    """An index, its files and its cache against plain dictionaries."""

    def __init__(self):
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.cache = self.folder / "cache" / "index"
        self.files = Files()
        self.stored = {}
        self.packs = {}
        self.index = Index()
        self.patches = [
            mock.patch.object(index, "_SETTLE_AT", 7),
            mock.patch.object(index, "_UNCACHED_FILES", 3),
            mock.patch.object(index, "_UNCACHED_SHARE", 2),
        ]
        for patch in self.patches:
            patch.start()

    def teardown(self):
        for patch in self.patches:
            patch.stop()
        shutil.rmtree(self.folder)

    @rule(packs=some_packs)
    def write_index_file(self, packs):
        self.stored[self.files.add(packs)] = packs

    @precondition(lambda self: self.stored)
    @rule(data=st.data())
    def delete_index_file(self, data):
        name = data.draw(st.sampled_from(sorted(self.stored)))
        del self.stored[name], self.files.content[name]

    @rule(cached=st.booleans())
    def load(self, cached):
        self.index = self.files.open(self.cache if cached else None)
        self.packs = {pack: blobs for packs in self.stored.values() for pack, blobs in packs}

    @precondition(lambda self: self.cache.exists() and self.cache.stat().st_size)
    @rule(data=st.data())
    def damage_cache(self, data):
        content = bytearray(self.cache.read_bytes())
        at = data.draw(st.integers(0, len(content) - 1))
        content[at] ^= data.draw(st.integers(1, 255))
        damaged = self.folder / "damaged"
        damaged.write_bytes(content[: data.draw(st.sampled_from([at, len(content)]))])
        damaged.rename(self.cache)

    @rule(packs=some_packs)
    def add(self, packs):
        for pack, blobs in packs:
            self.index.add_pack(pack, blobs)
            self.packs[pack] = blobs

    @precondition(lambda self: self.packs)
    @rule(data=st.data())
    def lose_packs(self, data):
        lost = data.draw(st.sets(st.sampled_from(sorted(self.packs)), max_size=3))
        self.index.remove_packs(lost)
        for pack in lost:
            del self.packs[pack]

    @invariant()
    def blobs_are_where_the_model_has_them(self):
        known = places(self.packs.items())
        for kind in (DATA, TREE):
            blobs = [blob_of(n) for n in range(32)]
            for blob in blobs:
                expected = known.get((blob, kind), set())
                found = self.index.find_all(blob, kind)
                assert set(found) == expected
                assert len(found) == len(expected)
                first = self.index.find(blob, kind)
                assert first in expected if expected else first is None
            flags = self.index.contains_many(b"".join(blobs), kind)
            assert flags == bytes((blob, kind) in known for blob in blobs)

    @rule()
    def packs_are_those_of_the_model(self):
        filled = {pack: blobs for pack, blobs in self.packs.items() if blobs}
        assert {pack: blobs for pack, blobs in self.index.by_pack() if blobs} == filled
        assert filled.keys() <= set(self.index.packs()) <= self.packs.keys()
        assert len(self.index) == sum(map(len, filled.values()))


TestIndexAgainstDictionary = IndexAgainstDictionary.TestCase
TestIndexAgainstDictionary.settings = settings(
    max_examples=100, stateful_step_count=25, deadline=None
)

TWO = [pack_of((1, DATA), (2, DATA)), pack_of((1, DATA), (1, TREE), (3, TREE))]


def test_everything_about_a_blob_is_found(kernel):
    """All places of a blob are found; data and tree of one id are two blobs."""
    opened = Files(TWO).open()
    (first, _), (second, _) = TWO
    assert {place.pack for place in opened.find_all(blob_of(1), DATA)} == {first, second}
    assert opened.find(blob_of(2), DATA) == Location(first, 100, 52, 2, DATA)
    assert opened.find_all(blob_of(1), TREE) == [Location(second, 100, 51, 1, TREE)]
    assert opened.find(blob_of(2), TREE) is None
    assert opened.find(blob_of(9), DATA) is None
    wanted = b"".join(map(blob_of, (9, 1, 2, 3)))
    assert opened.contains_many(wanted, DATA) == b"\0\1\1\0"
    assert opened.contains_many(wanted, TREE) == b"\0\1\0\1"
    assert everything(opened) == dict(TWO)
    assert list(opened.packs()) == sorted([first, second])
    assert list(opened.pack_sizes()) == sorted(
        (pack, sum(blob.length for blob in blobs) + header_size(blobs)) for pack, blobs in TWO
    )
    assert len(opened) == 5


def test_an_index_of_nothing_knows_nothing(kernel, tmp_path):
    """A new repository has no index files, and that is no special case."""
    for opened in (Index(), Files().open(), Files().open(tmp_path / "c"), Files([]).open()):
        assert opened.find(blob_of(1), DATA) is None
        assert opened.contains_many(blob_of(1), DATA) == b"\0"
        assert opened.contains_many(b"", DATA) == b""
        assert len(opened) == 0
        assert list(opened.by_pack()) == []


def test_files_that_say_the_same_count_once(kernel):
    """A pack that several index files list, or list in parts, has each blob once."""
    pack, blobs = pack_of((1, DATA), (2, DATA), (3, DATA))
    opened = Files([(pack, blobs[:2])], [(pack, blobs[1:])], [(pack, blobs), TWO[0]]).open()
    assert everything(opened) == {pack: blobs, TWO[0][0]: TWO[0][1]}
    assert len(opened) == 5
    opened.add_pack(pack, blobs)
    assert len(opened) == 5
    assert len(opened.find_all(blob_of(3), DATA)) == 1


def test_tables_do_not_depend_on_the_order_of_their_parts(kernel):
    """The same packs make the same bytes, whichever way they came together."""
    rng = random.Random(5)
    packs = [pack_of(*((rng.randrange(99), rng.randrange(2)) for _ in range(5))) for _ in range(40)]
    whole = build([part_of(packs)])
    rng.shuffle(packs)
    pieces = build([part_of(packs[:7]), build([part_of(packs[5:20])]), part_of(packs[20:])])
    for name in ("packs", "rows", "starts"):
        assert bytes(getattr(whole, name)) == bytes(getattr(pieces, name))


def test_added_blobs_are_known_at_once_and_stay():
    """What this run stored is found before and after it moves from the dictionary into rows."""
    opened = Files(TWO).open()
    with mock.patch.object(index, "_SETTLE_AT", 10):
        packs = [pack_of(*((100 + 4 * p + b, DATA) for b in range(4))) for p in range(30)]
        for done, (pack, blobs) in enumerate(packs):
            opened.add_pack(pack, blobs)
            for _, earlier in packs[: done + 1]:
                assert all(opened.find(blob.id, DATA) for blob in earlier)
    assert everything(opened) == dict(TWO + packs)


def test_lost_packs_are_forgotten_and_can_come_back(kernel):
    """A lost pack gives nothing, other copies still do, and what is stored again counts again."""
    opened = Files(TWO).open()
    (first, blobs), (second, _) = TWO
    opened.remove_packs([first])
    assert [place.pack for place in opened.find_all(blob_of(1), DATA)] == [second]
    assert opened.find(blob_of(2), DATA) is None
    assert opened.contains_many(blob_of(1) + blob_of(2), DATA) == b"\1\0"
    assert list(opened.packs()) == [second]
    assert len(opened) == 3
    opened.add_pack(first, blobs)
    assert everything(opened) == dict(TWO)


def test_threads_may_ask_while_others_add():
    """No reader ever misses a blob that was known before it asked."""
    opened = Files(TWO).open()
    packs = [pack_of(*((1000 + 3 * p + b, DATA) for b in range(3))) for p in range(400)]
    missed = []
    added = [0]
    stop = threading.Event()

    def ask():
        rng = random.Random(1)
        while not stop.is_set():
            _, blobs = packs[rng.randrange(max(added[0], 1))]
            if added[0] and opened.find(blobs[0].id, DATA) is None:
                missed.append(blobs[0])
            if added[0] and opened.contains_many(blobs[1].id, DATA) != b"\1":
                missed.append(blobs[1])

    reader = threading.Thread(target=ask)
    with mock.patch.object(index, "_SETTLE_AT", 16):
        reader.start()
        for pack, blobs in packs:
            opened.add_pack(pack, blobs)
            added[0] += 1
            if not added[0] % 50:
                len(opened)
        stop.set()
        reader.join()
    assert missed == []
    assert len(opened) == 5 + 3 * len(packs)


def test_a_damaged_index_file_is_an_error(tmp_path):
    """I4: an index file that cannot be read is never passed over, cache or not."""
    files = Files(TWO)
    name = files.add([], b'{"packs":[{"id":')
    with pytest.raises(DamagedError, match=name[:8]):
        files.open()
    with pytest.raises(DamagedError, match=name[:8]):
        files.open(tmp_path / "cache")


# --- the cache ----------------------------------------------------------------------------


def test_cache_saves_loading(kernel, tmp_path):
    """Once cached, index files are not loaded again, and what is known is the same."""
    cache = tmp_path / "deep" / "cache"
    files = Files(TWO, [pack_of((7, DATA))])
    expected = everything(files.open())
    for _ in range(2):
        assert everything(files.open(cache)) == expected
    assert files.loaded == []
    assert cache.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in cache.parent.iterdir()] == ["cache"]


def test_cache_is_the_same_from_c_and_python(tmp_path, monkeypatch):
    """A machine without the extension reads the cache of one with it."""
    pytest.importorskip("holdfast.repo.format._rabin")
    files = Files(TWO, [pack_of(*((n, DATA) for n in range(100)))])
    files.open(tmp_path / "c")
    for name in _kernel.__all__:
        monkeypatch.setattr(_kernel, name, getattr(_reference, name))
    files.open(tmp_path / "python")
    assert (tmp_path / "c").read_bytes() == (tmp_path / "python").read_bytes()


def test_new_index_files_are_merged_in(tmp_path):
    """Only files that the cache lacks are loaded; it is written anew once it is far behind."""
    cache = tmp_path / "cache"
    packs = [pack_of(*((1000 * p + b, DATA) for b in range(40))) for p in range(20)]
    files = Files(packs)
    files.open(cache)
    before = cache.read_bytes()
    small = pack_of((1, TREE), (2, TREE))
    name = files.add([small])
    for _ in range(2):
        opened = files.open(cache)
        assert files.loaded == [name]
        assert everything(opened) == dict([*packs, small])
    assert cache.read_bytes() == before
    large = pack_of(*((5_000_000 + b, DATA) for b in range(100)))
    files.add([large])
    assert everything(files.open(cache)) == dict([*packs, small, large])
    assert len(files.loaded) == 2
    assert everything(files.open(cache)) == dict([*packs, small, large])
    assert files.loaded == []


def test_many_small_index_files_are_merged_into_the_cache(tmp_path):
    """Files too small to matter by their blobs are merged in once there are many."""
    cache = tmp_path / "cache"
    files = Files([pack_of(*((b, DATA) for b in range(2000)))])
    files.open(cache)
    loaded = []
    for n in range(40):
        files.add([pack_of((10_000 + n, DATA))])
        files.open(cache)
        loaded.append(len(files.loaded))
    assert max(loaded) == 16
    assert loaded.count(16) == 2


def test_cache_of_index_files_that_are_gone_is_not_used(tmp_path):
    """I1: after a prune, blobs of deleted index files are unknown, whatever a cache remembers."""
    cache = tmp_path / "cache"
    files = Files(TWO)
    files.open(cache)
    files.content.clear()
    name = files.add([pack_of((7, DATA))])
    opened = files.open(cache)
    assert files.loaded == [name]
    assert opened.find(blob_of(1), DATA) is None
    assert everything(files.open(cache)) == dict([pack_of((7, DATA))])
    assert files.loaded == []


def test_damage_at_every_byte_of_a_cache_is_noticed(tmp_path):
    """I1: a cache with one wrong byte, anywhere, is rebuilt; not one blob is believed."""
    cache = tmp_path / "cache"
    files = Files(TWO)
    expected = everything(files.open(cache))
    sound = cache.read_bytes()
    for at in range(len(sound)):
        for flip in (0x01, 0x80):
            damaged = bytearray(sound)
            damaged[at] ^= flip
            cache.unlink()
            cache.write_bytes(damaged)
            assert everything(files.open(cache)) == expected
            assert len(files.loaded) == 1
            assert cache.read_bytes() == sound


def test_truncated_and_foreign_caches_are_rebuilt(tmp_path):
    """A cache that is cut anywhere, has more behind it or is something else is rebuilt."""
    cache = tmp_path / "cache"
    files = Files(TWO)
    expected = everything(files.open(cache))
    sound = cache.read_bytes()
    wrong = [sound[:length] for length in range(len(sound))]
    wrong += [sound + b"\0", b"HFINDEX1", b"\xff" * 500, sound.replace(b"HFINDEX1", b"HFINDEX2")]
    for content in wrong:
        cache.unlink()
        cache.write_bytes(content)
        assert everything(files.open(cache)) == expected
        assert len(files.loaded) == 1


@pytest.mark.parametrize("obstacle", ["file", "folder"])
def test_a_cache_that_cannot_be_written_is_no_error(tmp_path, obstacle):
    """Trouble with the cache costs time and nothing else, and leaves nothing behind."""
    if obstacle == "file":
        (tmp_path / "in").write_bytes(b"")
    else:
        (tmp_path / "in" / "cache" / "in the way").mkdir(parents=True)
    files = Files(TWO)
    for _ in range(2):
        assert everything(files.open(tmp_path / "in" / "cache")) == dict(TWO)
        assert len(files.loaded) == 1
    assert not list(tmp_path.rglob("*.part"))


def test_a_full_disk_leaves_no_piece_of_a_cache(tmp_path):
    """A cache that does not fit is given up, and its piece is removed if that can be."""
    files = Files(TWO)
    full = OSError(errno.ENOSPC, "No space left on device")
    with mock.patch.object(Path, "replace", side_effect=full):
        assert everything(files.open(tmp_path / "cache")) == dict(TWO)
        assert list(tmp_path.iterdir()) == []
        with mock.patch.object(Path, "unlink", side_effect=full):
            assert everything(files.open(tmp_path / "cache")) == dict(TWO)


def test_a_cache_that_another_process_replaces_meanwhile_is_not_believed(tmp_path):
    """What was just written is used only if it is still there when it is mapped."""
    other = Files([pack_of((9, DATA))])
    written = index_cache.write

    def overtaken(path, names, table):
        assert written(path, names, table)
        return written(path, set(other.content), table)

    with mock.patch.object(index_cache, "write", overtaken):
        files = Files(TWO)
        assert everything(files.open(tmp_path / "cache")) == dict(TWO)


def test_leftovers_of_killed_writers_are_removed(tmp_path):
    """The next writer removes old pieces and leaves those that may still be written."""
    old, new = tmp_path / "cache.abc.part", tmp_path / "cache.def.part"
    old.write_bytes(b"x")
    new.write_bytes(b"x")
    os.utime(old, (0, 0))
    Files(TWO).open(tmp_path / "cache")
    assert not old.exists()
    assert new.exists()


def test_a_cached_table_is_mapped_and_read_only(tmp_path):
    """Workers share the pages of the cache, even of a deleted one, and cannot change them."""
    cache = tmp_path / "cache"
    files = Files(TWO)
    opened = files.open(cache)
    table = index_cache.read(cache).table
    assert memoryview(table.rows).readonly
    cache.unlink()
    child = os.fork()
    if not child:
        status = 1
        try:
            status = int(everything(opened) != dict(TWO))
        finally:
            os._exit(status)
    assert os.waitpid(child, 0)[1] == 0
    assert build([table]).rows == table.rows
