"""The process of one task: `python -m holdfast.jobs.child LIFELINE REPORT`, two descriptors.

The lifeline brings the order (its length in four bytes, big end first, then JSON) and then a byte a
second for as long as the worker lives. The report takes lines of JSON back. This process leads a
session of its own; it dies, with everything it has started, once the lifeline ends or is silent.
"""

from __future__ import annotations

import json
import os
import select
import signal
import sys
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types import FrameType

    from holdfast.core.records import Json
    from holdfast.jobs.running import BodyRun


def main() -> None:
    lifeline, report = int(sys.argv[1]), int(sys.argv[2])
    for descriptor in (lifeline, report):
        os.set_inheritable(descriptor, False)
    order = json.loads(_read(lifeline, int.from_bytes(_read(lifeline, 4))))
    reporting = _Reporting(report)
    watch = _Lifeline(lifeline, order["silence"], reporting)
    threading.Thread(target=watch.run, name="lifeline", daemon=True).start()
    reporting.send({"ended": _work(order, reporting, watch)})


def _work(order: Json, reporting: _Reporting, watch: _Lifeline) -> Json:
    # Late, so that the lifeline is watched while a second's worth of modules is imported.
    from holdfast.jobs.running import DEPOSED, BodyRun, compose, execute, failed

    try:
        composition = compose(order["compose"], order["settings"])
        with composition.catalog.read() as tx:
            task = tx.tasks.get(order["task"])
    except Exception as error:  # noqa: BLE001  the outermost boundary of this process
        return failed(error, reporting.send)
    if task.token != order["token"]:
        return {"state": DEPOSED}
    run = BodyRun(task, composition.catalog, reporting.send)
    watch.run_of_body = run
    _stop_when_asked(run)
    ended = execute(composition, run)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    return ended


def _stop_when_asked(run: BodyRun) -> None:
    """The first SIGTERM is how the worker asks. It ends what the body waits for, too: the body sees
    an `InterruptedByUserError` there, cleans up as after any error, and may look at `stopping`.
    """
    from holdfast.core.errors import InterruptedByUserError

    def ask(_number: int, _frame: FrameType | None) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        run.ask_to_stop()
        raise InterruptedByUserError("the task was asked to stop")

    signal.signal(signal.SIGTERM, ask)


def _read(descriptor: int, size: int) -> bytes:
    data = b""
    while len(data) < size:
        piece = os.read(descriptor, size - len(data))
        if not piece:
            _die()
        data += piece
    return data


class _Reporting:
    """Lines of JSON to the worker; safe for threads."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._sending = threading.Lock()

    def send(self, message: Json) -> None:
        # A new line first: the message before may have been cut short by a signal.
        left = memoryview(b"\n" + json.dumps(message).encode() + b"\n")
        with self._sending:
            while left:
                left = left[os.write(self._descriptor, left) :]


class _Lifeline:
    """Watches whether the worker lives, and tells progress in passing, once a second."""

    def __init__(self, descriptor: int, silence: float, reporting: _Reporting) -> None:
        self._descriptor = descriptor
        self._silence = silence
        self._reporting = reporting
        self.run_of_body: BodyRun | None = None

    def run(self) -> None:
        try:
            while self._hears() and os.read(self._descriptor, 4096):
                if self.run_of_body is not None:
                    self.run_of_body.flush()
        finally:
            _die()

    def _hears(self) -> bool:
        # Twice: after this process itself was frozen, the worker gets the chance to be heard.
        return any(self._readable(self._silence / 2) for _ in range(2))

    def _readable(self, seconds: float) -> bool:
        readable: list[Any] = select.select([self._descriptor], [], [], seconds)[0]
        return bool(readable)


def _die() -> None:
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    main()
