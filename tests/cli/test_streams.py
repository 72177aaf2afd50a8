"""Standard streams that are full or closed stop no work."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

FULL = Path("/dev/full")
needs_full = pytest.mark.skipif(not FULL.exists(), reason="there is no /dev/full here")


def shell(script, *arguments):
    """A command line of a shell, `$0` being this program."""
    return subprocess.run(
        ["sh", "-c", script, f"{sys.executable}", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


@pytest.fixture
def source(tmp_path):
    folder = tmp_path / "source"
    folder.mkdir()
    (folder / "a").write_bytes(b"a" * 70_000)
    return folder


def saved(holdfast):
    return len(holdfast("snapshots", "--json").json[0])


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&-", "<&- >&- 2>&-"])
def test_a_backup_is_made_although_streams_are_closed(closed, repository, source, holdfast):
    """Whoever closes a stream does not want to read it; the snapshot is saved all the same."""
    before = saved(holdfast)
    ended = shell(f'"$0" -m holdfast backup "$1" {closed}', source)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert saved(holdfast) == before + 1
    assert holdfast("check", "--read-data").code == 0


@needs_full
@pytest.mark.parametrize("json", ["", "--json"])
def test_a_backup_is_made_although_its_log_is_full(json, repository, source, holdfast):
    """The snapshot is saved, and the lost words are told where they can be."""
    before = saved(holdfast)
    ended = shell(f'"$0" -m holdfast backup "$1" {json} >/dev/full', source)
    assert ended.returncode == 1
    assert "output-failed" in ended.stderr
    assert "mistake" not in ended.stderr
    assert saved(holdfast) == before + 1


@needs_full
@pytest.mark.parametrize(
    "verb", ["snapshots", "ls latest", "cat config", "list blobs", "find a", "--help", "--version"]
)
def test_results_that_do_not_arrive_are_a_failure(verb, repository, source, holdfast):
    """Nobody takes half a listing for a whole one."""
    assert holdfast("backup", source).code == 0
    ended = shell(f'"$0" -m holdfast {verb} >/dev/full')
    assert ended.returncode == 1
    assert "standard output cannot be written: No space left on device" in ended.stderr
    assert "mistake" not in ended.stderr


@needs_full
@pytest.mark.parametrize("to", [">/dev/full", ">&-", "--target /dev/full"])
def test_a_dump_that_finds_no_room_says_so(to, repository, source, holdfast):
    """Its content is cut short, and nobody is told of a mistake in the program."""
    assert holdfast("backup", source).code == 0
    ended = shell(f'"$0" -m holdfast dump latest "$1" {to}', source / "a")
    assert ended.returncode == 1
    assert "cannot be written: " in ended.stderr
    assert "[restore-failed]" in ended.stderr


def test_a_stream_that_is_closed_is_no_empty_backup(repository, holdfast):
    """`--stdin` with standard input closed is a failure."""
    before = saved(holdfast)
    ended = shell('"$0" -m holdfast backup --stdin <&-')
    assert ended.returncode == 1
    assert "mistake" not in ended.stderr
    assert saved(holdfast) == before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_the_program_starts_is_told_in_words(number, repository):
    """No trace of the interpreter, whatever is being loaded."""
    started = (
        "import importlib.abc, os, sys\n"
        "class Told(importlib.abc.MetaPathFinder):\n"
        "    def find_spec(self, name, path, target=None):\n"
        f"        if name == 'holdfast.cli.stopping': os.kill(os.getpid(), {int(number)})\n"
        "sys.meta_path.insert(0, Told())\n"
        "sys.argv = ['holdfast', 'snapshots']\n"
        "from holdfast.cli.main import main\n"
        "main()\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", started],
        capture_output=True,
        text=True,
        check=False,
        env=dict(os.environ),
        timeout=120,
    )
    assert ended.returncode == 130
    assert ended.stderr.startswith("holdfast: interrupted [interrupted]\n")
