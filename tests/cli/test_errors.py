"""Each error says what happened, what is safe and what to do; as text and as JSON."""

from __future__ import annotations

import os

import pytest

from holdfast.core import errors


def spoil(path):
    """Overwrites the middle of a stored file."""
    path.chmod(0o600)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)


def wrong_password(repository, source):
    os.environ["HOLDFAST_PASSWORD"] = "wrong"
    return ["snapshots"], "wrong-password", 12


def no_repository(repository, source):
    return ["snapshots", "-r", str(repository / "nowhere")], "no-repository", 10


def no_address(repository, source):
    del os.environ["HOLDFAST_REPOSITORY"]
    return ["snapshots"], "usage", 1


def unknown_store(repository, source):
    return ["snapshots", "-r", "sftp:host:/path"], "store-unsupported", 1


def repository_exists(repository, source):
    return ["init"], "repository-exists", 1


def damaged_config(repository, source):
    spoil(repository / "config")
    return ["snapshots"], "damaged", 1


def damaged_key(repository, source):
    spoil(next((repository / "keys").iterdir()))
    return ["snapshots"], "damaged", 1


def missing_source(repository, source):
    return ["backup", str(source / "nowhere")], "source-missing", 1


def missing_snapshot(repository, source):
    return ["restore", "abcdef", "--target", str(source)], "no-snapshot", 1


def bad_pattern(repository, source):
    return ["backup", str(source), "--exclude", "[a"], "usage", 1


def bad_list(repository, source):
    return ["backup", "--files-from", str(source / "nowhere")], "usage", 1


def bad_size(repository, source):
    return ["backup", str(source), "--exclude-larger-than", "many"], "usage", 1


def bad_compression(repository, source):
    return ["backup", str(source), "--compression", "much"], "usage", 1


def bad_wait(repository, source):
    return ["backup", str(source), "--retry-lock", "soon"], "usage", 1


def bad_wait_of_a_verb_that_waits_for_nobody(repository, source):
    return ["snapshots", "--retry-lock", "soon"], "usage", 1


def bad_wait_of_forget(repository, source):
    return ["forget", "--keep-last", "1", "--retry-lock", "soon"], "usage", 1


def bad_rate(repository, source):
    return ["snapshots", "--limit-upload", "-3"], "usage", 1


def bad_rule(repository, source):
    return ["forget", "--keep-daily", "some"], "usage", 1


def no_command(repository, source):
    return ["backup", "--stdin-from-command", "--", "/nowhere/at-all"], "source-failed", 1


def bad_option(repository, source):
    return ["snapshots", "--colour"], "usage", 1


def no_password_file(repository, source):
    return ["snapshots", "--password-file", str(source / "nowhere")], "usage", 1


def failing_command(repository, source):
    return ["backup", "--stdin-from-command", "--", "false"], "source-failed", 1


SITUATIONS = [
    wrong_password, no_repository, no_address, unknown_store, repository_exists, damaged_config,
    damaged_key, missing_source, missing_snapshot, bad_pattern, bad_list, bad_size, bad_compression,
    bad_wait, bad_option, no_password_file, failing_command,
    bad_wait_of_a_verb_that_waits_for_nobody, bad_wait_of_forget, bad_rate, bad_rule, no_command,
]  # fmt: skip


@pytest.mark.parametrize("situation", SITUATIONS)
def test_says_what_happened_and_what_to_do(holdfast, repository, source, situation):
    """What goes wrong is told in two sentences or more with the code, never as a stack trace."""
    arguments, code, exit_code = situation(repository, source)
    ended = holdfast(*arguments)
    assert ended.code == exit_code
    happened, remedy = ended.err.splitlines()[-2:]
    assert happened.startswith("holdfast: ")
    assert happened.endswith(f"[{code}]")
    assert remedy.endswith(".")
    assert "Traceback" not in ended.err
    assert "mistake in Holdfast" not in ended.err
    assert "invalid literal" not in ended.err
    assert "[Errno" not in ended.err


@pytest.mark.parametrize("situation", SITUATIONS)
def test_says_the_same_in_json(holdfast, repository, source, situation):
    """With --json the last line on standard error is restic's exit_error, with our code."""
    arguments, code, exit_code = situation(repository, source)
    error = holdfast("--json", *arguments).error
    assert error["message_type"] == "exit_error"
    assert (error["code"], error["error"]) == (exit_code, code)
    assert error["message"]
    assert error["remedy"]


def test_nothing_secret_is_told(holdfast, repository):
    """A password is in no message, whatever fails."""
    os.environ["HOLDFAST_PASSWORD"] = "very-secret-word"
    ended = holdfast("snapshots", "-vv")
    assert ended.code == 12
    assert "very-secret-word" not in ended.err + ended.out


def test_every_error_tells_what_to_do():
    """No class of errors leaves a person alone."""
    for kind in [errors.HoldfastError, *kinds(errors.HoldfastError)]:
        if kind not in {errors.HoldfastError, errors.ObjectExistsError}:
            assert kind.remedy.endswith("."), kind


def kinds(above):
    for kind in above.__subclasses__():
        yield kind
        yield from kinds(kind)
