"""walk, dump, diff and find: what they say is what restic says, and what a snapshot holds."""

from __future__ import annotations

import io
import json
import os
import random
import subprocess
import tarfile
import zipfile
from pathlib import Path

import pytest

from holdfast.core.errors import PathNotFoundError, UnreadableError, UsageError
from holdfast.core.patterns import Patterns
from holdfast.core.secret import Secret
from holdfast.repo.browsing.diff import compare
from holdfast.repo.browsing.dump import Archive, dump
from holdfast.repo.browsing.find import NameQuery, ObjectQuery, find_names, find_objects
from holdfast.repo.browsing.walk import resolve, walk
from holdfast.repo.format.pack import BlobKind
from holdfast.repo.format.tree import blob_id
from holdfast.repo.repository import Repository
from holdfast.store.directory import DirectoryStore
from holdfast.store.memory import MemoryStore
from holdfast.testing.hostile_trees import Forger, node, symlink

ROOT = os.geteuid() == 0
RAW = b"\xff\xfe raw\n"


@pytest.fixture
def forger():
    return Forger(Repository.init(MemoryStore(), Secret("secret")))


@pytest.fixture(scope="module")
def history(tmp_path_factory, stock_restic):
    """Two snapshots by the real restic: repository, snapshots, source, and how to run restic."""
    place = tmp_path_factory.mktemp("history")
    source = place / "source"
    restic = stock_restic(place / "repository")
    rnd = random.Random(1)
    (source / "sub" / "deep").mkdir(parents=True)
    (source / "gone").mkdir()
    for name in ("a.txt", "b.txt", "sub/a.txt", "sub/deep/c.bin", "gone/d", "sub/touched"):
        (source / name).write_bytes(rnd.randbytes(5000))
    (source / "big").write_bytes(rnd.randbytes(3 << 20))
    os.link(source / "a.txt", source / "again")
    (source / "link").symlink_to("a.txt")
    (source / "turned").write_text("file")
    with open(os.fsencode(source) + b"/" + RAW, "wb") as file:
        file.write(b"raw")
    os.setxattr(source / "b.txt", "user.note", b"\xffvalue")
    if ROOT:
        subprocess.run(["setfacl", "-m", "u:1234:r", source / "b.txt"], check=True)
    os.utime(source / "b.txt", ns=(1, 1_500_000_000_987_654_321))
    restic("init")
    restic("backup", str(source))
    (source / "a.txt").write_bytes(b"changed")
    (source / "sub/touched").touch()
    (source / "sub/new").mkdir()
    (source / "sub/new/file").write_bytes(b"new")
    for name in ("gone/d", "turned"):
        (source / name).unlink()
    (source / "gone").rmdir()
    (source / "turned").mkdir()
    restic("backup", str(source))
    repository = Repository.open(DirectoryStore(place / "repository"), Secret("secret"))
    snapshots = sorted(repository.snapshots(), key=lambda each: each.time)
    return repository, snapshots, source, restic


@pytest.mark.interop
def test_a_walk_sees_what_restic_lists(history):
    """Every path, each directory before its content."""
    repository, snapshots, _, restic = history
    listed = [json.loads(line) for line in restic("ls", "--json", snapshots[1].id).splitlines()]
    paths = [item["path"].encode("utf-8", "surrogateescape") for item in listed if "path" in item]
    ours = [step.path for step in walk(repository, snapshots[1].tree)]
    assert len(ours) == len(paths)
    assert {path for path in ours if path.isascii()} == {p for p in paths if b"raw" not in p}


@pytest.mark.interop
@pytest.mark.parametrize("metadata", [False, True])
def test_a_diff_says_what_restic_says(history, metadata):
    """The same changes and the same figures, to the byte."""
    repository, snapshots, _, restic = history
    words = ["--metadata"] if metadata else []
    said = restic("diff", "--json", *words, snapshots[0].id, snapshots[1].id)
    lines = [json.loads(line) for line in said.splitlines()]
    expected = {
        (item["path"], item["modifier"]) for item in lines if item["message_type"] == "change"
    }
    (figures,) = [item for item in lines if item["message_type"] == "statistics"]
    found = []
    statistics = compare(
        repository,
        snapshots[0].tree,
        snapshots[1].tree,
        metadata=metadata,
        on_difference=found.append,
    )
    assert {(os.fsdecode(each.path), each.modifier) for each in found} == expected
    assert statistics.changed_files == figures["changed_files"]
    for side, said in (
        (statistics.added, figures["added"]),
        (statistics.removed, figures["removed"]),
    ):
        assert (side.files, side.dirs, side.others) == (said["files"], said["dirs"], said["others"])
        assert (side.data_blobs, side.tree_blobs) == (said["data_blobs"], said["tree_blobs"])
        assert side.bytes == said["bytes"]


