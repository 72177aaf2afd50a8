"""From an event loop to a thread: bytes that one side offers without waiting and the other reads as
from a file, with a bound on what lies between.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from concurrent.futures import Future

    from holdfast.repo.format.crypto import Buffer

LIMIT = 1 << 20


class BytePipe(io.RawIOBase):
    """One giver, one reader. The reader sees a raw binary stream; `close` is its way to say that it
    wants no more.
    """

    def __init__(self, limit: int = LIMIT) -> None:
        raise NotImplementedError

    def offer(self, buffer: Buffer) -> Future[None] | None:
        """As `Inflow.offer`; the buffer is copied. Fails with ClosedError once the reader has
        closed.
        """
        raise NotImplementedError

    def end(self) -> None:
        """There is no more: the reader comes to the end of the stream."""
        raise NotImplementedError

    def fail(self, error: Exception) -> None:
        """The giver broke off: what the reader asks for next raises `error`."""
        raise NotImplementedError
