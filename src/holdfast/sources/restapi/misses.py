"""What could not be fetched: all of it in a file, the first of it at hand, in flat memory."""

from __future__ import annotations

import csv
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Self, TextIO

if TYPE_CHECKING:
    from pathlib import Path

_AT_HAND: Final = 100


@dataclass(frozen=True, slots=True)
class Miss:
    name: str
    url: str
    """Without secrets."""
    reason: str
    status: int | None = None
    kept: bool = False
    """An earlier answer is there and stays."""


@dataclass(slots=True)
class Misses:
    """A list `path` of this run's failures, in the form of the original's files_skipped.list with
    an
    address added. It replaces that of the run before, and is absent when nothing failed.
    """

    path: Path
    count: int = 0
    first: list[Miss] = field(default_factory=list)
    _stream: TextIO | None = None

    def __enter__(self) -> Self:
        self.path.unlink(missing_ok=True)
        return self

    def __exit__(self, *_: object) -> None:
        if self._stream:
            self._stream.close()

    def add(self, miss: Miss) -> None:
        self.count += 1
        if len(self.first) < _AT_HAND:
            self.first.append(miss)
        if self._stream is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._stream = self.path.open("w", encoding="utf-8", errors="replace", newline="")
            csv.writer(self._stream, delimiter=";").writerow(
                ["filename", "filesize", "reason", "url"]
            )
        csv.writer(self._stream, delimiter=";").writerow([miss.name, "", miss.reason, miss.url])
        self._stream.flush()
