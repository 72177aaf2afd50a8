"""What comes back is what was kept, and a restore does what it was asked for and no more."""

from __future__ import annotations

import errno
import os
import random
import signal
import socket
import stat
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

import holdfast.repo.restoring.restore as restoring
from holdfast.core.errors import RestoreError, UsageError
from holdfast.core.outcome import Outcome
from holdfast.core.patterns import Patterns
from holdfast.core.secret import Secret
from holdfast.repo.browsing.walk import resolve
from holdfast.repo.format.pack import BlobKind
from holdfast.repo.format.snapshot import choose
from holdfast.repo.repository import Repository
from holdfast.repo.restoring import large, plain
from holdfast.repo.restoring.restore import restore
from holdfast.repo.restoring.restore_options import Overwrite, RestoreOptions, Selection
from holdfast.repo.saving.backup import BackupOptions, back_up
from holdfast.sources.files.source import FileSource
from holdfast.store.contract import FileKind
from holdfast.store.directory import DirectoryStore
from holdfast.store.memory import MemoryStore
from holdfast.store.wrapped import WrappedStore
from holdfast.testing.hostile_trees import Forger, node, symlink

ROOT = os.geteuid() == 0
as_root = pytest.mark.skipif(not ROOT, reason="only root may give files away")
TIME = 1_600_000_000_123_456_789
SAME = {"inode": 7, "device_id": 3, "links": 2}


@pytest.fixture
def forger():
    return Forger(Repository.init(MemoryStore(), Secret("secret")))


class Silent:
    """An observer who keeps nothing."""

    def item(self, action, path, kind, size):
        pass

    def problem(self, problem):
        raise AssertionError(problem)

    def progress(self, counts, current):
        pass


def _give(forger, nodes, target, **options):
    """Restores a tree of these nodes; the report and what became of each path."""
    snapshot = forger.snapshot(forger.tree(nodes))
    changes = []
    report = restore(
        forger.repository,
        snapshot,
        os.fsencode(target),
        options=RestoreOptions(workers=0, **options),
        on_change=changes.append,
    )
    return report, sorted((change.path, str(change.action)) for change in changes)


def _picture(root):
    """Everything that a backup keeps of a tree."""
    seen = {}
    for above, folders, files in os.walk(os.fsencode(root)):
        for name in [*folders, *files]:
            path = os.path.join(above, name)
            found = os.lstat(path)
            if stat.S_ISREG(found.st_mode):
                content = Path(os.fsdecode(path)).read_bytes()
            elif stat.S_ISLNK(found.st_mode):
                content = os.readlink(path)
            else:
                content = found.st_rdev
            xattrs = {
                name: os.getxattr(path, name, follow_symlinks=False)
                for name in os.listxattr(path, follow_symlinks=False)
            }
            seen[os.path.relpath(path, os.fsencode(root))] = (
                found.st_mode, found.st_uid, found.st_gid, found.st_mtime_ns, xattrs, content,
                found.st_nlink if not stat.S_ISDIR(found.st_mode) else 0,
            )  # fmt: skip
    return seen


def _strange_tree(root):
    """Whatever a Linux file system can hold, as far as we may make it."""
    root.mkdir()
    raw = os.fsencode(root)
    for number, name in enumerate((
        b"plain", b"new\nline", b"\xff\xfe not utf-8", bytes(range(1, 47)), bytes(range(48, 256)),
        b"x" * 255, "caf\u00e9".encode(), "cafe\u0301".encode(), b"-rf", b"trailing. ",
        "\u202ertl".encode(), b'quo"te\\', b" ",
    )):  # fmt: skip
        path = raw + b"/" + name
        with open(path, "wb") as file:
            file.write(b"content of " + name)
        os.chmod(path, 0o400 + number)
    (root / "empty").touch()
    (root / "folder" / "inner").mkdir(parents=True)
    (root / "folder" / "big").write_bytes(random.Random(1).randbytes(3 << 20))
    os.link(root / "folder" / "big", root / "second-name")
    os.link(root / "folder" / "big", root / "folder" / "inner" / "third-name")
    os.symlink("nowhere\nat all", root / "link")
    os.mkfifo(root / "fifo", 0o640)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(root / "socket"))
    os.setxattr(root / "plain", "user.note", b"\x00binary\xff")
    with open(root / "sparse", "wb") as file:
        file.write(b"begin")
        file.seek(40 << 20)
        file.write(b"end")
    if ROOT:
        os.mknod(root / "device", stat.S_IFCHR | 0o620, os.makedev(1, 3))
        os.chown(root / "empty", 1234, 4321)
        os.chown(raw + b"/link", 1234, 4321, follow_symlinks=False)
        subprocess.run(["setfacl", "-m", "u:1234:rw,g:55:r", root / "empty"], check=True)
        subprocess.run(["setfacl", "-d", "-m", "u:1234:rwx", root / "folder"], check=True)
        capability = bytes.fromhex("0100000200040000000000000000000000000000")
        os.setxattr(root / "plain", "security.capability", capability)
        os.chown(root / "folder", 1, 2)
        os.chmod(root / "empty", 0o6755)
    os.chmod(root / "folder" / "inner", 0o500)
    for above, folders, files in os.walk(raw, topdown=False):
        for name in [*files, *folders]:
            path = os.path.join(above, name)
            os.utime(path, ns=(TIME, TIME + len(name)), follow_symlinks=False)


