"""The audit: one record for each security-relevant act, chained by digests."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

import structlog
from sqlalchemy import select, text

from holdfast.catalog import tables
from holdfast.core.records import AuditRecord

if TYPE_CHECKING:
    from holdfast.catalog.database import Transaction
    from holdfast.core.access import Principal

_log = structlog.get_logger("holdfast.audit")
_CHAIN_LOCK = 0x486F6C64
"""PostgreSQL's advisory lock that keeps the chain in order; SQLite has one writer anyway."""


def write_record(
    tx: Transaction,
    now: int,
    who: Principal,
    verb: str,
    subject: str,
    *,
    outcome: str = "allowed",
    detail: dict[str, Any] | None = None,
) -> None:
    """Adds a record to the chain. No secret may be in `detail`."""
    if tx.connection.dialect.name == "postgresql":
        tx.connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _CHAIN_LOCK})
    newest = select(tables.audit.c.digest).order_by(tables.audit.c.id.desc()).limit(1)
    previous = tx.connection.scalar(newest) or ""
    record = AuditRecord(
        at=now,
        actor=who.name,
        address=who.address,
        verb=str(verb),
        subject=subject,
        outcome=outcome,
        detail=detail or {},
        previous=previous,
    )
    values = {name: getattr(record, name) for name in _COVERED}
    tx.audit.add(AuditRecord(**values, digest=digest_of(record)))
    tx.after_commit(lambda: _tell(record))


def _tell(record: AuditRecord) -> None:
    """The same in the server's log, for whoever reads along."""
    names = ["subject", "actor", "address", "detail"]
    if record.outcome != "allowed":
        names.append("outcome")
    _log.info(
        record.verb, **{name: getattr(record, name) for name in names if getattr(record, name)}
    )


_COVERED = ("at", "actor", "address", "verb", "subject", "outcome", "detail", "previous")


def digest_of(record: AuditRecord) -> str:
    """What the record's digest must be, in hexadecimal."""
    covered = [getattr(record, name) for name in _COVERED]
    return hashlib.sha256(json.dumps(covered, sort_keys=True).encode()).hexdigest()


def first_broken(tx: Transaction) -> AuditRecord | None:
    """The first record that is not as it was written, or does not follow the one before."""
    previous = ""
    for record in tx.audit.all():
        if record.previous != previous or record.digest != digest_of(record):
            return record
        previous = record.digest
    return None