def test_rot_is_told_from_change(forger):
    """Other content with nothing else changed is marked, for nobody can have written it."""
    one = forger.tree([forger.file(b"f", b"one"), forger.file(b"g", b"1")])
    two = forger.tree(
        [forger.file(b"f", b"two"), forger.file(b"g", b"1", {"mtime": "2021-01-01T00:00:00Z"})]
    )
    found = []
    statistics = compare(forger.repository, one, two, metadata=True, on_difference=found.append)
    assert [(each.path, each.modifier) for each in found] == [(b"/f", "M?"), (b"/g", "U")]
    assert statistics.changed_files == 1


@pytest.mark.interop
@pytest.mark.parametrize(
    "pattern", ["a.txt", "*.txt", "sub", "**/deep/*", "SUB", "[ab].txt", "/nothing", "c*"]
)
def test_find_finds_what_restic_finds(history, pattern):
    """Names by pattern, in every snapshot."""
    repository, snapshots, _, restic = history
    said = json.loads(restic("find", "--json", pattern) or "[]")
    expected = {
        (result["snapshot"], match["path"]) for result in said for match in result["matches"]
    }
    ours = find_names(repository, snapshots, NameQuery(Patterns([pattern])))
    assert {(match.snapshot.id, os.fsdecode(match.path)) for match in ours} == expected


def test_find_looks_at_times(forger):
    """--oldest and --newest include their ends."""
    tree = forger.tree(
        [
            forger.file(b"f%d" % day, b"", {"mtime": f"2020-01-0{day}T00:00:00Z"})
            for day in (1, 2, 3)
        ]
    )
    snapshot = forger.snapshot(tree)
    second = 1577923200 * 10**9  # the second of January
    everything = Patterns(["*"])

    def found(**times):
        query = NameQuery(everything, **times)
        return [match.path for match in find_names(forger.repository, [snapshot], query)]

    assert found(oldest=second) == [b"/f2", b"/f3"]
    assert found(newest=second) == [b"/f1", b"/f2"]
    assert found(oldest=second, newest=second) == [b"/f2"]


def test_objects_are_found_with_what_refers_to_them(forger):
    """Blobs, trees, and all that is in a pack, each with the tree that names it."""
    inner = forger.tree([forger.file(b"f", b"wanted")])
    top = forger.tree([forger.folder(b"dir", [forger.file(b"f", b"wanted")])])
    snapshot = forger.snapshot(top)
    blob = forger.blob(b"wanted")
    place = forger.repository.index.find(blob, BlobKind.DATA)

    def found(**query):
        return [
            (match.kind, match.id, match.path, match.parent_tree, match.packs)
            for match in find_objects(forger.repository, [snapshot], ObjectQuery(**query))
        ]

    expected = [(BlobKind.DATA, blob, b"/dir/f", inner, (place.pack,))]
    assert found(blobs=(blob.hex()[:8],)) == expected
    assert found(packs=(place.pack.hex()[:10],)) == expected
    assert [each[:4] for each in found(trees=(inner.hex(), top.hex()))] == [
        (BlobKind.TREE, top, b"/", None),
        (BlobKind.TREE, inner, b"/dir", top),
    ]
    for wrong in ({"blobs": ("xyz",)}, {"packs": ("0" * 64,)}):
        with pytest.raises(UsageError):
            found(**wrong)


@pytest.mark.interop
def test_a_dumped_file_is_the_file(history):
    """Content to the byte; what has none is refused by name."""
    repository, snapshots, source, _ = history
    tree = snapshots[1].tree
    for name in (b"big", b"a.txt", RAW):
        out = io.BytesIO()
        dump(repository, tree, os.fsencode(source) + b"/" + name, out)
        assert out.getvalue() == Path(os.fsdecode(os.fsencode(source) + b"/" + name)).read_bytes()
    with pytest.raises(PathNotFoundError):
        dump(repository, tree, b"/nowhere", io.BytesIO())
    with pytest.raises(UsageError):
        dump(repository, tree, os.fsencode(source / "link"), io.BytesIO())


