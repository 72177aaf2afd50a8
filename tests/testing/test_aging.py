"""Backups and sessions whose time has passed, for tests from outside."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from holdfast.core.access import SHELL
from holdfast.core.errors import SessionExpiredError
from holdfast.core.keeping import DAY
from holdfast.core.secret import Secret
from holdfast.service.server import open_service


@pytest.fixture
def server(tmp_path):
    service = open_service(tmp_path / "data")
    service.pools.add(SHELL, "main", [str(tmp_path / "pool")])
    yield service
    service.close()


@pytest.fixture
def run(server):
    def call(*words, allowed="1"):
        return subprocess.run(
            [sys.executable, "-m", "holdfast.testing", *words, "--data", server.ground.folder],
            env={**os.environ, "HOLDFAST_TESTING": allowed},
            capture_output=True, text=True, check=False,
        )  # fmt: skip

    return call


def test_a_backup_grows_old(server, run):
    """By its id or its name; what it is stays what it was."""
    account, password = server.accounts.add(SHELL)
    who, _ = server.signing_in.account(account.name, Secret(password.reveal()), "")
    target = server.targets.get(SHELL, account.target_id)
    arriving = server.backups.receive(who, target, "/data.tar.gz")
    arriving.write(b"content")
    before = arriving.finish().result(30)
    for days, reference in ((1.5, before.uid), (10, "/data.tar.gz"), (20, "data.tar.gz")):
        ended = run("age-backup", reference, str(days))
        assert ended.returncode == 0, ended.stderr
    after = server.backups.get(SHELL, before.uid)
    assert before.received - after.received == before.created - after.created == 31.5 * DAY
    assert run("age-backup", "nothing", "1").returncode == 1
    assert b"".join(server.backups.open(SHELL, after).pieces()) == b"content"


def test_a_session_ends(server, run):
    """At once, for a server that runs as well."""
    account, password = server.accounts.add(SHELL)
    who, _ = server.signing_in.account(account.name, Secret(password.reveal()), "")
    token = server.accounts.open_session(who)
    server.signing_in.session(token, "")
    url = f"http://127.0.0.1:5657/session/{token}/"
    assert run("expire-session", url).returncode == 0
    with pytest.raises(SessionExpiredError):
        server.signing_in.session(token, "")
    assert run("expire-session", "http://127.0.0.1/").returncode == 1


def test_it_is_for_tests_only(server, run):
    """Without the variable nothing is done."""
    ended = run("age-backup", "nothing", "1", allowed="")
    assert ended.returncode == 1
    assert "HOLDFAST_TESTING=1" in ended.stderr
