"""Time, from one place, so that tests can jump it.

Wall clock for people, monotonic for durations. Two clocks are never compared with each other.
"""

from __future__ import annotations

import time
from typing import Protocol

from holdfast.core import stopping


class Clock(Protocol):
    def now(self) -> int:
        """Wall clock, nanoseconds since 1970 UTC."""
        ...

    def monotonic(self) -> float:
        """Seconds that only grow; for durations."""
        ...

    def sleep(self, seconds: float) -> None:
        """Raises InterruptedByUserError where the process is to end."""
        ...


class SystemClock:
    def now(self) -> int:
        return time.time_ns()

    def monotonic(self) -> float:
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        stopping.pause(seconds)
