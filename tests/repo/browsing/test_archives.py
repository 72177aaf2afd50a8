"""Archives made on the fly: every unpacker finds what was kept; a stored zip is settled bytes."""

from __future__ import annotations

import gzip
import io
import lzma
import os
import random
import shutil
import subprocess
import tarfile
import threading
import zipfile
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.core.entries import Entry, Kind
from holdfast.core.errors import RestoreError, UnreadableError
from holdfast.core.secret import Secret
from holdfast.repo.browsing import archives_zip
from holdfast.repo.browsing.archives import ArchiveFormat, archive
from holdfast.repo.browsing.archives_members import Member
from holdfast.repo.browsing.archives_packed import CHUNK, Gzip, Xz, packed
from holdfast.repo.browsing.archives_range import StoredZip
from holdfast.repo.browsing.archives_tar import _plain_header, _tar_info
from holdfast.repo.browsing.streaming import ReadPool
from holdfast.repo.repository import Repository
from holdfast.repo.saving.backup import BackupOptions, back_up
from holdfast.repo.saving.sealing import SealingPlan
from holdfast.store.contract import FileKind
from holdfast.store.memory import MemoryStore
from holdfast.testing.faulty_store import FaultyStore
from holdfast.testing.hostile_trees import Forger, node, symlink
from holdfast.testing.memory_source import File, MemorySource

MIB = 1 << 20
PASSWORD = Secret("secret")
_RND = random.Random(4)
MTIME = 1_700_000_001_000_000_000
TREE = {
    b"large": _RND.randbytes(5 * MIB),
    b"text": File(b"text " * 300_000, mtime=MTIME + 123),
    b"empty": File(b"", mtime=MTIME),
    b"d": {b"f%03d" % n: File(_RND.randbytes(n * 37), mtime=MTIME + n) for n in range(200)},
    b"n" * 150: b"a long name",
    b"\xff\xfe": b"raw",
    "é".encode(): b"utf-8",
}


class _Nobody:
    def item(self, action, path, kind, size):
        pass

    def problem(self, problem):
        raise AssertionError(problem)

    def progress(self, counts, current):
        pass


def _contents(tree, path=b""):
    found = {}
    for name, item in tree.items():
        if isinstance(item, dict):
            found |= _contents(item, path + name + b"/")
        else:
            found[path + name] = item if isinstance(item, bytes) else item.content
    return found


CONTENTS = _contents(TREE)


@pytest.fixture(scope="module")
def kept():
    repository = Repository.init(FaultyStore(MemoryStore()), PASSWORD)
    options = BackupOptions(hostname="h", sealing=SealingPlan(workers=0))
    back_up(repository, MemorySource({b"data": TREE}), options, observer=_Nobody(), lock=None)
    (snapshot,) = repository.snapshots()
    (data,) = repository.load_tree(snapshot.tree)
    return repository, bytes.fromhex(data.subtree)


@pytest.fixture
def pool(kept):
    with ReadPool(kept[0]) as pool:
        yield pool


@pytest.fixture
def forger():
    return Forger(Repository.init(MemoryStore(), PASSWORD))


def _unzipped(content):
    found = {}
    with zipfile.ZipFile(io.BytesIO(content)) as opened:
        assert opened.testzip() is None
        for info in opened.infolist():
            flagged = info.flag_bits & 0x800
            name = info.orig_filename.encode("utf-8" if flagged else "cp437")
            if not name.endswith(b"/"):
                found[name] = opened.read(info)
    return found


def _untarred(content, mode="r:"):
    found = {}
    with tarfile.open(fileobj=io.BytesIO(content), mode=mode) as opened:
        for info in opened:
            if info.isreg():
                found[os.fsencode(info.name)] = opened.extractfile(info).read()
    return found


