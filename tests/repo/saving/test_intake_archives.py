"""Receiving archives: what is sound becomes files, what is hostile is refused and keeps nothing."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import random
import shutil
import stat
import struct
import subprocess
import tarfile
import threading
import zipfile

import pytest
import zstandard

from holdfast.core.errors import ArchiveRefusedError, ClosedError, NameRefusedError
from holdfast.core.secret import Secret
from holdfast.repo.browsing.archives import ArchiveFormat, archive
from holdfast.repo.browsing.names import check_name
from holdfast.repo.browsing.streaming import ReadPool, open_file
from holdfast.repo.format.pack import BlobKind
from holdfast.repo.format.tree import blob_id
from holdfast.repo.repository import Repository
from holdfast.repo.saving.intake import About, Intake
from holdfast.repo.saving.intake_archives import Limits, Packing, receive, sniff
from holdfast.repo.saving.intake_inflate import FREE
from holdfast.repo.saving.intake_pipe import BytePipe
from holdfast.store.memory import MemoryStore
from holdfast.testing.hostile_trees import hostile_names

MIB = 1 << 20
HERE = About(host="here")
LIMITS = Limits(total=100 * MIB)
SECONDS = 20.0
PACKERS = {
    "plain": bytes, "gz": gzip.compress, "xz": lzma.compress, "bz2": bz2.compress,
    "zst": zstandard.ZstdCompressor().compress,
}  # fmt: skip


@pytest.fixture(scope="module")
def repository():
    return Repository.init(MemoryStore(), Secret("secret"))


@pytest.fixture(scope="module")
def intake(repository):
    with Intake(repository) as intake:
        yield intake


class Noting:
    """A session that only notes what it is given."""

    def __init__(self):
        self.given = {}
        self.written = 0

    def file(self, path, *, mode=0o644, mtime=None):
        session = self

        class File(io.BytesIO):
            def write(self, piece):
                session.written += len(piece)
                return super().write(piece)

            def __exit__(self, kind, *_):
                if kind is None:
                    session.given[path] = ("file", mode, mtime, self.getvalue())

        return File()

    def directory(self, path, *, mode=0o755, mtime=None):
        self.given[path] = ("dir", mode, mtime)

    def symlink(self, path, target, *, mtime=None):
        self.given[path] = ("link", target)

    def copy(self, path, earlier):
        self.given[path] = ("copy", earlier)


def _received(content, limits=LIMITS):
    session = Noting()
    receive(io.BytesIO(content), session, limits)
    return session.given


def _refused(content, match=None, limits=LIMITS):
    session = Noting()
    with pytest.raises(ArchiveRefusedError, match=match):
        receive(io.BytesIO(content), session, limits)
    return session


def _tar(*members, form=tarfile.PAX_FORMAT):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as made:
        for info, content in members:
            info.size = len(content)
            made.addfile(info, io.BytesIO(content))
    return out.getvalue()


def _info(name, kind=tarfile.REGTYPE, **fields):
    info = tarfile.TarInfo(os.fsdecode(name))
    info.type = kind
    for field, value in fields.items():
        setattr(info, field, value)
    return info


def _zip(*members, method=zipfile.ZIP_DEFLATED):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as made:
        for info, content in members:
            made.writestr(info, content)
    return out.getvalue()


def _zip_info(name, **fields):
    info = zipfile.ZipInfo("x", (2020, 2, 2, 2, 2, 2))
    info.filename = name
    info.compress_type = zipfile.ZIP_DEFLATED
    info.create_system = 3
    info.external_attr = 0o100640 << 16
    for field, value in fields.items():
        setattr(info, field, value)
    return info


TEXT = b"".join(b"line %d of a text\n" % n for n in range(9000))
SOUND = {
    b"a": b"one", b"d/b": random.Random(1).randbytes(700_000), b"d/e/c": b"", b"n" * 180: b"long",
}  # fmt: skip


def _sound_tar(form=tarfile.PAX_FORMAT):
    return _tar(*((_info(name), content) for name, content in SOUND.items()), form=form)


# --- what is sound --------------------------------------------------------------------------------


@pytest.mark.parametrize("packer", PACKERS)
@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_a_tar_becomes_its_files(packer, form):
    given = _received(PACKERS[packer](_sound_tar(form)))
    assert {path: each[3] for path, each in given.items()} == SOUND


def test_streams_of_several_members_are_read_to_the_end():
    """Also with padding between and behind them."""
    tar = _sound_tar()
    half = len(tar) // 2
    for pack in (gzip.compress, lzma.compress, bz2.compress):
        content = pack(tar[:half]) + pack(tar[half:])
        assert set(_received(content)) == set(SOUND)
    padded = lzma.compress(tar[:half]) + bytes(8) + lzma.compress(tar[half:]) + bytes(4)
    assert set(_received(padded)) == set(SOUND)


def test_everything_a_tar_says_is_kept():
    mtime = 1_600_000_000.123456
    content = _tar(
        (_info(b"d", tarfile.DIRTYPE, mode=0o700, mtime=mtime), b""),
        (_info(b"d/f", mode=0o4755, pax_headers={"mtime": "1600000000.123456789"}), b"x"),
        (_info(b"l", tarfile.SYMTYPE, linkname="/etc/passwd"), b""),
        (_info(b"h", tarfile.LNKTYPE, linkname="d/f"), b""),
        (_info(b"\xff\xfe"), b"raw"),
        (_info("é" * 60), b"utf-8"),
    )
    given = _received(content)
    assert given[b"d"] == ("dir", 0o700, 1_600_000_000_123_456_001 // 1000 * 1000)
    assert given[b"d/f"] == ("file", 0o4755, 1_600_000_000_123_456_789, b"x")
    assert given[b"l"] == ("link", b"/etc/passwd")
    assert given[b"h"] == ("copy", b"d/f")
    assert given[b"\xff\xfe"][3] == b"raw"
    assert given[("é" * 60).encode()][3] == b"utf-8"


def test_a_zip_becomes_its_files():
    content = _zip(
        (_zip_info("a"), "one"),
        (_zip_info("d/", external_attr=0o40700 << 16 | 0x10), ""),
        (_zip_info("d/b", compress_type=zipfile.ZIP_STORED), SOUND[b"d/b"]),
        (_zip_info("link", external_attr=0o120777 << 16), "/etc/passwd"),
        (_zip_info("é"), "utf-8"),
        (_zip_info("from\\dos", create_system=0, external_attr=0), "x"),
    )
    given = _received(content)
    assert given[b"a"][:2] == ("file", 0o640)
    assert given[b"a"][3] == b"one"
    assert given[b"d"][:2] == ("dir", 0o700)
    assert given[b"d/b"][3] == SOUND[b"d/b"]
    assert given[b"link"] == ("link", b"/etc/passwd")
    assert given["é".encode()][3] == b"utf-8"
    assert given[b"from/dos"][1:] == (0o644, given[b"a"][2], b"x")


@pytest.mark.interop
@pytest.mark.parametrize(
    "words",
    [
        ["tar", "-cf"], ["tar", "-czf"], ["tar", "-cJf"], ["tar", "--format=posix", "-cf"],
        ["tar", "--format=v7", "-cf"], ["tar", "--format=oldgnu", "-cf"], ["zip", "-qry"],
    ],
    ids=" ".join,
)  # fmt: skip
def test_what_other_packers_make_is_taken(tmp_path, words, intake, repository):
    """I1: packed by GNU tar or Info-ZIP, received, kept, given back: the same files."""
    if not shutil.which(words[0]):
        pytest.skip(f"{words[0]} is not installed")
    source = tmp_path / "source"
    (source / "d").mkdir(parents=True)
    (source / "a").write_bytes(TEXT)
    (source / "d" / "b").write_bytes(random.Random(2).randbytes(600_000))
    (source / "d" / "hard").hardlink_to(source / "a")
    (source / "soft").symlink_to("d/b")
    packed = tmp_path / "packed"
    file = packed.with_suffix(".zip") if words[0] == "zip" else packed
    subprocess.run([*words, str(file), "."], cwd=source, check=True)
    with file.open("rb") as opened, intake.begin_tree(HERE) as session:
        receive(opened, session, LIMITS)
        kept = session.commit().result(SECONDS)
    assert _files(repository, kept.tree) == {
        b"a": TEXT, b"d/hard": TEXT, b"soft": b"d/b",
        b"d/b": random.Random(2).randbytes(600_000),
    }  # fmt: skip


def _files(repository, tree, path=b""):
    found = {}
    for node in repository.load_tree(tree):
        name = node.raw_name()
        check_name(name)
        if node.type == "dir":
            found |= _files(repository, blob_id(node.subtree), path + name + b"/")
        elif node.type == "symlink":
            found[path + name] = node.linktarget.encode()
        else:
            blobs = (repository.load_blob(blob, BlobKind.DATA) for blob in node.blobs())
            found[path + name] = b"".join(blobs)
    return found


@pytest.mark.parametrize("form", list(ArchiveFormat))
def test_what_we_give_we_take(intake, repository, form):
    """A tree given as an archive and received again is the same tree, by its digest; a zip is read
    by ranges from where it is kept.
    """
    with intake.begin_tree(HERE) as session:
        receive(io.BytesIO(_sound_tar()), session, LIMITS)
        session.symlink(b"link", b"a")
        first = session.commit().result(SECONDS)
    with ReadPool(repository) as pool:
        upload = intake.begin(b"archive", HERE)
        for piece in archive(pool, first.tree, form):
            upload.write(piece)
        kept = upload.finish().result(SECONDS)
        with (
            open_file(pool, kept.tree, b"/archive").as_file() as source,
            intake.begin_tree(HERE) as session,
        ):
            received = receive(source, session, LIMITS)
            second = session.commit().result(SECONDS)
    assert second.sha256 == first.sha256
    assert (received.files, received.size) == (4, sum(map(len, SOUND.values())))


def test_an_archive_is_known_by_its_content():
    tar = _sound_tar()
    assert sniff(tar) is Packing.TAR
    assert sniff(bytes(10240)) is Packing.TAR
    assert sniff(gzip.compress(tar)) is Packing.TAR_GZ
    assert sniff(lzma.compress(tar)) is Packing.TAR_XZ
    assert sniff(bz2.compress(tar)) is Packing.TAR_BZ2
    assert sniff(PACKERS["zst"](tar)) is Packing.TAR_ZST
    assert sniff(_zip((_zip_info("a"), "x"))) is Packing.ZIP
    assert sniff(_zip()) is Packing.ZIP
    for content in (b"", b"PK", b"text", bytes(511), random.Random(1).randbytes(5000)):
        assert sniff(content) is None
        _refused(content, "neither")
    _refused(gzip.compress(b"no tar at all" * 100), "damaged")
    assert _received(bytes(10240)) == {}
    assert _received(_zip()) == {}


# --- what is hostile ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", hostile_names("/outside"))
@pytest.mark.parametrize("kind", ["tar", "zip"])
def test_names_that_lead_elsewhere_are_refused(name, kind, intake, repository):
    """I10: whatever is taken lies below the top, under names that files can have."""
    if kind == "tar":
        content = _raw_tar(name)
    else:
        content = _zip((_zip_info("a" * len(name)), "x")).replace(b"a" * max(len(name), 1), name)
        if not name:
            content = _zip((_zip_info(""), "x"))
    with intake.begin_tree(HERE) as session:
        try:
            receive(io.BytesIO(content), session, LIMITS)
        except (ArchiveRefusedError, NameRefusedError):
            assert name != b"a/b"
            return
        kept = session.commit().result(SECONDS)
    seen = name.split(b"\0")[0] if kind == "tar" else name  # a NUL ends a name in a tar
    assert b".." not in seen.split(b"/")
    assert not seen.startswith(b"/")
    assert all(path in {b"a/b", b"file"} for path in _files(repository, kept.tree))


def _raw_tar(name, kind=b"0", size=1, target=b"", content=b"x"):
    block = bytearray(_info(b"x", size=size).tobuf(tarfile.USTAR_FORMAT))
    block[:100] = name.ljust(100, b"\0")
    block[156:157] = kind
    block[157:257] = target.ljust(100, b"\0")
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block) + (content.ljust(512, b"\0") if size else b"") + bytes(1024)


def test_a_file_behind_a_link_is_refused(intake, repository):
    """The old trick: a link to elsewhere, then a file through it."""
    count = len(list(repository.snapshots()))
    for content in (
        _tar((_info(b"a", tarfile.SYMTYPE, linkname="/etc"), b""), (_info(b"a/passwd"), b"x")),
        _zip((_zip_info("a", external_attr=0o120777 << 16), "/etc"), (_zip_info("a/passwd"), "x")),
        _tar((_info(b"a", tarfile.LNKTYPE, linkname="b"), b"")),
    ):
        with intake.begin_tree(HERE) as session:
            receive(io.BytesIO(content), session, LIMITS)
            with pytest.raises(NameRefusedError):
                session.commit().result(SECONDS)
    assert len(list(repository.snapshots())) == count


@pytest.mark.parametrize("target", [b"/etc/passwd", b"../up", b"a/../../up", b"x\0/../up"])
def test_a_hard_link_to_elsewhere_is_refused(target):
    if b"\0" in target:
        assert _received(_raw_tar(b"a", b"1", 0, target)) == {b"a": ("copy", b"x")}
    else:
        _refused(_raw_tar(b"a", b"1", 0, target), "refused")


def test_links_can_be_refused():
    tar = _tar((_info(b"a", tarfile.SYMTYPE, linkname="b"), b""))
    _refused(tar, "link", Limits(total=MIB, links=False))
    assert _received(tar) == {b"a": ("link", b"b")}


@pytest.mark.parametrize("kind", [b"3", b"4", b"6", b"S", b"M", b"D", b"Z"])
def test_what_is_no_file_is_refused(kind):
    _refused(_raw_tar(b"a", kind), "cannot be kept")


def test_sparse_files_are_refused_in_their_new_form_too():
    headers = {
        "GNU.sparse.major": "1",
        "GNU.sparse.minor": "0",
        "GNU.sparse.realsize": str(1 << 50),
    }
    _refused(_tar((_info(b"a", pax_headers=headers), b"x")), "sparse")


@pytest.mark.parametrize("packer", ["gz", "xz", "bz2", "zst"])
def test_bombs_are_refused_before_they_are_written(packer):
    """Less than 64 KiB of what inflates out of proportion is ever handed on."""
    tar = _tar((_info(b"bomb"), bytes(30 * MIB)))
    session = _refused(PACKERS[packer](tar), "inflates to more than 100 times")
    assert session.written < FREE


def test_a_zip_bomb_is_refused_before_anything_is_written():
    bomb = _zip((_zip_info("harmless"), "x"), (_zip_info("bomb"), bytes(30 * MIB)))
    assert not _refused(bomb, "inflates to more than 100 times").given
    many = _zip(*((_zip_info(f"{n}"), bytes(60_000)) for n in range(50)))
    assert not _refused(many, "inflates to more than 100 times").given


def test_a_zip_that_lies_about_its_sizes_is_refused():
    """Neither more nor less than it says comes out."""
    random_ = random.Random(1).randbytes(50_000)
    sound = _zip((_zip_info("a"), random_ + bytes(1000)))
    size = struct.pack("<I", 51_000)
    for lie in (50_000, 52_000):
        content = sound.replace(size, struct.pack("<I", lie))
        session = _refused(content, "another|inflate")
        assert b"a" not in session.given
        assert session.written <= 52_000


def test_members_that_share_bytes_are_refused():
    """The bomb of overlapping members: refused by the list alone."""
    content = bytearray(_zip((_zip_info("a"), "x" * 50), (_zip_info("b"), "y" * 50)))
    second = content.rfind(b"PK\1\2")
    content[second + 42 : second + 46] = bytes(4)  # the offset of the first
    assert not _refused(bytes(content), "share").given


def test_what_stands_before_a_member_must_agree_with_the_list():
    content = _zip((_zip_info("aa"), "x"), method=zipfile.ZIP_STORED)
    local, _, rest = content.partition(b"aa")
    _refused(local + b"bb" + rest, "something else")
    encrypted = bytearray(content)
    encrypted[encrypted.rfind(b"PK\1\2") + 8] |= 1
    _refused(bytes(encrypted), "encrypted")
    exotic = _zip((_zip_info("a", compress_type=zipfile.ZIP_LZMA), "x"))
    _refused(exotic, "method 14")


def test_limits_hold():
    tar = _tar(*((_info(b"%d" % n), b"x" * 100) for n in range(20)))
    zipped = _zip(*((_zip_info(f"{n}"), "x" * 100) for n in range(20)))
    for content in (tar, zipped, gzip.compress(tar)):
        _refused(content, "more than 1999 bytes", Limits(total=1999))
        _refused(content, "more than 19 entries", Limits(total=MIB, entries=19))
        assert len(_received(content, Limits(total=2000, entries=20))) == 20
    claims = bytearray(_raw_tar(b"a"))
    claims[124:136] = b"77777777777\0"
    claims[148:156] = b" " * 8
    claims[148:156] = b"%06o\0 " % sum(claims[:512])
    session = _refused(bytes(claims), "bytes")
    assert not session.written


def test_headers_may_not_take_memory():
    """Neither one that is long, nor many in a row."""
    _refused(_tar((_info(b"a", pax_headers={"comment": "x" * (2 << 20)}), b"")), "header of")
    long_name = _raw_tar(b"././@LongLink", b"L", (1 << 33) - 1)
    _refused(long_name, "header of")
    globals_ = _raw_tar(b"g", b"g", 0)[:512] * 5000
    _refused(globals_ + _sound_tar(), "lead to nothing")


@pytest.mark.parametrize("packer", PACKERS)
def test_what_is_cut_short_is_refused(packer):
    """I4: wherever it was cut; half of an archive is never taken for one."""
    content = PACKERS[packer](_tar((_info(b"a"), b"x" * 700), (_info(b"b"), b"y" * 10)))
    end = len(content) if packer != "plain" else content.rfind(b"y") + 500
    for cut in range(0, end, 97 if packer == "plain" else 1):
        _refused(content[:cut])


def test_a_zip_that_is_cut_short_is_refused():
    content = _zip((_zip_info("a"), "x" * 700), (_zip_info("b"), "y" * 10))
    for cut in range(len(content)):
        _refused(content[:cut])


def test_damage_is_noticed():
    """Any byte of a compressed tar; any byte of a header or the list; the content of a zip."""
    rnd = random.Random(3)
    tar = _tar((_info(b"a"), rnd.randbytes(3000)))
    for pack in (gzip.compress, lzma.compress, bz2.compress):
        content = pack(tar)
        for at in rnd.sample(range(12, len(content)), 60):
            damaged = content[:at] + bytes([content[at] ^ 0x55]) + content[at + 1 :]
            _refused(damaged)
    for at in range(0, 512, 7):
        if 148 <= at < 156 or not tar[at] ^ 0x15:
            continue
        with pytest.raises(ArchiveRefusedError):
            _received(tar[:at] + bytes([tar[at] ^ 0x15]) + tar[at + 1 :])
    zipped = _zip((_zip_info("a"), rnd.randbytes(3000)), method=zipfile.ZIP_STORED)
    at = zipped.find(b"a") + 50
    _refused(zipped[:at] + bytes([zipped[at] ^ 1]) + zipped[at + 1 :], "checksum")


def test_a_zip_that_cannot_be_sought_is_refused():
    class Stream(io.RawIOBase):
        def __init__(self, content):
            self._content = io.BytesIO(content)

        def readable(self):
            return True

        def readinto(self, room):
            return self._content.readinto(room)

    content = _zip((_zip_info("a"), "x"))
    with pytest.raises(ArchiveRefusedError, match="as it comes"):
        receive(Stream(content), Noting(), LIMITS)
    session = Noting()
    receive(Stream(gzip.compress(_sound_tar())), session, LIMITS)
    assert set(session.given) == set(SOUND)


def test_modes_are_only_permissions():
    given = _received(_tar((_info(b"a", mode=0o177777), b"")))
    assert given[b"a"][1] == 0o7777
    assert stat.S_IFMT(given[b"a"][1]) == 0


# --- the pipe -------------------------------------------------------------------------------------


def test_a_pipe_carries_everything_and_holds_little():
    """What is offered in one thread is read in another, at most so much lying between."""
    content = random.Random(9).randbytes(3 * MIB)
    pipe = BytePipe(limit=100_000)
    most = 0

    def give():
        nonlocal most
        for at in range(0, len(content), 30_000):
            waits = pipe.offer(content[at : at + 30_000])
            most = max(most, pipe._size)
            if waits is not None:
                waits.result(SECONDS)
        pipe.end()

    giver = threading.Thread(target=give)
    giver.start()
    assert io.BufferedReader(pipe, 70_000).read() == content
    giver.join()
    assert most <= 130_000


def test_a_giver_that_breaks_off_is_an_error_and_no_end():
    """I4: a connection that was lost does not look like the end of the archive."""
    pipe = BytePipe()
    content = _sound_tar()
    pipe.offer(content[: len(content) // 2])
    pipe.fail(ClosedError("the connection was lost"))
    with pytest.raises(ClosedError):
        receive(pipe, Noting(), LIMITS)


def test_a_reader_that_wants_no_more_tells_the_giver():
    pipe = BytePipe(limit=10)
    waits = pipe.offer(b"x" * 20)
    assert not waits.done()
    pipe.close()
    with pytest.raises(ClosedError):
        waits.result(SECONDS)
    with pytest.raises(ClosedError):
        pipe.offer(b"more")
