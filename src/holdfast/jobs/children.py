"""A worker's side of the process of one task: starting it, hearing it, ending it for good."""

from __future__ import annotations

import json
import logging
import os
import selectors
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from holdfast.core.errors import WorkerDiedError
from holdfast.core.records import TaskState
from holdfast.jobs.outcomes import told
from holdfast.jobs.running import INTERRUPTED

if TYPE_CHECKING:
    from collections.abc import Callable

    from holdfast.core.records import Json

_BEAT = 1.0
"""Seconds between two bytes on the lifeline, at most."""
_PIECE = 65536
_LONGEST = 1 << 20
"""Bytes of a line that never ends, after which it is cut."""

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """`order` is what `child.py` wants. `silence`: seconds without a sign of life of ours after
    which the child ends itself. `hear` gets its messages, and what it and those it starts print, as
    lines, in the thread that is in `Child.run`; it must not wait for anything, or the child
    believes us frozen.
    """

    order: Json
    silence: float
    grace: float
    """seconds between asking the body to stop and killing it"""
    hear: Callable[[Json], None]


class Child:
    """One process that runs one body, in a session of its own."""

    def __init__(self, terms: Terms) -> None:
        self._terms = terms
        self._bell = _Bell()

    def stop(self) -> None:
        """Asks the body to end, and kills it after the grace time. From any thread, any time."""
        self._bell.ring()

    def flush(self) -> None:
        """Its messages come by themselves."""

    def run(self) -> Json:
        """Runs it; how it ended, see `running.execute`. Nothing of its session's group is left.

        A child that ended itself because this process stood still is started once more.
        """
        try:
            while not self._bell.rung.is_set():
                ended = _Start(self._terms, self._bell).run()
                if ended is not None:
                    return ended
                _logger.warning("this process stood still: the task's process starts again")
        except OSError as error:  # no memory, no more processes
            return _died(f"could not be started or heard: {error.strerror}")
        else:
            return {"state": INTERRUPTED}
        finally:
            self._bell.close()


class _Bell:
    """An event that a selector can wait for, too."""

    def __init__(self) -> None:
        self.rung = threading.Event()
        self._lock = threading.Lock()
        self._ends = [*os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)]

    @property
    def descriptor(self) -> int:
        return self._ends[0]

    def ring(self) -> None:
        with self._lock:
            if not self.rung.is_set() and self._ends:
                os.write(self._ends[1], b"!")
            self.rung.set()

    def close(self) -> None:
        with self._lock:
            while self._ends:
                os.close(self._ends.pop())