@pytest.mark.interop
@pytest.mark.parametrize(("workers", "verify"), [(0, True), (2, True), (2, False)])
def test_whatever_restic_kept_comes_back(stock_restic, tmp_path, workers, verify):
    """Names, contents, owners, modes, times, links, devices, attributes: all of it (F21-F25)."""
    _strange_tree(tmp_path / "source")
    restic = stock_restic(tmp_path / "repository")
    restic("init")
    restic("backup", str(tmp_path / "source"))
    repository = Repository.open(DirectoryStore(tmp_path / "repository"), Secret("secret"))
    snapshot, _ = choose(repository.snapshots(), "latest")
    report = restore(
        repository,
        snapshot,
        os.fsencode(tmp_path / "target"),
        subfolder=os.fsencode(tmp_path / "source"),
        options=RestoreOptions(workers=workers, verify=verify),
    )
    assert report.failures == ()
    assert report.outcome is Outcome.SUCCEEDED
    expected, got = _picture(tmp_path / "source"), _picture(tmp_path / "target")
    assert got.keys() | {b"socket"} == expected.keys() | {b"socket"}  # 0.14 keeps no sockets
    assert {path: got[path] for path in got if path != b"socket"} == {
        path: expected[path] for path in expected if path != b"socket"
    }
    sparse = os.stat(tmp_path / "target" / "sparse")
    assert sparse.st_blocks * 512 <= 2 << 20


def test_names_of_one_file_are_one_file_again(forger, tmp_path):
    """Hard links are made of what this restore made; contents that differ are not linked (F23)."""
    report, _ = _give(
        forger,
        [
            forger.file(b"a", b"one", SAME),
            forger.folder(b"d", [forger.file(b"b", b"one", SAME)]),
            forger.file(b"z", b"two", SAME),
        ],
        tmp_path / "t",
    )
    assert not [f for f in report.failures if b"owner" not in f.message.encode()]
    ids = {n: (tmp_path / "t" / n).stat().st_ino for n in ("a", "d/b", "z")}
    assert ids["a"] == ids["d/b"] != ids["z"]
    assert (tmp_path / "t" / "z").read_bytes() == b"two"


OURS = {"uid": os.geteuid(), "gid": os.getegid(), "mode": 0o644}


def _tree(forger):
    return [
        forger.file(b"alpha", b"alpha content", OURS),
        forger.folder(b"dir", [forger.file(b"beta", b"beta content", OURS)]),
        symlink(b"link", "alpha"),
    ]


def test_a_second_run_keeps_what_is_right(forger, tmp_path):
    """Resume: what is there and right is compared and not written again, whatever its times."""
    _give(forger, _tree(forger), tmp_path / "t")
    inode = (tmp_path / "t/alpha").stat().st_ino
    os.utime(tmp_path / "t/alpha", ns=(1, 1))
    (tmp_path / "t/dir/beta").write_bytes(b"beta c0ntent")
    report, changes = _give(forger, _tree(forger), tmp_path / "t")
    assert changes == [
        (b"/alpha", "updated"),
        (b"/dir/beta", "updated"),
        (b"/link", "unchanged"),
    ]
    assert (tmp_path / "t/alpha").stat().st_ino == inode
    assert (tmp_path / "t/alpha").stat().st_mtime_ns == 1580608922 * 10**9
    assert (tmp_path / "t/dir/beta").read_bytes() == b"beta content"
    assert report.bytes_restored == len(b"beta content")


