"""Whatever a command waits for, a signal ends it within two seconds and leaves nothing behind."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from holdfast.testing.rest_server import RestServer

if TYPE_CHECKING:
    from collections.abc import Callable

SENTENCE = "stopping; a second signal (Ctrl-C) stops at once"
SLOWLY = ("--limit-upload", "64", "--limit-download", "64")
ALLOWED = 2.0


@pytest.fixture
def large(tmp_path):
    """More than one pack of what does not compress."""
    source = tmp_path / "large"
    source.mkdir()
    for number in range(12):
        (source / f"f{number}").write_bytes(random.Random(number).randbytes(3 << 20))
    return source


class Place(NamedTuple):
    """A repository, and how commands are run on it in this process."""

    repository: Path
    holdfast: Callable[..., Any]


@pytest.fixture
def place(repository, holdfast):
    return Place(repository, holdfast)


def told(running, number=signal.SIGINT, *, group=False):
    """Sends a signal and waits; seconds, standard output, standard error."""
    began = time.monotonic()
    if group:
        os.killpg(running.pid, number)
    else:
        running.send_signal(number)
    out, err = running.communicate(timeout=30)
    return time.monotonic() - began, out, err


def until(reached, seconds=30):
    """Waits until something is so."""
    end = time.monotonic() + seconds
    while not reached():
        assert time.monotonic() < end
        time.sleep(0.02)


def leftovers(repository):
    """Locks and half-written files."""
    return [*(repository / "locks").iterdir(), *repository.rglob(".holdfast-*.tmp")]


def stored_packs(repository):
    return [path for path in (repository / "data").rglob("*") if len(path.name) == 64]


@pytest.mark.parametrize(
    ("number", "group"), [(signal.SIGINT, True), (signal.SIGTERM, False), (signal.SIGHUP, True)]
)
def test_a_throttled_backup_stops(place, process, large, number, group):
    """I5: of a terminal, a service manager or a lost connection; what was stored is used next."""
    running = process("backup", large, *SLOWLY, start_new_session=True)
    until(lambda: stored_packs(place.repository))
    seconds, _, err = told(running, number, group=group)
    assert seconds < ALLOWED
    assert running.returncode == 130
    assert err.splitlines()[0] == SENTENCE
    assert err.count("[interrupted]") == 1
    assert leftovers(place.repository) == []
    assert place.holdfast("backup", large).code == 0
    assert place.holdfast("check", "--read-data").code == 0


@pytest.mark.parametrize("verb", ["restore", "copy", "check"])
def test_throttled_reading_stops(place, process, large, tmp_path, verb):
    """A limit of the download is waited for no longer, either."""
    assert place.holdfast("backup", large).code == 0
    words = {
        "restore": ["restore", "latest", "--target", tmp_path / "out"],
        "check": ["check", "--read-data"],
        "copy": ["copy", "-r", tmp_path / "second", "--from-repo", place.repository,
                 "--from-password-command", "echo correct horse"],
    }[verb]  # fmt: skip
    second = tmp_path / "second"
    assert place.holdfast("init", "-r", second).code == 0
    running = process(*words, *SLOWLY, start_new_session=True)
    until(lambda: list((place.repository / "locks").iterdir()))
    time.sleep(0.7)
    seconds, _, err = told(running, group=True)
    assert seconds < ALLOWED
    assert running.returncode == 130
    assert SENTENCE in err.splitlines()
    assert leftovers(place.repository) + leftovers(second) == []


@pytest.fixture
def stuck(repository):
    """A server of the repository that does not answer some requests before the test ends."""
    over = threading.Event()
    with RestServer(repository) as server:
        server.waits_for = lambda *_: False
        server.hangs = threading.Event()

        def interfere(method, path):
            if server.waits_for(method, path):
                server.hangs.set()
                over.wait(60)

        server.interfere = interfere
        yield server
        over.set()


@pytest.mark.parametrize("words", [["backup", "SOURCE"], ["restore", "latest", "--target", "OUT"]])
def test_a_place_that_stands_still_is_not_waited_for(place, process, large, stuck, words):
    """Packs that are on their way for ever hold nothing up; the lock is let go of."""
    place.holdfast("backup", large / "f1")
    stuck.waits_for = lambda _, path: path.startswith("/data/") and len(path) > 10
    names = {"SOURCE": str(large), "OUT": str(large.parent / "out")}
    running = process(
        "-r", f"rest:{stuck.url}", *(names.get(word, word) for word in words), "--no-cache"
    )
    assert stuck.hangs.wait(30)
    seconds, _, err = told(running)
    assert seconds < ALLOWED + 0.5
    assert running.returncode == 130
    assert err.count("[interrupted]") == 1
    assert leftovers(place.repository) == []


def test_a_second_signal_stops_at_once(place, process, source, stuck):
    """Even the lock is left then: it dies with its process."""
    place.holdfast("backup", source)
    stuck.waits_for = lambda method, path: path.startswith("/data/") or method == "DELETE"
    running = process("-r", f"rest:{stuck.url}", "check", "--read-data", "--no-cache")
    assert stuck.hangs.wait(30)
    running.send_signal(signal.SIGINT)
    assert running.stderr.readline().rstrip() == SENTENCE
    time.sleep(0.4)
    assert running.poll() is None
    seconds, _, _ = told(running)
    assert seconds < 0.5
    assert running.returncode == 130
    assert len(leftovers(place.repository)) == 1
    assert place.holdfast("forget", "latest", "--prune").code == 0


def test_a_library_that_hears_no_signals(process):
    """S3 requests wait in another language; a server that never answers is left all the same."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        running = process(
            "-r", f"s3:http://127.0.0.1:{server.getsockname()[1]}/bucket", "snapshots",
            env={**os.environ, "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"},
        )  # fmt: skip
        server.settimeout(30)
        connection, _ = server.accept()
        with connection:
            time.sleep(0.2)
            seconds, _, err = told(running, signal.SIGTERM)
    assert seconds < ALLOWED + 0.5
    assert running.returncode == 130
    assert err.splitlines()[:1] == [SENTENCE]


