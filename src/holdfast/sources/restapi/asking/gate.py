"""How many requests are under way, found out while they are."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field

FIRST_WIDTH = 4


@dataclass(slots=True)
class Gate:
    """How many requests may be under way: additive increase while answers stay quick, halved on
    trouble.
    """

    most: int
    width: float = FIRST_WIDTH
    busy: int = 0
    waiting: deque[asyncio.Future[None]] = field(default_factory=deque)
    quickest: float = float("inf")
    typical: float = 0.0
    cautious: bool = False
    cut_at: float = 0.0

    async def enter(self) -> None:
        if self.busy < int(self.width) and not self.waiting:
            self.busy += 1
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.waiting.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.leave()
            raise

    def leave(self) -> None:
        self.busy -= 1
        while self.waiting and self.busy < int(self.width):
            turn = self.waiting.popleft()
            if not turn.done():
                self.busy += 1
                turn.set_result(None)

    def went_well(self, elapsed: float) -> None:
        self.quickest = min(self.quickest, elapsed)
        self.typical = elapsed if not self.typical else 0.9 * self.typical + 0.1 * elapsed
        if self.typical > 3 * self.quickest + 0.05:
            return
        self.width = min(self.most, self.width + (1 / self.width if self.cautious else 2))

    def was_too_much(self, begun: float, now: float) -> None:
        """Requests that were on their way before the last cut say nothing new."""
        if begun < self.cut_at:
            return
        self.width = max(1.0, self.width / 2)
        self.cautious = True
        self.cut_at = now
