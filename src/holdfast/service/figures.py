"""Figures about the whole server, for those who watch it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sqlalchemy import func, select

from holdfast.catalog import tables
from holdfast.core.access import Verb
from holdfast.core.records import BackupState

if TYPE_CHECKING:
    from collections.abc import Sequence

    from holdfast.core.access import Principal
    from holdfast.service.server import Service

_SECOND = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Figure:
    """A metric; `values` by the values of its labels."""

    name: str
    help: str
    labels: tuple[str, ...] = ()
    values: dict[tuple[str, ...], float] = field(default_factory=dict)


def figures(service: Service, who: Principal) -> Sequence[Figure]:
    """Raises NotSignedInError, DeniedError."""
    backup, target, task = tables.backup.c, tables.target.c, tables.task.c
    with service.ground.read(who, Verb.METRICS_READ, "metrics") as tx:
        run = tx.connection.execute
        backups = run(
            select(backup.state, func.count(), func.sum(backup.size)).group_by(backup.state)
        ).all()
        damaged = tx.backups.count(backup.damaged != "", state=BackupState.KEPT)
        newest = run(
            select(target.name, target.uid, target.proven, func.max(backup.received))
            .join_from(tables.target, tables.backup, isouter=True)
            .group_by(target.id, target.name, target.uid, target.proven)
        ).all()
        tasks = run(select(task.kind, task.state, func.count()).group_by(task.kind, task.state))
        by_task: dict[tuple[str, ...], float] = {
            (kind, state): float(number) for kind, state, number in tasks
        }
        pools = run(
            select(tables.pool.c.name, func.sum(tables.repository.c.stored))
            .join_from(tables.pool, tables.repository, isouter=True)
            .group_by(tables.pool.c.name)
        ).all()
    now = service.ground.now()
    return [
        Figure(
            "holdfast_backups", "Backups by state.", ("state",),
            {(state,): number for state, number, _ in backups},
        ),
        Figure(
            "holdfast_backup_bytes", "Bytes of content of backups by state.", ("state",),
            {(state,): float(size or 0) for state, _, size in backups},
        ),
        Figure(
            "holdfast_backups_damaged", "Kept backups that a verification found damaged.", (),
            {(): damaged},
        ),
        Figure(
            "holdfast_target_newest_age_seconds", "Age of a target's newest backup.",
            ("target", "uid"),
            {(name, uid): (now - at) / _SECOND for name, uid, _, at in newest if at is not None},
        ),
        Figure(
            "holdfast_target_proven_age_seconds",
            "How long ago a backup of the target was restored and compared.", ("target", "uid"),
            {(name, uid): (now - at) / _SECOND for name, uid, at, _ in newest if at is not None},
        ),
        Figure("holdfast_tasks", "Tasks by kind and state.", ("kind", "state"), by_task),
        Figure(
            "holdfast_pool_stored_bytes", "Bytes that a pool's repositories take.", ("pool",),
            {(name,): float(stored or 0) for name, stored in pools},
        ),
    ]  # fmt: skip
