"""Tasks that ended go after the times of the global configuration; the journal keeps what there was
to say of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sqlalchemy import select

from holdfast.catalog import tables
from holdfast.core.errors import WorkerDiedError
from holdfast.core.records import TaskState
from holdfast.service.global_configuration import values_in

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy import ColumnElement

    from holdfast.catalog.database import Catalog

_ROW: Final = tables.task.c
_MINUTE: Final = 60_000_000_000
_BATCH: Final = 500
_LOST: Final = _ROW.outcome["code"].as_string() == WorkerDiedError.code
_ENDS: Final[Mapping[str, ColumnElement[bool]]] = {
    "done": _ROW.state.in_([TaskState.SUCCEEDED, TaskState.PARTIAL]),
    "error": (_ROW.state == TaskState.FAILED) & ~_LOST,
    "broken": (_ROW.state == TaskState.FAILED) & _LOST,
    "killed": _ROW.state == TaskState.CANCELLED,
}


def tidy(catalog: Catalog) -> None:
    """Removes tasks, with their lines, that ended longer ago than they are to stay."""
    with catalog.read() as tx:
        now = tx.now()
        values = values_in(tx)
    for end, ended_so in _ENDS.items():
        before = now - values[f"{end}_tasks_remove_period"] * _MINUTE
        while _remove(catalog, ended_so & (_ROW.ended < before) & (_ROW.holder == "")):
            pass


def _remove(catalog: Catalog, condition: ColumnElement[bool]) -> bool:
    """A batch for each transaction: others write, too. Whether there may be more."""
    with catalog.write() as tx:
        ids = list(tx.connection.scalars(select(_ROW.id).where(condition).limit(_BATCH)))
        if ids:
            tx.task_lines.remove(tables.task_line.c.task_id.in_(ids))
            tx.tasks.remove(_ROW.id.in_(ids))
    return len(ids) == _BATCH
