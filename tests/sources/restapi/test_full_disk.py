"""A disk without room is named as what it is, and nothing half written stays."""

from __future__ import annotations

import errno
import shutil
import sqlite3
from pathlib import Path

import pytest

from holdfast.core.errors import ProjectBusyError, StorageFullError, StoreError
from holdfast.sources.restapi.kept.archive import open_archive
from holdfast.sources.restapi.kept.ledger import Ledger
from holdfast.sources.restapi.project.create import create_project
from holdfast.sources.restapi.project.place import locked
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
