"""Exit codes are restic's published ones, each shown with a real reason."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from holdfast.core.clock import SystemClock
from holdfast.core.secret import Secret
from holdfast.repo.lock import acquire
from holdfast.repo.repository import Repository
from holdfast.store.contract import FileKind
from holdfast.store.directory import DirectoryStore


def test_0_when_all_went_well(holdfast, repository, source):
    """A backup that read everything ends with 0."""
    assert holdfast("backup", source).code == 0


def test_1_when_it_failed(holdfast, repository, tmp_path):
    """A source that is not there is a failure, and no snapshot is made."""
    assert holdfast("backup", tmp_path / "nowhere").code == 1
    assert holdfast("snapshots", "--json").json == [[]]


def test_1_when_the_command_line_makes_no_sense(holdfast):
    """Usage errors end with 1, as restic's do, not with the framework's 2."""
    for arguments in (["nonsense"], ["snapshots", "--nonsense"], ["restore"], ["diff", "one"]):
        assert holdfast(*arguments).code == 1


def test_3_when_some_of_the_source_is_missing(holdfast, repository, source, tmp_path):
    """A missing root among others makes the run partial: what is there is kept."""
    ended = holdfast("backup", source, tmp_path / "nowhere")
    assert ended.code == 3
    assert "nowhere" in ended.err
    assert len(holdfast("snapshots", "--json").json[0]) == 1


def test_10_without_a_repository(holdfast):
    """A place without a repository has a code of its own."""
    assert holdfast("snapshots").code == 10


def test_11_when_locked(holdfast, repository, source):
    """A live exclusive lock keeps a backup out; afterwards it works without any unlocking."""
    opened = Repository.open(DirectoryStore(repository), Secret(os.environ["HOLDFAST_PASSWORD"]))
    lock = acquire(opened.objects, exclusive=True, clock=SystemClock())
    assert holdfast("backup", source).code == 11
    lock.release()
    assert holdfast("backup", source).code == 0


def test_12_with_a_wrong_password(holdfast, repository, monkeypatch):
    """A wrong password has a code of its own."""
    monkeypatch.setenv("HOLDFAST_PASSWORD", "wrong")
    assert holdfast("snapshots").code == 12


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_130_when_interrupted(holdfast, process, repository, number):
    """I5: a signal ends a backup with 130, and the next command needs no human."""
    running = process(
        "backup",
        "--stdin-from-command",
        "--",
        "sh",
        "-c",
        "head -c 9000000 /dev/urandom; exec sleep 60",
    )

    def locks():
        return list((repository / FileKind.LOCK).glob("[0-9a-f]*"))

    wait_until(locks)
    time.sleep(0.3)
    running.send_signal(number)
    _, err = running.communicate(timeout=30)
    assert running.returncode == 130, err
    assert "interrupted" in err
    assert "Traceback" not in err
    assert not locks()
    assert holdfast("backup", Path(__file__)).code == 0
    assert holdfast("check").code == 0


def wait_until(holds, seconds=20.0):
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)
