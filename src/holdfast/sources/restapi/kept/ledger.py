"""What was fetched, when, and its digest: the runs of a project and the evidence of every stored
response.

One SQLite file beside the archives. The archives are the truth about content: without the ledger
everything still reads,
only without evidence. While a run collects, the ledger is also its journal: a response counts as
stored once its row is
committed, which survives the process; what power failure took is found by checksum and fetched
again.
"""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from holdfast.core.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_SCHEMA = """
CREATE TABLE IF NOT EXISTS run(
    id TEXT PRIMARY KEY, archive TEXT NOT NULL, mode TEXT NOT NULL, state TEXT NOT NULL,
    started INTEGER NOT NULL, ended INTEGER, fingerprint TEXT NOT NULL DEFAULT '',
    whole INTEGER NOT NULL DEFAULT 0, announced INTEGER, records INTEGER NOT NULL DEFAULT 0,
    repeated INTEGER, bytes INTEGER NOT NULL DEFAULT 0, pages INTEGER NOT NULL DEFAULT 0,
    outcome TEXT, synced INTEGER NOT NULL DEFAULT 0, notes TEXT NOT NULL DEFAULT '{}'
) STRICT;
CREATE TABLE IF NOT EXISTS response(
    seq INTEGER PRIMARY KEY, run TEXT NOT NULL, archive TEXT NOT NULL, name TEXT NOT NULL,
    member TEXT NOT NULL, number INTEGER NOT NULL, method INTEGER NOT NULL, crc INTEGER NOT NULL,
    packed INTEGER NOT NULL,
    size INTEGER NOT NULL, place INTEGER NOT NULL, end INTEGER NOT NULL, time INTEGER NOT NULL,
    sha256 TEXT NOT NULL, records INTEGER NOT NULL, digest INTEGER, evidence TEXT NOT NULL,
    UNIQUE(run, name)
) STRICT;
CREATE INDEX IF NOT EXISTS response_member ON response(archive, member);
CREATE INDEX IF NOT EXISTS response_number ON response(run, number, seq);
CREATE INDEX IF NOT EXISTS response_time ON response(time);
"""
_COLUMNS = (
    "run, archive, name, member, number, method, crc, packed, size, place, end, time, sha256,"
    " records, digest, evidence"
)


_AT_ONCE = 1000
_LEAST_ROW = 64
"""Bytes that no row is smaller than."""


class State(StrEnum):
    COLLECTING = "collecting"
    PUBLISHING = "publishing"
    PUBLISHED = "published"


@dataclass(frozen=True, slots=True)
class Run:
    """One collection. Times are nanoseconds since 1970."""

    id: str
    archive: str
    mode: str
    state: State
    started: int
    ended: int | None = None
    fingerprint: str = ""
    whole: bool = False
    """It covers the complete list: item keys absent from a whole update are deleted as of it."""
    announced: int | None = None
    records: int = 0
    repeated: int | None = None
    """Records beyond the first with the same item key; None where nobody counted."""
    bytes: int = 0
    pages: int = 0
    outcome: str | None = None
    synced: int = 0
    notes: dict[str, Any] | None = None
    """Any: JSON of what else a run remembers (position of a cursor, watermarks, missing pages)."""

    @property
    def unique(self) -> bool:
        """It was counted that no item key repeats within it."""
        return self.repeated == 0


@dataclass(frozen=True, slots=True)
class Response:
    """One stored response: where it lies, what it is, and its evidence as JSON."""

    run: str
    archive: str
    name: str
    member: str
    """The archive's member that holds the bytes; another one's when nothing changed."""
    number: int
    method: int
    crc: int
    packed: int
    size: int
    offset: int
    end: int
    """First byte after it in the run's partial archive; 0 when the bytes are another member's."""
    time: int
    sha256: str
    records: int
    digest: int | None
    evidence: str

    def proof(self) -> dict[str, Any]:
        """URL, status, headers, time and SHA-256. Any: JSON of foreign headers."""
        return {
            **json.loads(self.evidence),
            "name": self.name,
            "sha256": self.sha256,
            "size": self.size,
            "records": self.records,
        }


