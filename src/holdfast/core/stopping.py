"""Whether this process was told to end. Every wait of every thread hears of it."""

from __future__ import annotations

import threading

from holdfast.core.errors import InterruptedByUserError

_told = threading.Event()


def request() -> None:
    """The process is to end: whoever waits stops waiting, now and from now on."""
    _told.set()


def requested() -> bool:
    return _told.is_set()


def pause(seconds: float) -> None:
    """Sleeps.

    Raises:
        InterruptedByUserError: the process is to end.
    """
    if _told.wait(seconds):
        raise InterruptedByUserError("interrupted")