def test_json(process, repository, large):
    """Programs get the sentence as a remark, and the error as ever."""
    running = process("backup", large, "--json", *SLOWLY)
    until(lambda: stored_packs(repository))
    _, out, err = told(running)
    assert running.returncode == 130
    remarks = [json.loads(line) for line in out.splitlines()]
    assert {"message_type": "note", "message": SENTENCE} in remarks
    assert json.loads(err)["error"] == "interrupted"


_LATE = """
import atexit, os, signal, sys
atexit.register(os.kill, os.getpid(), signal.SIGTERM)
sys.argv = ["holdfast", "snapshots"]
from holdfast.cli.main import main
main()
"""


def test_a_signal_that_comes_too_late(repository):
    """I8: a command that has ended well ends well, whatever comes while Python tidies up."""
    ended = subprocess.run(
        [sys.executable, "-c", _LATE], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0
    assert ended.stderr == ""


def test_ignored_signals_stay_ignored(repository, large):
    """`nohup` means it."""
    running = subprocess.Popen(
        ["nohup", sys.executable, "-m", "holdfast", "backup", str(large), *SLOWLY],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    until(lambda: stored_packs(repository))
    running.send_signal(signal.SIGHUP)
    time.sleep(0.5)
    assert running.poll() is None
    running.send_signal(signal.SIGINT)
    assert running.wait(10) == 130


def test_no_worker_is_left(process, repository, large):
    """Not even by a second signal."""
    running = process("backup", large, *SLOWLY, start_new_session=True)
    until(lambda: stored_packs(repository))
    told(running, group=True)
    with pytest.raises(ProcessLookupError):
        os.killpg(running.pid, 0)
    assert not Path(f"/proc/{running.pid}").exists()
