"""The engine's progress as that of a task."""

from __future__ import annotations

from typing import TYPE_CHECKING

from holdfast.core.errors import InterruptedByUserError

if TYPE_CHECKING:
    from holdfast.jobs.body import Run


class RunProgress:
    """See `core.progress.Progress`. Where the task is to stop, the next step is its last."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._by_bytes = False
        self._done = 0

    def stage(self, name: str, *, items: int | None = None, bytes: int | None = None) -> None:  # noqa: A002
        self._by_bytes = bytes is not None
        self._done = 0
        self._run.progress(
            done=0,
            total=bytes if self._by_bytes else items,
            unit="bytes" if self._by_bytes else "items",
            current=name,
        )

    def add(self, items: int = 0, bytes: int = 0) -> None:  # noqa: A002
        if self._run.stopping:
            raise InterruptedByUserError("the task was stopped")
        self._done += bytes if self._by_bytes else items
        self._run.progress(done=self._done)

    def note(self, message: str) -> None:
        self._run.log("info", message)
