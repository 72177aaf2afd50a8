"""The agent's side of one order: its process, what that tells, and the last word on it.

What is told goes to the server at most once a second. The last word is written down first and told
until it is heard, so that neither side's death loses it.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import msgspec

from holdfast.agent.telling_child import Task
from holdfast.core.errors import HoldfastError, WorkerDiedError
from holdfast.core.orders import OrderState, Report, Wish

if TYPE_CHECKING:
    from collections.abc import Callable

    from holdfast.agent.folder import Folder
    from holdfast.agent.speaking import Address, Server
    from holdfast.core.orders import Order

_EVERY: Final = 1.0
"""Seconds between two reports."""
_GRACE: Final = 8.0
"""Seconds between asking a process to end and killing it."""
_DEATHS: Final = 3
_TRIES: Final = 20
"""How often something that may pass is tried again, each time after the store's own patience."""
_LONGEST_WAIT: Final = 60.0
_MOST_LINES: Final = 500
"""That wait to be told; a program that prints without end fills no memory."""
_PIECE: Final = 65536
_ORDER: Final = (OrderState.TAKEN, OrderState.RUNNING, OrderState.TRANSMITTING)
_STARTS: Final = 1_000_000
"""Numbers of reports that each start of the agent has to itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Duty:
    """What the attendants of one agent share."""

    folder: Folder
    address: Address
    server: Server
    host: str
    slots: threading.Semaphore
    """of backups and restores at once"""
    over: Callable[[str], None]
    """called with the name of an order that is not to be attended to any more"""


class Attendant:
    """One order, in a thread of its own."""

    def __init__(self, order: Order, duty: Duty) -> None:
        self.order = order
        self._duty = duty
        self._wish = Wish.RUN
        self._leaving = False
        self._bell = threading.Event()
        self._state = OrderState.TAKEN
        self._progress: dict[str, Any] = {}
        self._lines: list[tuple[str, str]] = []
        self._news = True
        self._told_at = float("-inf")
        self._number = 0
        self._thread = threading.Thread(target=self._run, name=f"order {order.name}")

    def start(self) -> None:
        self._thread.start()

    def stop(self, wish: Wish) -> None:
        """The server does not want it any more."""
        self._wish = wish
        self._bell.set()

    def leave(self) -> None:
        """The agent ends: the process is stopped, the order goes on at the next start."""
        self._leaving = True
        self._bell.set()

    def join(self) -> None:
        self._thread.join()

    # --- from beginning to end --------------------------------------------------------------------

    def _run(self) -> None:
        name, folder = self.order.name, self._duty.folder
        folder.note(self.order)
        self._number = folder.begin(name) * _STARTS
        last = folder.last_report(name)
        if last is None:
            last = self._with_slot()
            if self._leaving:
                return
            folder.note_report(last)
        if self._insist(last):
            folder.forget(name)
            self._duty.over(name)

    def _with_slot(self) -> Report:
        if self.order.kind.looks:
            return self._work()
        while not self._duty.slots.acquire(timeout=0.2):
            self._tell()
            if self._bell.is_set():
                return self._last(OrderState.STOPPED)
        try:
            return self._work()
        finally:
            self._duty.slots.release()

    def _work(self) -> Report:
        """Its process, again where it died or met what may pass."""
        deaths = tries = 0
        while not self._bell.is_set():
            ended = self._process()
            if ended is None:
                deaths += 1
                if deaths >= _DEATHS:
                    return self._died(deaths)
            elif not ended.get("again") or (tries := tries + 1) >= _TRIES:
                return self._last(OrderState(ended["state"]), ended["outcome"])
            else:
                self._line("warning", f"{ended['outcome'].get('message')}; trying again")
            self._pause(min(2.0 ** (deaths + tries), _LONGEST_WAIT))
        return self._last(OrderState.STOPPED)

    def _pause(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0 and not self._bell.wait(min(left, _EVERY)):
            self._tell()

    def _died(self, times: int) -> Report:
        error = WorkerDiedError(f"the process of the order died {times} times")
        said = {"code": error.code, "message": error.message, "remedy": error.advice}
        return self._last(OrderState.FAILED, said)

    # --- the process ------------------------------------------------------------------------------

    def _process(self) -> dict[str, Any] | None:
        """How it ended; None where it died without a word. Nothing of its group is left."""
        report, theirs = os.pipe2(os.O_CLOEXEC)
        try:
            process = subprocess.Popen(
                [sys.executable, "-m", "holdfast.agent.child", str(theirs)],
                stdin=subprocess.PIPE,
                pass_fds=(theirs,),
                start_new_session=True,
            )
        except OSError as error:
            os.close(report)
            self._line("error", f"the order's process could not be started: {error.strerror}")
            return None
        finally:
            os.close(theirs)
        try:
            self._give(process)
            return self._hear(process, report)
        finally:
            os.close(report)
            _end(process)

    def _give(self, process: subprocess.Popen[bytes]) -> None:
        duty = self._duty
        task = Task(
            order=self.order, host=duty.host, address=duty.address, folder=str(duty.folder.path)
        )
        assert process.stdin is not None
        try:
            process.stdin.write(msgspec.json.encode(task) + b"\n")
            process.stdin.flush()
        except BrokenPipeError:
            return  # it is dead, which its silence will say

    def _hear(self, process: subprocess.Popen[bytes], report: int) -> dict[str, Any] | None:
        ended: dict[str, Any] | None = None
        asked: float | None = None
        rest = b""
        with selectors.DefaultSelector() as selector:
            selector.register(report, selectors.EVENT_READ)
            while True:
                if selector.select(0.2):
                    piece = os.read(report, _PIECE)
                    if not piece:
                        return ended
                    *lines, rest = (rest + piece).split(b"\n")
                    for line in filter(None, lines):
                        ended = self._take(line) or ended
                if self._bell.is_set():
                    asked = self._ask_to_end(process, asked)
                self._tell()

    def _ask_to_end(self, process: subprocess.Popen[bytes], asked: float | None) -> float:
        now = time.monotonic()
        if asked is None:
            process.terminate()
            return now
        if now - asked > _GRACE:
            _kill_group(process)
        return asked

    def _take(self, line: bytes) -> dict[str, Any] | None:
        try:
            message = json.loads(line)
        except ValueError:
            return None  # cut short by a signal
        if "ended" in message:
            return dict(message["ended"])
        if "line" in message:
            level, text = message["line"]
            self._line(level, text)
        if "state" in message:
            state = OrderState(message["state"])
            # Workers say first that they send; whoever scans may not know it yet.
            self._state = max(self._state, state, key=_ORDER.index)
            self._progress = message.get("progress", self._progress)
            self._news = True
        return None

    def _line(self, level: str, text: str) -> None:
        if len(self._lines) < _MOST_LINES:
            self._lines.append((level, text))
            self._news = True

    # --- telling ----------------------------------------------------------------------------------

    def _tell(self) -> None:
        """Where there is news, once a second; where the server does not hear, it is told later."""
        now = time.monotonic()
        if not self._news or now - self._told_at < _EVERY:
            return
        self._told_at = now
        lines = self._lines[:]
        try:
            heard = self._duty.server.report(self._report(self._state, lines))
        except HoldfastError:
            return
        self._news = len(self._lines) > len(lines)
        del self._lines[: len(lines)]
        if heard.wish is not Wish.RUN:
            self.stop(heard.wish)

    def _report(
        self, state: OrderState, lines: list[tuple[str, str]], outcome: dict[str, Any] | None = None
    ) -> Report:
        self._number += 1
        return Report(
            order=self.order.name, number=self._number, state=state, progress=self._progress,
            lines=lines, outcome=outcome or {},
        )  # fmt: skip

    def _last(self, state: OrderState, outcome: dict[str, Any] | None = None) -> Report:
        return self._report(state, self._lines, outcome)

    def _insist(self, last: Report) -> bool:
        """Tells the last word until it is heard; False where the agent ends before."""
        wait = 0.2
        while not self._leaving:
            try:
                self._duty.server.report(last)
            except HoldfastError:
                time.sleep(wait)
                wait = min(wait * 2, 5.0)
            else:
                return True
        return False


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:  # not reaped: its number cannot be another's
        os.killpg(process.pid, signal.SIGKILL)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Nothing of it is left."""
    assert process.stdin is not None
    process.stdin.close()  # its lifeline
    try:
        process.wait(_GRACE)
    except subprocess.TimeoutExpired:
        _kill_group(process)
        process.wait()
