"""A RestBackup account on the loopback, and what speaks to it."""

from __future__ import annotations

import os

import pytest

from holdfast.client import BackupAccount
from holdfast.client.restbackup import BackupApiCaller
from holdfast.testing.fake_clock import FakeClock
from holdfast.testing.restbackup_server import RestBackupServer


@pytest.fixture(autouse=True)
def _no_proxies(monkeypatch):
    for name in list(os.environ):
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)


@pytest.fixture
def server(tmp_path):
    folder = tmp_path / "account"
    folder.mkdir()
    with RestBackupServer(folder) as server:
        yield server


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def notes():
    return []


@pytest.fixture
def api(server, clock, notes):
    """The caller by the original's name; waits take no time."""
    api = BackupApiCaller(
        server.access_url, "Demo/1.0", timeout=5, clock=clock, on_note=notes.append
    )
    yield api
    api.close()


@pytest.fixture
def account(server, clock, notes):
    with BackupAccount(server.access_url, timeout=5, clock=clock, on_note=notes.append) as account:
        yield account
