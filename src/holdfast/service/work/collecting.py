"""The task that backs up what a target's source names on this machine.

`target.source`: `paths` (files and folders) with `excludes`; or `command` (an argument list whose
output is kept) with `filename`; or `api` (the folder of an archiver's project); or `module` (by
its name) with `resource` and `parameters`.
"""

from __future__ import annotations

import os
import socket
import tempfile
from contextlib import closing, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from holdfast.catalog.journal import note_kept
from holdfast.core.access import SERVER
from holdfast.core.errors import InterruptedByUserError, InvalidError
from holdfast.core.outcome import Outcome
from holdfast.core.records import Made, PoolKind
from holdfast.core.units import format_size
from holdfast.jobs.body import Ended
from holdfast.repo.lock import acquire
from holdfast.repo.saving.backup import BackupOptions, back_up
from holdfast.service.backups import row_of
from holdfast.service.ground import new_uid
from holdfast.service.keeping.contract import Kept, Order
from holdfast.service.keeping.in_repository import tags_of
from holdfast.service.work.parents import parent_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

    from holdfast.core.entries import Kind
    from holdfast.core.records import Backup, Json
    from holdfast.core.source import Problem, Source
    from holdfast.jobs.body import Run
    from holdfast.repo.format.snapshot import Snapshot
    from holdfast.repo.repository import Repository
    from holdfast.repo.saving.backup import BackupResult, Counts
    from holdfast.service.server import Service

_LOCK_WAIT = 300.0
_SHOWN = 20


def backup(service: Service, run: Run) -> Ended:
    """`spec.made`: full (everything is read again), incremental or differential; it says which
    earlier backup unchanged files are taken from, not what is needed to restore.
    """
    if run.task.target_id is None:
        raise InvalidError("the task names no target")
    target = service.targets.get(SERVER, run.task.target_id)
    with service.ground.catalog.read() as tx:
        pool = tx.pools.get(target.pool_id)
    if pool.kind is not PoolKind.REPOSITORY:
        raise InvalidError(
            "files are backed up into repository pools only",
            remedy="Nothing was done. Give the target another pool.",
        )
    record = service.pools.repository_for(pool)
    repository = service.pools.repository(record)
    made = Made(run.task.spec.get("made", Made.INCREMENTAL))
    parent = parent_of(service, target, made, record)
    made = made if parent is not None else Made.FULL
    order = Order(
        uid=new_uid(),
        target=target,
        name=run.task.spec.get("name") or f"{target.name}-{run.task.id}",
        received=service.ground.now(),
        manual=run.task.plan_id is None,
        facts={"source": target.source, "made": str(made)},
    )
    with _source(target.source, repository) as source:
        result = _keep(repository, source, order, parent, run)
    assert result.snapshot is not None
    kept = Kept(
        size=result.counts.bytes,
        stored=result.counts.data.stored + result.counts.trees.stored,
        files=result.counts.files,
        sha256="",
        repository_id=record.id,
        snapshot=result.snapshot.id,
    )
    with service.ground.catalog.write() as tx:
        run.fence(tx)
        row = row_of(order, kept, made=made, parent=parent)
        note_kept(tx, [tx.backups.add(row)])
        run.commit(tx, _ended(result, order))
    return _ended(result, order)


def _source(source: Json, repository: Repository) -> AbstractContextManager[Any]:
    if paths := source.get("paths"):
        from holdfast.sources.files.filters import Filters
        from holdfast.sources.files.source import FileSource

        own = [repository.store.address] if repository.store.properties.local else []
        filters = Filters(
            excludes=tuple(source.get("excludes") or ()),
            exclude_caches=bool(source.get("exclude_caches")),
            one_file_system=bool(source.get("one_file_system")),
            skip=tuple(map(os.fsencode, own)),
        )
        return nullcontext(FileSource([os.fsencode(path) for path in paths], filters))
    if command := source.get("command"):
        from holdfast.sources.command import StreamSource

        return nullcontext(
            StreamSource(
                clock=repository.clock,
                filename=os.fsencode(source.get("filename") or "stdout"),
                command=[os.fsencode(word) for word in command],
            )
        )
    if folder := source.get("api"):
        from holdfast.sources.restapi.giving.snapshot import ApiSource
        from holdfast.sources.restapi.project.project import load_project

        return closing(ApiSource(load_project(Path(folder))))
    if name := source.get("module"):
        return _module(name, source, repository)
    raise InvalidError(
        "the target has no source", remedy="Give it paths, a command, an api, or a module."
    )


@contextmanager
def _module(name: str, source: Json, repository: Repository) -> Iterator[Source]:
    from holdfast.sources.modules import Asked, module

    with tempfile.TemporaryDirectory(prefix="holdfast-") as scratch:
        asked = Asked(
            resource=source.get("resource") or "",
            parameters=source.get("parameters") or {},
            scratch=Path(scratch),
            clock=repository.clock,
        )
        with module(name).open(asked) as opened:
            yield opened


def _keep(
    repository: Repository, source: Source, order: Order, parent: Backup | None, run: Run
) -> BackupResult:
    options = BackupOptions(
        hostname=socket.gethostname(),
        username="holdfast",
        tags=tuple(tags_of(order)),
        time=order.received,
        parent=_snapshot(repository, parent),
    )
    lock = acquire(repository.objects, exclusive=False, clock=repository.clock, wait=_LOCK_WAIT)
    try:
        return back_up(repository, source, options, observer=_Observer(run), lock=lock)
    finally:
        lock.release()


def _snapshot(repository: Repository, parent: Backup | None) -> Snapshot | None:
    if parent is None:
        return None
    found: Iterator[Snapshot] = (
        each for each in repository.snapshots([]) if each.id == parent.snapshot
    )
    return next(found, None)


class _Observer:
    def __init__(self, run: Run) -> None:
        self._run = run
        self._problems = 0

    def item(self, action: str, path: bytes, kind: Kind, size: int) -> None:
        pass

    def problem(self, problem: Problem) -> None:
        self._problems += 1
        if self._problems <= _SHOWN:
            shown = problem.path.decode("utf-8", "backslashreplace")
            self._run.log("warning", f"{shown}: {problem.message}")

    def progress(self, counts: Counts, current: bytes) -> None:
        if self._run.stopping:
            raise InterruptedByUserError("the task was stopped")
        self._run.progress(
            done=counts.bytes_read, unit="bytes", current=current.decode("utf-8", "replace")
        )


def _ended(result: BackupResult, order: Order) -> Ended:
    report = {
        "backup": order.uid,
        "files": result.counts.files,
        "bytes": result.counts.bytes,
        "stored": result.counts.data.stored + result.counts.trees.stored,
        "problems": len(result.problems),
    }
    if result.outcome is Outcome.PARTIAL:
        message = f"{len(result.problems)} things could not be read as they are"
        return Ended(outcome=Outcome.PARTIAL, message=message, report=report)
    return Ended(
        report=report, message=f"{result.counts.files} files, {format_size(result.counts.bytes)}"
    )
