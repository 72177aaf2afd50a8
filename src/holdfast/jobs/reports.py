"""What a running body tells, on its way into the catalog: progress and lines of its log."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Any

from holdfast.catalog import tables
from holdfast.core.errors import CatalogError
from holdfast.core.records import TaskLine

if TYPE_CHECKING:
    from holdfast.catalog.database import Catalog
    from holdfast.core.records import Json

_MOST_LINES = 10_000
"""Of one start of a body; a program that prints without end fills nobody's disk."""
_LONGEST_LINE = 8192
_SMOOTHING = 0.3
"""How much the newest second counts in the rate."""

_logger = logging.getLogger(__name__)


class Reports:
    """Of one start of a task. `hear` takes what `running.BodyRun` sends, and never waits for the
    catalog. `tick` writes it down, and is to be called once a second. Both from any thread.
    """

    def __init__(self, catalog: Catalog, task_id: int, token: int) -> None:
        self._catalog = catalog
        self._task_id = task_id
        self._token = token
        self._hearing = threading.Lock()
        self._writing = threading.Lock()
        self._lines: deque[TaskLine] = deque()
        self._heard = 0
        self._progress: dict[str, Any] = {}
        self._dirty = False
        self._pace = _Pace()

    def hear(self, message: Json) -> None:
        with self._hearing:
            if "progress" in message:
                self._progress = message["progress"]
                self._dirty = True
            if "line" in message:
                level, text = message["line"]
                for line in text.rstrip("\n").split("\n"):
                    self._take(level, line)

    def _take(self, level: str, text: str) -> None:
        self._heard += 1
        if self._heard > _MOST_LINES:
            return
        if self._heard == _MOST_LINES:
            level, text = "warning", "the log is long: further lines are not kept"
        text = text[:_LONGEST_LINE].replace("\0", "\N{REPLACEMENT CHARACTER}")
        self._lines.append(
            TaskLine(task_id=self._task_id, at=time.time_ns(), level=level, text=text)
        )

    def tick(self) -> None:
        """Raises nothing: where the catalog cannot be written, the next tick tries again."""
        with self._writing:
            with self._hearing:
                lines = list(self._lines)
                progress = self._pace.seen(self._progress) if self._dirty else None
                self._dirty = False
            if not lines and progress is None:
                return
            try:
                self._write(lines, progress)
            except CatalogError as error:
                _logger.warning("what task %s tells has to wait: %s", self._task_id, error)
                self._dirty |= progress is not None
                return
            with self._hearing:
                for _ in lines:
                    self._lines.popleft()

    def _write(self, lines: list[TaskLine], progress: Json | None) -> None:
        row = tables.task.c
        with self._catalog.write() as tx:
            tx.task_lines.add_all(lines)
            if progress is not None:
                mine = (row.id == self._task_id, row.token == self._token)
                tx.tasks.change_where(*mine, progress=progress)


class _Pace:
    """Adds to progress how fast it is (units a second) and how long it still takes (seconds)."""

    def __init__(self) -> None:
        self._done: int | None = None
        self._at = 0.0
        self._rate: float | None = None

    def seen(self, progress: Json) -> Json:
        done = progress.get("done")
        if done is None:
            return progress
        now = time.monotonic()
        if self._done is not None and now > self._at:
            newest = max(0, done - self._done) / (now - self._at)
            old = newest if self._rate is None else self._rate
            self._rate = old + _SMOOTHING * (newest - old)
        self._done, self._at = done, now
        if self._rate is None:
            return progress
        shown = progress | {"rate": round(self._rate, 1)}
        left = progress.get("total", 0) - done
        if self._rate > 0 and left >= 0 and "total" in progress:
            shown["eta"] = round(left / self._rate)
        return shown
