"""The journal: what happened, for people to read. Lines are written with what they tell of, in its
transaction, and stay when that is gone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from holdfast.core.records import JournalLine

if TYPE_CHECKING:
    from holdfast.catalog.database import Transaction
    from holdfast.core.records import Area


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