@pytest.mark.interop
def test_a_dumped_tar_unpacks_to_what_was_kept(history, tmp_path):
    """GNU tar gives back names, times, links, attributes and access lists from our archive."""
    repository, snapshots, source, _ = history
    with (tmp_path / "out.tar").open("wb") as out:
        dump(repository, snapshots[1].tree, os.fsencode(source), out)
    (tmp_path / "t").mkdir()
    words = ["tar", "-xpf", tmp_path / "out.tar", "-C", tmp_path / "t", "--xattrs", "--acls"]
    done = subprocess.run(words, capture_output=True, check=True)
    complaints = [line for line in done.stderr.splitlines() if b"hdrcharset" not in line]
    assert complaints == []
    raw, got = os.fsencode(source), os.fsencode(tmp_path / "t")
    assert sorted(os.listdir(got)) == sorted(os.listdir(raw))
    for name in (b"a.txt", b"b.txt", RAW, b"big", b"sub/deep/c.bin", b"link"):
        one, other = os.lstat(raw + b"/" + name), os.lstat(got + b"/" + name)
        assert (one.st_mode, one.st_mtime_ns, one.st_size) == (
            other.st_mode, other.st_mtime_ns, other.st_size
        )  # fmt: skip
    assert (tmp_path / "t/a.txt").stat().st_ino == (tmp_path / "t/again").stat().st_ino
    assert os.getxattr(tmp_path / "t/b.txt", "user.note") == b"\xffvalue"
    if ROOT:
        acl = "system.posix_acl_access"
        assert os.getxattr(tmp_path / "t/b.txt", acl) == os.getxattr(source / "b.txt", acl)


@pytest.mark.interop
def test_a_dumped_zip_holds_what_was_kept(history):
    """Names keep their bytes, modes and links are there, contents are whole."""
    repository, snapshots, source, _ = history
    out = io.BytesIO()
    dump(repository, snapshots[1].tree, os.fsencode(source), out, archive=Archive.ZIP)
    assert RAW in out.getvalue()
    with zipfile.ZipFile(out) as archive:
        assert archive.testzip() is None
        assert archive.read("sub/deep/c.bin") == (source / "sub/deep/c.bin").read_bytes()
        link = archive.getinfo("link")
        assert archive.read(link) == b"a.txt"
        assert oct(link.external_attr >> 16) == "0o120777"
        assert "sub/new/" in archive.namelist()
        assert len(archive.namelist()) == len(list(source.rglob("*")))


@pytest.mark.parametrize("archive", list(Archive))
def test_an_archive_leaves_out_what_cannot_be_in_it(forger, archive):
    """Names that would unpack elsewhere, sockets, unreadable directories: told of and left out."""
    tree = forger.tree([
        forger.file(b"../up", b"1"), forger.folder(b"..", [forger.file(b"below", b"2")]),
        node(b"socket", "socket"), node(b"lost", "dir", {"subtree": "ab" * 32}),
        forger.file(b"ok", b"3"), symlink(b"link", "/etc"),
    ])  # fmt: skip
    problems = []
    out = io.BytesIO()
    dump(
        forger.repository,
        tree,
        b"/",
        out,
        archive=archive,
        on_problem=lambda path, _: problems.append(path),
    )
    out.seek(0)
    if archive is Archive.TAR:
        with tarfile.open(fileobj=out) as opened:
            names = opened.getnames()
    else:
        with zipfile.ZipFile(out) as opened:
            names = [name.rstrip("/") for name in opened.namelist()]
    assert names == ["lost", "ok", "link"]
    assert sorted(problems) == [b"/..", b"/../up", b"/lost", b"/socket"]


def test_a_walk_goes_on_behind_an_unreadable_directory(forger):
    """It is told, or raised where nobody listens; depth costs no stack."""
    nodes = [forger.file(b"bottom")]
    for _ in range(1500):
        nodes = [forger.folder(b"d", nodes)]
    lost = node(b"lost", "dir", {"subtree": "ab" * 32})
    tree = forger.tree([lost, *nodes])
    told = []
    steps = list(walk(forger.repository, tree, unreadable=lambda path, _: told.append(path)))
    assert len(steps) == 1502
    assert steps[-1].path.endswith(b"/d/d/bottom")
    assert told == [b"/lost"]
    with pytest.raises(UnreadableError):
        list(walk(forger.repository, tree))


def test_paths_lead_where_they_say(forger):
    """Paths are cleaned first: nothing named ".." is ever found."""
    inner = forger.folder(b"dir", [forger.file(b"f")])
    tree = forger.tree([inner, forger.folder(b"..", [forger.file(b"hidden")])])
    assert resolve(forger.repository, tree, b"/dir/./f").node.type == "file"
    assert resolve(forger.repository, tree, b"dir//").tree is not None
    assert resolve(forger.repository, tree, b"/../dir/..").tree == tree
    for wrong in (b"/../hidden", b"/dir/none", b"/dir/f/below"):
        with pytest.raises(PathNotFoundError):
            resolve(forger.repository, tree, wrong)
    assert blob_id(resolve(forger.repository, tree, b"/dir").node.subtree)
