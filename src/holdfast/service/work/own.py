"""Tasks about the server itself: backing up its state and the application, and restoring them."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

from holdfast.core.access import SERVER
from holdfast.core.errors import HoldfastError, InterruptedByUserError, RestoreError
from holdfast.core.units import format_size
from holdfast.jobs.body import Ended
from holdfast.service import app_archive, state
from holdfast.service.application import AUTOMATIC
from holdfast.service.catalog_backup import copy_catalog
from holdfast.service.generation import bump

if TYPE_CHECKING:
    from collections.abc import Callable

    from holdfast.jobs.body import Run
    from holdfast.service.server import Service

_RESTART_SECONDS = 120.0


def self_backup(service: Service, run: Run) -> Ended:
    """Made by the schedule. Old ones go even where making a new one failed."""
    application = service.application
    try:
        with application.busy():
            name = application.automatic_name(AUTOMATIC)
            backup = application.make(name, _watch(run))
    finally:
        kept = (service.settings.opened("application.backups") or {}).get("cronMaxKeep", 3)
        for each in application.expire_automatic(int(kept)):
            run.log("info", f"{each.name} went")
    return Ended(report={"backup": backup.uid, "name": backup.name, "bytes": backup.size})


def catalog_backup(service: Service, run: Run) -> Ended:
    """A copy of the catalog in the data folder, looked through."""
    made = copy_catalog(service.ground, SERVER)
    run.log("info", f"{made.path.name}, {format_size(made.size)}")
    return Ended(report={"path": str(made.path), "bytes": made.size})


def self_restore(service: Service, run: Run) -> Ended:
    """Unpacks beside what is there, swaps, restarts the application, and then brings the server's
    own state back; undone where the restart fails. The server's processes start anew afterwards.
    """
    key = str(run.task.spec["key"])
    mark = f"restore-{run.task.id}"
    with service.application.busy(restoring=True):
        app_archive.swap_back(app_archive.swaps_of(service.ground, mark))  # of a start that died
        _, content = service.application.open(SERVER, key)
        document, swaps = app_archive.extract(service.ground, content, mark, _watch(run))
        app_archive.swap_in(swaps)
        try:
            _restart(service, run)
            with service.ground.catalog.write() as tx:
                run.fence(tx)
                if document is not None:
                    state.restore(tx, document)
                bump(tx)
                ended = Ended(message=f"{key} was restored", report={"key": key})
                run.commit(tx, ended)
        except BaseException:
            app_archive.swap_back(swaps)
            _restart_again(service, run)
            raise
        app_archive.forget(swaps)
    return ended


def _watch(run: Run) -> Callable[[int], None]:
    done = 0

    def step(count: int) -> None:
        nonlocal done
        if run.stopping:
            raise InterruptedByUserError("the task was stopped")
        done += count
        run.progress(done=done, unit="bytes")

    return step


def _restart(service: Service, run: Run) -> None:
    """Raises RestoreError where the application does not start on what was restored."""
    command = service.ground.configuration.application.restart
    if not command:
        return
    run.log("info", f"restarting the application: {command[0]}")
    try:
        ended = subprocess.run(
            command, check=False, capture_output=True, timeout=_RESTART_SECONDS,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        raise RestoreError(
            f"the application could not be restarted: {error}", remedy=_UNDONE
        ) from error
    if ended.returncode:
        said = ended.stderr.decode("utf-8", "replace").strip()[-500:]
        raise RestoreError(
            f"restarting the application failed ({ended.returncode}): {said}", remedy=_UNDONE
        )


_UNDONE = "The restore was undone: everything is as it was before. Mend application.restart."


def _restart_again(service: Service, run: Run) -> None:
    """On what was there before; that this fails, too, must not hide why it is needed."""
    try:
        _restart(service, run)
    except HoldfastError as error:
        run.log("error", f"{error.message} (on what was there before)")
