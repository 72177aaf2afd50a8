"""One thread that commits what has queued up while it committed the group before: a lone caller
waits for nobody, and many share one sync. No timer.
"""

from __future__ import annotations

import queue
import threading
from typing import TYPE_CHECKING, Final, Generic, TypeVar

from holdfast.core.errors import ClosedError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

GROUP: Final = 512

T = TypeVar("T")


class Committer(Generic[T]):
    """`commit` is called in the thread with one group after the other; it raises nothing."""

    def __init__(self, commit: Callable[[Sequence[T]], None], name: str) -> None:
        self._commit = commit
        self._name = name
        self._queue: queue.SimpleQueue[T | None] = queue.SimpleQueue()
        self._guard = threading.Lock()
        self._thread: threading.Thread | None = None
        self._closed = False

    def put(self, item: T) -> None:
        """Raises ClosedError."""
        with self._guard:
            if self._closed:
                raise ClosedError("the server is shutting down")
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
                self._thread.start()
            self._queue.put(item)

    def close(self) -> None:
        """Commits what is queued, and ends the thread."""
        with self._guard:
            self._closed = True
            thread = self._thread
        if thread is not None:
            self._queue.put(None)
            thread.join()

    def _run(self) -> None:
        while True:
            group = self._next_group()
            whole = [item for item in group if item is not None]
            if whole:
                self._commit(whole)
            if len(whole) < len(group):
                return

    def _next_group(self) -> Sequence[T | None]:
        group = [self._queue.get()]
        while len(group) < GROUP and group[-1] is not None:
            try:
                group.append(self._queue.get_nowait())
            except queue.Empty:
                break
        return group
