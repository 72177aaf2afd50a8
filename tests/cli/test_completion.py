"""Completion for four shells."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import pytest

from holdfast.cli.completion import SHELLS


@pytest.mark.parametrize("shell", SHELLS)
def test_script(holdfast, shell):
    """Each shell gets a script that calls us back; where the shell is there, it takes it."""
    ended = holdfast("completion", shell)
    assert ended.code == 0
    assert "_HOLDFAST_COMPLETE" in ended.out
    if shell in {"bash", "zsh", "fish"} and shutil.which(shell):
        subprocess.run([shell, "-n"], input=ended.out, text=True, check=True)


def test_unknown_shell(holdfast):
    """Another shell is refused with the names of those that there are."""
    ended = holdfast("completion", "tcsh")
    assert ended.code == 1
    assert "powershell" in ended.err


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("holdfast sna", "snapshots"),
        ("holdfast key pa", "passwd"),
        ("holdfast backup --excl", "--exclude-caches"),
    ],
)
def test_offers(typed, offered):
    """Verbs, verbs below verbs, and options are offered."""
    words = typed.split()
    ended = subprocess.run(
        [sys.executable, "-m", "holdfast"],
        env={
            **os.environ,
            "_HOLDFAST_COMPLETE": "complete_bash",
            "COMP_WORDS": typed,
            "COMP_CWORD": str(len(words) - 1),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert offered in ended.stdout.split()
