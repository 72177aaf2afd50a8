"""Working space on disk for comparing more keys than fit in memory; gone when it is closed."""

from __future__ import annotations

import contextlib
import sqlite3
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

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
    """Which item keys were met already; exact, and flat in memory."""

    def __init__(self, database: sqlite3.Connection) -> None:
        self._database = database
        database.execute("CREATE TABLE met (key PRIMARY KEY) WITHOUT ROWID")

    def fresh(self, keys: Sequence[str | None]) -> list[bool]:
        """For each key whether it is met for the first time; no key (None) always is."""
        given = [(_packed(key),) for key in keys if key is not None]
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

    def _add(self, key: str) -> bool:
        added = self._database.execute("INSERT OR IGNORE INTO met VALUES (?)", (_packed(key),))
        return added.rowcount == 1


def _packed(key: str) -> str | int:
    """Numbers take less room as numbers, and growing ones are added at the end of the index."""
    return int(key) if len(key) < 19 and key.isdecimal() and key.isascii() else key  # noqa: PLR2004 - digits of 64 bits