class Ledger:
    """Use from one thread. Every change is committed when the call returns, unless inside
    `batch`.
    """

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        if read_only:
            self._db = _reading(path)
            return
        self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=NORMAL")
        self._db.executescript(_SCHEMA)

    def close(self) -> None:
        self._db.close()

    def is_begun(self) -> bool:
        """Whether its tables are there; whoever made it may have been killed before."""
        tables = "SELECT count(*) FROM sqlite_master WHERE name IN ('run', 'response')"
        return bool(self._db.execute(tables).fetchone()[0] == 2)  # noqa: PLR2004 - both of them

    @contextmanager
    def batch(self) -> Iterator[None]:
        """All or nothing."""
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    def save_run(self, run: Run) -> None:
        self._db.execute(
            "INSERT OR REPLACE INTO run(id, archive, mode, state, started, ended, fingerprint,"
            " whole, announced, records, repeated, bytes, pages, outcome, synced, notes)"
            " VALUES(?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
            (
                run.id, run.archive, run.mode, run.state, run.started, run.ended, run.fingerprint,
                run.whole, run.announced, run.records, run.repeated, run.bytes, run.pages,
                run.outcome, run.synced, json.dumps(run.notes or {}),
            ),
        )  # fmt: skip

    def runs(self, archive: str | None = None, *, state: State | None = None) -> list[Run]:
        """Oldest first."""
        rows = self._db.execute(
            "SELECT * FROM run WHERE (?1 IS NULL OR archive=?1) AND (?2 IS NULL OR state=?2)"
            " ORDER BY started, id",
            (archive, state),
        )
        return [_run(row) for row in rows]

    def run(self, run_id: str) -> Run | None:
        row = self._db.execute("SELECT * FROM run WHERE id=?", (run_id,)).fetchone()
        return _run(row) if row else None

    def drop_run(self, run_id: str) -> None:
        self._db.execute("DELETE FROM response WHERE run=?", (run_id,))
        self._db.execute("DELETE FROM run WHERE id=?", (run_id,))

    def save(self, response: Response) -> None:
        """Records one response; the same name in the same run again takes its place."""
        self._db.execute(
            f"INSERT OR REPLACE INTO response({_COLUMNS}) VALUES(?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
            (
                response.run, response.archive, response.name, response.member, response.number,
                response.method, response.crc, response.packed, response.size, response.offset,
                response.end, response.time, response.sha256, response.records, response.digest,
                response.evidence,
            ),
        )  # fmt: skip

    def responses(self, run_id: str) -> Iterator[Response]:
        """By number, then in the order of storing."""
        cursor = self._db.cursor()
        rows = cursor.execute(
            f"SELECT {_COLUMNS} FROM response WHERE run=? ORDER BY number, seq",  # noqa: S608 - constant
            (run_id,),
        )
        return (Response(*row) for row in rows)

    def response(self, run_id: str, name: str) -> Response | None:
        row = self._db.execute(
            f"SELECT {_COLUMNS} FROM response WHERE run=? AND name=?",  # noqa: S608 - constant
            (run_id, name),
        ).fetchone()
        return Response(*row) if row else None

    def has(self, run_id: str, name: str) -> bool:
        row = self._db.execute(
            "SELECT 1 FROM response WHERE run=? AND name=?", (run_id, name)
        ).fetchone()
        return row is not None

    def relabel(self, archive: str, label: str) -> None:
        """The published runs of an archive now describe its earlier state, kept under another
        name.
        """
        self._db.execute(
            "UPDATE response SET archive=?2 WHERE archive=?1 AND run IN"
            " (SELECT id FROM run WHERE archive=?1 AND state='published')",
            (archive, label),
        )
        self._db.execute(
            "UPDATE run SET archive=?2 WHERE archive=?1 AND state='published'", (archive, label)
        )

    def latest(self, archive: str, member: str) -> Response | None:
        """The newest published evidence of what a member of an archive holds."""
        columns = ", ".join(f"response.{column.strip()}" for column in _COLUMNS.split(","))
        row = self._db.execute(
            f"SELECT {columns} FROM response JOIN run ON run.id=response.run"  # noqa: S608 - constant
            " WHERE response.archive=? AND member=? AND run.state='published'"
            " ORDER BY seq DESC LIMIT 1",
            (archive, member),
        ).fetchone()
        return Response(*row) if row else None

    def times_since(self, moment: int) -> list[int]:
        """When responses were stored after a moment, oldest first; nanoseconds."""
        rows = self._db.execute("SELECT time FROM response WHERE time>? ORDER BY time", (moment,))
        return [row[0] for row in rows]

    def sums(self, run_id: str) -> tuple[int, int, int]:
        """Responses, records and bytes of a run."""
        row = self._db.execute(
            "SELECT count(*), coalesce(sum(records), 0), coalesce(sum(size), 0)"
            " FROM response WHERE run=?",
            (run_id,),
        ).fetchone()
        return row[0], row[1], row[2]

    def end_of_data(self, run_id: str) -> int:
        """First free byte of the run's partial archive."""
        row = self._db.execute(
            "SELECT coalesce(max(end), 0) FROM response WHERE run=?", (run_id,)
        ).fetchone()
        return int(row[0])

    def unsynced(self, run: Run) -> list[Response]:
        """Responses that a power failure may have taken."""
        rows = self._db.execute(
            f"SELECT {_COLUMNS} FROM response WHERE run=? AND end>? ORDER BY end",  # noqa: S608 - constant
            (run.id, run.synced),
        )
        return [Response(*row) for row in rows]

    def forget(self, run_id: str, name: str) -> None:
        self._db.execute("DELETE FROM response WHERE run=? AND name=?", (run_id, name))

    def forget_superseded(self, run_id: str) -> None:
        """Drops older evidence of members that a run has replaced."""
        self._db.execute(
            "DELETE FROM response WHERE run<>?1 AND end>0 AND (archive, member) IN"
            " (SELECT archive, member FROM response WHERE run=?1 AND end>0)",
            (run_id,),
        )


