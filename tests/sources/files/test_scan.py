"""The walk gives everything a file system holds, in order, and never leaves its roots."""

import errno
import os
import socket
import stat
import time
import tracemalloc

import pytest

from holdfast.core.entries import Kind
from holdfast.core.errors import UsageError
from holdfast.core.source import Found, Problem
from holdfast.sources.files import scan
from holdfast.sources.files.filters import Filters
from holdfast.sources.files.source import FileSource, estimate

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root makes devices")


# --- names and kinds ------------------------------------------------------------------------------


def test_every_legal_byte_survives_in_names(root, walk):
    """F21: each of the 254 bytes that a name may hold is kept as it is."""
    names = [bytes([byte]) for byte in range(1, 256) if byte not in b"/."]
    names += [b"n" * 255, b"\xff" * 255, b"new\nline", b"-rf", b"tail ", b"dot.", b"...", b" "]
    names += ["e\u0301".encode(), "\u00e9".encode(), "\u202egnp.exe".encode(), "\u200b".encode()]
    for name in names:
        with open(os.path.join(root, name), "wb"):
            pass

    walked = walk(FileSource([root]))

    assert {entry.name for entry in walked.entries.values()} >= set(names)
    assert not walked.problems


def test_names_come_sorted_by_raw_bytes(root, walk, make):
    """The order is that of bytes, not of characters or of paths."""
    make(root, {"a/x": b"", "a-b": b"", "a.b": b"", "B": b"", "\u00e9": b"", "\U0001f600": b""})
    make(root, {b"\xff": b"", b"\xee": b"", "\uffee": b""})

    names = [os.fsencode(name) for name in walk(FileSource([root])).below(root)]

    top = [name for name in names if b"/" not in name]
    assert top == sorted(top)
    assert names.index(b"a/x") == names.index(b"a") + 1


def test_entries_say_what_stat_says(root, walk, make):
    """Mode, size, owner, nanosecond times, inode, device and link count are the kernel's."""
    make(root, {"file": b"12345"})
    path = os.path.join(root, b"file")
    os.link(path, os.path.join(root, b"twin"))
    os.chmod(path, 0o4751)
    os.utime(path, ns=(1_111_111_111_123_456_789, -1_500_000_001))

    entry = walk(FileSource([root])).entries[path]

    facts = os.lstat(path)
    assert (entry.kind, entry.mode, entry.size) == (Kind.FILE, stat.S_IFREG | 0o4751, 5)
    assert entry.mtime == facts.st_mtime_ns == -1_500_000_001
    assert entry.atime == 1_111_111_111_123_456_789
    assert entry.ctime == facts.st_ctime_ns
    assert (entry.uid, entry.gid) == (facts.st_uid, facts.st_gid)
    assert (entry.inode, entry.device, entry.links) == (facts.st_ino, facts.st_dev, 2)


@needs_root
def test_unknown_owners_have_no_name(root, walk, make):
    """A number that no user has is kept, with an empty name."""
    make(root, {"known": b"", "unknown": b""})
    os.chown(os.path.join(root, b"unknown"), 3_999_999_999, 3_999_999_998)

    entries = walk(FileSource([root])).entries

    stranger = entries[os.path.join(root, b"unknown")]
    assert (stranger.uid, stranger.gid) == (3_999_999_999, 3_999_999_998)
    assert (stranger.user, stranger.group) == ("", "")
    assert entries[os.path.join(root, b"known")].user == "root"


def test_links_keep_their_target_as_it_is(root, walk):
    """F28: loops, dangling links and targets of any bytes are kept and never followed."""
    targets = {b"loop": b".", b"self": b"self", b"gone": b"/no/such\n\xff", b"up": b"../.."}
    for name, target in targets.items():
        os.symlink(target, os.path.join(root, name))

    entries = walk(FileSource([root])).entries

    for name, target in targets.items():
        entry = entries[os.path.join(root, name)]
        assert (entry.kind, entry.linktarget, entry.size) == (Kind.SYMLINK, target, 0)
    assert len(entries) == len(targets) + root.count(b"/")


