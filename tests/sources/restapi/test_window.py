"""Targets in flight."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import pytest

from holdfast.sources.restapi.details.window import spread


async def collect(targets, work, *, width=3, ordered=True, grow=None):
    queue = list(reversed(targets))
    results = []

    async def take():
        return queue.pop() if queue else None

    async for target, task in spread(take, work, width=lambda: width, ordered=ordered):
        results.append((target, task))
        if grow:
            queue[:0] = grow(target)
    return results


def test_results_keep_the_order_of_their_targets():
    """Whatever finishes first, ordered results come in the order of taking."""

    async def work(number):
        await asyncio.sleep(0.02 if number == 0 else 0)
        return number * 2

    results = asyncio.run(collect(range(7), work))
    assert [(target, task.result()) for target, task in results] == [(n, n * 2) for n in range(7)]


def test_unordered_results_do_not_wait_for_a_slow_one():
    """Without order, one slow target holds nothing up."""

    async def work(number):
        await asyncio.sleep(0.2 if number == 0 else 0)

    results = asyncio.run(collect(range(7), work, ordered=False))
    assert results[-1][0] == 0
    assert len(results) == 7


def test_no_more_than_the_width_are_in_flight():
    """The width bounds what is in flight at any moment."""
    flying = peak = 0

    async def work(_):
        nonlocal flying, peak
        flying += 1
        peak = max(peak, flying)
        await asyncio.sleep(0.001)
        flying -= 1

    asyncio.run(collect(range(50), work, width=4))
    assert peak == 4


def test_results_may_bring_new_targets():
    """Targets found while working are worked on too, even after the list was empty."""

    async def work(number):
        return number

    tree = {1: [2, 3], 2: [4], 3: [], 4: [5], 5: []}
    results = asyncio.run(collect([1], work, grow=lambda number: tree[number]))
    assert sorted(target for target, _ in results) == [1, 2, 3, 4, 5]


def test_leaving_early_cancels_what_is_in_flight():
    """When the caller stops, nothing goes on in the background."""
    finished = []

    async def work(number):
        if number == 0:
            raise ValueError("broken")
        await asyncio.sleep(30)
        finished.append(number)

    async def first():
        numbers = iter(range(5))

        async def take():
            return next(numbers)

        results = spread(take, work, width=lambda: 3, ordered=True)
        async with aclosing(results):
            async for _, task in results:
                task.result()

    with pytest.raises(ValueError, match="broken"):
        asyncio.run(asyncio.wait_for(first(), 5))
    assert finished == []
