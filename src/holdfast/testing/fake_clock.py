"""Time that passes only when it is told to."""

from __future__ import annotations

from threading import Lock

_NANOSECONDS = 1_000_000_000


class FakeClock:
    """A `holdfast.core.clock.Clock`. Sleeping returns at once, and it is so much later then."""

    def __init__(self, *, now: int = 1_700_000_000 * _NANOSECONDS) -> None:
        self._lock = Lock()
        self._now = now
        self._monotonic = 1000.0
        self.slept = 0.0
        """Seconds that were slept in all."""

    def now(self) -> int:
        return self._now

    def monotonic(self) -> float:
        return self._monotonic

    def sleep(self, seconds: float) -> None:
        self.advance(seconds)
        with self._lock:
            self.slept += seconds

    def advance(self, seconds: float) -> None:
        """Time passes, on both clocks."""
        if seconds < 0:
            raise ValueError("time does not run backwards; `jump` moves the wall clock")
        with self._lock:
            self._now += int(seconds * _NANOSECONDS)
            self._monotonic += seconds

    def jump(self, seconds: float) -> None:
        """Somebody sets the wall clock; durations go on as before."""
        with self._lock:
            self._now += int(seconds * _NANOSECONDS)
