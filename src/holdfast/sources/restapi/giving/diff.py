"""What became different between two runs of a project."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from holdfast.core.errors import UsageError
from holdfast.sources.restapi.kept.latest import canonical, digest, state
from holdfast.sources.restapi.kept.scratch import scratch
from holdfast.sources.restapi.records.documents import key_of, parse
from holdfast.sources.restapi.records.writers import encode

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator, Sequence

    from holdfast.sources.restapi.kept.archive import Archive
    from holdfast.sources.restapi.kept.ledger import Run
    from holdfast.sources.restapi.project.project import Project


class Kind(StrEnum):
    ADDED = "added"
    CHANGED = "changed"
    REMOVED = "removed"


@dataclass(frozen=True, slots=True)
class Change:
    """One record that differs. `key` is its item key as JSON; without an item key, the whole
    record.
    """

    kind: Kind
    key: str
    fields: tuple[str, ...] = ()
    """Dotted names of what changed."""


def choose_runs(runs: Sequence[Run], old: str | None, new: str | None) -> tuple[Run, Run]:
    """The two runs to compare; without names the last two. A name may be cut short.

    Raises:
        UsageError: there are not two, or a name fits none or several.
    """
    if len(runs) < 2:  # noqa: PLR2004 - two are compared
        raise UsageError(
            "there is only one run to read, so there is nothing to compare it with",
            remedy="Run `holdfast api update` or `holdfast api run` again first.",
        )
    newer = _named(runs, new) if new else runs[-1]
    earlier = runs[: runs.index(newer)]
    if old:
        return _named(runs, old), newer
    if not earlier:
        raise UsageError(f"there is no run before {newer.id}")
    return earlier[-1], newer


def _named(runs: Sequence[Run], name: str) -> Run:
    found = [run for run in runs if run.id == name] or [
        run for run in runs if run.id.startswith(name)
    ]
    if len(found) != 1:
        known = ", ".join(run.id or "(first)" for run in runs)
        raise UsageError(
            f"{name!r} names {len(found) or 'no'} runs", remedy=f"The runs are: {known}."
        )
    return found[0]


def changes(project: Project, archive: Archive, old: Run, new: Run) -> Iterator[Change]:
    """Differences between the states as of two runs: added in the order of the API, then changed,
    then removed.

    Works on disk, so that collections of any size compare in flat memory.
    """
    with scratch() as database:
        database.execute(
            "CREATE TABLE old (key TEXT PRIMARY KEY, digest BLOB, met INTEGER DEFAULT 0)"
        )
        database.execute("CREATE TABLE changed (key TEXT PRIMARY KEY, body BLOB)")
        for batch in state(project, archive, until=old):
            database.executemany(
                "INSERT OR IGNORE INTO old (key, digest) VALUES (?, ?)",
                ((_key(project, record), digest(record)) for record in batch),
            )
        for batch in state(project, archive, until=new):
            for record in batch:
                key = _key(project, record)
                if _is_new(database, key, record):
                    yield Change(Kind.ADDED, key)
        yield from _changed(project, archive, old, database)
        for (key,) in database.execute("SELECT key FROM old WHERE NOT met ORDER BY key"):
            yield Change(Kind.REMOVED, key)


def _is_new(database: sqlite3.Connection, key: str, record: Any) -> bool:
    """Whether the old state lacks the key; notes the record when it is there with other content."""
    known = database.execute(
        "UPDATE old SET met = 1 WHERE key = ? RETURNING digest", (key,)
    ).fetchone()
    if known and known[0] != digest(record):
        database.execute("INSERT OR REPLACE INTO changed VALUES (?, ?)", (key, encode(record)))
    return known is None


def _changed(
    project: Project, archive: Archive, old: Run, database: sqlite3.Connection
) -> Iterator[Change]:
    if not database.execute("SELECT EXISTS (SELECT 1 FROM changed)").fetchone()[0]:
        return
    for batch in state(project, archive, until=old):
        for record in batch:
            key = _key(project, record)
            found = database.execute(
                "DELETE FROM changed WHERE key = ? RETURNING body", (key,)
            ).fetchone()
            if found:
                yield Change(Kind.CHANGED, key, tuple(_differing(record, parse(found[0]), "")))


def _key(project: Project, record: Any) -> str:
    return key_of(project, record) or canonical(record).decode()


def _differing(old: Any, new: Any, path: str) -> Iterator[str]:
    """Dotted names of the fields that differ; lists are compared whole."""
    if isinstance(old, dict) and isinstance(new, dict):
        for name in [*old, *(name for name in new if name not in old)]:
            inner = f"{path}.{name}" if path else name
            if (name in old) != (name in new):
                yield inner
            else:
                yield from _differing(old[name], new[name], inner)
    elif old != new or isinstance(old, bool) != isinstance(new, bool):
        yield path
