"""The state of an archive as of a run, and how it came to be: one record for each item key.

A run that covered the complete list replaces what was before it, so a record that it lacks is
deleted. A run of changes
lies over the state before it. Records without an item key are never merged.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import msgspec

from holdfast.sources.restapi.kept.scratch import KeySet, Rising, scratch
from holdfast.sources.restapi.kept.unique import all_differ
from holdfast.sources.restapi.records.documents import key_of, parse, records_of
from holdfast.sources.restapi.records.filters import split_key
from holdfast.sources.restapi.records.writers import encode

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator, Sequence

    from holdfast.sources.restapi.kept.archive import Archive
    from holdfast.sources.restapi.kept.ledger import Run
    from holdfast.sources.restapi.kept.scratch import Key
    from holdfast.sources.restapi.project.project import Project

_INT64: Final = 2**63 - 1
RUN: Final = "_run"
TIME: Final = "_time"
CHANGE: Final = "_change"
"""Fields that a history adds to each version: the run's name, the moment it was received, and
added, changed or removed.
"""


def records_in(project: Project, archive: Archive, run: Run) -> Iterator[list[Any]]:
    """What one run collected, a page at a time, in the order of the API."""
    for page in archive.pages(run):
        yield records_of(project, parse(page.body))


def state(project: Project, archive: Archive, *, until: Run | None = None) -> Iterator[list[Any]]:
    """The records as of the end of a run (default: the newest), each key once, in the order of the
    API.

    Records that a later run of changes added follow at the end, in the order in which they came.
    """
    runs = archive.runs()
    chain = standing_runs(runs if until is None else runs[: runs.index(until) + 1])
    base, changes = chain[0], chain[1:]
    if not project.data.item_key:
        for run in chain:
            yield from records_in(project, archive, run)
    elif not changes and (base.unique or all_differ(project, archive, base)):
        yield from records_in(project, archive, base)
    else:
        with scratch() as database:
            yield from _merged(project, archive, base, changes, database)


def standing_runs(runs: Sequence[Run]) -> Sequence[Run]:
    """The runs that make up the state after the last of them: the newest complete one and what
    follows it.
    """
    complete = [at for at, run in enumerate(runs) if run.whole or run.mode == "full"]
    return runs[complete[-1] :] if complete else runs


def _merged(
    project: Project,
    archive: Archive,
    base: Run,
    changes: Sequence[Run],
    database: sqlite3.Connection,
) -> Iterator[list[Any]]:
    database.execute(
        "CREATE TABLE overlay"
        " (key TEXT PRIMARY KEY, place INTEGER, body BLOB, used INTEGER DEFAULT 0)"
    )
    repeated = not base.unique and _load_repeated(project, archive, base, database)
    _load_changes(project, archive, changes, database)
    for batch in _once(project, archive, base, database):
        if changes or repeated:
            yield [_newest(database, key_of(project, record), record) for record in batch]
        else:
            yield batch
    added = database.execute("SELECT body FROM overlay WHERE NOT used ORDER BY place")
    while bodies := added.fetchmany(500):
        yield [parse(body) for (body,) in bodies]


def _once(
    project: Project, archive: Archive, run: Run, database: sqlite3.Connection
) -> Iterator[list[Any]]:
    """What one run collected, without records whose key was met before.

    While keys only grow, nothing has to be remembered. Once one does not, those before it are read
    again to be.
    """
    rising, met = Rising(), None
    for number, batch in enumerate(records_in(project, archive, run)):
        keys = _keys(project, batch)
        if met is None:
            if rising.goes_on(keys):
                yield batch
                continue
            met = KeySet(database)
            for earlier in itertools.islice(records_in(project, archive, run), number):
                met.fresh(_keys(project, earlier))
        fresh = met.fresh(keys)
        yield [record for record, first in zip(batch, fresh, strict=True) if first]


def _keys(project: Project, batch: list[Any]) -> list[Key | None]:
    """The item keys of a batch, as far as possible without turning each into text."""
    (name, *more) = project.data.item_key
    try:
        keys = [] if more else [record[name] for record in batch]
    except (KeyError, TypeError):  # a dotted key, or a record that is no object
        keys = []
    kinds = set(map(type, keys))
    if kinds == {str} or (kinds == {int} and max(map(abs, keys)) <= _INT64):
        return keys
    texts = (key_of(project, record) for record in batch)
    return [text if text is None else _plain(text) for text in texts]


def _plain(text: str) -> Key:
    """A key's JSON as what it stands for, so that it equals the same key found the short way."""
    value = json.loads(text)
    if isinstance(value, str) or (type(value) is int and abs(value) <= _INT64):
        return value
    return text.encode("utf-8", "surrogatepass")