@pytest.mark.parametrize(
    ("overwrite", "expected"),
    [
        (Overwrite.ALWAYS, b"alpha content"),
        (Overwrite.IF_CHANGED, b"alpha c0ntent"),  # same size and time: taken for the same
        (Overwrite.IF_NEWER, b"alpha c0ntent"),
        (Overwrite.NEVER, b"alpha c0ntent"),
    ],
)
def test_overwrite_decides_what_becomes_of_what_is_there(forger, tmp_path, overwrite, expected):
    """--overwrite has restic's meaning for each of its words."""
    _give(forger, _tree(forger), tmp_path / "t")
    (tmp_path / "t/alpha").write_bytes(b"alpha c0ntent")
    os.utime(tmp_path / "t/alpha", ns=(0, 1580608922 * 10**9))
    (tmp_path / "t/dir/beta").unlink()
    _give(forger, _tree(forger), tmp_path / "t", overwrite=overwrite)
    assert (tmp_path / "t/alpha").read_bytes() == expected
    assert (tmp_path / "t/dir/beta").read_bytes() == b"beta content"


def test_newer_files_are_kept_and_older_replaced(forger, tmp_path):
    """--overwrite if-newer compares times."""
    _give(forger, _tree(forger), tmp_path / "t")
    for name, when in (("alpha", 1), ("dir/beta", 2 * 10**18)):
        (tmp_path / "t" / name).write_bytes(b"mine")
        os.utime(tmp_path / "t" / name, ns=(when, when))
    _give(forger, _tree(forger), tmp_path / "t", overwrite=Overwrite.IF_NEWER)
    assert (tmp_path / "t/alpha").read_bytes() == b"alpha content"
    assert (tmp_path / "t/dir/beta").read_bytes() == b"mine"


@pytest.mark.parametrize("options", [{}, {"delete": True}, {"overwrite": Overwrite.IF_CHANGED}])
def test_the_preview_is_the_effect(forger, tmp_path, options):
    """A dry run changes nothing and says exactly what the run then does."""
    nodes = [
        *_tree(forger),
        forger.file(b"a", b"one", SAME | OURS),
        forger.file(b"b", b"one", SAME | OURS),
        forger.folder(b"replaced", [forger.file(b"inner", b"1", OURS)]),
        node(b"fifo", "fifo", OURS),
    ]
    target = tmp_path / "t"
    preview = _give(forger, nodes, target, dry_run=True, **options)
    assert not target.exists()
    assert _give(forger, nodes, target, **options) == preview
    (target / "alpha").write_bytes(b"changed")
    (target / "dir/beta").unlink()
    (target / "dir/other").mkdir()
    (target / "dir/other/deep").touch()
    (target / "link").unlink()
    (target / "link").symlink_to("elsewhere")
    (target / "b").unlink()
    (target / "replaced/inner").unlink()
    (target / "replaced").rmdir()
    (target / "replaced").symlink_to("dir")
    before = _picture(target)
    preview = _give(forger, nodes, target, dry_run=True, **options)
    assert _picture(target) == before
    assert _give(forger, nodes, target, **options) == preview
    assert (target / "dir/other/deep").exists() != options.get("delete", False)
    assert (target / "replaced/inner").read_bytes() == b"1"


def test_only_what_is_selected_is_restored(forger, tmp_path):
    """Includes and excludes mean what they mean to restic; unwanted directories are not made."""
    nodes = [
        forger.folder(b"src", [forger.file(b"x.c", b"1"), forger.file(b"x.o", b"2")]),
        forger.folder(b"doc", [forger.file(b"x.txt", b"3")]),
        forger.file(b"README", b"4"),
    ]

    def restored(**selection):
        target = tmp_path / f"t{len(list(tmp_path.iterdir()))}"
        _give(forger, nodes, target, selection=Selection(**selection))
        return sorted(str(p.relative_to(target)) for p in target.rglob("*"))

    assert restored(includes=(Patterns(["*.c"]),)) == ["src", "src/x.c"]
    assert restored(includes=(Patterns(["/src"]),)) == ["src", "src/x.c", "src/x.o"]
    assert restored(excludes=(Patterns(["/src"]), Patterns(["readme"], ignore_case=True))) == [
        "doc",
        "doc/x.txt",
    ]
    assert restored(includes=(Patterns(["/nothing"]),)) == []