@pytest.mark.timeout(30)
def test_pipes_and_sockets_are_kept_and_never_opened(root, walk):
    """F25: a pipe without a writer does not hold the walk up."""
    os.mkfifo(os.path.join(root, b"pipe"))
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(os.path.join(root, b"socket"))

    source = FileSource([root])
    walked = walk(source)

    kinds = {e.name: e.kind for p, e in walked.entries.items() if os.path.dirname(p) == root}
    assert kinds == {b"pipe": Kind.FIFO, b"socket": Kind.SOCKET}
    for name in kinds:
        path = os.path.join(root, name)
        with pytest.raises(OSError, match="not a regular file"):
            source.open(path, walked.entries[path])
        assert source.xattrs(path, walked.entries[path]) == []


@needs_root
def test_devices_are_kept_with_their_numbers(root, walk):
    """F25: character and block devices keep major and minor."""
    try:
        os.mknod(os.path.join(root, b"char"), stat.S_IFCHR | 0o600, os.makedev(1, 3))
        os.mknod(os.path.join(root, b"block"), stat.S_IFBLK | 0o600, os.makedev(7, 260))
    except PermissionError:
        pytest.skip("this system lets nobody make devices")

    entries = walk(FileSource([root])).entries

    char, block = entries[root + b"/char"], entries[root + b"/block"]
    assert (char.kind, char.rdev) == (Kind.CHARDEV, os.makedev(1, 3))
    assert (block.kind, block.rdev) == (Kind.DEV, os.makedev(7, 260))


# --- roots ----------------------------------------------------------------------------------------


def test_ancestors_are_folders_with_their_own_facts(root, walk):
    """The stream begins below `/`; each folder above a root is an entry of its own."""
    walked = walk(FileSource([root]))

    parts = root.split(b"/")[1:]
    expected = [b"/" + b"/".join(parts[: i + 1]) for i in range(len(parts))]
    assert list(walked.entries) == expected
    for path in expected:
        assert walked.entries[path].inode == os.stat(path).st_ino
        assert walked.entries[path].kind is Kind.DIR


def test_several_roots_make_one_tree(root, walk, make):
    """Roots named twice, in each other, in any order and any writing are visited once."""
    make(root, {"a/b/c/file": b"", "a/other": b"", "d/deep/file": b"", "left out": b""})
    names = [b"/a/b/c", b"/a", b"/d/deep/", b"/a/./b/../b/c", b"//a//", b"/a/b/c/file"]

    source = FileSource([root + name for name in names])
    walked = walk(source)

    assert walked.below(root) == [
        "a", "a/b", "a/b/c", "a/b/c/file", "a/other", "d", "d/deep", "d/deep/file",
    ]  # fmt: skip
    assert list(source.roots) == [root + n for n in (b"/a/b/c", b"/a", b"/d/deep", b"/a/b/c/file")]


def test_relative_roots_start_at_the_working_directory(root, walk, make, monkeypatch):
    """`.` and names without a slash mean what they mean to the person, and keep their place."""
    make(root, {"here/file": b"", "there/file": b""})
    monkeypatch.chdir(os.path.join(os.fsdecode(root), "here"))

    source = FileSource([b".", b"../there"])
    walked = walk(source, relative=True)

    assert list(source.roots) == [root + b"/here", root + b"/there"]
    assert walked.tree == ["file", "there", "there/file"]
    assert walked.below(root) == ["here/file", "there", "there/file"]
    assert estimate(source) == (2, 0)
    for path, entry in walked.entries.items():
        if entry.kind is Kind.FILE:
            source.open(path, entry).close()
        else:
            assert source.xattrs(path, entry) == []


