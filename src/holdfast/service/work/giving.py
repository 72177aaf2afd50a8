"""The task that restores a backup onto this machine.

`spec.destination`: an absolute folder, made where it is not; `spec.include`: paths of the backup,
all of it where there are none; `spec.overwrite` and `spec.verify` as on the command line.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from holdfast.core.access import SERVER
from holdfast.core.errors import InterruptedByUserError, InvalidError
from holdfast.core.outcome import Outcome
from holdfast.core.patterns import Patterns
from holdfast.core.records import Shape
from holdfast.jobs.body import Ended
from holdfast.repo.lock import acquire
from holdfast.repo.restoring.restore import restore as restore_snapshot
from holdfast.repo.restoring.restore_options import Overwrite, RestoreOptions, Selection
from holdfast.service.work.watching import RunProgress

if TYPE_CHECKING:
    from holdfast.core.records import Backup
    from holdfast.jobs.body import Run
    from holdfast.service.keeping.contract import Outgoing
    from holdfast.service.server import Service

_LOCK_WAIT = 300.0
_SHOWN = 20


def restore(service: Service, run: Run) -> Ended:
    if run.task.backup_id is None:
        raise InvalidError("the task names no backup")
    backup = service.backups.get(SERVER, run.task.backup_id)
    destination = Path(str(run.task.spec.get("destination", "")))
    if not destination.is_absolute():
        raise InvalidError(f"{destination} is no absolute folder to restore into")
    target = service.targets.get(SERVER, backup.target_id)
    if backup.snapshot and target.shape is Shape.MULTI:
        return _from_repository(service, run, backup, destination)
    destination.mkdir(parents=True, exist_ok=True)
    if target.shape is Shape.SINGLE:
        name = Path(backup.name).name or backup.uid
        _write(service.backups.open(SERVER, backup), destination, name, run)
        return Ended(report={"files": 1, "bytes": backup.size})
    return _from_folder(service, run, backup, destination)


def _from_repository(service: Service, run: Run, backup: Backup, destination: Path) -> Ended:
    """With all metadata, by the engine (I10)."""
    assert backup.repository_id is not None
    with service.ground.catalog.read() as tx:
        record = tx.repositories.get(backup.repository_id)
    repository = service.pools.repository(record)
    include = [str(path) for path in run.task.spec.get("include") or ()]
    options = RestoreOptions(
        selection=Selection(includes=(Patterns(include),) if include else ()),
        overwrite=Overwrite(run.task.spec.get("overwrite", Overwrite.ALWAYS)),
        verify=bool(run.task.spec.get("verify")),
    )
    snapshot = next(each for each in repository.snapshots([]) if each.id == backup.snapshot)
    lock = acquire(repository.objects, exclusive=False, clock=repository.clock, wait=_LOCK_WAIT)
    try:
        report = restore_snapshot(
            repository,
            snapshot,
            os.fsencode(destination),
            options=options,
            progress=RunProgress(run),
            lock=lock,
        )
    finally:
        lock.release()
    for failure in report.failures[:_SHOWN]:
        shown = failure.path.decode("utf-8", "backslashreplace")
        run.log("error", f"{shown}: {failure.message}")
    figures = {
        "files": report.files_restored,
        "bytes": report.bytes_restored,
        "failures": len(report.failures),
    }
    if report.failures:
        message = f"{len(report.failures)} entries could not be restored"
        return Ended(outcome=Outcome.PARTIAL, message=message, report=figures)
    return Ended(report=figures)


def _from_folder(service: Service, run: Run, backup: Backup, destination: Path) -> Ended:
    """From a plain pool, whose entries are checked names."""
    files = size = 0
    for entry in service.backups.entries(SERVER, backup):
        place = destination / entry.path
        if entry.kind == "dir":
            place.mkdir(parents=True, exist_ok=True)
        elif entry.kind == "file":
            place.parent.mkdir(parents=True, exist_ok=True)
            content = service.backups.open(SERVER, backup, entry.path)
            _write(content, place.parent, place.name, run)
            files += 1
            size += entry.size
            run.progress(done=files, total=backup.files, unit="files", current=entry.path)
    return Ended(report={"files": files, "bytes": size})


def _write(content: Outgoing, folder: Path, name: str, run: Run) -> None:
    """Under its name only when it is whole and on the disk; never through a link that is there."""
    temporary = folder / f".{name}.{run.task.id}.part"
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            for piece in content.pieces():
                if run.stopping:
                    raise InterruptedByUserError("the task was stopped")
                file.write(piece)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(folder / name)
    finally:
        temporary.unlink(missing_ok=True)
