"""What is left out, and that nothing else is."""

import os

import pytest

from holdfast.core.errors import UsageError
from holdfast.core.source import Found
from holdfast.sources.files.filters import Filters
from holdfast.sources.files.source import FileSource, estimate

TAG = b"Signature: 8a477f597d28d172789f06886806bc55\n# more"


@pytest.fixture
def kept(root, walk):
    """Names below the root that a walk with filters gives."""

    def run(roots=None, **filters):
        source = FileSource(roots or [root], Filters(**filters))
        walked = walk(source)
        assert not walked.problems
        return walked.below(root)

    return run


def test_patterns_leave_out_what_they_match(root, make, kept):
    """By name, by path, by several components, whatever the case where asked."""
    make(
        root,
        {
            "a.o": b"", "b.c": b"", "C.O": b"", "build/x": b"", "src/build/obj/y": b"",
            "src/keep.c": b"", "src/deep/er/z": b"", "\u00e4rger": b"",
        },
    )  # fmt: skip
    top = os.fsdecode(root)

    left = kept(
        excludes=("*.o", "src/build", f"{top}/build", "src/**/z"), iexcludes=("*.O", "\u00c4RGER")
    )

    assert left == ["b.c", "src", "src/deep", "src/deep/er", "src/keep.c"]


def test_a_negated_pattern_keeps_what_others_leave_out(root, make, kept):
    """The last pattern that matches wins; below a folder that is left out nothing is looked for."""
    make(root, {"a.log": b"", "keep.log": b"", "out/keep.log": b"", "in/b.log": b""})

    assert kept(excludes=("*.log", "out", "!keep.log")) == ["in", "keep.log"]


def test_a_root_is_kept_whatever_the_filters_say(root, make, kept):
    """As in restic: what the person names is wanted, and so are the folders that lead to it."""
    make(root, {"tmp/big": b"x" * 100, "tmp/small": b"", "cache/sub/file": b"", "cache/tag": b""})
    roots = [root + b"/tmp/big", root + b"/cache/sub"]

    left = kept(roots, excludes=("big", "cache/tag"), exclude_larger_than=10)
    assert left == ["cache", "cache/sub", "cache/sub/file", "tmp", "tmp/big"]
    assert kept(roots, exclude_if_present=("tag",)) == left


def test_a_root_inside_another_is_kept_whatever_the_filters_say(root, make, kept):
    """It is reached through folders that would be left out; those hold nothing else."""
    make(
        root, {"a/skip/deep/wanted": b"", "a/skip/deep/other": b"", "a/skip/more": b"", "a/b": b""}
    )

    left = kept([root + b"/a", root + b"/a/skip/deep/wanted"], excludes=("skip",))

    assert left == ["a", "a/b", "a/skip", "a/skip/deep", "a/skip/deep/wanted"]


def test_a_pattern_that_matches_a_root_leaves_all_below_it_out(root, make, kept):
    """As in restic: the root itself stays, each name in it is matched."""
    make(root, {"data/file": b"", "data/folder/file": b""})

    assert kept([root + b"/data"], excludes=("data",)) == ["data"]
    assert kept([root + b"/data"], excludes=("data", "!data/folder")) == [
        "data", "data/folder", "data/folder/file",
    ]  # fmt: skip


def test_of_a_cache_only_its_tag_is_kept(root, make, kept):
    """A tag counts if it begins as the standard says and is a regular file."""
    make(
        root,
        {
            "cache/CACHEDIR.TAG": TAG, "cache/data/x": b"", "cache/y": b"",
            "fake/CACHEDIR.TAG": b"Signature: something else", "fake/x": b"",
            "short/CACHEDIR.TAG": TAG[:20], "short/x": b"",
            "link/x": b"", "pipe/x": b"",
        },
    )  # fmt: skip
    os.symlink(b"../cache/CACHEDIR.TAG", root + b"/link/CACHEDIR.TAG")
    os.mkfifo(root + b"/pipe/CACHEDIR.TAG")

    left = kept(exclude_caches=True)

    assert [name for name in left if name.startswith("cache")] == ["cache", "cache/CACHEDIR.TAG"]
    assert {"fake/x", "short/x", "link/x", "pipe/x"} < set(left)


def test_a_file_may_mark_its_folder(root, make, kept):
    """By being there, or by how it begins."""
    make(
        root,
        {
            "a/.nobackup": b"", "a/x": b"", "b/mark": b"not now, later", "b/x": b"",
            "c/mark": b"now", "c/x": b"", "d/.nobackup/x": b"",
        },
    )  # fmt: skip

    assert kept(exclude_if_present=(".nobackup", "mark:not now")) == [
        "a", "a/.nobackup", "b", "b/mark", "c", "c/mark", "c/x",
        "d", "d/.nobackup", "d/.nobackup/x",
    ]  # fmt: skip