def test_names_of_several_bases_come_in_one_order(root, walk, make, monkeypatch):
    """At the top of the tree they interleave; what is in a folder stays together."""
    names = {"here/b/1/2": b"", "here/d": b"", "here/f/x": b"", "a/y": b"", "c/y": b"", "e": b""}
    make(root, names)
    monkeypatch.chdir(os.fsdecode(root + b"/here"))

    walked = walk(FileSource([b".", b"../c", b"../a", b"../e"]), relative=True)

    assert walked.tree == ["a", "a/y", "b", "b/1", "b/1/2", "c", "c/y", "d", "e", "f", "f/x"]


@pytest.mark.parametrize(
    ("names", "clash"),
    [
        ([b"one/x", b"../one/y"], "one"),
        ([b".", b"../two"], "two"),
        ([b"..", b"one"], "one"),
        ([b"tmp", b"/tmp"], "tmp"),
        ([b".", b".."], "one"),
    ],
)
def test_two_roots_for_one_name_at_the_top_are_refused(root, make, monkeypatch, names, clash):
    """Before anything is read, with both paths and what to do; restic would rename one."""
    make(root, {"one/f": b"", "two": b"", "here/one/x": b"", "here/two": b"", "here/tmp/": b""})
    monkeypatch.chdir(os.fsdecode(root + b"/here"))

    with pytest.raises(UsageError, match=f"would both be /{clash} in") as raised:
        FileSource(names)

    assert "absolute" in raised.value.advice


def test_what_is_left_out_clashes_with_nothing(root, walk, make, monkeypatch):
    """An entry of the working directory that no snapshot would hold takes no name."""
    make(root, {"here/a/x": b"", "here/b": b"", "a/y": b""})
    monkeypatch.chdir(os.fsdecode(root + b"/here"))

    pattern = os.fsdecode(root) + "/here/a"
    walked = walk(FileSource([b".", b"../a"], Filters(excludes=(pattern,))), relative=True)

    assert walked.tree == ["a", "a/y", "b"]


def test_an_empty_base_among_others_is_told_of(root, walk, make, monkeypatch):
    """It leaves no trace in the tree, and may be a disk that is not mounted."""
    make(root, {"here/": b"", "there": b""})
    monkeypatch.chdir(os.fsdecode(root + b"/here"))

    walked = walk(FileSource([b".", b"../there"]), relative=True)

    assert walked.tree == ["there"]
    assert [(p.path, p.root) for p in walked.problems] == [(root + b"/here", True)]
    alone = walk(FileSource([b"."]), relative=True)
    assert (alone.tree, alone.problems) == ([], [])  # the keeper sees that all is empty


@pytest.mark.parametrize("put", ["link", "file", "nothing"])
def test_a_base_that_was_exchanged_is_not_entered(root, walk, make, monkeypatch, put):
    """F28: neither through a link; each root that is lost with it is named."""
    make(root, {"here/in/x": b"", "other/in/secret": b"", "there": b""})
    monkeypatch.chdir(os.fsdecode(root + b"/here"))
    source = FileSource([b".", b"in/x", b"../there"])
    os.rename(root + b"/here", root + b"/moved")
    if put == "link":
        os.symlink(b"other", root + b"/here")
    elif put == "file":
        make(root, {"here": b""})

    walked = walk(source, relative=True)

    assert walked.tree == ["there"]
    assert {(p.path, p.root) for p in walked.problems} == {
        (root + b"/here", True),
        (root + b"/here/in/x", True),
    }


def test_the_repository_itself_is_no_base(root, walk, make, monkeypatch):
    """As everywhere it is left out, whichever path leads to it."""
    make(root, {"config": b""})
    monkeypatch.chdir(os.fsdecode(root))

    walked = walk(FileSource([b"."], Filters(skip=(root,))), relative=True)

    assert walked.tree == []
    assert [(p.path, p.root) for p in walked.problems] == [(root, True)]


