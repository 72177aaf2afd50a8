"""Tasks of proof: reading what is kept, and giving it back for a trial."""

from __future__ import annotations

import hashlib
import os
import shutil
from typing import TYPE_CHECKING

from holdfast.catalog import tables
from holdfast.core.access import SERVER
from holdfast.core.errors import DamagedError, HoldfastError, InterruptedByUserError
from holdfast.core.outcome import Outcome
from holdfast.core.records import BackupState, Shape
from holdfast.jobs.body import Ended

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from holdfast.core.records import Backup
    from holdfast.jobs.body import Run
    from holdfast.service.keeping.contract import Outgoing
    from holdfast.service.server import Service

_ROW = tables.backup.c


def verify(service: Service, run: Run) -> Ended:
    """Reads every byte of the task's backup, or of its target's, or so much of what was not read
    for longest that all is read within `proof.verify_days`.
    """
    backups = _to_verify(service, run)
    total, done = sum(each.size for each in backups), 0
    bad: list[str] = []

    def step(count: int) -> None:
        nonlocal done
        _stop_where_wanted(run)
        done += count
        run.progress(done=done, total=total, unit="bytes")

    for backup in backups:
        run.progress(current=backup.name)
        verified = service.pools.keeper(backup).verify(backup, step)
        service.backups.note_verified(backup, verified)
        if not verified.good:
            bad.append(backup.name)
            for problem in verified.damaged:
                run.log("error", f"{backup.name}: {problem}")
    return _ended(bad, {"backups": len(backups), "bytes": done, "damaged": bad})


def _to_verify(service: Service, run: Run) -> Sequence[Backup]:
    if run.task.backup_id is not None:
        return [service.backups.get(SERVER, run.task.backup_id)]
    oldest_proof = (_ROW.proven.is_not(None), _ROW.proven, _ROW.id)
    with service.ground.catalog.read() as tx:
        if run.task.target_id is not None:
            return tx.backups.all(target_id=run.task.target_id, state=BackupState.KEPT)
        waiting = tx.backups.all(state=BackupState.KEPT, order=oldest_proof)
    # Once a day, so a share of all: and one more, so that rounding leaves nothing behind.
    days = max(service.ground.configuration.proof.verify_days, 1)
    budget = sum(each.size for each in waiting) / days
    chosen = []
    for backup in waiting:
        chosen.append(backup)
        budget -= backup.size
        if budget < 0:
            break
    return chosen


def drill(service: Service, run: Run) -> Ended:
    """Restores the newest backup of the task's target, or of each, into a scratch folder, reads it
    from the disk again and compares with what was written down when it was taken.
    """
    bad: list[str] = []
    with service.ground.catalog.read() as tx:
        if run.task.target_id is not None:
            targets = [tx.targets.get(run.task.target_id)]
        else:
            targets = list(tx.targets.all())
    for number, target in enumerate(targets):
        run.progress(done=number, total=len(targets), unit="targets", current=target.name)
        newest = service.backups.list(SERVER, target, states=[BackupState.KEPT], limit=1)
        if not newest:
            continue
        try:
            _try_out(service, run, newest[0], target.shape)
        except InterruptedByUserError:
            raise
        except HoldfastError as error:
            bad.append(target.name)
            run.log("error", f"{target.name}: {error.message}")
        else:
            service.backups.note_restorable(newest[0])
            run.log("info", f"{target.name}: {newest[0].name} was restored and is whole")
    return _ended(bad, {"targets": len(targets), "failed": bad})


def _try_out(service: Service, run: Run, backup: Backup, shape: Shape) -> None:
    scratch = service.ground.folder / "scratch" / f"drill-{run.task.id}"
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True, mode=0o700)
    try:
        if shape is Shape.SINGLE:
            digest = _restored(service.backups.open(SERVER, backup), scratch / "content", run)
            if backup.sha256 and digest != backup.sha256:
                raise DamagedError(f"{backup.name} came back with other content than was taken")
        else:
            _try_tree(service, run, backup, scratch)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _try_tree(service: Service, run: Run, backup: Backup, scratch: Path) -> None:
    """Every file is restored, one after the other: what counts is that each comes back whole."""
    files = size = 0
    for entry in service.backups.entries(SERVER, backup):
        if entry.kind != "file":
            continue
        _restored(service.backups.open(SERVER, backup, entry.path), scratch / "content", run)
        files += 1
        size += entry.size
    if files != backup.files:
        raise DamagedError(f"{files} files of {backup.name} came back of {backup.files}")


def _restored(content: Outgoing, path: Path, run: Run) -> str:
    """Writes content to the disk and gives the digest of what the disk then has."""
    with path.open("wb") as file:
        for piece in content.pieces():
            _stop_where_wanted(run)
            file.write(piece)
        file.flush()
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    if content.size is not None and path.stat().st_size != content.size:
        raise DamagedError("fewer bytes came back than were taken")
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _stop_where_wanted(run: Run) -> None:
    if run.stopping:
        raise InterruptedByUserError("the task was stopped")


def _ended(bad: Sequence[str], report: dict[str, object]) -> Ended:
    if bad:
        message = f"damage was found: {', '.join(bad)}"
        return Ended(outcome=Outcome.PARTIAL, message=message, report=report)
    return Ended(report=report)
