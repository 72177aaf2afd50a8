"""The order to restore: into a folder of this machine, or through a module into an application."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from holdfast.agent.repositories import opened
from holdfast.core.errors import InvalidError
from holdfast.core.ids import ObjectId
from holdfast.core.orders import OrderState
from holdfast.core.patterns import Patterns
from holdfast.repo.browsing.kept import KeptFiles
from holdfast.repo.browsing.streaming import ReadPool
from holdfast.repo.lock import acquire
from holdfast.repo.restoring.restore import restore
from holdfast.repo.restoring.restore_options import Overwrite, RestoreOptions, Selection
from holdfast.sources.modules import Asked, module

if TYPE_CHECKING:
    from holdfast.agent.errand import Errand
    from holdfast.repo.restoring.restore import RestoreReport

_LOCK_WAIT: Final = 600.0
_SHOWN: Final = 50


def run(errand: Errand) -> dict[str, Any]:
    """The outcome. Finished files of an earlier start are kept."""
    if not errand.spec.get("put_back"):
        destination = Path(str(errand.spec.get("destination") or ""))
        if not destination.is_absolute():
            raise InvalidError(f"{destination} is no absolute folder to restore into")
        return _outcome(errand, _restore(errand, destination))
    return _put_back(errand)


def _put_back(errand: Errand) -> dict[str, Any]:
    """Into the application, read from the pool as the module asks for it."""
    with errand.scratch() as scratch, opened(errand) as repository:
        snapshot = repository.load_snapshot(ObjectId(str(errand.spec["snapshot"])))
        lock = acquire(repository.objects, exclusive=False, clock=repository.clock, wait=_LOCK_WAIT)
        pool = ReadPool(repository)
        try:
            with lock.refreshing():
                errand.telling.progress(OrderState.TRANSMITTING, {}, now=True)
                kept = KeptFiles(pool, snapshot.tree, os.fsencode(snapshot.file.paths[0]))
                said = module(str(errand.spec["module"])).put_back(_asked(errand, scratch), kept)
        finally:
            pool.close()
            lock.release()
    errand.telling.line("info", said)
    return {"files": 0, "bytes": 0, "failures": 0, "message": said}


def _asked(errand: Errand, scratch: Path) -> Asked:
    return Asked(
        resource=str(errand.spec.get("destination") or ""),
        parameters=dict(errand.spec.get("parameters") or {}),
        scratch=scratch,
        clock=errand.clock,
    )


def _restore(errand: Errand, destination: Path) -> RestoreReport:
    spec = errand.spec
    include = [str(path) for path in spec.get("include") or ()]
    options = RestoreOptions(
        selection=Selection(includes=(Patterns(include),) if include else ()),
        overwrite=Overwrite(spec.get("overwrite") or Overwrite.ALWAYS),
        verify=bool(spec.get("verify")),
        workers=len(os.sched_getaffinity(0)),
    )
    with opened(errand) as repository:
        snapshot = repository.load_snapshot(ObjectId(str(spec["snapshot"])))
        lock = acquire(repository.objects, exclusive=False, clock=repository.clock, wait=_LOCK_WAIT)
        try:
            return restore(
                repository,
                snapshot,
                os.fsencode(destination),
                options=options,
                progress=_Progress(errand),
                lock=lock,
            )
        finally:
            lock.release()


def _outcome(errand: Errand, report: RestoreReport) -> dict[str, Any]:
    for failure in report.failures[:_SHOWN]:
        shown = failure.path.decode("utf-8", "replace")
        errand.telling.line("error", f"{shown}: {failure.message}")
    return {
        "files": report.files_restored,
        "bytes": report.bytes_restored,
        "failures": len(report.failures),
    }


class _Progress:
    """See `core.progress.Progress`."""

    def __init__(self, errand: Errand) -> None:
        self._telling = errand.telling
        self._shown: dict[str, Any] = {}

    def stage(self, name: str, *, items: int | None = None, bytes: int | None = None) -> None:  # noqa: A002
        by_bytes = bytes is not None
        total = bytes if by_bytes else items
        self._shown = {"done": 0, "unit": "bytes" if by_bytes else "items", "current": name}
        if total is not None:
            self._shown["total"] = total
        self._telling.progress(OrderState.TRANSMITTING, self._shown)

    def add(self, items: int = 0, bytes: int = 0) -> None:  # noqa: A002
        self._shown["done"] += bytes if self._shown.get("unit") == "bytes" else items
        self._telling.progress(OrderState.TRANSMITTING, self._shown)

    def note(self, message: str) -> None:
        self._telling.line("info", message)