class _Start:
    """One process, from its start to its end."""

    def __init__(self, terms: Terms, bell: _Bell) -> None:
        self._terms = terms
        self._bell = bell
        self._selector = selectors.DefaultSelector()
        order = json.dumps({**terms.order, "silence": terms.silence}).encode()
        self._to_write = len(order).to_bytes(4) + order
        self._ended: Json | None = None
        self._asked_at: float | None = None
        self._killed = False
        self._stood_still = False
        self._beat = min(_BEAT, terms.silence / 4)
        self._beaten = time.monotonic()
        lifeline, self._lifeline = os.pipe2(os.O_CLOEXEC)
        self._report, report = os.pipe2(os.O_CLOEXEC)
        self._prints, prints = os.pipe2(os.O_CLOEXEC)
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "holdfast.jobs.child", str(lifeline), str(report)],
                stdin=subprocess.DEVNULL,
                stdout=prints,
                stderr=prints,
                pass_fds=(lifeline, report),
                start_new_session=True,
            )
        except OSError:
            self._close()
            raise
        finally:
            for descriptor in (lifeline, report, prints):
                os.close(descriptor)

    def run(self) -> Json | None:
        """None where the child ended itself because we stood still."""
        os.set_blocking(self._lifeline, False)
        report = _Lines(self._report, self._report_line)
        prints = _Lines(self._prints, self._print)
        self._selector.register(self._bell.descriptor, selectors.EVENT_READ)
        for lines in (report, prints):
            self._selector.register(lines.descriptor, selectors.EVENT_READ, lines)
        try:
            while report.open:
                self._write_lifeline()
                self._act()
                for key, _ in self._selector.select(self._patience()):
                    if key.data is None:
                        os.read(self._bell.descriptor, _PIECE)
                    elif not key.data.read():
                        self._selector.unregister(key.fd)
            code = self._bury()
            prints.drain()
        finally:
            self._close()
        return self._how(code)

    def _close(self) -> None:
        self._selector.close()
        for descriptor in (self._lifeline, self._report, self._prints):
            os.close(descriptor)

    # --- the lifeline -----------------------------------------------------------------------------

    def _write_lifeline(self) -> None:
        now = time.monotonic()
        if now - self._beaten >= self._beat:
            self._stood_still |= now - self._beaten > self._terms.silence / 2
            self._beaten = now
            self._to_write += b"."
        if self._to_write:
            try:
                self._to_write = self._to_write[os.write(self._lifeline, self._to_write) :]
            except BlockingIOError:
                pass  # it does not read; later
            except BrokenPipeError:
                self._to_write = b""  # it is gone, which the report will say

    def _patience(self) -> float:
        if self._to_write:
            return 0.01
        until_beat = self._beaten + self._beat - time.monotonic()
        until_kill = until_beat
        if self._asked_at is not None and not self._killed:
            until_kill = self._asked_at + self._terms.grace - time.monotonic()
        return max(0.0, min(until_beat, until_kill))

    # --- ending -----------------------------------------------------------------------------------

    def _act(self) -> None:
        """Asks and kills, when it is time."""
        if not self._bell.rung.is_set() or self._killed:
            return
        if self._asked_at is None:
            self._asked_at = time.monotonic()
            # Its own children are not asked: what they do then would look like a failure.
            os.kill(self._process.pid, signal.SIGTERM)
        if time.monotonic() - self._asked_at >= self._terms.grace:
            self._killed = True
            os.killpg(self._process.pid, signal.SIGKILL)

    def _bury(self) -> int:
        """Ends the whole group; the exit code of its leader, negative for a signal."""
        deadline = time.monotonic() + self._terms.grace
        while os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is None:
            if time.monotonic() > deadline:  # it has closed its report and goes on
                break
            time.sleep(0.005)
        # Before it is reaped, while its number cannot be another's.
        os.killpg(self._process.pid, signal.SIGKILL)
        return self._process.wait()

    def _how(self, code: int) -> Json | None:
        if self._ended is not None:
            return self._ended
        if self._asked_at is not None:
            return {"state": INTERRUPTED}
        if code == -signal.SIGKILL and self._stood_still:
            return None
        if code < 0:
            how = f"was killed by signal {-code} ({signal.Signals(-code).name})"
        else:
            how = f"ended with exit code {code} and without a word; see the task's log"
        return _died(how)

    # --- hearing ----------------------------------------------------------------------------------

    def _report_line(self, line: bytes) -> None:
        try:
            message: dict[str, Any] = json.loads(line)
        except ValueError:
            return  # cut short by the signal that asked it to stop
        if "ended" in message:
            self._ended = message["ended"]
        else:
            self._terms.hear(message)

    def _print(self, line: bytes) -> None:
        self._terms.hear({"line": ["info", line.decode(errors="replace")]})


def _died(how: str) -> Json:
    error = WorkerDiedError(f"the process of the task {how}")
    return {"state": str(TaskState.FAILED), "outcome": told(error)}


class _Lines:
    """Lines that come from a descriptor."""

    def __init__(self, descriptor: int, take: Callable[[bytes], None]) -> None:
        self.descriptor = descriptor
        self.open = True
        self._take = take
        self._rest = b""

    def read(self) -> bool:
        """Takes what is there; False at the end."""
        piece = os.read(self.descriptor, _PIECE)
        *lines, self._rest = (self._rest + piece).split(b"\n")
        if self._rest and (not piece or len(self._rest) > _LONGEST):
            lines.append(self._rest)
            self._rest = b""
        for line in filter(None, lines):
            self._take(line)
        self.open = bool(piece)
        return self.open

    def drain(self) -> None:
        """Takes what is left without waiting: a process that escaped may hold the other end."""
        os.set_blocking(self.descriptor, False)
        try:
            while self.open and self.read():
                pass
        except BlockingIOError:
            pass
        if self._rest:
            self._take(self._rest)