def test_a_base_that_may_not_be_listed_still_gives_what_was_named(
    public, walk, make, monkeypatch, unprivileged
):
    """F26: it is a problem of that root only."""
    make(public, {"here/in/file": b"", "here/other": b""})
    os.chmod(public + b"/here", 0o711)
    monkeypatch.chdir(os.fsdecode(public + b"/here"))
    source = FileSource([b".", b"in"])

    walked = unprivileged(lambda: walk(source, relative=True))

    assert walked.tree == ["in", "in/file"]
    assert [(p.path, p.root) for p in walked.problems] == [(public + b"/here", True)]


def test_a_link_that_is_a_root_and_leads_to_one_gives_its_attributes(root, walk, make, monkeypatch):
    """Named relatively it is a link; above an absolute root it is a folder."""
    make(root, {"folder/x": b""})
    os.symlink(b"folder", root + b"/link")
    monkeypatch.chdir(os.fsdecode(root))
    source = FileSource([b"link", root + b"/link/x"])

    found = [step for step in walk(source, relative=True).found if step.path == root + b"/link"]

    assert {step.entry.kind for step in found} == {Kind.SYMLINK, Kind.DIR}
    assert [source.xattrs(step.path, step.entry) for step in found] == [[], []]


@pytest.mark.parametrize("names", [[], [b""], [b"a\0b"]])
def test_no_root_or_an_impossible_one_is_refused(names):
    """An empty name is a mistake, not the working directory."""
    with pytest.raises(UsageError):
        FileSource(names)


def test_roots_are_refused_where_the_working_directory_is_gone(tmp_path, monkeypatch):
    """A relative name has no meaning then."""
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    with pytest.raises(UsageError, match="working directory"):
        FileSource([b"name"])


def test_a_root_that_is_a_link_is_kept_as_a_link(root, walk, make):
    """As in restic: what the person named is the link; a slash at its end changes nothing."""
    make(root, {"folder/file": b""})
    os.symlink(b"folder", root + b"/link")

    walked = walk(FileSource([root + b"/link/"]))

    assert walked.below(root) == ["link"]
    assert walked.entries[root + b"/link"].linktarget == b"folder"


def test_links_above_a_root_are_followed(root, walk, make):
    """As in restic: a link on the way is a folder, with the facts of what it leads to."""
    make(root, {"folder/below/file": b"", "folder/beside": b""})
    os.symlink(b"folder", root + b"/link")

    source = FileSource([root + b"/link/below"])
    walked = walk(source)

    assert walked.below(root) == ["link", "link/below", "link/below/file"]
    link = walked.entries[root + b"/link"]
    assert (link.kind, link.inode) == (Kind.DIR, os.stat(root + b"/folder").st_ino)
    assert source.xattrs(root + b"/link", link) == []
    file = walked.entries[root + b"/link/below/file"]
    source.open(root + b"/link/below/file", file).close()


def test_a_link_inside_a_root_is_not_followed_for_another_root(root, walk, make):
    """Below a root a link stays a link; what was named behind it is told of."""
    make(root, {"folder/file": b"", "all/": b""})
    os.symlink(b"../folder", root + b"/all/link")

    walked = walk(FileSource([root + b"/all", root + b"/all/link/file"]))

    assert walked.below(root) == ["all", "all/link"]
    assert walked.entries[root + b"/all/link"].kind is Kind.SYMLINK
    (problem,) = walked.problems
    assert (problem.path, problem.root) == (root + b"/all/link/file", True)


def test_a_missing_root_is_named_and_the_others_are_kept(root, walk, make):
    """F26: nothing stands in for a missing root, not even the folders above it."""
    make(root, {"there/file": b""})

    walked = walk(FileSource([root + b"/no/such", root + b"/there", root + b"/there/file/below"]))

    assert walked.below(root) == ["there", "there/file"]
    assert [(p.path, p.root) for p in walked.problems] == [
        (root + b"/no/such", True),
        (root + b"/there/file/below", True),
    ]
    assert walked.messages()[root + b"/no/such"] == "No such file or directory"


def test_without_any_root_there_is_no_step_but_problems(root, walk):
    """F26: whoever keeps the source sees that nothing is left."""
    walked = walk(FileSource([root + b"/a", root + b"/b"]))

    assert not walked.entries
    assert [p.path for p in walked.problems] == [root + b"/a", root + b"/b"]


