"""Working space on disk for comparing more keys than fit in memory; gone when it is closed."""

from __future__ import annotations

import contextlib
import operator
import sqlite3
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    Key = int | str | bytes

_CACHE_KIB: Final = 16 << 10


@contextlib.contextmanager
def scratch() -> Iterator[sqlite3.Connection]:
    """A private database without a name; what does not fit into 16 MiB goes to the disk."""
    with contextlib.closing(sqlite3.connect("", isolation_level=None)) as database:
        database.execute("PRAGMA journal_mode = MEMORY")
        database.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
        database.execute("BEGIN")
        yield database


class KeySet:
    """Which item keys were met already; exact, and flat in memory.

    A key is an integer or a text; anything else comes as bytes. None is no key.
    """

    def __init__(self, database: sqlite3.Connection) -> None:
        self._database = database
        database.execute("CREATE TABLE met (key PRIMARY KEY) WITHOUT ROWID")

    def fresh(self, keys: Sequence[Key | None]) -> list[bool]:
        """For each key whether it is met for the first time; no key always is."""
        given = [(key,) for key in keys if key is not None]
        before = self._database.total_changes
        self._database.execute("SAVEPOINT batch")
        with contextlib.suppress(sqlite3.IntegrityError):
            self._database.executemany("INSERT INTO met VALUES (?)", given)
            if self._database.total_changes - before == len(given):
                self._database.execute("RELEASE batch")
                return [True] * len(keys)
        self._database.execute("ROLLBACK TO batch")
        self._database.execute("RELEASE batch")
        return [key is None or self._add(key) for key in keys]

    def _add(self, key: Key) -> bool:
        added = self._database.execute("INSERT OR IGNORE INTO met VALUES (?)", (key,))
        return added.rowcount == 1


class Rising:
    """Keys that only grow cannot repeat, and need not be remembered to know it."""

    def __init__(self) -> None:
        self._last: Any = None

    def goes_on(self, keys: Sequence[Key | None]) -> bool:
        """Whether these keys go on growing, each greater than the one before it."""
        kinds = set(map(type, keys))
        if self._last is not None:
            kinds.add(type(self._last))
        if kinds not in ({int}, {str}):
            return not keys
        following: list[Any] = [] if self._last is None else [self._last]
        following += keys
        if not all(map(operator.lt, following, following[1:])):
            return False
        self._last = following[-1]
        return True
