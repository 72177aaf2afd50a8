"""How fast requests may go: exactly what was promised, however many tasks ask."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

_MARGIN = 0.01
"""Seconds a window is kept longer, because the other side's clock sees requests arrive unevenly."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Zero means no limit of that kind."""

    per_second: float = 0.0
    burst: int = 5
    """Requests that may come at once after a rest; the bucket of the per-second limit."""
    per_minute: int = 0
    per_hour: int = 0
    spacing: float = 0.0
    """Seconds between the starts of two requests, at least."""


class Pace:
    """Books starting times in the order of asking: a token bucket per second, sliding windows per
    minute and hour.
    """

    def __init__(self, limits: Limits) -> None:
        self._spacing = limits.spacing
        self._step = 1 / limits.per_second if limits.per_second else 0.0
        self._slack = self._step * (limits.burst - 1)
        self._due = float("-inf")
        self._last = float("-inf")
        self._windows = [
            _Window(length, most)
            for length, most in ((60.0, limits.per_minute), (3600.0, limits.per_hour))
            if most
        ]

    def book(self, now: float) -> float:
        """The earliest moment from `now` on at which one more request may start; it is taken with
        this call.

        Args:
            now: seconds of a monotonic clock.
        """
        start = max(now, self._due - self._slack, self._last + self._spacing)
        for window in self._windows:
            start = max(start, window.free_at())
        self._due = max(self._due, start) + self._step
        self._last = start
        for window in self._windows:
            window.taken.append(start)
        return start

    def recall(self, ages: Iterable[float], now: float) -> None:
        """Counts requests of an earlier process, that many seconds ago, oldest first, in the
        windows.
        """
        for age in ages:
            for window in self._windows:
                window.taken.append(now - age)


class _Window:
    def __init__(self, length: float, most: int) -> None:
        self._length = length + _MARGIN
        self.taken: deque[float] = deque(maxlen=most)

    def free_at(self) -> float:
        full = len(self.taken) == self.taken.maxlen
        return self.taken[0] + self._length if full else float("-inf")
