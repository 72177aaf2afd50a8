"""Lists of paths and patterns in files."""

import io
import os
from types import SimpleNamespace

import pytest

from holdfast.core.errors import UsageError
from holdfast.sources.files import lists


@pytest.fixture
def listed(tmp_path):
    """A file with some content."""

    def write(content):
        path = tmp_path / "list"
        path.write_bytes(content)
        return str(path)

    return write


@pytest.fixture
def names(tmp_path, monkeypatch):
    """A working directory with some names in it."""
    folder = tmp_path / "names"
    for name in ("a.txt", "b.txt", ".c.txt", "x[1]", "d/in.txt", "e/in.txt", "e/*"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    (folder / "dangling.txt").symlink_to("nowhere")
    monkeypatch.chdir(folder)
    return os.fsencode(folder)


def test_patterns_in_a_list_stand_for_names(names, listed):
    """Comments and empty lines are left out; wildcards see hidden names and dangling links."""
    content = b"# no\n\n *.txt \r\n*/in.txt\nx\\[1]\nx[[]1]\ne/\\*\n" + names + b"/[d-e]\nd/in.txt"
    assert lists.read_roots(listed(content)) == [
        b".c.txt", b"a.txt", b"b.txt", b"dangling.txt",
        b"d/in.txt", b"e/in.txt",
        b"x[1]",
        b"x[1]",
        b"e/*",
        names + b"/d", names + b"/e",
        b"d/in.txt",
    ]  # fmt: skip


def test_a_pattern_for_nothing_stays_as_it_is(names, listed):
    """So that the backup names it as missing instead of passing over it."""
    assert lists.read_roots(listed(b"*.nothing\nmissing\nno/such/*\n")) == [
        b"*.nothing", b"missing", b"no/such/*",
    ]  # fmt: skip


def test_a_malformed_pattern_in_a_list_is_refused(names, listed):
    """With its text."""
    with pytest.raises(UsageError, match=r"\[a"):
        lists.read_roots(listed(b"[a\n"))


def test_a_verbatim_list_is_taken_as_it_is(listed):
    """Space, comments and wildcards are part of names there."""
    content = b" a\n# b\n\n*.c\r\n\xff\nlast"
    assert lists.read_roots_verbatim(listed(content)) == [b" a", b"# b", b"*.c", b"\xff", b"last"]


def test_a_raw_list_ends_each_name_with_a_zero_byte(listed):
    """The only way for names with newlines."""
    assert lists.read_roots_raw(listed(b"a\nb\0\xff\0")) == [b"a\nb", b"\xff"]
    assert lists.read_roots_raw(listed(b"")) == []


@pytest.mark.parametrize("content", [b"a\0b", b"a", b"a\0\0b\0"])
def test_a_raw_list_that_was_cut_off_is_refused(listed, content):
    """A missing end means that names are missing, too; an empty name would mean everything."""
    with pytest.raises(UsageError):
        lists.read_roots_raw(listed(content))


def test_lists_may_come_from_standard_input(monkeypatch):
    """`-` as everywhere."""
    stdin = SimpleNamespace(buffer=io.BytesIO(b"a\0b\0"))
    monkeypatch.setattr("sys.stdin", stdin)
    assert lists.read_roots_raw("-") == [b"a", b"b"]


def test_a_list_that_cannot_be_read_is_refused(tmp_path):
    """The file is named."""
    with pytest.raises(UsageError, match="no such list"):
        lists.read_patterns([str(tmp_path / "no such list")])


def test_pattern_files_add_up(listed, monkeypatch):
    """In the order given, with variables of the environment."""
    monkeypatch.setenv("SOME_FOLDER", "/some/folder")
    path = listed(b"*.o\n$SOME_FOLDER/x\n")
    assert lists.read_patterns([path, path]) == ["*.o", "/some/folder/x"] * 2