def test_a_root_that_vanishes_later_is_named_too(root, walk, make):
    """Between the first look and its turn a root may go."""
    make(root, {"a": b"", "b": b"", "c/d/e": b""})

    def remove(step):
        if isinstance(step, Found) and step.entry.name == b"a":
            os.unlink(root + b"/b")
            os.rename(root + b"/c", root + b"/x")

    walked = walk(FileSource([root + b"/a", root + b"/b", root + b"/c/d/e"]), remove)

    assert walked.below(root) == ["a"]
    assert [(p.path, p.root) for p in walked.problems] == [
        (root + b"/b", True),
        (root + b"/c/d/e", True),
    ]


def test_slash_is_a_root_like_any_other(walk):
    """`/` has no entry of its own; what is in it comes at once."""
    source = FileSource([b"/"])
    steps = source.walk()
    seen = []
    for step in steps:
        if isinstance(step, Found) and step.path.count(b"/") == 1:
            seen.append(step.path)
            break
    steps.close()
    assert list(source.roots) == [b"/"]
    assert seen == [b"/" + min(os.listdir(b"/"))]


# --- depth and width ------------------------------------------------------------------------------


DEPTH = 2800


@pytest.fixture(scope="module")
def deep(tmp_path_factory):
    """2800 folders in each other, 8400 bytes of path; each has files before and after the next."""
    root = os.fsencode(tmp_path_factory.mktemp("deep"))
    above = os.open(root, os.O_RDONLY)
    for level in range(DEPTH):
        for name in (b"a", b"z"):
            os.close(os.open(name, os.O_CREAT | os.O_WRONLY, 0o644, dir_fd=above))
        os.mkdir(b"in", dir_fd=above)
        below = os.open(b"in", os.O_RDONLY, dir_fd=above)
        os.close(above)
        above = below
        if level == DEPTH - 1:
            with os.fdopen(os.open(b"end", os.O_CREAT | os.O_WRONLY, dir_fd=above), "wb") as file:
                file.write(b"the end")
            os.setxattr(above, "user.depth", b"all")
    os.close(above)
    yield root
    _remove_chain(root)


def _remove_chain(root):
    """rmtree recurses."""
    chain = [os.open(root, os.O_RDONLY)]
    while True:
        for name in (b"a", b"z", b"end"):
            try:
                os.unlink(name, dir_fd=chain[-1])
            except FileNotFoundError:
                pass
        try:
            chain.append(os.open(b"in", os.O_RDONLY, dir_fd=chain[-1]))
        except FileNotFoundError:
            break
    os.close(chain.pop())
    while chain:
        os.rmdir(b"in", dir_fd=chain[-1])
        os.close(chain.pop())


def test_depth_has_no_limit_and_few_descriptors_are_open(deep, walk):
    """F21: far beyond 4096 bytes of path everything is found, opened and read."""
    most = 0

    def count(step):
        nonlocal most
        most = max(most, len(os.listdir("/proc/self/fd")))

    before = len(os.listdir("/proc/self/fd"))
    source = FileSource([deep])
    walked = walk(source, count)

    assert not walked.problems
    assert len(walked.entries) == deep.count(b"/") + 3 * DEPTH + 1
    assert most - before <= scan.OPEN_LIMIT + 3
    assert len(os.listdir("/proc/self/fd")) == before

    path = deep + b"/in" * DEPTH
    assert source.xattrs(path, walked.entries[path]) == [(b"user.depth", b"all")]
    content = source.open(path + b"/end", walked.entries[path + b"/end"])
    buffer = bytearray(20)
    assert content.readinto(memoryview(buffer)) == 7
    content.close()


def test_a_deep_root_can_be_named(deep, walk):
    """A root may itself lie deeper than a path may be long."""
    walked = walk(FileSource([deep + b"/in" * DEPTH]))

    assert not walked.problems
    assert next(reversed(walked.entries)).endswith(b"/in/end")


