"""Leases: one holder at a time of something with a name, by the clock of the database."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import case, or_
from sqlalchemy.dialects import postgresql, sqlite

from holdfast.catalog import tables

if TYPE_CHECKING:
    from holdfast.catalog.database import Transaction

_ROW = tables.lease.c


def hold(tx: Transaction, name: str, holder: str, *, seconds: float) -> bool:
    """Whether `holder` has the lease from now for so many seconds: it had it before, or nobody has.
    Its token grows with each change of the holder.
    """
    now = tx.now()
    _make(tx, name)
    return (
        tx.leases.change_where(
            _ROW.name == name,
            or_(_ROW.holder == holder, _ROW.until < now),
            holder=holder,
            token=case((_ROW.holder == holder, _ROW.token), else_=_ROW.token + 1),
            until=now + round(seconds * 1e9),
        )
        == 1
    )


def _make(tx: Transaction, name: str) -> None:
    if not tx.leases.count(name=name):
        insert = sqlite.insert if tx.connection.dialect.name == "sqlite" else postgresql.insert
        row = insert(tables.lease).values(name=name, holder="", token=0, until=0)
        tx.connection.execute(row.on_conflict_do_nothing())


def release(tx: Transaction, name: str, holder: str) -> None:
    tx.leases.change_where(_ROW.name == name, _ROW.holder == holder, until=0)
