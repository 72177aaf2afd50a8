"""Kills processes that keep a repository, at every write or at any moment, and says how they ended.

    for run in each_kill(["backup", "/home", "-r", repository], env=environ):
        assert still_sound(repository)

runs the command killed before its first write, then before its second, and so on, until one run
comes to its end. `each_kill_in_fork` does the same with a function, without starting Python anew.
"""

from __future__ import annotations

import os
import subprocess
import sys
import traceback
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Final

from holdfast.testing.killed import KillingFiles

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from holdfast.store.files import Files

TIMEOUT: Final = 300.0


@dataclass(frozen=True, slots=True)
class Run:
    """How a process ended."""

    returncode: int
    """As of `subprocess`: -9 where the first process itself was killed."""
    steps: int
    """Writes that were begun, over all its processes."""
    killed: bool
    """Whether the moment to kill one of them came."""
    output: str
    """Both streams, for messages of tests."""


def each_kill(
    arguments: Sequence[str],
    *,
    steps: Iterable[int] | None = None,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    timeout: float = TIMEOUT,
) -> Iterator[Run]:
    """Runs `holdfast` again and again, killed at each write, or at those of `steps`.

    Ends after a run that was not killed.
    """
    for at in count(1) if steps is None else steps:
        run = run_killed(arguments, at=at, env=env, cwd=cwd, timeout=timeout)
        yield run
        if not run.killed:
            return


def run_killed(
    arguments: Sequence[str],
    *,
    at: int | None = None,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    timeout: float = TIMEOUT,
) -> Run:
    """Runs `holdfast` with these arguments, killed before its write number `at`, from 1."""
    with TemporaryDirectory() as folder:
        counter = Path(folder) / "count"
        command = [sys.executable, "-m", "holdfast.testing.killed", "--count", str(counter)]
        command += ["--at", str(at)] if at else []
        done = subprocess.run(
            [*command, "--", *arguments],
            env=env,
            cwd=cwd,
            timeout=timeout,
            check=False,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        steps = int(counter.read_text() or 0) if counter.exists() else 0
    return Run(done.returncode, steps, at is not None and steps >= at, done.stdout)


def run_for(
    arguments: Sequence[str],
    seconds: float,
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> int:
    """Runs `holdfast` and kills it after so long, wherever it is; -9, or its own return code."""
    process = subprocess.Popen(
        [sys.executable, "-m", "holdfast", *arguments],
        env=env,
        cwd=cwd,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()


def each_kill_in_fork(
    act: Callable[[Files], object], *, steps: Iterable[int] | None = None
) -> Iterator[Run]:
    """Calls `act` in forked processes, killed at each write through the files that it is given.

    Ends after a call that was not killed; that one must not have raised.
    """
    for at in count(1) if steps is None else steps:
        run = _run_in_fork(act, at)
        yield run
        if not run.killed:
            assert run.returncode == 0, run.output
            return


def _run_in_fork(act: Callable[[Files], object], at: int) -> Run:
    with TemporaryDirectory() as folder:
        counter, output = Path(folder) / "count", Path(folder) / "output"
        child = os.fork()
        if child == 0:
            status = 1
            try:
                act(KillingFiles(counter, at=at))
                status = 0
            except BaseException:
                output.write_text(traceback.format_exc())
                raise
            finally:
                os._exit(status)  # nothing of the parent's is to be unwound here
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        steps = int(counter.read_text() or 0) if counter.exists() else 0
        told = output.read_text() if output.exists() else ""
    return Run(status, steps, steps >= at, told)
