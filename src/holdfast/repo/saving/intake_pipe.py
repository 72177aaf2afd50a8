"""From an event loop to a thread: bytes that one side offers without waiting and the other reads as
from a file, with a bound on what lies between.
"""

from __future__ import annotations

import io
import threading
from collections import deque
from typing import TYPE_CHECKING

from holdfast.core.errors import ClosedError
from holdfast.repo.futures import running_future

if TYPE_CHECKING:
    from concurrent.futures import Future
    from typing import Any

    from holdfast.repo.format.crypto import Buffer

LIMIT = 1 << 20


class BytePipe(io.RawIOBase):
    """One giver, one reader. The reader sees a raw binary stream; `close` is its way to say that it
    wants no more.
    """

    def __init__(self, limit: int = LIMIT) -> None:
        super().__init__()
        self._limit = limit
        self._cond = threading.Condition()
        self._pieces: deque[memoryview] = deque()
        self._size = 0
        self._ended = False
        self._failure: BaseException | None = None
        self._taken: Future[None] | None = None

    # --- the giver --------------------------------------------------------------------------------

    def offer(self, buffer: Buffer) -> Future[None] | None:
        """Takes a copy of `buffer` without waiting; a future where the reader is behind: offer no
        more until it is done.

        Raises, and the future fails with:
            ClosedError: the reader wants no more.
        """
        with self._cond:
            if self.closed:
                raise _closed()
            assert not self._ended
            assert self._taken is None
            piece = memoryview(bytes(buffer))
            if piece:
                self._pieces.append(piece)
                self._size += len(piece)
                self._cond.notify_all()
            if self._size > self._limit:
                self._taken = running_future()
            return self._taken

    def end(self) -> None:
        """There is no more: the reader comes to the end of the stream."""
        with self._cond:
            self._ended = True
            self._cond.notify_all()

    def fail(self, error: BaseException) -> None:
        """The giver broke off: what the reader asks for next raises `error`."""
        with self._cond:
            self._failure = self._failure or error
            self._cond.notify_all()

    # --- the reader -------------------------------------------------------------------------------

    def readable(self) -> bool:
        return True

    def readinto(self, room: Any, /) -> int:
        """Waits for the giver. Raises what it failed with."""
        room = memoryview(room).cast("B")
        with self._cond:
            self._cond.wait_for(lambda: self._pieces or self._ended or self._failure)
            if self._failure is not None:
                raise self._failure
            count = 0
            while self._pieces and count < len(room):
                piece = self._pieces.popleft()
                part = piece[: len(room) - count]
                room[count : count + len(part)] = part
                count += len(part)
                if len(part) < len(piece):
                    self._pieces.appendleft(piece[len(part) :])
            self._size -= count
            taken = None
            if self._size <= self._limit // 2:
                taken, self._taken = self._taken, None
        if taken is not None:
            taken.set_result(None)
        return count

    def close(self) -> None:
        """The reader wants no more. Again is well."""
        with self._cond:
            super().close()
            self._pieces.clear()
            self._size = 0
            taken, self._taken = self._taken, None
        if taken is not None:
            taken.set_exception(_closed())


def _closed() -> ClosedError:
    return ClosedError("nobody reads this any more")
