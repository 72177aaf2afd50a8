"""Progress: a block on a terminal, JSON lines for programs, nothing otherwise."""

from __future__ import annotations

import io
import json
import os
import pty
import re
import subprocess
import sys
import time

import pytest

from holdfast.cli.backup_report import BackupReport
from holdfast.cli.output import Output
from holdfast.cli.progress import Meter, Stage, done_share, seconds_left
from holdfast.cli.settings import Settings
from holdfast.repo.saving.backup import Counts
from holdfast.sources.files.source import Estimate


def test_json_status():
    """A long stage tells at least every two seconds how far it is."""
    out = io.StringIO()
    with Meter(Output(Settings(json=True), stdout=out, stderr=io.StringIO())) as meter:
        meter.stage("counting", items=10, bytes=100)
        meter.add(items=5, bytes=50)
        time.sleep(2.2)
    lines = [json.loads(line) for line in out.getvalue().splitlines()]
    assert len(lines) >= 2
    assert lines[0]["message_type"] == "status"
    assert lines[0]["percent_done"] == pytest.approx(0.5)
    assert lines[0]["seconds_remaining"] >= 0


@pytest.mark.parametrize(
    "settings", [Settings(), Settings(quiet=True), Settings(json=True, quiet=True)]
)
def test_silent(settings):
    """Nothing is drawn where nobody watches, or where quiet is wanted."""
    out, err = io.StringIO(), io.StringIO()
    with Meter(Output(settings, stdout=out, stderr=err)) as meter:
        meter.stage("counting", items=10)
        meter.add(items=1)
        time.sleep(0.6)
    assert out.getvalue() + err.getvalue() == ""


def test_terminal(repository, tmp_path):
    """On a terminal of 80 columns the block has percent, rate and errors, fits, and is gone at the
    end.
    """
    main, side = pty.openpty()
    running = subprocess.Popen(
        [sys.executable, "-m", "holdfast", "backup", "--stdin-from-command", "--", "sh", "-c",
         "head -c 3000000 /dev/urandom; sleep 2"],
        stdin=side, stdout=side, stderr=side,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "80", "LINES": "24"},
    )  # fmt: skip
    os.close(side)
    shown = b""
    while True:
        try:
            piece = os.read(main, 4096)
        except OSError:  # the other side is closed
            break
        if not piece:
            break
        shown += piece
    os.close(main)
    assert running.wait(30) == 0
    text = shown.decode()
    assert re.search(r"\[0:0\d\], 0 files, 0 B", text)
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)
    assert all(len(line) <= 80 for line in re.split(r"[\r\n]+", plain))
    assert "snapshot" in plain.splitlines()[-1]


@pytest.mark.parametrize("width", [50, 80])
def test_the_time_left_is_never_cut_off(width):
    """However much there is: on a narrow terminal the rate goes first."""
    meter = Meter(Output(Settings(), stdout=io.StringIO(), stderr=io.StringIO()))
    meter._stage = Stage("reading packs", 1_000_000, 1 << 50, 999_999, 1 << 49)
    meter._stage.began -= 360_000
    report = BackupReport(meter._output, None)
    report._known = lambda: Estimate(123_456_789, 1 << 50)
    report._began -= 360_000
    report.progress(Counts(files=12_345_678, bytes=1 << 49, problems=12), b"")
    for lines in (meter._lines(), report._lines()):
        assert re.search(r"ETA \d+:\d\d:\d\d,", lines[0][: width - 1])
    assert "12 errors" in report._lines()[0][:width]


def test_shares():
    """Bytes count where their total is known, else items; without totals there is no guess."""
    assert done_share(1, 4, 0, None) == pytest.approx(0.25)
    assert done_share(1, 4, 1, 2) == pytest.approx(0.5)
    assert done_share(9, 4, 9, 2) == pytest.approx(1.0)
    assert done_share(1, None, 1, None) is None
    assert seconds_left(0.5, 10) == pytest.approx(10)
    assert seconds_left(None, 10) is None
    assert seconds_left(0.5, 0.1) is None


def test_names_are_escaped_on_a_terminal_only():
    """What would move the cursor is shown as an escape; a pipe gets the name as it is."""

    class Terminal(io.StringIO):
        def isatty(self):
            return True

    hostile = b"a\x1b[2J\nb\xff"
    shown = Output(Settings(), stdout=Terminal(), stderr=io.StringIO()).shown(hostile)
    assert shown == r"a\x1b[2J\nb\xff"
    raw = Output(Settings(), stdout=io.StringIO(), stderr=io.StringIO()).shown(hostile)
    assert os.fsencode(raw) == hostile


def test_a_dump_into_a_file_shows_how_far_it_is(repository, tmp_path, holdfast):
    """It may take hours; a terminal that gets no content gets the block, and it goes at the end."""
    source = tmp_path / "source"
    source.write_bytes(os.urandom(12_000_000))
    assert holdfast("backup", source).code == 0
    main, side = pty.openpty()
    running = subprocess.Popen(
        [sys.executable, "-m", "holdfast", "dump", "latest", source, "--target", tmp_path / "out",
         "--limit-download", "3000"],
        stdin=side, stdout=side, stderr=side,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "80", "LINES": "24"},
    )  # fmt: skip
    os.close(side)
    shown = b""
    while True:
        try:
            piece = os.read(main, 4096)
        except OSError:  # the other side is closed
            break
        if not piece:
            break
        shown += piece
    os.close(main)
    assert running.wait(60) == 0
    assert (tmp_path / "out").read_bytes() == source.read_bytes()
    assert re.search(rb"writing \d+\.\d%.*/ 11\.444 MiB", shown)
