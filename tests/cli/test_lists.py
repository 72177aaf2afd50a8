"""Lists in files: what to back up, what to leave out, what to restore."""

from __future__ import annotations

import io
import os
from types import SimpleNamespace

import pytest


@pytest.fixture
def paths_in(holdfast, repository):
    """The paths of regular files in the latest snapshot."""

    def paths():
        nodes = holdfast("ls", "latest", "--json").json[1:]
        return sorted(node["path"] for node in nodes if node["type"] == "file")

    return paths


@pytest.fixture
def lists(repository, source, monkeypatch):
    """A list of each sort, beside the source, which is the working directory."""
    monkeypatch.chdir(source)
    sorts = {
        "patterns": b"# no\n\n *.txt \n",
        "verbatim": b"folder/b.txt\n\n",
        "raw": b"odd\xff\n\0",
    }
    for name, content in sorts.items():
        (source.parent / name).write_bytes(content)
    return source.parent


def test_the_three_sorts_of_lists_add_to_the_arguments(holdfast, lists, paths_in):
    """Patterns, names by the line, names that end in zero bytes; relative as arguments are."""
    (lists / "more").write_text("1")
    ended = holdfast(
        "backup", "../more",
        "--files-from", lists / "patterns",
        "--files-from-verbatim", lists / "verbatim",
        "--files-from-raw", lists / "raw",
    )  # fmt: skip

    assert ended.code == 0
    found = paths_in()
    assert found[:3] == ["/a.txt", "/folder/b.txt", "/more"]
    assert found[3].startswith("/odd")


def test_a_list_may_come_from_standard_input(holdfast, lists, paths_in, monkeypatch):
    """`-` as everywhere."""
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(b"a.txt\0")))
    assert holdfast("backup", "--files-from-raw", "-").code == 0
    assert paths_in() == ["/a.txt"]


def test_a_pattern_that_stands_for_nothing_makes_the_backup_partial(holdfast, lists, paths_in):
    """It is named as missing, and the rest is kept."""
    (lists / "patterns").write_text("a.*\n*.nothing\n")
    ended = holdfast("backup", "--files-from", lists / "patterns")

    assert ended.code == 3
    assert "*.nothing" in ended.err
    assert paths_in() == ["/a.txt"]


@pytest.mark.parametrize(
    ("option", "content", "words"),
    [
        ("--files-from-raw", b"a.txt", "cut off"),
        ("--files-from-raw", b"a.txt\0\0", "empty name"),
        ("--files-from", b"[a\n", "[a"),
    ],
)
def test_a_damaged_list_makes_no_snapshot(holdfast, lists, option, content, words):
    """A list that was cut off would leave out what nobody misses until it is needed."""
    (lists / "list").write_bytes(content)
    ended = holdfast("backup", option, lists / "list")

    assert ended.code == 1
    assert words in ended.err
    assert holdfast("snapshots", "--json").json[0] == []


def test_pattern_files_leave_out_and_choose(holdfast, lists, paths_in, tmp_path):
    """The same language when backing up and when restoring, with and without regard to case."""
    (lists / "excludes").write_text("# no\nodd*\n")
    (lists / "iexcludes").write_text("A.TXT\n")
    assert holdfast("backup", ".", "--exclude-file", lists / "excludes").code == 0
    assert paths_in() == ["/a.txt", "/folder/b.txt"]

    target = tmp_path / "out"
    restored = holdfast("restore", "latest", "-t", target, "--iexclude-file", lists / "iexcludes")

    assert restored.code == 0
    assert sorted(os.listdir(target)) == ["folder"]
