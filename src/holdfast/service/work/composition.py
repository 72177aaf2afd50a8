"""The composition root of a worker: which kinds of tasks there are, and what runs them."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from holdfast.core.errors import HoldfastError
from holdfast.jobs.body import Composition, Ended, Kind
from holdfast.service import logs
from holdfast.service.global_configuration import is_resting
from holdfast.service.plans import make_task
from holdfast.service.remote import BACKUP, RESTORE
from holdfast.service.server import open_service
from holdfast.service.tidying import tidy
from holdfast.service.work import (
    collecting,
    giving,
    moving,
    own,
    proving,
    remote,
    retention,
    upkeep,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from holdfast.core.records import Json
    from holdfast.jobs.body import Body, Run
    from holdfast.service.server import Service

_log = structlog.get_logger("holdfast.tasks")
LIGHT: Mapping[str, Callable[[Service, Run], Ended]] = {
    "expire": retention.expire,
    "deduplicate": retention.deduplicate,
    "stale-uploads": retention.stale_uploads,
    "measure": upkeep.measure,
    "tripwire": upkeep.tripwire,
    "purge": upkeep.purge,
    BACKUP: remote.back_up,
    RESTORE: remote.restore,
}
"""Over within a second or so, or waiting for an agent."""
HEAVY: Mapping[str, Callable[[Service, Run], Ended]] = {
    "backup": collecting.backup,
    "restore": giving.restore,
    "verify": proving.verify,
    "drill": proving.drill,
    "prune": upkeep.prune,
    "check": upkeep.check,
    "copy": moving.copy,
    "move": moving.move,
    "relocate": moving.relocate,
    "self-backup": own.self_backup,
    "self-restore": own.self_restore,
    "catalog-backup": own.catalog_backup,
}


def compose(settings: Json) -> Composition:
    """`settings`: `folder`, and `config` or None."""
    config = settings.get("config")
    logs.set_up_for_task(Path(settings["folder"]))
    service = open_service(Path(settings["folder"]), Path(config) if config else None)
    kinds = {
        name: Kind(body=_told(partial(body, service)), light=True) for name, body in LIGHT.items()
    }
    kinds |= {name: Kind(body=_told(partial(body, service))) for name, body in HEAVY.items()}
    return Composition(
        catalog=service.ground.catalog,
        kinds=kinds,
        make_task=make_task,
        is_resting=is_resting,
        tidy=tidy,
    )


def _told(body: Body) -> Body:
    """The same, with its beginning and its end in the server's log."""

    def run_told(run: Run) -> Ended | None:
        task = run.task
        log = _log.bind(subject=f"task {task.id}", kind=task.kind)
        log.info("task.begin", actor=task.actor)
        try:
            ended = body(run)
        except HoldfastError as error:
            log.info("task.end", outcome=error.code, message=error.message)
            raise
        except BaseException as error:
            log.info("task.end", outcome="failed", message=type(error).__name__)
            raise
        ended = ended or Ended()
        log.info("task.end", outcome=str(ended.outcome), message=ended.message, report=ended.report)
        return ended

    return run_told
