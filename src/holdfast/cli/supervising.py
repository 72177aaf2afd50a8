"""Keeps child processes running: starts them, starts them again where they ask for it or die, and
ends them together. A child notices its parent's death at once through a pipe.
"""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import FrameType

from holdfast.core.errors import WorkerDiedError

LIFELINE = "_HOLDFAST_LIFELINE"
"""The descriptor in a child's environment that ends with its parent."""
_FALLS = 5
_FALL_WINDOW = 60.0
"""A child that dies so often within so many seconds is given up, and everything ends."""
_GRACE = 40.0
_LOOK_EVERY = 0.1


@dataclass(slots=True)
class _Child:
    name: str
    arguments: Sequence[str]
    process: "subprocess.Popen[bytes]"
    falls: list[float] = field(default_factory=list)
    again_at: float | None = None


class Supervisor:
    """Runs until a signal ends it. `restart_code`: what a child exits with to be started again."""

    def __init__(self, children: dict[str, Sequence[str]], *, restart_code: int) -> None:
        self._restart_code = restart_code
        self._ending = False
        self._lifeline_end, self._lifeline = os.pipe()
        self._children = [
            _Child(name, arguments, self._start(arguments)) for name, arguments in children.items()
        ]

    def _start(self, arguments: Sequence[str]) -> "subprocess.Popen[bytes]":
        return subprocess.Popen(
            [sys.executable, "-m", "holdfast", *arguments],
            stdin=subprocess.DEVNULL,
            pass_fds=(self._lifeline_end,),
            env=os.environ | {LIFELINE: str(self._lifeline_end)},
        )

    def run(self) -> None:
        """Raises WorkerDiedError where a child cannot be kept running."""
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._end)
        try:
            while not self._ending:
                for child in self._children:
                    self._look(child)
                time.sleep(_LOOK_EVERY)
        finally:
            self._end_all()

    def _end(self, _number: int, _frame: FrameType | None) -> None:
        self._ending = True

    def _look(self, child: _Child) -> None:
        now = time.monotonic()
        if child.again_at is not None:
            if now >= child.again_at:
                child.again_at = None
                child.process = self._start(child.arguments)
            return
        code = child.process.poll()
        if code is None:
            return
        if code == self._restart_code:
            child.again_at = now
            return
        child.falls = [at for at in child.falls if now - at < _FALL_WINDOW] + [now]
        if len(child.falls) >= _FALLS or (code == 1 and len(child.falls) > 1):
            raise WorkerDiedError(
                f"the {child.name} process ended again and again (exit code {code})",
                remedy="What is stored is safe. What it said stands above; mend that, and start "
                "again.",
            )
        child.again_at = now + 2.0 ** (len(child.falls) - 1) / 2

    def _end_all(self) -> None:
        for child in self._children:
            if child.process.poll() is None:
                child.process.terminate()
        deadline = time.monotonic() + _GRACE
        for child in self._children:
            try:
                child.process.wait(max(deadline - time.monotonic(), 0.1))
            except subprocess.TimeoutExpired:
                child.process.kill()
                child.process.wait()
        os.close(self._lifeline)


def end_with_parent() -> None:
    """In a child: a thread that ends this process, as SIGTERM would, when the parent is gone."""
    descriptor = os.environ.pop(LIFELINE, None)
    if descriptor is None:
        return

    def wait() -> None:
        os.read(int(descriptor), 1)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, name="lifeline", daemon=True).start()
