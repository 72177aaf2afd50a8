"""The composition root of a worker: which kinds of tasks there are, and what runs them."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from holdfast.jobs.body import Composition, Kind
from holdfast.service.plans import make_task
from holdfast.service.server import open_service
from holdfast.service.work import collecting, giving, moving, own, proving, retention, upkeep

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from holdfast.core.records import Json
    from holdfast.jobs.body import Ended, Run
    from holdfast.service.server import Service

LIGHT: Mapping[str, Callable[[Service, Run], Ended]] = {
    "expire": retention.expire,
    "deduplicate": retention.deduplicate,
    "stale-uploads": retention.stale_uploads,
    "measure": upkeep.measure,
    "tripwire": upkeep.tripwire,
    "purge": upkeep.purge,
}
"""Over within a second or so."""
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
}


def compose(settings: Json) -> Composition:
    """`settings`: `folder`, and `config` or None."""
    config = settings.get("config")
    service = open_service(Path(settings["folder"]), Path(config) if config else None)
    kinds = {name: Kind(body=partial(body, service), light=True) for name, body in LIGHT.items()}
    kinds |= {name: Kind(body=partial(body, service)) for name, body in HEAVY.items()}
    return Composition(catalog=service.ground.catalog, kinds=kinds, make_task=make_task)
