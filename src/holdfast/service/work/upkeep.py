"""Tasks that keep pools in order: free space, look for damage, notice what nobody here did."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING

from holdfast.core.access import SERVER
from holdfast.core.errors import HoldfastError
from holdfast.core.outcome import Outcome
from holdfast.core.records import Custody, PoolKind
from holdfast.core.units import format_size
from holdfast.jobs.body import Ended
from holdfast.service.work.watching import RunProgress

if TYPE_CHECKING:
    from collections.abc import Iterator

    from holdfast.core.records import Pool, RepositoryRecord
    from holdfast.jobs.body import Run
    from holdfast.service.server import Service

_SCRATCH_AGE = 2 * 86400.0
"""Seconds after which a left-over in the scratch folder belongs to nobody."""


def prune(service: Service, run: Run) -> Ended:
    """Frees space in the task's pool, or in all."""
    freed = 0
    failed = []
    for pool, record in _repositories(service, run):
        try:
            freed += service.pools.prune(record, RunProgress(run))
        except HoldfastError as error:
            failed.append(pool.name)
            run.log("error", f"{pool.name}: {error.message} {error.advice}")
    run.log("info", f"{format_size(freed)} freed")
    return _ended(failed, {"bytes": freed})


def check(service: Service, run: Run) -> Ended:
    """Looks for damage; with `read_data` in the spec every byte is read."""
    failed = []
    problems: list[str] = []
    for pool in _pools(service, run):
        found = service.pools.check(
            SERVER,
            pool.name,
            read_data=bool(run.task.spec.get("read_data")),
            progress=RunProgress(run),
        )
        for problem in found:
            run.log("error", f"{pool.name}: {problem}")
        problems += found
        failed += [pool.name] if found else []
    return _ended(failed, {"problems": problems[:100]})


def tripwire(service: Service, run: Run) -> Ended:
    """Notices repositories that went back in time or lost what they had."""
    alarms = [
        f"{pool.name}: {alarm.problem}"
        for pool, record in _repositories(service, run)
        for alarm in service.pools.tripwire(record)
    ]
    for alarm in alarms:
        run.log("error", alarm)
    return _ended(alarms, {"alarms": alarms})


def measure(service: Service, run: Run) -> Ended:
    """Writes down how much space pools take."""
    sizes = {pool.name: service.pools.measure(pool) for pool in _pools(service, run)}
    return Ended(report={"bytes": sizes})


def purge(service: Service, run: Run) -> Ended:
    """Removes left-overs of work that died: from the scratch folder, and of restores from beside
    the application's folders.
    """
    scratch = service.ground.folder / "scratch"
    places = list(scratch.iterdir()) if scratch.is_dir() else []
    for folder in map(Path, service.ground.configuration.application.include):
        places += folder.parent.glob(f".{folder.name}.restore-*")
    removed = 0
    for path in places:
        if time.time() - path.lstat().st_mtime > _SCRATCH_AGE:
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
            run.log("info", f"{path.name} removed")
            removed += 1
    return Ended(report={"removed": removed})


def _pools(service: Service, run: Run) -> list[Pool]:
    with service.ground.catalog.read() as tx:
        if run.task.pool_id is not None:
            return [tx.pools.get(run.task.pool_id)]
        return list(tx.pools.all())


def _repositories(service: Service, run: Run) -> Iterator[tuple[Pool, RepositoryRecord]]:
    """Those whose key the server holds."""
    for pool in _pools(service, run):
        if pool.kind is PoolKind.REPOSITORY:
            with service.ground.catalog.read() as tx:
                found = tx.repositories.all(pool_id=pool.id, custody=Custody.SERVER)
            for record in found:
                yield pool, record


def _ended(failed: list[str], report: dict[str, object]) -> Ended:
    if failed:
        message = f"problems: {'; '.join(failed)}"
        return Ended(outcome=Outcome.PARTIAL, message=message, report=report)
    return Ended(report=report)
