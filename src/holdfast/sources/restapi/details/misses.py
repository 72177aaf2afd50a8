"""What could not be fetched: all of it in a file, the first of it at hand, in flat memory."""

from __future__ import annotations

import csv
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Self, TextIO

from holdfast.core.errors import AddressError, AuthError, FetchError, TlsError

if TYPE_CHECKING:
    from pathlib import Path

    from holdfast.sources.restapi.project.sections import ErrorHandling

_FORBIDDEN: Final = 403
_SERVER_ERRORS: Final = 500
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


@dataclass(slots=True)
class Patience:
    """How many failures it takes to give up, by section error_handling."""

    errors: ErrorHandling
    in_a_row: int = 0

    def succeeded(self) -> None:
        self.in_a_row = 0

    def failed(self, error: FetchError) -> None:
        """Raises the error again where going on would be wrong or useless; one forbidden or missing
        thing says nothing about the next.
        """
        refused = isinstance(error, AuthError) and error.status != _FORBIDDEN
        if isinstance(error, TlsError) or refused or not self.errors.continue_on_error:
            raise error
        if isinstance(error, AddressError):
            return  # it tells of one record and not of the API
        if error.status is None or error.status >= _SERVER_ERRORS:
            self.in_a_row += 1
        if 0 < self.errors.max_consecutive_errors <= self.in_a_row:
            raise error