@pytest.mark.parametrize("form", list(ArchiveFormat))
def test_an_archive_holds_what_was_kept(kept, pool, form):
    """Every name to the byte, every content; so says the standard library."""
    content = b"".join(archive(pool, kept[1], form))
    if form in {ArchiveFormat.ZIP, ArchiveFormat.ZIP_DEFLATED}:
        assert _unzipped(content) == CONTENTS
    else:
        assert _untarred(content, "r:*") == CONTENTS
        if form is not ArchiveFormat.TAR:
            assert _untarred(content, "r|" + form.removeprefix("tar.")) == CONTENTS
    again = b"".join(archive(pool, kept[1], form))
    assert again == content, "the same tree gives the same bytes"


@pytest.mark.interop
@pytest.mark.parametrize("form", list(ArchiveFormat))
def test_other_unpackers_agree(kept, pool, form, tmp_path):
    """unzip and GNU tar give back contents and times."""
    words = {"zip": ["unzip", "-q"], "zip-deflated": ["unzip", "-q"]}.get(form, ["tar", "-xpf"])
    if not shutil.which(words[0]):
        pytest.skip(f"{words[0]} is not installed")
    file = tmp_path / "archive"
    file.write_bytes(b"".join(archive(pool, kept[1], form, top=b"top/below")))
    where = ["-d", str(tmp_path)] if words[0] == "unzip" else ["-C", str(tmp_path)]
    subprocess.run([*words, str(file), *where], check=True, capture_output=True)
    top = os.fsencode(tmp_path / "top" / "below")
    for path, content in CONTENTS.items():
        if path == b"\xff\xfe" and words[0] == "unzip":
            continue  # Debian's unzip makes another name of it
        with open(top + b"/" + path, "rb") as unpacked:
            assert unpacked.read() == content
    assert os.stat(top + b"/d/f007").st_mtime_ns // 10**9 == MTIME // 10**9


_NAMES = st.binary(min_size=1, max_size=120).filter(lambda b: b"\0" not in b and b"/" not in b)


@settings(max_examples=300, deadline=None)
@given(
    name=_NAMES | st.text("abcz/", max_size=101).map(lambda text: f"a{text}z".encode()),
    kind=st.sampled_from([Kind.FILE, Kind.DIR, Kind.SYMLINK, Kind.FIFO]),
    mode=st.integers(0, 0o7777),
    mtime=st.integers(-(10**9), 9 * 10**18) | st.integers(0, 2**33).map(lambda s: s * 10**9),
    size=st.integers(0, 2**34),
    ids=st.tuples(st.integers(0, 2**32), st.integers(0, 2**22)),
    user=st.sampled_from(["", "root", "é", "x" * 40]),
    link=_NAMES,
)
def test_our_tar_headers_are_those_of_the_standard_library(  # noqa: PLR0917
    name, kind, mode, mtime, size, ids, user, link
):
    """What the fast way makes is what `tarfile` makes, byte for byte, or it is left to that."""
    target = link if kind is Kind.SYMLINK else None
    entry = Entry(
        b"", kind, mode=mode, mtime=mtime, uid=ids[0], gid=ids[1], user=user, linktarget=target
    )
    member = Member(name, entry, size if kind is Kind.FILE else 0, 1)
    plain = _plain_header(member)
    if plain is not None:
        assert plain == _tar_info(member).tobuf(tarfile.PAX_FORMAT, "utf-8")


def test_hard_links_are_links_in_a_tar_and_files_in_a_zip(forger):
    same = {"inode": 5, "device_id": 9, "links": 2}
    tree = forger.tree([forger.file(b"a", b"1", same), forger.file(b"b", b"1", same)])
    with ReadPool(forger.repository) as pool:
        tar = b"".join(archive(pool, tree, ArchiveFormat.TAR, top=b"top"))
        with tarfile.open(fileobj=io.BytesIO(tar)) as opened:
            a, b = opened.getmembers()
        assert (a.isreg(), b.islnk(), b.linkname) == (True, True, "top/a")
        content = b"".join(archive(pool, tree, ArchiveFormat.ZIP))
        assert _unzipped(content) == {b"a": b"1", b"b": b"1"}