def _load_repeated(
    project: Project, archive: Archive, base: Run, database: sqlite3.Connection
) -> bool:
    """Puts into `overlay` the last version of what one run holds more than once; whether there is
    any.
    """
    found = False
    with scratch() as own:
        met = KeySet(own)
        for batch in records_in(project, archive, base):
            fresh = met.fresh(_keys(project, batch))
            for record, first in zip(batch, fresh, strict=True):
                if not first:
                    found = True
                    database.execute(
                        "INSERT OR REPLACE INTO overlay (key, place, body) VALUES (?, 0, ?)",
                        (key_of(project, record), encode(record)),
                    )
    return found


def _load_changes(
    project: Project, archive: Archive, changes: Sequence[Run], database: sqlite3.Connection
) -> None:
    """Fills `overlay` with the newest version of each changed record; without a key all stay."""
    place = 0
    for run in changes:
        for batch in records_in(project, archive, run):
            for record in batch:
                place += 1
                database.execute(
                    "INSERT INTO overlay (key, place, body) VALUES (?, ?, ?)"
                    " ON CONFLICT DO UPDATE SET body = excluded.body",
                    (key_of(project, record), place, encode(record)),
                )


def _newest(database: sqlite3.Connection, key: str | None, record: Any) -> Any:
    found = database.execute(
        "UPDATE overlay SET used = 1 WHERE key = ? RETURNING body", (key,)
    ).fetchone()
    return parse(found[0]) if found else record


def history(project: Project, archive: Archive) -> Iterator[list[dict[str, Any]]]:
    """Every version of every record, in the order in which it was collected; what stayed the same
    is not repeated.

    A removed record is given once more, as its key alone.
    """
    with scratch() as database:
        database.execute("CREATE TABLE last (key TEXT PRIMARY KEY, digest BLOB, run INTEGER)")
        database.execute("CREATE INDEX by_run ON last (run)")
        for number, run in enumerate(archive.runs()):
            for page in archive.pages(run):
                moment = page_time(page.evidence, run)
                versions = []
                for record in records_of(project, parse(page.body)):
                    key = key_of(project, record)
                    if change := _note(database, key, record, number):
                        versions.append(_version(record, run, moment, change))
                yield versions
            if run.whole and project.data.item_key:
                yield _removed(project, database, number, run)


def digest(record: Any) -> bytes:
    """Equal for records that say the same, in whatever order their fields come."""
    return hashlib.blake2b(canonical(record), digest_size=16).digest()


def canonical(record: Any) -> bytes:
    """A record's one spelling: compact JSON with sorted fields."""
    try:
        return msgspec.json.encode(record, order="deterministic")
    except UnicodeEncodeError:
        return json.dumps(record, sort_keys=True, separators=(",", ":")).encode()


def page_time(evidence: dict[str, Any] | None, run: Run) -> str | None:
    """When a page was received, as ISO 8601 in UTC; of old archives nothing may be known."""
    if evidence and (moment := evidence.get("time")):
        return str(moment)
    return run_time(run)


def run_time(run: Run) -> str | None:
    if not run.started:
        return None
    return datetime.fromtimestamp(run.started / 1e9, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _note(database: sqlite3.Connection, key: str | None, record: Any, run: int) -> str | None:
    """Remembers the version; how it differs from the one before (None: not at all)."""
    if key is None:
        return "added"
    now = digest(record)
    last = database.execute("SELECT digest FROM last WHERE key = ?", (key,)).fetchone()
    database.execute("INSERT OR REPLACE INTO last VALUES (?, ?, ?)", (key, now, run))
    if last is None:
        return "added"
    return "changed" if last[0] != now else None


def _version(record: Any, run: Run, moment: str | None, change: str) -> dict[str, Any]:
    fields = record if isinstance(record, dict) else {"value": record}
    return {**fields, RUN: run.id, TIME: moment, CHANGE: change}


def _removed(
    project: Project, database: sqlite3.Connection, number: int, run: Run
) -> list[dict[str, Any]]:
    gone = database.execute("DELETE FROM last WHERE run < ? RETURNING key", (number,)).fetchall()
    moment = run_time(run)
    return [_version(keyed(project, key), run, moment, "removed") for (key,) in sorted(gone)]


def keyed(project: Project, key: str) -> dict[str, Any]:
    """A record of nothing but its item key."""
    names = project.data.item_key
    parts = json.loads(key) if len(names) > 1 else [json.loads(key)]
    record: dict[str, Any] = {}
    for name, part in zip(names, parts, strict=True):
        *outer, last = split_key(name, project.settings.splitter)
        inner = record
        for step in outer:
            inner = inner.setdefault(step, {})
        inner[last] = part
    return record
