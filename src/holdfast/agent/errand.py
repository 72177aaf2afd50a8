"""What the process of one order has at hand: the order, the server, the folder, and a way to tell.

Messages go to the agent as lines of JSON, progress at most once a second:

    {"state": ...[, "progress": {...}]}   {"line": [level, text]}   {"ended": {"state", "outcome"}}
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

from holdfast.core.clock import SystemClock
from holdfast.core.errors import InterruptedByUserError, NetworkError
from holdfast.core.orders import OrderState, Wish

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from holdfast.agent.folder import Folder
    from holdfast.agent.speaking import Address, Server
    from holdfast.core.clock import Clock
    from holdfast.core.orders import Heard, Order
    from holdfast.core.secret import Secret

T = TypeVar("T")
_PATIENCE: Final = 900.0
"""Seconds in which a server that does not answer is asked again."""
_AGAIN: Final = 2.0


class Telling:
    """Lines to the agent, through a pipe."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._last = 0.0

    def send(self, message: dict[str, Any]) -> None:
        left = memoryview(json.dumps(message).encode() + b"\n")
        while left:
            left = left[os.write(self._descriptor, left) :]

    def line(self, level: str, text: str) -> None:
        self.send({"line": [level, text]})

    def state(self, state: OrderState) -> None:
        """From any process: a short line is written whole."""
        self.send({"state": str(state)})

    def progress(self, state: OrderState, progress: dict[str, Any], *, now: bool = False) -> None:
        if now or time.monotonic() - self._last >= 1:
            self._last = time.monotonic()
            self.send({"state": str(state), "progress": progress})


@dataclass(frozen=True, slots=True, kw_only=True)
class Errand:
    order: Order
    host: str
    """by which name this agent signs in to repositories"""
    address: Address
    secret: Secret
    server: Server
    folder: Folder
    telling: Telling
    clock: Clock = field(default_factory=SystemClock)

    @property
    def spec(self) -> dict[str, Any]:
        return self.order.spec

    @contextmanager
    def scratch(self) -> Iterator[Path]:
        """A folder for what is in the way of the work only."""
        made = Path(tempfile.mkdtemp(dir=self.folder.path / "scratch"))
        try:
            yield made
        finally:
            shutil.rmtree(made, ignore_errors=True)

    def insist(self, ask: Callable[[], T]) -> T:
        """Asks the server until it answers, for a quarter of an hour.

        Raises:
            NetworkError: it never did.
        """
        until = self.clock.monotonic() + _PATIENCE
        while True:
            try:
                return ask()
            except NetworkError as error:
                if not error.retryable or self.clock.monotonic() > until:
                    raise
                self.clock.sleep(_AGAIN)

    def obey(self, heard: Heard) -> None:
        """Raises InterruptedByUserError where the server does not want this any more."""
        if heard.wish is not Wish.RUN:
            raise InterruptedByUserError("the server has called this order off")
