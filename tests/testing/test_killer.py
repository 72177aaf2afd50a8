"""Killing works where it says, in whichever process, and what it leaves is sound."""

import os
import shutil
import subprocess
from random import Random

import pytest

from holdfast.store.contract import FileKind
from holdfast.store.directory import DirectoryStore
from holdfast.testing.killer import each_kill, each_kill_in_fork, run_for, run_killed
from holdfast.testing.store_contract import keep, named, sample

PACK = FileKind.PACK


def objects(folder):
    store = DirectoryStore(folder)
    return {each.name for kind in FileKind if kind != FileKind.CONFIG for each in store.list(kind)}


def test_put_killed_at_each_write_leaves_all_or_nothing(tmp_path):
    """F1, I5: the object is whole or absent, the next put of it works, and the rest is swept."""
    (tmp_path / "data").mkdir()
    data = sample(50_000)
    runs = []
    for run in each_kill_in_fork(
        lambda files: keep(DirectoryStore(tmp_path, files=files), PACK, data)
    ):
        runs.append(run)
        store = DirectoryStore(tmp_path)
        assert objects(tmp_path) <= {named(data)}
        if objects(tmp_path):
            assert store.get(PACK, named(data)) == data
            store.remove(PACK, named(data))
        keep(store, PACK, data)
        store.remove(PACK, named(data))
        store.sweep(-60)
        assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
        shutil.rmtree(tmp_path / "data" / named(data)[:2])
    assert [run.returncode for run in runs] == [-9] * (len(runs) - 1) + [0]
    assert [run.steps for run in runs[:-1]] == list(range(1, len(runs)))
    assert len(runs) > 8


def test_forked_processes_count_together(tmp_path):
    """The child's writes are the parent's too; whoever comes to the step is killed."""
    (tmp_path / "data").mkdir()

    def act(files):
        store = DirectoryStore(tmp_path, files=files)
        keep(store, PACK, b"parent")
        child = os.fork()
        if child == 0:
            try:
                keep(store, PACK, b"child")
            finally:
                os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0

    whole = run_of(act, 10**6)
    shutil.rmtree(tmp_path / "data")
    (tmp_path / "data").mkdir()
    in_child = run_of(act, whole.steps - 1)
    assert in_child.killed
    assert in_child.returncode == 1
    assert "assert -9 == 0" in in_child.output
    assert named(b"parent") in objects(tmp_path)


def run_of(act, at):
    return next(each_kill_in_fork(act, steps=[at]))


def test_failing_functions_are_no_kills(tmp_path):
    """An error in what is run ends the loop with its traceback."""

    def act(files):
        raise RuntimeError("of its own")

    with pytest.raises(AssertionError, match="of its own"):
        list(each_kill_in_fork(act))


@pytest.fixture
def repository(tmp_path):
    """A place for a repository, and how to run commands on it."""
    environ = {
        **os.environ,
        "HOLDFAST_REPOSITORY": str(tmp_path / "repository"),
        "HOLDFAST_PASSWORD": "secret",
        "RESTIC_REPOSITORY": str(tmp_path / "repository"),
        "RESTIC_PASSWORD": "secret",
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
    }
    source = tmp_path / "source"
    source.mkdir()
    for number in range(20):
        (source / str(number)).write_bytes(sample(20_000, number))
    return environ, source


def holdfast(environ, *arguments):
    run = run_killed(arguments, env=environ)
    assert run.returncode == 0, run.output
    return run.output


def test_backup_killed_at_some_writes_loses_nothing(repository):
    """F1, I1, I5: the earlier snapshot stays, and the next backup needs nobody's help."""
    environ, source = repository
    holdfast(environ, "init")
    holdfast(environ, "backup", str(source))
    total = 0
    for run in each_kill(["backup", str(source), "--force"], steps=[3, 9, 17, 10**6], env=environ):
        total = run.steps
        assert (run.returncode != 0) == run.killed
        holdfast(environ, "check", "--read-data")
    assert total > 17
    assert holdfast(environ, "snapshots", "--json").count('"tree"') == 2


@pytest.mark.long
@pytest.mark.interop
@pytest.mark.skipif(not shutil.which("restic"), reason="restic is not installed")
def test_backups_killed_at_any_moment_lose_nothing(repository):
    """F1, I1, I5, I6: 200 real kills by chance; after each, ours and stock restic find it sound."""
    environ, source = repository
    random = Random(1)
    holdfast(environ, "init")
    holdfast(environ, "backup", str(source))
    killed = 0
    for number in range(200):
        (source / "changing").write_bytes(sample(3_000_000, number))
        killed += run_for(["backup", str(source)], random.uniform(0.1, 1.2), env=environ) == -9
        if number % 10 == 0:
            holdfast(environ, "check", "--read-data")
            subprocess.run(
                ["restic", "check", "--read-data", "--no-lock", "--no-cache"],
                env=environ,
                check=True,
                capture_output=True,
                timeout=120,
            )
    assert killed > 50
    holdfast(environ, "backup", str(source))
    holdfast(environ, "check", "--read-data")
