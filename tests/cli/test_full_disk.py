"""Commands on a disk without a free byte."""

from __future__ import annotations

import os
import subprocess

import pytest

from holdfast.store.directory import RESERVE


@pytest.fixture
def disk(tmp_path):
    """A file system of four megabytes."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={4 << 20}", "tmpfs", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    if done.returncode:
        pytest.skip(f"mounting is not allowed here: {done.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True, timeout=30)


@pytest.fixture
def full(disk, repository, holdfast, tmp_path, monkeypatch):
    """A repository on a full disk, its cache there, too, with something to be freed."""
    place = disk / "repository"
    subprocess.run(["cp", "-a", str(repository), str(place)], check=True)
    monkeypatch.setenv("HOLDFAST_REPOSITORY", str(place))
    monkeypatch.setenv("HOLDFAST_CACHE_DIR", str(disk / "cache"))
    source = tmp_path / "changing"
    source.mkdir()
    for _ in range(2):
        (source / "file").write_bytes(os.urandom(500_000))
        assert holdfast("backup", source).code == 0
    assert holdfast("forget", "--keep-last", "1").code == 0
    with (disk / "other").open("wb", buffering=0) as file:
        try:
            while file.write(bytes(4096)):
                pass
        except OSError:
            pass
    assert os.statvfs(disk).f_bfree == 0
    return place


def test_prune(full, holdfast):
    """F2: as README, guide and help promise."""
    ended = holdfast("prune", "--json")
    assert ended.code == 0, ended.err
    assert ended.last["packs_removed"] >= 1
    assert holdfast("check", "--read-data").code == 0
    assert (full / RESERVE).exists()


def test_reading(full, holdfast, tmp_path):
    """What is there comes back, though no lock can be written."""
    for words in (
        ["check", "--read-data"],
        ["restore", "latest", "--target", tmp_path / "out"],
        ["ls", "latest"],
        ["snapshots"],
        ["stats"],
    ):
        ended = holdfast(*words)
        assert ended.code == 0, ended.err
    assert next((tmp_path / "out").rglob("file")).stat().st_size == 500_000
    assert "reading without a lock" in holdfast("ls", "latest").err


def test_a_backup_that_does_not_fit(full, holdfast, source):
    """It says so, and the way out that it names is one."""
    (source / "more").write_bytes(os.urandom(100_000))
    ended = holdfast("backup", source)
    assert ended.code == 1
    assert "[storage-full]" in ended.err
    assert "holdfast prune" in ended.err
    assert holdfast("prune").code == 0
    assert holdfast("backup", source).code == 0