def test_deletion_spares_what_is_not_selected(forger, tmp_path):
    """--delete removes what the snapshot lacks, but for what is excluded."""
    target = tmp_path / "t"
    _give(forger, _tree(forger), target)
    (target / "dir/cache").mkdir()
    (target / "dir/cache/keep.me").touch()
    (target / "dir/cache/drop").touch()
    (target / "junk").touch()
    excluded = Selection(excludes=(Patterns(["*.me"]),))
    report, changes = _give(forger, _tree(forger), target, delete=True, selection=excluded)
    assert [path for path, action in changes if action == "deleted"] == [
        b"/dir/cache/drop",
        b"/junk",
    ]
    assert report.files_deleted == 2
    assert (target / "dir/cache/keep.me").exists()


def _spoil(repository, blob):
    """Flips a bit of a blob's pack."""
    place = repository.index.find(blob, BlobKind.DATA)
    name = place.pack.hex()
    content = bytearray(repository.store.get(FileKind.PACK, name))
    content[place.offset + 20] ^= 1
    repository.store.remove(FileKind.PACK, name)
    repository.store.put(FileKind.PACK, name, bytes(content))


def test_a_damaged_blob_costs_its_file_alone(forger, tmp_path):
    """I4, I8: the file is absent and listed, all others are there, and the outcome is partial."""
    nodes = [forger.file(b"bad", b"spoilt", OURS), forger.file(b"good", b"fine", OURS)]
    _spoil(forger.repository, forger.blob(b"spoilt"))
    report, _ = _give(forger, nodes, tmp_path / "t")
    assert [failure.path for failure in report.failures] == [b"/bad"]
    assert report.outcome is Outcome.PARTIAL
    assert sorted(os.listdir(tmp_path / "t")) == ["good"]


def test_a_file_that_was_there_survives_damage_of_its_successor(forger, tmp_path):
    """What cannot be replaced whole is not replaced."""
    (tmp_path / "t").mkdir()
    (tmp_path / "t/bad").write_bytes(b"old")
    _spoil(forger.repository, forger.blob(b"spoilt"))
    report, _ = _give(forger, [forger.file(b"bad", b"spoilt", OURS)], tmp_path / "t")
    assert report.outcome is Outcome.PARTIAL
    assert (tmp_path / "t/bad").read_bytes() == b"old"
    assert os.listdir(tmp_path / "t") == ["bad"]


def test_another_place_serves_where_one_is_damaged(forger, tmp_path):
    """A blob that lies in two packs is read from the one that is whole."""
    file = forger.file(b"twice", b"in two packs", OURS)
    blob = forger.blob(b"in two packs")
    other = Forger(forger.repository)
    other.blob(b"in two packs")
    assert len(forger.repository.index.find_all(blob, BlobKind.DATA)) == 2
    _spoil(forger.repository, blob)
    report, _ = _give(forger, [file], tmp_path / "t")
    assert report.failures == ()
    assert (tmp_path / "t/twice").read_bytes() == b"in two packs"


def test_a_bomb_is_refused(forger, tmp_path):
    """F32: a data blob that inflates beyond the largest chunk costs a sentence, not memory."""
    file = forger.file(b"bomb", bytes(64 << 20), OURS)
    report, _ = _give(forger, [file], tmp_path / "t")
    assert [failure.path for failure in report.failures] == [b"/bomb"]
    assert "limit" in report.failures[0].message


