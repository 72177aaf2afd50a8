"""Leases: one node at a time holds something that has a name, for as long as it lives."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import String, cast, select
from sqlalchemy.dialects import postgresql, sqlite

from holdfast.catalog import tables
from holdfast.jobs.nodes import LIVE

if TYPE_CHECKING:
    from holdfast.catalog.database import Transaction

_ROW = tables.lease.c
_NODE = tables.node.c


def hold(tx: Transaction, name: str, holder: str) -> bool:
    """Whether `holder`, a live node's incarnation, has the lease: it had it before, or nobody who
    lives has. Its token grows with each change of the holder.
    """
    lease = tx.leases.find(name=name)
    if lease is None:
        insert = sqlite.insert if tx.connection.dialect.name == "sqlite" else postgresql.insert
        row = insert(tables.lease).values(name=name, holder="", token=0, until=0)
        tx.connection.execute(row.on_conflict_do_nothing())
    elif lease.holder == holder:
        return True
    incarnation = _NODE.name.concat("#").concat(cast(_NODE.number, String))
    living = select(incarnation).where(_NODE.state == LIVE)
    free = _ROW.holder.not_in(living)
    values = {"holder": holder, "token": _ROW.token + 1}
    return tx.leases.change_where(_ROW.name == name, free, **values) == 1


def release(tx: Transaction, name: str, holder: str) -> None:
    tx.leases.change_where(_ROW.name == name, _ROW.holder == holder, holder="")
