"""The worker process: takes tasks from the queue and runs what is registered for their kinds."""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from holdfast.core.errors import CatalogError
from holdfast.jobs.worker import Worker, WorkerOptions
from holdfast.service import logs
from holdfast.service.generation import RESTART, Watch
from holdfast.service.machine import announce
from holdfast.service.monitoring import sampling
from holdfast.service.opening import CATALOG_LOOK_EVERY, open_sound_ground

if TYPE_CHECKING:
    import threading
    from pathlib import Path

    from holdfast.service.ground import Ground

_log = structlog.get_logger("holdfast.worker")
_LOOK_EVERY = 0.5
_PATIENCE = 30.0
"""Seconds that running tasks have when the worker is told to end; then they go on elsewhere."""


def run_worker(folder: Path, config: Path | None, name: str, stop: threading.Event) -> int:
    """Works until `stop`, or until it has to start anew; the process's exit code. Waits for a
    catalog that cannot be used.
    """
    logs.set_up(folder, f"worker-{name}")
    (folder / "run").mkdir(mode=0o700, exist_ok=True)
    ground = _opened(folder, config, stop)
    if ground is None:
        return 0
    catalog = ground.catalog
    limits = ground.configuration.limits
    worker = Worker(
        "holdfast.service.work.composition:compose",
        {"folder": str(folder), "config": str(config) if config else None},
        WorkerOptions(name=name, lock=folder / "run" / f"worker-{name}.lock", slots=limits.tasks),
    )
    watch = Watch(catalog)
    worker.start()
    try:
        announce(ground, f"worker {name} takes tasks here")
        with sampling(ground, worker.incarnation):
            while not stop.wait(_LOOK_EVERY):
                if watch.is_due():
                    return RESTART
    finally:
        worker.stop(_PATIENCE)
        catalog.close()
    return 0


def _opened(folder: Path, config: Path | None, stop: threading.Event) -> Ground | None:
    """None where it was told to stop first."""
    told = ""
    while not stop.is_set():
        try:
            return open_sound_ground(folder, config)
        except CatalogError as error:
            if error.message != told:
                told = error.message
                _log.error("catalog unusable", error=told, remedy=error.advice)
            stop.wait(CATALOG_LOOK_EVERY)
    return None