@pytest.mark.parametrize("workers", [0, 2])
def test_large_files_are_written_in_spans(forger, tmp_path, monkeypatch, workers):
    """A large file comes from all workers, keeps holes, and a second run mends it in place."""
    monkeypatch.setattr(large, "LARGE_FILE", 4 << 20)
    monkeypatch.setattr(large, "SPAN", 2 << 20)
    rnd = random.Random(3)
    pieces = [rnd.randbytes(700_000) for _ in range(8)] + [bytes(512 << 10)] * 8 + [b"end"]
    content = b"".join(pieces)
    blobs = [forger.blob(piece).hex() for piece in pieces]
    nodes = [node(b"large", "file", {"content": blobs, "size": len(content), **OURS})]
    options = {"workers": workers}
    snapshot = forger.snapshot(forger.tree(nodes))
    target = os.fsencode(tmp_path / "t")
    report = restore(forger.repository, snapshot, target, options=RestoreOptions(**options))
    assert (report.files_restored, report.failures) == (1, ())
    path = tmp_path / "t/large"
    assert path.read_bytes() == content
    assert path.stat().st_blocks * 512 < len(content) - (3 << 20)
    with path.open("r+b") as file:
        file.seek(1 << 20)
        file.write(b"damage")
    report = restore(forger.repository, snapshot, target, options=RestoreOptions(**options))
    assert path.read_bytes() == content
    assert report.bytes_restored == 700_000
    _spoil(forger.repository, forger.blob(pieces[3]))
    path.unlink()
    report = restore(forger.repository, snapshot, target, options=RestoreOptions(**options))
    assert [failure.path for failure in report.failures] == [b"/large"]
    assert os.listdir(target) == []


def test_sparse_makes_holes_of_all_zeros(forger, tmp_path):
    """--sparse finds pages of zeros within blobs; else only blobs of zeros become holes (F22)."""
    content = b"x" + bytes(1 << 20) + b"y" + bytes(99_999)
    for sparse, most in ((True, 64 << 10), (False, 2 << 20)):
        target = tmp_path / str(sparse)
        _give(forger, [forger.file(b"f", content, OURS)], target, sparse=sparse)
        assert (target / "f").read_bytes() == content
        assert (target / "f").stat().st_blocks * 512 <= most


def test_very_deep_trees_come_back(forger, tmp_path):
    """Depth costs no stack and no descriptors: four hundred directories below one another."""
    nodes = [forger.file(b"bottom", b"deep", OURS)]
    for _ in range(400):
        nodes = [forger.folder(b"directory", nodes), forger.file(b"beside", b"b", OURS)]
    report, _ = _give(forger, nodes, tmp_path / "t", delete=True)
    assert report.files_restored == 401
    assert not [f for f in report.failures if "owner" not in f.message]
    report, _ = _give(forger, [], tmp_path / "t", delete=True)
    assert report.files_deleted == 801
    assert os.listdir(tmp_path / "t") == []


def _many_kinds(forger):
    """A directory of files in which ordinary ones are few."""
    theirs = {"uid": 1234, "gid": 4321} if ROOT else {}
    contents = {b"empty": b"", b"small": b"small", b"hole": bytes(1 << 20)}
    fields = {
        b"-ours": OURS,
        b"-for all": {**OURS, "mode": 0o666},
        b"-for none": {**OURS, "mode": 0},
        b"-read later": {**OURS, "atime": "2021-02-03T04:05:06.789Z"},
        b"-theirs": {**OURS, **theirs},
        b"-setuid": {**OURS, **theirs, "mode": 0o755 | 1 << 23},
        b"-noted": {**OURS, "extended_attributes": [{"name": "user.note", "value": "AAE="}]},
        b"-out of range": {**OURS, "mode": -1, "mtime": "9999-01-01T00:00:00Z"},
    }
    return [
        forger.file(first + second, content, each)
        for first, content in contents.items()
        for second, each in fields.items()
    ]


def test_ordinary_files_take_a_short_cut_to_the_same_place(forger, tmp_path, monkeypatch):
    """What restores most files at once does what restoring them step by step does."""
    nodes = [forger.folder(b"d", _many_kinds(forger))]
    taken = []
    short = plain.PlainFiles.restore
    monkeypatch.setattr(
        plain.PlainFiles, "restore", lambda *file: taken.append(short(*file)) or taken[-1]
    )
    report, changes = _give(forger, nodes, tmp_path / "short")
    assert set(taken) == {True, False}
    atime = (tmp_path / "short/d/small-read later").stat().st_atime_ns
    assert atime == 1_612_325_106_789_000_000
    monkeypatch.setattr(plain.PlainFiles, "restore", lambda *_: False)
    assert _give(forger, nodes, tmp_path / "long") == (report, changes)
    assert _picture(tmp_path / "long") == _picture(tmp_path / "short")


