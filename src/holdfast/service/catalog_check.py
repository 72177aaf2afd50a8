"""Looking the catalog through: its file, and the audit's chain."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Final

from holdfast.catalog import tables
from holdfast.core.access import Verb
from holdfast.core.errors import CatalogError
from holdfast.service.audit import digest_of
from holdfast.service.catalog_backup import Form, copies

if TYPE_CHECKING:
    from collections.abc import Iterator

    from holdfast.core.access import Principal
    from holdfast.core.records import AuditRecord, Json
    from holdfast.service.ground import Ground

_AT_ONCE: Final = 2000
_ROW = tables.audit.c


@dataclass(slots=True)
class Checked:
    problems: list[str] = field(default_factory=list)
    records: int = 0
    """of the audit"""
    digest: str = ""
    """of the newest record: whoever has written it down elsewhere can tell that none is missing"""


def check(ground: Ground, who: Principal) -> Checked:
    """Every index against its table, every reference, every record of the audit against the one
    before. The newest copy of the catalog tells whether the audit's end was cut off since.
    """
    ground.allow(who, Verb.AUDIT_READ, "catalog")
    found = Checked()
    try:
        found.problems += ground.catalog.problems(thorough=True)
    except CatalogError as error:
        found.problems.append(error.message)
    anchor = _anchor(ground)
    for record in _records(ground):
        if record.previous != found.digest:
            found.problems.append(f"audit record {record.id} does not follow the one before it")
        if record.digest != digest_of(record):
            found.problems.append(f"audit record {record.id} is not as it was written")
        if anchor and anchor[0] == record.id:
            if anchor[1] != record.digest:
                found.problems.append(f"audit record {record.id} is another in the newest copy")
            anchor = None
        found.records += 1
        found.digest = record.digest
    if anchor:
        found.problems.append(f"audit record {anchor[0]} is in the newest copy, and gone here")
    return found


def audit_lines(ground: Ground, who: Principal, *, since: int = 0) -> Iterator[Json]:
    """The records of the audit as plain data, oldest first. `since`: nanoseconds since 1970."""
    ground.allow(who, Verb.AUDIT_READ, "audit")
    for record in _records(ground):
        if record.at >= since:
            yield asdict(record)


def _records(ground: Ground) -> Iterator[AuditRecord]:
    """Some at a time: there may be millions."""
    last = 0
    while True:
        with ground.catalog.read() as tx:
            group = tx.audit.all(_ROW.id > last, order=(_ROW.id,), limit=_AT_ONCE)
        if not group:
            return
        yield from group
        last = group[-1].id


def _anchor(ground: Ground) -> tuple[int, str] | None:
    """Number and digest of the newest record when the newest copy was made."""
    for path in copies(ground.folder):
        if path.suffix == f".{Form.DATABASE}":
            query = "SELECT id, digest FROM audit ORDER BY id DESC LIMIT 1"
            try:
                with closing(sqlite3.connect(f"file:{path}?mode=ro&immutable=1", uri=True)) as copy:
                    row: tuple[int, str] | None = copy.execute(query).fetchone()
                    return row
            except sqlite3.DatabaseError:
                continue  # a damaged copy says nothing
    return None