def test_a_walk_that_is_abandoned_leaves_nothing_open(deep):
    """Descriptors go with the generator, wherever it stands."""
    before = len(os.listdir("/proc/self/fd"))
    for stop_at in (1, 2, 3, 10, 1000):
        steps = FileSource([deep]).walk()
        for _ in range(stop_at):
            next(steps)
        steps.close()
        assert len(os.listdir("/proc/self/fd")) == before


def test_a_folder_moved_under_the_walk_is_told_of(root, walk, make, monkeypatch):
    """A closed folder is known by its identity: what was put in its place is not taken for it."""
    monkeypatch.setattr(scan, "OPEN_LIMIT", 2)
    make(root, {"a/b/c/d/e/file": b"", "a/b/zz": b"theirs"})

    def move(step):
        if isinstance(step, Found) and step.entry.name == b"file":
            os.rename(root + b"/a/b/c", root + b"/elsewhere")
            os.rename(root + b"/a/b", root + b"/moved")
            make(root, {"a/b/zz": b"planted"})

    walked = walk(FileSource([root + b"/a"]), move)

    assert root + b"/a/b/zz" not in walked.entries
    assert [p.path for p in walked.problems] == [root + b"/a/b"]


def test_a_folder_closed_for_want_of_descriptors_is_found_again(root, walk, make, monkeypatch):
    """By its place above, and if that was moved by its path."""
    monkeypatch.setattr(scan, "OPEN_LIMIT", 2)
    make(root, {"a/b/c/d/e/file": b"", "a/b/zz": b"", "a/zz": b""})

    def move(step):
        if isinstance(step, Found) and step.entry.name == b"file":
            os.rename(root + b"/a/b/c", root + b"/elsewhere")

    walked = walk(FileSource([root + b"/a"]), move)

    assert {"a/b/zz", "a/zz"} < set(walked.below(root))
    assert not walked.problems


def test_a_wide_folder_costs_its_names(root):
    """F20: at most 150 bytes a name at once, whatever there is to say of each."""
    count = 10_000
    folder = os.open(root, os.O_RDONLY)
    for number in range(count):
        os.symlink(b"x", b"some-usual-name-%06d" % number, dir_fd=folder)
    os.close(folder)
    source = FileSource([root])
    tracemalloc.start()
    found = sum(1 for _ in source.walk())
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert found > count
    assert peak / count < 150


# --- things that change ---------------------------------------------------------------------------


def test_what_vanishes_during_the_walk_is_counted(root, walk, make):
    """F26: a name that was listed and is gone is told of, files and folders alike."""
    make(root, {"a": b"", "b": b"", "c/file": b"", "d": b""})

    def remove(step):
        if isinstance(step, Found) and step.entry.name == b"a":
            os.unlink(root + b"/b")
            os.rename(root + b"/c", root + b"/x")

    walked = walk(FileSource([root]), remove)

    assert walked.below(root) == ["a", "d"]
    assert [(p.path, p.during, p.root) for p in walked.problems] == [
        (root + b"/b", "scan", False),
        (root + b"/c", "scan", False),
    ]


def test_what_appears_after_the_listing_is_left_for_the_next_run(root, walk, make):
    """A listing is taken once."""
    make(root, {"a": b"", "c": b""})

    def add(step):
        if isinstance(step, Found) and step.entry.name == b"a":
            make(root, {"b": b""})

    assert walk(FileSource([root]), add).below(root) == ["a", "c"]


def _exchange_after_lstat(monkeypatch, name, exchange):
    """Exchanges something between the walk's look at it and its next step."""
    lstat = os.lstat

    def hooked(path, *, dir_fd=None):
        facts = lstat(path, dir_fd=dir_fd)
        if path == name:
            exchange()
        return facts

    monkeypatch.setattr(os, "lstat", hooked)


