"""From whoever must not wait to whoever writes: pieces in order through a worker thread, with a
bound on what lies between.
"""

from __future__ import annotations

import threading
from collections import deque
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from holdfast.core.errors import ClosedError

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Executor

    from holdfast.service.keeping.contract import Buffer

WINDOW: Final = 1 << 20
"""Bytes that are gathered before they are handed on; up to three times as many are held."""


class Flow:
    """One giver. `sink` is called in a thread of `workers`, never twice at once."""

    def __init__(self, workers: Executor, sink: Callable[[memoryview], None]) -> None:
        self._workers = workers
        self._sink = sink
        self._lock = threading.Lock()
        self._filling = bytearray()
        self._full: deque[bytearray] = deque()
        self._busy = False
        self._failure: BaseException | None = None
        self._waiting: Future[None] | None = None
        """for room"""
        self._ended: Future[None] | None = None
        self._stopped: Future[None] = Future()

    def offer(self, piece: Buffer) -> Future[None] | None:
        """Copies the piece. A future where the giver must wait before the next."""
        with self._lock:
            if self._failure is not None:
                return _failed(self._failure)
            self._filling += piece
            if len(self._filling) < WINDOW:
                return None
            failure = self._hand_on()
            if failure is not None:
                return _failed(failure)
            if len(self._full) <= 1:
                return None
            self._waiting = Future()
            return self._waiting

    def write(self, piece: Buffer) -> None:
        """Waits for room. Raises what the sink raised."""
        wait = self.offer(piece)
        if wait is not None:
            wait.result()

    def end(self) -> Future[None]:
        """Done when the sink has had everything; fails with what the sink raised."""
        with self._lock:
            if self._failure is not None:
                return _failed(self._failure)
            self._ended = Future()
            failure = self._hand_on() if self._filling else None
            if failure is not None:
                return _failed(failure)
            if self._busy:
                return self._ended
        _settle(self._ended)
        return self._ended

    def stop(self) -> Future[None]:
        """Drops what is held; whoever waits is told. Done when the sink is left alone for good."""
        self._fail(ClosedError("the upload was abandoned"))
        with self._lock:
            if self._busy:
                return self._stopped
        _settle(self._stopped)
        return self._stopped

    def _hand_on(self) -> BaseException | None:
        """Why it cannot, where it cannot."""
        self._full.append(self._filling)
        self._filling = bytearray()
        if not self._busy:
            self._busy = self._submitted()
        return self._failure

    def _submitted(self) -> bool:
        """Whether there is a worker for it still. Call it with the lock."""
        try:
            self._workers.submit(self._work)
        except RuntimeError:  # they have been sent home
            self._failure = self._failure or ClosedError("the pool is being closed")
            self._full.clear()
            return False
        return True

    def _work(self) -> None:
        with self._lock:
            piece = self._full.popleft() if self._full else None
            room, self._waiting = self._waiting, None
        _settle(room)
        if piece is not None:
            try:
                self._sink(memoryview(piece))
            except BaseException as error:  # noqa: BLE001  handed to the giver
                self._fail(error)
        with self._lock:
            # One piece at a time, so that streams take turns.
            if self._full and self._submitted():
                return
            self._busy = False
            failure = self._failure
        if failure is None:
            _settle(self._ended)
        else:
            self._fail(failure)
            _settle(self._stopped)

    def _fail(self, error: BaseException) -> None:
        with self._lock:
            if self._failure is None:
                self._failure = error
            self._full.clear()
            self._filling = bytearray()
            waiting, self._waiting = self._waiting, None
        _settle(waiting, error)
        _settle(self._ended, error)


def _settle(future: Future[None] | None, error: BaseException | None = None) -> None:
    """What is settled already stays as it is: failing and ending may meet."""
    with suppress(InvalidStateError):
        if future is not None and error is not None:
            future.set_exception(error)
        elif future is not None:
            future.set_result(None)


def _failed(error: BaseException) -> Future[None]:
    future: Future[None] = Future()
    future.set_exception(error)
    return future