def test_a_mark_that_cannot_be_read_marks_nothing(public, make, walk, unprivileged):
    """Then too much is kept rather than too little."""
    make(public, {"a/mark": b"not now", "a/x": b""})
    os.chmod(public + b"/a/mark", 0)
    source = FileSource([public], Filters(exclude_if_present=("mark:not now",)))

    walked = unprivileged(lambda: walk(source))

    assert walked.below(public) == ["a", "a/mark", "a/x"]


@pytest.mark.parametrize("spec", ["", ":header"])
def test_a_mark_needs_a_name(spec):
    """Refused when the source is made, not in the middle of a run."""
    with pytest.raises(UsageError):
        FileSource([b"/"], Filters(exclude_if_present=(spec,)))


def test_a_malformed_pattern_is_refused_at_once():
    """Before anything is read."""
    with pytest.raises(UsageError, match="malformed"):
        FileSource([b"/"], Filters(excludes=("[",)))


def test_large_files_are_left_out(root, make, kept):
    """What is exactly as large as the limit is kept; folders have no size."""
    make(root, {"a/10": b"x" * 10, "a/11": b"x" * 11, "a/0": b""})
    os.truncate(root + b"/a/0", 0)

    assert kept(exclude_larger_than=10) == ["a", "a/0", "a/10"]
    assert kept(exclude_larger_than=0) == ["a", "a/0"]


def test_the_repository_is_left_out_by_whatever_way(root, make, kept):
    """Known by its identity: a link to it on the command line changes nothing."""
    make(root, {"data/repository/config": b"", "data/file": b"", "cache/x": b""})
    os.symlink(b"data/repository", root + b"/by-link")
    skip = (root + b"/by-link", root + b"/cache/", root + b"/not there yet")

    assert kept(skip=skip) == ["by-link", "data", "data/file"]


def test_a_root_that_is_the_repository_is_told_of(root, make, walk):
    """It cannot be kept in itself; a root below it goes the same way."""
    make(root, {"repository/config": b"", "file": b""})
    filters = Filters(skip=(root + b"/repository",))

    walked = walk(FileSource([root + b"/repository", root + b"/file"], filters))

    assert walked.below(root) == ["file"]
    (problem,) = walked.problems
    assert (problem.path, problem.root) == (root + b"/repository", True)


@pytest.fixture
def mounted():
    """/dev and another file system mounted in it."""
    if not os.path.ismount("/dev/shm"):
        pytest.skip("no file system is mounted below /dev here")
    folder = b"/dev/shm/holdfast-test-%d" % os.getpid()
    os.makedirs(folder + b"/deep")
    with open(folder + b"/deep/file", "wb"):
        pass
    yield folder
    os.unlink(folder + b"/deep/file")
    os.removedirs(folder + b"/deep")


def _walk_dev(roots, **filters):
    return [
        step.path
        for step in FileSource(roots, Filters(**filters)).walk()
        if isinstance(step, Found)
    ]


def test_one_file_system_keeps_mount_points_as_empty_folders(mounted):
    """As in restic."""
    paths = _walk_dev([b"/dev"], one_file_system=True)

    assert b"/dev/shm" in paths
    assert not [path for path in paths if path.startswith(b"/dev/shm/")]
    assert mounted in _walk_dev([b"/dev"])


def test_each_root_has_its_own_file_system(mounted):
    """A root on another file system than the one around it is kept with all that is in it."""
    paths = _walk_dev([b"/dev", mounted + b"/deep"], one_file_system=True)

    assert [path for path in paths if path.startswith(b"/dev/shm/")] == [
        mounted, mounted + b"/deep", mounted + b"/deep/file",
    ]  # fmt: skip


def test_slash_may_be_the_root_of_one_file_system():
    """What is mounted below it is kept as empty folders."""
    paths = _walk_dev([b"/"], one_file_system=True, excludes=("/*/*",))

    assert paths == sorted(b"/" + name for name in os.listdir(b"/"))
    whole = _walk_dev([b"/"], one_file_system=True, excludes=("/[^p]*/*", "/p[^r]*/*"))
    if os.path.ismount("/proc"):
        assert b"/proc" in whole
        assert not [path for path in whole if path.startswith(b"/proc/")]


def test_the_estimate_leaves_out_the_same(root, make):
    """Progress must not wait for what is never read."""
    make(root, {"a": b"12", "b.o": b"345", "c/d.o": b"6", "c/e": b"7"})
    assert estimate(FileSource([root], Filters(excludes=("*.o",)))) == (2, 3)