@pytest.mark.parametrize("put", ["link", "folder", "file", "nothing"])
def test_a_folder_exchanged_before_it_is_opened_is_not_entered(root, walk, make, monkeypatch, put):
    """F28, I10's mirror: neither a link nor another folder is taken for the one that was seen."""
    make(root, {"outside/secret": b"", "inside/folder/file": b"", "inside/z": b""})

    def exchange():
        os.rename(root + b"/inside/folder", root + b"/was")
        if put == "link":
            os.symlink(b"../outside", root + b"/inside/folder")
        elif put == "folder":
            os.rename(root + b"/outside", root + b"/inside/folder")
        elif put == "file":
            make(root, {"inside/folder": b""})

    _exchange_after_lstat(monkeypatch, b"folder", exchange)
    walked = walk(FileSource([root + b"/inside"]))

    assert walked.below(root) == ["inside", "inside/z"]
    (problem,) = walked.problems
    assert problem.path == root + b"/inside/folder"
    assert "exchanged" in problem.message or put == "nothing"


def _swap_for_ever(root):
    """Exchanges a folder and a link that leads outside, as fast as it can."""
    folder = os.open(root + b"/inside", os.O_RDONLY)
    while True:
        os.rename(b"folder", b"hidden", src_dir_fd=folder, dst_dir_fd=folder)
        os.symlink(b"../outside", b"folder", dir_fd=folder)
        os.unlink(b"folder", dir_fd=folder)
        os.rename(b"hidden", b"folder", src_dir_fd=folder, dst_dir_fd=folder)


def _race(root, walk, make, seconds):
    """Walks and reads during swaps; how many walks, links met, problems and files read."""
    make(root, {"outside/file": b"SECRET", "inside/folder/file": b"PUBLIC", "inside/z": b""})
    swapper = os.fork()
    if swapper == 0:
        try:
            _swap_for_ever(root)
        finally:
            os._exit(1)
    links = problems = read = rounds = 0
    try:
        source = FileSource([root + b"/inside"])
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            rounds += 1
            walked = walk(source)
            problems += len(walked.problems)
            for path, entry in walked.entries.items():
                links += entry.kind is Kind.SYMLINK
                if entry.kind is not Kind.FILE or entry.name == b"z":
                    continue
                buffer = bytearray(10)
                try:
                    content = source.open(path, entry)
                except OSError as error:
                    assert error.errno in {errno.ENOENT, errno.ESTALE, errno.ENOTDIR}  # noqa: PT017
                    continue
                content.readinto(memoryview(buffer))
                content.close()
                read += 1
                assert b"SECRET" not in buffer
    finally:
        os.kill(swapper, 9)
        os.waitpid(swapper, 0)
    return rounds, links, problems, read


def test_swaps_of_links_and_folders_never_lead_outside(root, walk, make):
    """F28: with somebody exchanging a folder for a link all the time, nothing outside is read."""
    _, links, problems, read = _race(root, walk, make, seconds=2)
    assert links, "the race was never met"
    assert problems
    assert read


@pytest.mark.long
@pytest.mark.timeout(900)
def test_a_long_campaign_of_swaps_never_leads_outside(root, walk, make):
    """F28 for ten minutes: hundreds of thousands of walks against millions of swaps."""
    rounds, links, _, read = _race(root, walk, make, seconds=600)
    assert rounds > 100_000
    assert min(links, read) > 1000


# --- what cannot be read --------------------------------------------------------------------------


def test_a_folder_that_may_not_be_listed_is_kept_without_its_content(
    public, walk, make, unprivileged
):
    """F26: the entry stays, the problem is counted."""
    make(public, {"closed/file": b"", "open/file": b""})
    os.chmod(public + b"/closed", 0o311)

    walked = unprivileged(lambda: walk(FileSource([public])))

    assert walked.below(public) == ["closed", "open", "open/file"]
    (problem,) = walked.problems
    assert (problem.path, problem.root) == (public + b"/closed", False)
    assert problem.message == "Permission denied"