@pytest.mark.parametrize("step", ["pwrite", "fstat", "utime"])
def test_a_short_cut_that_fails_leaves_nothing_in_the_way(forger, tmp_path, monkeypatch, step):
    """A file whose making fails at any step is made again, and what still fails is said once."""
    honest, left = getattr(os, step), [OSError(errno.EIO, "I/O error")]

    def failing(*args, **more):
        if left and isinstance(args[0], int):
            raise left.pop()
        return honest(*args, **more)

    nodes = [forger.folder(b"d", [forger.file(b"f", b"content", OURS)])]
    monkeypatch.setattr(plain.os, step, failing)
    report, _ = _give(forger, nodes, tmp_path / "t")
    assert not left
    assert not [f for f in report.failures if b"/d/f" in f.path]
    assert (tmp_path / "t/d/f").read_bytes() == b"content"
    assert (tmp_path / "t/d/f").stat().st_mtime == 1580608922
    assert os.listdir(tmp_path / "t/d") == ["f"]


def test_damage_in_a_new_directory_is_said_once(forger, tmp_path):
    """A spoilt blob, or one of another length than its tree says, leaves no file or a mark."""
    _spoil(forger.repository, forger.blob(b"spoilt"))
    short = forger.file(b"short", b"abc", OURS).replace(b'"size":3', b'"size":4')
    nodes = [forger.folder(b"d", [short, forger.file(b"spoilt", b"spoilt", OURS)])]
    report, _ = _give(forger, nodes, tmp_path / "t")
    said = [failure.path for failure in report.failures if failure.path != b"/d"]
    assert said == [b"/d/short", b"/d/spoilt"]
    assert os.listdir(tmp_path / "t/d") == ["short"]


def test_trees_too_long_for_a_message_come_back(forger, tmp_path, monkeypatch):
    """Whether a tree travels to its worker or is loaded again there, the result is the same."""
    nodes = [forger.folder(b"d", [forger.folder(b"e", _tree(forger))]), *_tree(forger)]
    report, changes = _give(forger, nodes, tmp_path / "short")
    monkeypatch.setattr(restoring, "MAX_TEXT", 0)
    assert _give(forger, nodes, tmp_path / "long") == (report, changes)
    assert _picture(tmp_path / "long") == _picture(tmp_path / "short")
    assert (tmp_path / "long/d/e/dir").stat().st_mtime == 1580608922


def test_verification_notices_what_changed_since(forger, tmp_path, monkeypatch):
    """--verify reads again: bytes that are not those of the snapshot are failures."""
    from holdfast.repo.restoring import filling

    honest = filling.write_at

    def lying(descriptor, content, offset, **how):
        honest(descriptor, memoryview(bytes(len(content))), offset, **how)

    monkeypatch.setattr(filling, "write_at", lying)
    report, _ = _give(forger, [forger.file(b"f", b"content", OURS)], tmp_path / "t", verify=True)
    assert report.outcome is Outcome.PARTIAL
    assert "verification" in report.failures[0].message


@as_root
@pytest.mark.parametrize("verify", [False, True])
def test_ordinary_users_restore_what_they_may(forger, tmp_path, verify):
    """Without root: no ownership, no setuid for the wrong owner, read-only folders are no bar and
    stay read-only.
    """
    nodes = [
        forger.folder(b"dir", [forger.file(b"f", b"1", {"mode": 0o644 | 1 << 23})]),
        forger.folder(b"dir2", [forger.file(b"f", b"1")]),
        forger.file(b"mine", b"2", {"uid": 4711, "gid": 4711, "mode": 0o400}),
    ]
    nodes[:2] = [
        each.replace(b'"mode":2147484141', b'"mode":%d' % (0o500 | 1 << 31)) for each in nodes[:2]
    ]
    snapshot = forger.snapshot(forger.tree(nodes))
    tmp_path.chmod(0o777)
    for above in tmp_path.parents[:-2]:  # all below /tmp
        above.chmod(above.stat().st_mode | 0o055)
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.setgroups([])
            os.setgid(1000)
            os.setuid(1000)
            target = os.fsencode(tmp_path / "t")
            options = RestoreOptions(workers=0, verify=verify)
            first = restore(forger.repository, snapshot, target, options=options)
            modes = {stat.S_IMODE((tmp_path / "t" / n).stat().st_mode) for n in ("dir", "dir2")}
            second = restore(forger.repository, snapshot, target, options=options)
            right = first.owners_not_set == 3 and second.files_unchanged == 3
            right = right and modes == {0o500}
            status = 0 if right and not first.failures + second.failures else 2
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert stat.S_IMODE((tmp_path / "t/dir/f").stat().st_mode) == 0o644
    assert stat.S_IMODE((tmp_path / "t/dir").stat().st_mode) == 0o500
    assert (tmp_path / "t/mine").stat().st_uid == 1000