@pytest.mark.parametrize("form", list(ArchiveFormat))
def test_what_cannot_be_read_is_never_silently_left_out(forger, form):
    """I4: with nobody to be told, an archive that lacks a directory or a blob ends in an error."""
    lost = node(b"lost", "dir", {"subtree": "ab" * 32})
    tree = forger.tree([forger.file(b"a"), lost, node(b"socket", "socket")])
    told = []
    with ReadPool(forger.repository) as pool:
        with pytest.raises(UnreadableError):
            list(archive(pool, tree, form))
        whole = archive(pool, tree, form, on_problem=lambda path, _: told.append(path))
        assert b"".join(whole)
        assert told == [b"/lost", b"/socket"]
        missing = forger.tree([node(b"f", "file", {"size": 3, "content": ["cd" * 32]})])
        with pytest.raises(UnreadableError):
            list(archive(pool, missing, form, on_problem=lambda *_: None))


@pytest.mark.parametrize("form", list(ArchiveFormat))
def test_leaving_an_archive_early_leaves_nothing(kept, form):
    before = threading.active_count()
    with ReadPool(kept[0]) as pool:
        for _ in range(5):
            pieces = archive(pool, kept[1], form)
            next(pieces)
            next(pieces)
            pieces.close()
        assert threading.active_count() <= before + 2
        assert pool._held == 0
    assert threading.active_count() == before


def test_a_top_that_leads_anywhere_is_refused(kept, pool):
    with pytest.raises(RestoreError):
        archive(pool, kept[1], ArchiveFormat.TAR, top=b"../up")


