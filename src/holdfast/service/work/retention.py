"""Tasks of retention: what targets do not keep goes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from holdfast.core.access import SERVER
from holdfast.core.errors import HoldfastError
from holdfast.core.outcome import Outcome
from holdfast.core.units import format_size
from holdfast.jobs.body import Ended

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from holdfast.core.records import Backup, Target
    from holdfast.jobs.body import Run
    from holdfast.service.server import Service

_STALE = 3600 * 1_000_000_000
"""An upload in several requests that nobody has gone on with for so long is given up."""


def expire(service: Service, run: Run) -> Ended:
    """Applies keep rules: that of the task's target, or those of all."""
    return _each_target(service, run, service.backups.expire)


def deduplicate(service: Service, run: Run) -> Ended:
    """Whole backups of the same content: the newest stays. Of the task's target, or of all that
    want it.
    """

    def one(who: object, target: Target) -> Sequence[Backup]:
        del who
        return service.backups.deduplicate(SERVER, target) if target.deduplicate else []

    return _each_target(service, run, one)


def _each_target(service: Service, run: Run, act: Callable[..., Sequence[Backup]]) -> Ended:
    """One target that fails does not keep the others from their turn."""
    went: list[Backup] = []
    failed: list[str] = []
    targets = _targets(service, run)
    for number, target in enumerate(targets):
        run.progress(done=number, total=len(targets), unit="targets", current=target.name)
        try:
            gone = act(SERVER, target)
        except HoldfastError as error:
            failed.append(target.name)
            run.log("error", f"{target.name}: {error.message}")
            continue
        for each in gone:
            run.log("info", f"{target.name}: {each.name} ({format_size(each.size)}) went")
        went += gone
    report = {"backups": len(went), "bytes": sum(each.size for each in went), "failed": failed}
    if failed:
        message = f"{len(failed)} targets could not be seen to: {', '.join(failed)}"
        return Ended(outcome=Outcome.PARTIAL, message=message, report=report)
    return Ended(report=report)


def _targets(service: Service, run: Run) -> Sequence[Target]:
    if run.task.target_id is not None:
        return [service.targets.get(SERVER, run.task.target_id)]
    return service.targets.list(SERVER)


def stale_uploads(service: Service, run: Run) -> Ended:
    """Gives up uploads that nobody goes on with."""
    ended = service.uploads.sweep(service.ground.now() - _STALE)
    run.log("info", f"{ended} uploads were given up")
    return Ended(report={"uploads": ended})
