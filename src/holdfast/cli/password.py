"""Passwords: from a file, a command, the environment or the terminal; never from an argument."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

from holdfast.cli.settings import Settings
from holdfast.core.errors import UsageError, WrongPasswordError
from holdfast.core.secret import Secret

VARIABLES = ("HOLDFAST_PASSWORD", "RESTIC_PASSWORD")


def read_password(settings: Settings, *, confirm: bool = False) -> Secret:
    """The repository's password, asked for where nothing names one.

    Raises:
        UsageError: several sources were given, or one cannot be used.
        WrongPasswordError: there is no password to be had, or the two typed ones differ.
    """
    if settings.insecure_no_password:
        return Secret("")
    if settings.password_file and settings.password_command:
        raise UsageError(
            "both a password file and a password command were given",
            remedy="Nothing was changed. Give one of them.",
        )
    if settings.password_command:
        return from_command(settings.password_command)
    if settings.password_file:
        return from_file(settings.password_file)
    for name in VARIABLES:
        if value := os.environ.get(name):
            return Secret(value)
    return ask("password for the repository", confirm=confirm)


def from_file(path: str) -> Secret:
    """The file's text without white space around it, as restic takes it."""
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(
            f"the password file {path} cannot be read: {_reason(error)}",
            remedy="Nothing was changed. Name a text file that you may read.",
        ) from error
    return _required(text.strip(), f"the password file {path} is empty")


def from_command(command: str) -> Secret:
    """What the program prints, without white space around it; its words are split as a shell would,
    but no shell runs.
    """
    remedy = "Nothing was changed. Try the command by itself; it must print the password alone."
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise UsageError(
            f"the password command cannot be split into words: {error}", remedy=remedy
        ) from error
    if not words:
        raise UsageError("the password command is empty", remedy=remedy)
    try:
        ended = subprocess.run(words, stdout=subprocess.PIPE, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise UsageError(f"the password command failed: {_reason(error)}", remedy=remedy) from error
    return _required(
        ended.stdout.decode(errors="replace").strip(), "the password command printed nothing"
    )


def ask(what: str, *, confirm: bool = False) -> Secret:
    """Asks on the terminal, twice where `confirm`; without one, the first line of standard input is
    taken.
    """
    if not sys.stdin.isatty():
        line = sys.stdin.readline()
        return _required(line.rstrip("\r\n"), "no password was given")
    from getpass import getpass

    typed = getpass(f"enter {what}: ")
    if confirm and getpass("enter it again: ") != typed:
        raise WrongPasswordError(
            "the two passwords differ", remedy="Nothing was changed. Run the command again."
        )
    return _required(typed, "no password was given")


def _required(text: str, otherwise: str) -> Secret:
    if not text:
        raise WrongPasswordError(
            otherwise,
            remedy="Nothing was changed. Give one with --password-file, --password-command or "
            "HOLDFAST_PASSWORD; --insecure-no-password means the empty one.",
        )
    return Secret(text)


def _reason(error: Exception) -> str:
    if isinstance(error, subprocess.CalledProcessError):
        return f"it ended with code {error.returncode}"
    return getattr(error, "strerror", None) or str(error)
