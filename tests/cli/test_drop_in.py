"""A script written for restic does the same with Holdfast: same results, same JSON, same exit
codes.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from holdfast.core.retention import NEWEST

pytestmark = pytest.mark.interop

PROGRAMS = {
    "restic": ["restic", "--no-cache"],
    "holdfast": [sys.executable, "-m", "holdfast", "--no-cache"],
}


def environment_for(repository):
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("HOLDFAST_", "RESTIC_"))}
    return {**kept, "RESTIC_REPOSITORY": str(repository), "RESTIC_PASSWORD": "secret"}


def call(name, words, repository, codes=(0,)):
    """Runs one of the programs; what it printed."""
    ended = subprocess.run(
        [*PROGRAMS[name], *map(str, words)],
        env=environment_for(repository),
        capture_output=True,
        text=True,
        errors="surrogateescape",
        check=False,
    )
    assert ended.returncode in codes, f"{name} {words}: {ended.stdout}{ended.stderr}"
    return ended.stdout


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """What both programs backed up."""
    top = tmp_path_factory.mktemp("data")
    (top / "folder").mkdir()
    (top / "a.txt").write_text("first")
    (top / "folder" / "b.txt").write_text("second")
    (top / "folder" / "link").symlink_to("b.txt")
    Path(os.fsdecode(os.fsencode(top) + b"/odd\xff\n")).write_text("odd")
    return top


@pytest.fixture(scope="module")
def pair(tmp_path_factory, data):
    """One repository made by each program, by the same commands: three snapshots."""
    if shutil.which("restic") is None:
        pytest.skip("the real restic is not installed (Debian package: restic)")
    place = tmp_path_factory.mktemp("pair")

    def both(*words):
        for name in PROGRAMS:
            call(name, words, place / name)

    both("init")
    both("backup", "--tag", "one", "--host", "here", "--time", "2026-01-02 03:04:05", data)
    (data / "a.txt").write_text("changed")
    (data / "more").write_text("more")
    both("backup", "--tag", "two", "--host", "here", "--exclude", "*.txt", data)
    both("backup", "--host", "there", data / "folder")
    return place


@pytest.fixture
def tools(pair, tmp_path):
    """Runs one command with both programs, each on its own repository; what they printed."""

    def run(*words, codes=(0,), place=pair):
        return [
            call(
                name,
                [str(w).replace("OUT", f"{tmp_path}/{name}") for w in words],
                place / name,
                codes,
            )
            for name in PROGRAMS
        ]

    return run


def plain(text, *left_out):
    """Parsed JSON without what must differ: folders above the data change while tests run."""
    names = {
        "id",
        "short_id",
        "snapshot",
        "program_version",
        "summary",
        "parent",
        "tree",
        *left_out,
    }

    def clean(value):
        if isinstance(value, dict):
            return {k: clean(v) for k, v in value.items() if k not in names}
        if isinstance(value, list):
            return [clean(each) for each in value]
        return value

    return [clean(json.loads(line)) for line in text.splitlines() if line]


def test_snapshots(tools):
    """The same snapshots with the same hosts, users, tags and paths; a given time is kept."""
    restic, ours = (plain(text)[0] for text in tools("snapshots", "--json"))
    assert len(ours) == 3
    for one, other in zip(restic, ours, strict=True):
        assert {**one, "time": ""} == {**other, "time": ""}
    assert restic[0]["time"] == ours[0]["time"]


@pytest.mark.parametrize(
    "words",
    [
        ["--tag", "one"],
        ["--tag", "two", "--host", "here"],
        ["--host", "there"],
        ["--host", "nobody"],
        ["--latest", "1"],
        ["latest"],
        ["--tag", "one", "--tag", "two"],
    ],
)
def test_filters_of_snapshots(tools, words):
    """Host, tag and path filters choose the same."""
    restic, ours = (plain(text, "time")[0] for text in tools("snapshots", "--json", *words))
    assert restic == ours


@pytest.mark.parametrize(
    "words",
    [["latest"], ["-l", "latest"], ["--host", "here", "latest"], ["--tag", "one", "latest"]],
)
def test_ls(tools, data, words):
    """The same lines in the same order, but for times of folders that change while tests run."""
    restic, ours = (
        [
            line if str(data) in line else re.sub(r"\d+-\d\d-\d\d \d\d:\d\d:\d\d", "", line)
            for line in text.splitlines()
        ]
        for text in tools("ls", "-q", *words)
    )
    assert ours == restic
    assert restic


def test_ls_of_a_folder(tools, data):
    """A folder alone lists itself and what lies directly in it; --recursive all of it."""
    for more in ([], ["--recursive"]):
        restic, ours = tools("ls", "-q", "--host", "here", *more, "latest", data)
        assert ours == restic
        assert restic


def test_ls_in_json(tools, data):
    """The same fields of each entry; ours may have more."""
    restic, ours = (
        [node for node in plain(text) if node.get("path", "").startswith(f"{data}/")]
        for text in tools("ls", "--json", "latest")
    )
    assert len(ours) == 3
    for one, other in zip(restic, ours, strict=True):
        assert one.items() <= other.items()


def test_find(tools):
    """The same matches; restic 0.14 takes snapshots in the order in which they load."""
    restic, ours = (
        sorted(plain(text)[0], key=json.dumps) for text in tools("find", "--json", "*.txt", "link")
    )
    assert ours == restic
    assert len(restic) == 3


def test_diff(tools, pair):
    """The same changes and the same count of files."""
    answers = []
    for name, text in zip(PROGRAMS, tools("snapshots", "--json"), strict=True):
        first, second, _ = (each["id"] for each in json.loads(text))
        printed = call(name, ["diff", "--json", first, second], pair / name)
        answers.append(plain(printed, "source_snapshot", "target_snapshot", "bytes"))
    restic, ours = answers
    assert ours[:-1] == restic[:-1]
    assert ours[-1]["changed_files"] == restic[-1]["changed_files"]


@pytest.mark.parametrize("mode", ["restore-size", "files-by-contents", "blobs-per-file"])
def test_stats(tools, mode):
    """The same figures."""
    restic, ours = (plain(text) for text in tools("stats", "--json", "--mode", mode))
    assert ours == restic


def test_dump(tools, data):
    """The same bytes."""
    restic, ours = tools("dump", "--tag", "one", "latest", data / "a.txt")
    assert ours == restic == "first"


def test_restore(tools, tmp_path):
    """The same files; an include pattern chooses the same."""
    tools("restore", "--tag", "one", "latest", "--include", "b.txt", "--target", "OUT")
    found = [
        sorted(str(path.relative_to(top)) for path in top.rglob("*"))
        for top in (tmp_path / "restic", tmp_path / "holdfast")
    ]
    assert found[0] == found[1]
    assert any(name.endswith("b.txt") for name in found[0])


@pytest.mark.parametrize(
    "rules",
    [
        ["--keep-last", "1"],
        ["--keep-last", "1", "--group-by", "host"],
        ["--keep-daily", "1", "--group-by", ""],
        ["--keep-tag", "one"],
        ["--keep-within", "1d"],
    ],
)
def test_forget(tools, rules):
    """The same decisions with the same reasons; ours keep the newest of a group in any case."""
    restic, ours = (
        sorted(plain(text, "time")[0], key=lambda group: (group["host"], str(group["paths"])))
        for text in tools("forget", "--json", "-n", *rules)
    )
    assert len(ours) == len(restic)
    for one, other in zip(restic, ours, strict=True):
        reasons = [each for each in other["reasons"] if each["matches"] != [NEWEST]]
        assert [each["matches"] for each in reasons] == [
            each["matches"] for each in one["reasons"] or []
        ]
        newest_only = len(other["reasons"]) - len(reasons)
        assert len(other["keep"]) - len(one["keep"] or []) == newest_only


def test_whole_life(tools, pair, tmp_path):
    """Tag, forget with prune, check, ...: each is taken, and what is left is the same."""
    place = tmp_path / "copy"
    shutil.copytree(pair, place)
    for words in (
        ["tag", "--set", "kept", "--host", "here"],
        ["forget", "--keep-last", "1", "--prune", "--group-by", "host"],
        ["check", "--read-data"],
        ["check", "--read-data-subset", "1/2"],
        ["rebuild-index"],
        ["unlock"],
        ["cat", "config"],
    ):
        tools(*words, place=place)
    restic, ours = (
        plain(text, "time", "original")[0] for text in tools("snapshots", "--json", place=place)
    )
    assert ours == restic


def test_failures(tools, tmp_path):
    """What fails with the one fails with the other, and with the same code."""
    tools("backup", tmp_path / "nowhere", codes=(1,))
    tools("restore", "abcdef12", "--target", "OUT", codes=(1,))
    tools("nonsense", codes=(1,))
    tools("snapshots", "--nonsense", codes=(1,))


@pytest.mark.parametrize(("writer", "reader"), [("holdfast", "restic"), ("restic", "holdfast")])
def test_each_reads_the_other(pair, tmp_path, data, writer, reader):
    """I6: each program checks, restores and continues what the other has written."""
    place = tmp_path / "copy"
    shutil.copytree(pair / writer, place)
    target = tmp_path / "out"
    call(reader, ["check", "--read-data"], place)
    call(reader, ["restore", "--tag", "one", "latest", "--target", target], place)
    restored = target / data.relative_to("/")
    assert (restored / "a.txt").read_text() == "first"
    odd = Path(os.fsdecode(os.fsencode(restored) + b"/odd\xff\n"))
    assert odd.read_text() == "odd"
    call(reader, ["backup", "--host", "here", data], place)
    call(writer, ["check", "--read-data"], place)
