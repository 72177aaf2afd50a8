"""The journal: what happened, for people to read. Lines are written with what they tell of, in its
transaction, and stay when that is gone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import select

from holdfast.catalog import tables
from holdfast.core.records import Area, JournalLine

if TYPE_CHECKING:
    from collections.abc import Sequence

    from holdfast.catalog.database import Transaction
    from holdfast.core.records import Backup, Task


def note(
    tx: Transaction,
    area: Area,
    at: int,
    text: str,
    *,
    level: str = "info",
    actor: str = "",
    task_id: int | None = None,
    kind: str = "",
    state: str = "",
    source: str = "",
    host_id: int | None = None,
    host: str = "",
    backup_id: int | None = None,
) -> None:
    """Adds a line; see `JournalLine` for what each value is."""
    tx.journal.add(
        JournalLine(
            area=area, at=at, level=level, text=text, actor=actor, task_id=task_id, kind=kind,
            state=state, source=source, host_id=host_id, host=host, backup_id=backup_id,
        )
    )  # fmt: skip


_WORDS = {
    "queued": "waits in the queue",
    "running": "has begun",
    "paused": "is paused",
    "succeeded": "is done",
    "partial": "is partly done",
    "failed": "has failed",
    "cancelled": "was killed",
}
_LEVELS = {"failed": "error", "partial": "warning"}


def note_task(tx: Transaction, task: Task, at: int) -> None:
    """Says what state a task is in from now on."""
    host = tx.hosts.find(id=task.host_id) if task.host_id else None
    why = str(task.outcome.get("message") or "")
    note(
        tx,
        Area.TASKS,
        at,
        f"task {task.id} {_WORDS[task.state]}" + (f": {why}" if why else ""),
        level=_LEVELS.get(task.state, "info"),
        actor=task.actor,
        task_id=task.id,
        kind=task.kind,
        state=task.state,
        source=str(task.spec.get("resource") or ""),
        host_id=task.host_id,
        host=host.name if host else "",
    )


def note_kept(tx: Transaction, backups: Sequence[Backup]) -> None:
    """Says that backups, which have just been written down, are kept."""
    if not backups:
        return
    row = tables.backup.c
    uids = [each.uid for each in backups]
    numbers = dict(tx.connection.execute(select(row.uid, row.id).where(row.uid.in_(uids))).tuples())
    tx.journal.add_all(
        JournalLine(
            area=Area.REPOSITORY, at=each.received, text=f"{each.name} is kept",
            backup_id=numbers.get(each.uid),
        )
        for each in backups
    )  # fmt: skip