KILLED = """
import os, sys
from holdfast.core.secret import Secret
from holdfast.repo.repository import Repository
from holdfast.repo.restoring.restore import restore
from holdfast.repo.format.snapshot import choose
from holdfast.repo.browsing.walk import resolve
from holdfast.sources.files.source import FileSource
from holdfast.store.directory import DirectoryStore
repository = Repository.open(DirectoryStore(sys.argv[1]), Secret("secret"))
snapshot, _ = choose(repository.snapshots(), "latest")
print("ready", flush=True)
print(restore(repository, snapshot, os.fsencode(sys.argv[2])).files_unchanged)
"""


@pytest.mark.interop
def test_a_killed_restore_goes_on_where_it_was(stock_restic, tmp_path):
    """After SIGKILL the same command ends with everything there, and keeps what was."""
    source = tmp_path / "source"
    rnd = random.Random(5)
    for number in range(1500):
        folder = source / f"d{number % 30}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"f{number}").write_bytes(rnd.randbytes(9000))
    restic = stock_restic(tmp_path / "repository")
    restic("init")
    restic("backup", str(source))
    command = [sys.executable, "-c", KILLED, str(tmp_path / "repository"), str(tmp_path / "t")]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline and len(list((tmp_path / "t").rglob("f*"))) < 300:
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
    left = len([p for p in (tmp_path / "t").rglob("f*") if p.stat().st_size])
    assert left >= 300
    kept = int(
        subprocess.run(command, capture_output=True, check=True, timeout=60).stdout.split()[1]
    )
    assert 250 <= kept <= 1500
    restored = tmp_path / "t" / source.relative_to("/")
    assert _picture(restored) == _picture(source)


class Distant(WrappedStore):
    """A store that is far away: read by request, from threads."""

    def __init__(self, inner):
        super().__init__(inner)
        self.requests = 0

    @property
    def properties(self):
        return replace(self.inner.properties, local=False, connections=3)

    def get_range(self, kind, name, offset, length):
        self.requests += kind is FileKind.PACK
        return self.inner.get_range(kind, name, offset, length)


@pytest.mark.interop
def test_a_distant_store_is_asked_for_many_blobs_at_once(stock_restic, tmp_path):
    """Blobs that lie together are one request, and a spoilt one costs its file alone."""
    source = tmp_path / "source"
    source.mkdir()
    for number in range(300):
        (source / f"f{number:03}").write_bytes(random.Random(number).randbytes(3000))
    restic = stock_restic(tmp_path / "repository")
    restic("init")
    restic("backup", str(source))
    near = Repository.open(DirectoryStore(tmp_path / "repository"), Secret("secret"))
    distant = Distant(near.store)
    repository = Repository.unlocked(distant, near.objects.key)
    snapshot, _ = choose(repository.snapshots(), "latest")
    target = os.fsencode(tmp_path / "t")
    report = restore(repository, snapshot, target, options=RestoreOptions(verify=True))
    assert (report.files_restored, report.files_verified, report.failures) == (300, 300, ())
    assert _picture(tmp_path / "t" / source.relative_to("/")) == _picture(source)
    assert distant.requests < 100
    tree = resolve(repository, snapshot.tree, os.fsencode(source)).tree
    _spoil(near, next(repository.load_tree(tree)[7].blobs()))
    report = restore(repository, snapshot, os.fsencode(tmp_path / "u"))
    assert [failure.path for failure in report.failures] == [os.fsencode(source) + b"/f007"]
    assert report.files_restored == 299


def test_a_full_disk_ends_the_restore(forger, tmp_path, monkeypatch):
    """One sentence instead of a failure for each file, and nothing half-written is left."""
    from holdfast.repo.restoring import filling

    def full(*args, **how):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(filling, "write_at", full)
    with pytest.raises(RestoreError, match="full"):
        _give(forger, _tree(forger), tmp_path / "t")
    assert [p for p in (tmp_path / "t").rglob("*") if p.is_file()] == []


