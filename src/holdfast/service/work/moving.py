"""Tasks that put backups into another pool: copying, moving, and following a target that moved.

The new place is durable and recorded before the old one goes, so that a backup is readable at every
moment (I2).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from holdfast.core.access import SERVER
from holdfast.core.errors import InterruptedByUserError, InvalidError
from holdfast.jobs.body import Ended

if TYPE_CHECKING:
    from collections.abc import Callable

    from holdfast.core.records import Backup, Pool
    from holdfast.jobs.body import Run
    from holdfast.service.server import Service


def copy(service: Service, run: Run) -> Ended:
    """A second backup, in the pool `spec.pool_id`."""
    return Ended(report={"backup": _named(service, run, keep_first=True)})


def move(service: Service, run: Run) -> Ended:
    """The backup goes on in the pool `spec.pool_id`, under its own uid."""
    return Ended(report={"backup": _named(service, run, keep_first=False)})


def _named(service: Service, run: Run, *, keep_first: bool) -> str:
    pool_id = run.task.spec.get("pool_id")
    if not isinstance(pool_id, int) or run.task.backup_id is None:
        raise InvalidError("the task names no pool, or no backup")
    with service.ground.catalog.read() as tx:
        pool = tx.pools.get(pool_id)
    backup = service.backups.get(SERVER, run.task.backup_id)
    return _transfer(service, run, backup, pool, keep_first=keep_first)


def relocate(service: Service, run: Run) -> Ended:
    """Brings all backups of the task's target to where the target now is."""
    assert run.task.target_id is not None
    target = service.targets.get(SERVER, run.task.target_id)
    with service.ground.catalog.read() as tx:
        pool = tx.pools.get(target.pool_id)
    backups = service.backups.list(SERVER, target, oldest_first=True)
    for number, backup in enumerate(backups):
        run.progress(done=number, total=len(backups), unit="backups", current=backup.name)
        if backup.pool_id != pool.id:
            _transfer(service, run, backup, pool, keep_first=False)
        else:
            service.backups.rename(SERVER, backup, target)
    return Ended(report={"backups": len(backups)})


def _transfer(service: Service, run: Run, backup: Backup, pool: Pool, *, keep_first: bool) -> str:
    """Streams one backup into another pool; the uid it has there."""
    target = service.targets.get(SERVER, backup.target_id)
    new = service.backups.transfer(
        backup, target, pool, keep_first=keep_first, watch=_watch(run, backup.size)
    )
    run.log("info", f"{backup.name} is in {pool.name}")
    return new.uid


def _watch(run: Run, total: int) -> Callable[[int], None]:
    done = 0

    def step(count: int) -> None:
        nonlocal done
        if run.stopping:
            raise InterruptedByUserError("the task was stopped")
        done += count
        run.progress(done=done, total=total, unit="bytes")

    return step