@pytest.mark.parametrize("size", [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK + 5])
def test_packed_streams_are_one_stream(size):
    """Any decoder reads them, also one that stops at the end of the first member."""
    half = random.Random(size).randbytes(size // 2)
    content = half + bytes(size - len(half))

    def pieces():
        for at in range(0, size, 300_000):
            yield content[at : at + 300_000]

    xz = b"".join(packed(pieces(), Xz()))
    gz = b"".join(packed(pieces(), Gzip(1)))
    assert lzma.decompress(xz) == gzip.decompress(gz) == content
    for decoder, stream in ((lzma.LZMADecompressor(), xz), (zlib.decompressobj(31), gz)):
        assert decoder.decompress(stream) == content
        assert decoder.eof
        assert not decoder.unused_data


# --- a zip of known size --------------------------------------------------------------------------


def test_a_stored_zip_is_the_zip(kept, pool):
    """Its size is exact, and its bytes are those of the archive."""
    stored = StoredZip(pool, kept[1], top=b"top")
    whole = b"".join(stored.pieces())
    assert len(whole) == stored.size
    assert whole == b"".join(archive(pool, kept[1], ArchiveFormat.ZIP, top=b"top"))
    assert _unzipped(whole) == {b"top/" + path: c for path, c in CONTENTS.items()}
    assert StoredZip(pool, kept[1], top=b"top").tag == stored.tag
    assert StoredZip(pool, kept[1]).tag != stored.tag


@pytest.fixture(scope="module")
def settled(kept):
    with ReadPool(kept[0]) as pool:
        yield pool, b"".join(StoredZip(pool, kept[1]).pieces())


@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_any_range_of_a_stored_zip_is_that_part(kept, settled, data):
    """Also the first that is ever asked for, before any CRC is known."""
    pool, whole = settled
    near = data.draw(st.sampled_from([whole.find(b"PK", at) for at in range(0, len(whole), 9973)]))
    places = (
        st.integers(0, len(whole))
        | st.just(max(near, 0))
        | st.integers(0, 3000).map(lambda back: len(whole) - back)
    )
    start, stop = sorted((data.draw(places), data.draw(places)))
    stored = StoredZip(pool, kept[1])
    assert b"".join(stored.pieces(start, stop)) == whole[start:stop]
    again = sorted((data.draw(places), data.draw(places)))
    assert b"".join(stored.pieces(*again)) == whole[again[0] : again[1]]


def test_a_range_reads_only_what_it_needs(kept, pool):
    stored = StoredZip(pool, kept[1])
    store = kept[0].store

    def read(*ends):
        store.calls.clear()
        assert len(b"".join(stored.pieces(*ends))) == ends[1] - ends[0]
        return [c for c in store.calls if c.kind is FileKind.PACK and c.method == "get_range"]

    assert read(stored.size - 22, stored.size) == []
    assert len(read(0, 100)) <= 2
    assert read(stored.size - 3000, stored.size), "the list needs every member once"
    assert read(stored.size - 3000, stored.size) == []


def test_crcs_are_kept_beside_the_cache(kept, tmp_path):
    """Another process gives the end of a zip that was read before without reading it again; a
    damaged note is not believed.
    """
    repository = Repository.unlocked(
        kept[0].store, kept[0].objects.key, cache_root=tmp_path / "cache"
    )
    store = kept[0].store
    with ReadPool(repository) as pool:
        whole = b"".join(StoredZip(pool, kept[1]).pieces())
        (note,) = (repository.cache / "zips").iterdir()

        def read_again():
            stored = StoredZip(pool, kept[1])
            store.calls.clear()
            assert b"".join(stored.pieces(len(whole) - 5000)) == whole[-5000:]
            return any(call.kind is FileKind.PACK for call in store.calls)

        assert not read_again()
        note.write_bytes(note.read_bytes()[:-1] + b"x")
        assert read_again()
        assert not read_again()


@pytest.mark.parametrize("deflate", [False, True])
def test_large_members_and_large_archives(kept, pool, monkeypatch, deflate):
    """ZIP64 where sizes, offsets or the count do not fit: here from smaller numbers on."""
    monkeypatch.setattr(archives_zip, "_MOST_MEMBERS", 10)
    form = ArchiveFormat.ZIP_DEFLATED if deflate else ArchiveFormat.ZIP
    content = b"".join(archive(pool, kept[1], form))
    assert b"PK\6\6" in content[-200:]
    assert _unzipped(content) == CONTENTS
    if not deflate:
        assert StoredZip(pool, kept[1]).size == len(content)


def test_a_member_of_more_than_four_gigabytes():
    """The header, the descriptor and the list as APPNOTE has them; `zipfile` reads them."""
    label = archives_zip.Label(b"big", 0o100644, MTIME, 5 << 30, later=True)
    assert label.local(0, label.size)[4:6] == (45).to_bytes(2, "little")
    assert len(label.descriptor(1, label.size)) == 24
    offset = 6 << 30
    line = label.central(0xABCD, label.size, offset)
    tail = line + archives_zip.ending(1, offset, len(line))

    class Sparse(io.BytesIO):
        """Only its end is there."""

        def seek(self, at, whence=0):
            return (
                super().seek(at - offset, 0) + offset
                if whence == 0
                else super().seek(at, whence) + offset
            )

        def tell(self):
            return super().tell() + offset

    with zipfile.ZipFile(Sparse(tail)) as opened:
        (info,) = opened.infolist()
    assert (info.file_size, info.compress_size, info.header_offset) == (5 << 30, 5 << 30, offset)
    assert info.CRC == 0xABCD


def test_an_empty_tree(forger):
    tree = forger.tree([])
    with ReadPool(forger.repository) as pool:
        stored = StoredZip(pool, tree)
        assert stored.size == 22
        assert _unzipped(b"".join(stored.pieces())) == {}
        for form in ArchiveFormat:
            assert b"".join(archive(pool, tree, form))


def test_a_link_in_a_stored_zip(forger):
    tree = forger.tree([symlink(b"link", "some/where"), forger.file(b"z", b"end")])
    with ReadPool(forger.repository) as pool:
        stored = StoredZip(pool, tree)
        whole = b"".join(stored.pieces())
        assert len(whole) == stored.size
        assert _unzipped(whole) == {b"link": b"some/where", b"z": b"end"}
        for start in range(stored.size):
            assert b"".join(StoredZip(pool, tree).pieces(start)) == whole[start:]