def test_names_that_may_not_be_looked_at_are_counted(public, walk, make, unprivileged):
    """A folder that may be listed but not entered gives a problem for each name."""
    make(public, {"listed/a": b"", "listed/b": b""})
    os.chmod(public + b"/listed", 0o644)

    walked = unprivileged(lambda: walk(FileSource([public])))

    assert walked.below(public) == ["listed"]
    assert [p.path for p in walked.problems] == [public + b"/listed/a", public + b"/listed/b"]


def test_a_root_that_may_not_be_listed_is_a_problem_of_the_root(public, walk, make, unprivileged):
    """F26: a root that is unreadable as a whole is told apart from other problems."""
    make(public, {"closed/in/file": b""})
    os.chmod(public + b"/closed", 0o311)

    walked = unprivileged(lambda: walk(FileSource([public + b"/closed", public + b"/closed/in"])))

    assert [(p.path, p.root) for p in walked.problems] == [
        (public + b"/closed", True),
        (public + b"/closed/in", True),
    ]


def test_a_listing_that_breaks_off_keeps_what_it_gave(root, walk, make, monkeypatch):
    """A failing disk costs what it cannot give, and says so."""
    make(root, {"broken/a": b"", "broken/b": b"", "whole/c": b""})
    scandir = os.scandir
    broken = os.stat(root + b"/broken").st_ino

    class Breaking:
        def __init__(self, listing):
            self.listing = listing

        def __enter__(self):
            return self

        def __exit__(self, *_):
            self.listing.close()

        def __iter__(self):
            yield next(self.listing)
            raise OSError(errno.EIO, "Input/output error")

    def hooked(folder):
        listing = scandir(folder)
        return Breaking(listing) if os.fstat(folder).st_ino == broken else listing

    monkeypatch.setattr(os, "scandir", hooked)
    walked = walk(FileSource([root]))

    assert len(walked.below(root)) == 4
    assert "whole/c" in walked.below(root)
    assert walked.messages() == {root + b"/broken": "Input/output error"}


def test_a_name_listed_twice_is_visited_once(root, walk, make, monkeypatch):
    """Some file systems repeat a name while a folder changes; a tree holds no name twice."""
    make(root, {"a": b"", "b/c": b""})
    scandir = os.scandir

    class Twice:
        def __init__(self, listing):
            self.listing = list(listing) * 2

        def __enter__(self):
            return iter(self.listing)

        def __exit__(self, *_):
            pass

    monkeypatch.setattr(os, "scandir", lambda folder: Twice(scandir(folder)))

    assert walk(FileSource([root])).below(root) == ["a", "b", "b/c"]


def test_an_unknown_kind_is_a_problem(root, walk, make, monkeypatch):
    """What the format has no word for is told of rather than kept as something else."""
    make(root, {"odd": b"", "usual": b""})
    lstat = os.lstat

    def hooked(path, *, dir_fd=None):
        facts = lstat(path, dir_fd=dir_fd)
        return os.stat_result((0o010000 | 0o150000, *facts[1:])) if path == b"odd" else facts

    monkeypatch.setattr(os, "lstat", hooked)
    walked = walk(FileSource([root]))

    assert walked.below(root) == ["usual"]
    assert [p.path for p in walked.problems] == [root + b"/odd"]


# --- the estimate ---------------------------------------------------------------------------------


def test_the_estimate_counts_what_the_walk_finds(root, walk, make):
    """Regular files and their bytes, nothing else."""
    make(root, {"a": b"123", "b/c": b"45", "b/empty": b""})
    os.symlink(b"a", root + b"/link")
    os.mkfifo(root + b"/pipe")

    source = FileSource([root])
    files = [e for e in walk(source).entries.values() if e.kind is Kind.FILE]

    assert estimate(source) == (3, 5) == (len(files), sum(e.size for e in files))


def test_problems_are_values(root):
    """Two walks over the same trouble tell the same."""
    source = FileSource([root + b"/gone"])
    assert list(source.walk()) == list(source.walk())
    assert all(isinstance(step, Problem) for step in source.walk())