def test_what_is_in_the_way_is_handled_by_kind(forger, tmp_path):
    """A file gives way to a directory; a directory with content stays unless --delete is given."""
    target = tmp_path / "t"
    target.mkdir()
    (target / "dir").write_text("a file")
    (target / "alpha").mkdir()
    (target / "alpha/mine").touch()
    report, _ = _give(forger, _tree(forger), target)
    assert [failure.path for failure in report.failures] == [b"/alpha"]
    assert (target / "alpha/mine").exists()
    assert (target / "dir/beta").read_bytes() == b"beta content"
    report, _ = _give(forger, _tree(forger), target, delete=True)
    assert report.failures == ()
    assert (target / "alpha").read_bytes() == b"alpha content"
    (target / "dir/beta").unlink()
    (target / "dir").rmdir()
    (target / "dir").write_text("a file")
    report, _ = _give(forger, _tree(forger), target, overwrite=Overwrite.NEVER)
    assert [failure.path for failure in report.failures] == [b"/dir"]
    assert (target / "dir").read_text() == "a file"


def test_linked_names_are_kept_or_joined_again(forger, tmp_path):
    """A second run finds a group of links whole, joins what was torn, leaves strangers alone."""
    nodes = [forger.file(name, b"one", SAME | OURS) for name in (b"a", b"b")]
    target = tmp_path / "t"
    _give(forger, nodes, target)
    assert _give(forger, nodes, target)[1] == [(b"/a", "unchanged"), (b"/b", "unchanged")]
    (target / "a").chmod(0o600)
    assert _give(forger, nodes, target)[1] == [(b"/a", "updated"), (b"/b", "updated")]
    (target / "b").unlink()
    (target / "b").write_bytes(b"one")
    _give(forger, nodes, target)
    assert (target / "a").stat().st_ino == (target / "b").stat().st_ino
    os.link(target / "a", tmp_path / "elsewhere")
    (target / "a").chmod(0o600)
    _give(forger, nodes, target)
    assert stat.S_IMODE((tmp_path / "elsewhere").stat().st_mode) == 0o600
    assert stat.S_IMODE((target / "a").stat().st_mode) == 0o644
    assert (target / "a").stat().st_ino == (target / "b").stat().st_ino


def test_deleting_everything_on_the_machine_takes_more_than_a_slip(forger):
    """--delete into / is refused unless it is said what is meant."""
    snapshot = forger.snapshot(forger.tree([]))
    for target in (b"/", b"//", b"/usr/.."):
        with pytest.raises(UsageError):
            restore(forger.repository, snapshot, target, options=RestoreOptions(delete=True))


def test_a_target_that_cannot_be_one_is_refused(forger, tmp_path):
    """A file, or a folder of the snapshot that is none, is said at once."""
    (tmp_path / "file").touch()
    snapshot = forger.snapshot(forger.tree(_tree(forger)))
    with pytest.raises(RestoreError, match="file"):
        restore(forger.repository, snapshot, os.fsencode(tmp_path / "file"))
    with pytest.raises(UsageError, match="not a directory"):
        restore(forger.repository, snapshot, os.fsencode(tmp_path), subfolder=b"/alpha")


@pytest.mark.interop
def test_whatever_we_kept_comes_back_by_us_and_by_restic(stock_restic, tmp_path):
    """Our own backup of a strange tree: all of it by us, by restic what restic knows (F21-F25)."""
    source = tmp_path / "source"
    _strange_tree(source)
    os.symlink(b"\xff raw target", os.fsencode(source) + b"/raw-link")
    restic = stock_restic(tmp_path / "repository")
    restic("init")
    repository = Repository.open(DirectoryStore(tmp_path / "repository"), Secret("secret"))
    files = FileSource([os.fsencode(source)])
    options = BackupOptions(hostname="h")
    snapshot = back_up(repository, files, options, observer=Silent(), lock=None).snapshot
    report = restore(
        repository, snapshot, os.fsencode(tmp_path / "ours"), subfolder=os.fsencode(source)
    )
    assert report.failures == ()
    expected = _picture(source)
    assert _picture(tmp_path / "ours") == expected
    restic("restore", "latest", "--target", str(tmp_path / "theirs"))
    theirs = _picture(tmp_path / "theirs" / source.relative_to("/"))
    for path in theirs.keys() - {b"raw-link"}:
        assert theirs[path] == expected[path], path
    assert expected.keys() - theirs.keys() <= {b"socket"}
