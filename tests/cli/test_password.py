"""Passwords come from a file, a command, the environment or a terminal; never an argument."""

from __future__ import annotations

import pytest

from holdfast.cli.app import VERBS, build, load


@pytest.fixture(autouse=True)
def _no_password(monkeypatch):
    monkeypatch.delenv("HOLDFAST_PASSWORD")


@pytest.fixture
def right(tmp_path):
    """A file with the right password and white space around it."""
    file = tmp_path / "password"
    file.write_text("\ncorrect horse \n")
    return file


def test_from_a_file(holdfast, repository, right):
    """White space around it does not count, as in restic."""
    assert holdfast("snapshots", "--password-file", right).code == 0


def test_from_a_command(holdfast, repository, right):
    """What the program prints is taken."""
    assert holdfast("snapshots", "--password-command", f"cat '{right}'").code == 0


def test_the_command_is_started_without_a_shell(holdfast, repository, tmp_path):
    """Shell syntax in it means nothing."""
    trace = tmp_path / "trace"
    ended = holdfast("snapshots", "--password-command", f"echo correct horse; touch {trace}")
    assert ended.code == 12
    assert not trace.exists()


def test_from_restics_variable(holdfast, repository, monkeypatch):
    """RESTIC_PASSWORD is taken where ours is not set, and ours wins."""
    monkeypatch.setenv("RESTIC_PASSWORD", "correct horse")
    assert holdfast("snapshots").code == 0
    monkeypatch.setenv("HOLDFAST_PASSWORD", "wrong")
    assert holdfast("snapshots").code == 12


def test_from_restics_repository_variable(holdfast, repository, right, monkeypatch):
    """RESTIC_REPOSITORY is taken where ours is not set."""
    monkeypatch.delenv("HOLDFAST_REPOSITORY")
    monkeypatch.setenv("RESTIC_REPOSITORY", str(repository))
    assert holdfast("snapshots", "-p", right).code == 0


def test_from_standard_input(process, repository):
    """Without a terminal the first line of standard input is the password."""
    running = process("snapshots", stdin=-1)
    out, err = running.communicate("correct horse\n", timeout=30)
    assert running.returncode == 0, err
    assert "0 snapshots" in out


def test_two_sources_are_refused(holdfast, repository, right):
    """A file and a command together make no sense."""
    assert holdfast("snapshots", "-p", right, "--password-command", "true").code == 1


def test_the_empty_password_must_be_meant(holdfast, tmp_path):
    """It takes --insecure-no-password to make and to open a repository with it."""
    place = tmp_path / "open"
    assert holdfast("init", "-r", place, "--insecure-no-password").code == 0
    assert holdfast("snapshots", "-r", place, "--insecure-no-password").code == 0
    assert holdfast("snapshots", "-r", place, "--password-command", "true").code == 12


def test_no_option_takes_a_password():
    """Arguments are seen by every user of a machine: none of them is a password."""
    waiting = [build(), *map(load, VERBS)]
    while waiting:
        command = waiting.pop()
        waiting += getattr(command, "commands", {}).values()
        for param in command.params:
            assert "--password" not in param.opts
            assert "--new-password" not in param.opts


def test_keys(holdfast, repository, right, tmp_path):
    """Keys are added, changed and removed; each password opens until its key goes."""
    second, third = tmp_path / "second", tmp_path / "third"
    second.write_text("second")
    third.write_text("third")
    assert holdfast("key", "add", "-p", right, "--new-password-file", second).code == 0
    assert len(holdfast("key", "list", "-p", second, "--json").json[0]) == 2
    assert holdfast("key", "passwd", "-p", second, "--new-password-file", third).code == 0
    assert holdfast("snapshots", "-p", second).code == 12
    keys = holdfast("key", "list", "-p", right, "--json").json[0]
    other = next(key["id"] for key in keys if not key["current"])
    own = next(key["id"] for key in keys if key["current"])
    assert holdfast("key", "remove", own, "-p", right).code == 1
    assert holdfast("key", "remove", other, "-p", right).code == 0
    assert holdfast("snapshots", "-p", third).code == 12
    assert holdfast("snapshots", "-p", right).code == 0
