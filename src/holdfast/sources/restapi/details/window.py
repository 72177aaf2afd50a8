"""Working on a stream of targets with only some of them in flight."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable

T = TypeVar("T")
R = TypeVar("R")


async def spread(
    take: Callable[[], Awaitable[T | None]],
    work: Callable[[T], Awaitable[R]],
    *,
    width: Callable[[], int],
    ordered: bool,
) -> AsyncGenerator[tuple[T, asyncio.Task[R]], None]:
    """Each target with its finished task, in the order of taking or as they finish.

    `take` gives None when there is nothing to do right now; it is asked again after each result,
    since working on a
    result may bring new targets. It is over when nothing is left and nothing is in flight.
    """
    flying: dict[asyncio.Task[R], T] = {}
    try:
        while True:
            while len(flying) < width() and (target := await take()) is not None:
                flying[asyncio.create_task(_run(work, target))] = target
            if not flying:
                return
            if ordered:
                task = next(iter(flying))
                await asyncio.wait([task])
            else:
                done, _ = await asyncio.wait(flying, return_when=asyncio.FIRST_COMPLETED)
                task = done.pop()
            yield flying.pop(task), task
    finally:
        for task in flying:
            task.cancel()
        await asyncio.gather(*flying, return_exceptions=True)


async def _run(work: Callable[[T], Awaitable[R]], target: T) -> R:
    return await work(target)