def open_to_read(path: Path) -> Ledger | None:
    """None where there is none, or none that can be read: the archives read without it too."""
    if not path.exists() or is_damaged(path):
        return None
    ledger = Ledger(path, read_only=True)
    if ledger.is_begun():
        return ledger
    ledger.close()
    return None


def is_damaged(path: Path) -> bool:
    """Whether a ledger that is there cannot be read in all its parts."""
    try:
        with closing(_reading(path)) as database:
            (verdict,) = database.execute("PRAGMA quick_check(1)").fetchone()
    except sqlite3.DatabaseError as error:
        if isinstance(error, sqlite3.OperationalError):
            raise StoreError(
                f"cannot read {path}: {error}",
                remedy="The archive is untouched. Check the folder and its permissions.",
            ) from error
        return True
    return bool(verdict != "ok")


def _reading(path: Path) -> sqlite3.Connection:
    """Even where no file beside it can be made, as on a full disk, if all is in the one file."""
    address = f"{path.resolve().as_uri()}?mode=ro"
    database = _connected(address)
    try:
        database.execute("SELECT 1 FROM sqlite_master").fetchone()
    except sqlite3.OperationalError:
        journal = path.with_name(f"{path.name}-wal")
        if journal.exists() and journal.stat().st_size:
            raise
        database.close()
        return _connected(f"{address}&immutable=1")
    except sqlite3.DatabaseError:
        database.close()
        raise
    return database


def _connected(address: str) -> sqlite3.Connection:
    return sqlite3.connect(address, uri=True, isolation_level=None, check_same_thread=False)


def salvaged(path: Path) -> tuple[list[Run], Iterator[Response]]:
    """What a damaged ledger still gives: rows on pages that can be read. They may be anything, so
    whoever takes them holds them against the archives.
    """
    try:
        database = _connected(f"{path.resolve().as_uri()}?mode=ro")
        rows = list(_readable(database, "SELECT *, rowid FROM run", path))
    except sqlite3.DatabaseError:
        return [], iter(())
    runs = []
    for row in rows:
        with suppress(ValueError, TypeError):
            runs.append(_run(row))
    query = f"SELECT {_COLUMNS}, seq FROM response"  # noqa: S608 - constant
    return runs, (Response(*row[:-1]) for row in _readable(database, query, path))


def _readable(database: sqlite3.Connection, query: str, path: Path) -> Iterator[tuple[Any, ...]]:
    """Rows by number, around those that cannot be read. Any: columns."""
    waiting = [(1, max(path.stat().st_size // _LEAST_ROW, 1))]
    while waiting:
        low, high = waiting.pop()
        try:
            rows = database.execute(
                f"{query} WHERE rowid BETWEEN ? AND ? ORDER BY rowid LIMIT {_AT_ONCE}", (low, high)
            ).fetchall()
        except sqlite3.DatabaseError:
            if low < high:
                middle = (low + high) // 2
                waiting += [(middle + 1, high), (low, middle)]
            continue
        yield from rows
        if len(rows) == _AT_ONCE:
            waiting.append((rows[-1][-1] + 1, high))


def with_sums(run: Run, ledger: Ledger) -> Run:
    """The run with its counts as the ledger has them."""
    pages, records, size = ledger.sums(run.id)
    return replace(run, pages=pages, records=records, bytes=size)


def _run(row: tuple[Any, ...]) -> Run:
    """Any: columns as SQLite gives them; the table is STRICT."""
    return Run(
        id=row[0], archive=row[1], mode=row[2], state=State(row[3]), started=row[4], ended=row[5],
        fingerprint=row[6], whole=bool(row[7]), announced=row[8], records=row[9], repeated=row[10],
        bytes=row[11], pages=row[12], outcome=row[13], synced=row[14], notes=json.loads(row[15]),
    )  # fmt: skip
