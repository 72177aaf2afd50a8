"""Where blocking calls run: bounded threads, so that a rush waits outside and not in memory."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, ParamSpec, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

P = ParamSpec("P")
R = TypeVar("R")

CALLS = 16
"""Calls of the service at once."""
STREAMS = 16
"""Downloads that read at once; a slow client holds none while it is slow."""

_calls = ThreadPoolExecutor(CALLS, "call")
_streams = ThreadPoolExecutor(STREAMS, "stream")


async def run(call: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """A blocking call of the service."""
    loop = asyncio.get_running_loop()
    return await loop.run_in_executor(_calls, partial(call, *args, **kwargs))


async def stream(call: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """One step of a download."""
    loop = asyncio.get_running_loop()
    return await loop.run_in_executor(_streams, partial(call, *args, **kwargs))
