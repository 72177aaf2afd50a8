"""A disk without room is named as what it is, and nothing half written stays."""

from __future__ import annotations

import errno
import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest

from holdfast.core.errors import ProjectBusyError, StorageFullError, StoreError
from holdfast.core.outcome import Outcome
from holdfast.sources.restapi.collecting.run import run_project
from holdfast.sources.restapi.giving.export import Form, export
from holdfast.sources.restapi.giving.verify import verify
from holdfast.sources.restapi.kept.archive import open_archive
from holdfast.sources.restapi.kept.ledger import Ledger
from holdfast.sources.restapi.project.create import create_project
from holdfast.sources.restapi.project.place import locked
from holdfast.testing.api_listing import Listing
from holdfast.testing.api_projects import store_run, write_project


@pytest.fixture
def project(tmp_path):
    project = write_project(tmp_path / "shop", "http://127.0.0.1:1/items")
    store_run(project, [[{"id": 1}, {"id": 2}]])
    return project


@pytest.fixture
def no_room(monkeypatch):
    usage = shutil.disk_usage("/")._replace(free=0)
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: usage)


def unopenable_lock(project):
    lock = project.place.state / "pages.lock"
    lock.unlink(missing_ok=True)
    lock.mkdir()
    return locked(project.place, "pages")


def test_a_lock_that_cannot_be_written_is_no_other_program(project):
    """Only a lock that somebody holds says that somebody collects."""
    with pytest.raises(StoreError, match=r"cannot write .*pages\.lock"), unopenable_lock(project):
        pass
    with (
        locked(project.place, "files"),
        pytest.raises(ProjectBusyError),
        locked(project.place, "files"),
    ):
        pass


@pytest.mark.usefixtures("no_room")
def test_a_lock_on_a_full_disk_says_full(project):
    """SQLite's own words do not tell a full disk; the free room does."""
    with pytest.raises(StorageFullError, match="no room left"), unopenable_lock(project):
        pass


def test_a_full_ledger_says_full(project, monkeypatch):
    """What the ledger cannot take is no mistake of the program, and the archive is as before."""

    def full(*_args):
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr(Ledger, "save_run", full)
    with pytest.raises(StorageFullError):
        store_run(project, [[{"id": 3}]])
    with open_archive(project.place) as archive:
        assert len(archive.runs()) == 1


def test_no_empty_project_stays(tmp_path, monkeypatch):
    """A new project's file is there whole or not at all."""

    def write(path, _content):
        path.touch()
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", write)
    with pytest.raises(StorageFullError):
        create_project(tmp_path / "new", {})
    assert list((tmp_path / "new").iterdir()) == []


@pytest.fixture
def small_disk(tmp_path):
    """A file system of one megabyte."""
    folder = tmp_path / "small"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if os.geteuid() or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("this machine lets nobody mount")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def noise(count):
    """Records that no compression makes small."""
    random = Random(7)
    return [{"id": number, "text": random.randbytes(300).hex()} for number in range(count)]


@pytest.mark.parametrize("form", Form)
def test_an_export_to_a_full_disk_leaves_what_was_there(project, small_disk, form):
    """Met for real: the error says so, the earlier export is whole, and nothing else is left."""
    target = small_disk / "out"
    store_run(project, [noise(20)])
    with open_archive(project.place) as archive:
        export(project, archive, str(target), form=form)
    before = target.read_bytes()
    store_run(project, [noise(2000), noise(4000)[2000:]])
    with (
        open_archive(project.place) as archive,
        pytest.raises(StorageFullError, match="no room left to write") as caught,
    ):
        export(project, archive, str(target), form=form)
    assert "archive is untouched" in caught.value.advice
    assert list(small_disk.iterdir()) == [target]
    assert target.read_bytes() == before


def test_standard_output_on_a_full_disk(project, small_disk):
    """As one error with its exit code, not a traceback at the end."""
    store_run(project, [noise(2000), noise(4000)[2000:]])
    with (small_disk / "out").open("wb") as out:
        done = subprocess.run(
            [sys.executable, "-m", "holdfast", "api", "export", "-", "-p", str(project.folder)],
            stdout=out, stderr=subprocess.PIPE, text=True, check=False,
        )  # fmt: skip
    assert done.returncode == 1
    assert "No space left on device [output-failed]" in done.stderr
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr


@pytest.mark.parametrize("kind", ["zip", "filesystem", "sqlite"])
def test_a_run_on_a_full_disk_goes_on_when_there_is_room(api, workshop, small_disk, ids, kind):
    """Met for real: the archive is as before, and once there is room only what is missing comes."""
    api.listings["/items"] = Listing(noise(40))
    project = workshop.project(storage={"storage_path": str(small_disk), "storage_type": kind})
    run_project(project, "full")
    api.listings["/items"] = Listing(noise(4000))
    with pytest.raises(StorageFullError, match="no room left"):
        run_project(project, "full")
    assert len(ids(project)) == 40
    subprocess.run(["mount", "-o", "remount,size=64m", str(small_disk)], check=True)
    api.requests.clear()
    report = run_project(project, "full")
    assert (report.outcome, report.resumed > 10) == (Outcome.SUCCEEDED, True)
    assert len(api.requests) == 201 - report.resumed
    assert len(ids(project)) == 4000
    assert verify(project).findings == []
