"""Futures that are handed out to callers."""

from __future__ import annotations

from concurrent.futures import Future
from typing import Any


def running_future() -> Future[Any]:
    """One that its waiter cannot cancel: what it stands for goes on."""
    future: Future[Any] = Future()
    future.set_running_or_notify_cancel()
    return future
