"""The web process: opens the service, puts the faces on their listeners, and serves."""

from __future__ import annotations

import asyncio
import json
import os
import threading
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING

import structlog

from holdfast import __version__
from holdfast.core.errors import CatalogError, HoldfastError
from holdfast.service import logs
from holdfast.service.generation import RESTART, Watch
from holdfast.service.machine import announce
from holdfast.service.opening import (
    CATALOG_LOOK_EVERY,
    can_be_opened,
    configuration_of,
    open_sound_ground,
)
from holdfast.service.server import Service
from holdfast.service.unrecorded import find_unrecorded
from holdfast.web import tls
from holdfast.web.addresses import address
from holdfast.web.app import Faces, listener, nothing_here
from holdfast.web.closed import closed
from holdfast.web.dialects import agent, backupchan, pocketbase, restbackup, restic, rubackup
from holdfast.web.listening import Listener, listen
from holdfast.web.watching import watching

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from starlette.types import ASGIApp

    from holdfast.service.configuration import Listen
    from holdfast.web.listening import Certificate

_LOOK_EVERY = 0.5
"""Seconds between two looks at the generation."""
_log = structlog.get_logger("holdfast.web")


@dataclass(frozen=True, slots=True)
class WebOptions:
    """Each overrides the configuration where it is not empty."""

    listen: str = ""
    restbackup_listen: str = ""
    tls: str = ""


def main_app(service: Service, polls: agent.Polls) -> ASGIApp:
    """Every face of the main listener."""
    chan = backupchan.app(service)
    application = pocketbase.app(service)
    watch = watching(service)
    owners: dict[str, ASGIApp] = {
        "/restic": restic.app(service),
        "/agent": agent.app(service, polls),
        **dict.fromkeys(backupchan.PATHS, chan),
        **dict.fromkeys(pocketbase.PATHS, application),
        **dict.fromkeys(rubackup.PATHS, rubackup.app(service)),
        "/metrics": watch,
        "/healthz": watch,
    }
    return listener(Faces(owners, nothing_here), service.ground.configuration.listen.hosts)


def restbackup_app(service: Service) -> ASGIApp:
    """The listener whose root belongs to access URLs."""
    return listener(restbackup.app(service), service.ground.configuration.listen.hosts)


def serve(folder: Path, config: Path | None, options: WebOptions) -> int:
    """Serves until it is told to end. The process's exit code: RESTART where it wants to be started
    again. Where the catalog cannot be used, it says so on every path until it can.
    """
    whole = configuration_of(folder, config)
    logs.set_up(folder, "web", config=whole.log.config, debug=whole.log.debug)
    configured = whole.listen
    place = Place(folder, options, configured)
    try:
        service = Service.on(open_sound_ground(folder, config))
    except CatalogError as error:
        _log.error("catalog unusable", error=error.message, remedy=error.advice)
        app = listener(closed(error), configured.hosts)
        return asyncio.run(_serve(place, app, app, until=partial(_until_opened, folder, config)))
    polls = agent.Polls(service)
    try:
        service.backups.reconcile()
        service.plans.ensure_housekeeping()
        announce(service.ground, f"Holdfast {__version__} serves here")
        return asyncio.run(
            _serve(
                place,
                main_app(service, polls),
                restbackup_app(service),
                until=partial(_until_due, Watch(service.ground.catalog)),
                ready=partial(_go_on_beside, service),
                ending=polls.end,
            )
        )
    finally:
        service.close()


@dataclass(frozen=True, slots=True)
class Place:
    """Where a process listens."""

    folder: Path
    options: WebOptions
    configured: Listen


async def _serve(
    place: Place,
    app: ASGIApp,
    restbackup: ASGIApp,
    *,
    until: Callable[[], Awaitable[None]],
    ready: Callable[[], None] = lambda: None,
    ending: Callable[[], None] = lambda: None,
) -> int:
    """Where `until` ends first, the process is to be started again."""
    options, configured = place.options, place.configured
    main = address(options.listen or configured.main)
    second = address(options.restbackup_listen or configured.restbackup)
    names = [*configured.hosts, main[0], second[0]]
    certificate = tls.certificate_for(options.tls or configured.tls, place.folder, names)
    listeners = [
        Listener(app, *main, certificate),
        Listener(restbackup, *second, certificate, http1_only=True),
    ]
    stop = asyncio.Event()

    async def watch() -> None:
        await until()
        stop.set()

    looking = asyncio.create_task(watch())

    def up() -> None:
        _announce(place.folder, main, second, certificate)
        ready()

    await listen(listeners, ready=up, ending=ending, stop=stop)
    looking.cancel()
    return RESTART if looking.done() and not looking.cancelled() else 0


def _go_on_beside(service: Service) -> None:
    threading.Thread(target=_go_on, args=(service,), name="start-up", daemon=True).start()


def _go_on(service: Service) -> None:
    """What takes long at the start and is not needed to listen."""
    import_module("holdfast.web.form_parser")
    service.tasks.warm_up()
    try:
        find_unrecorded(service.ground, service.pools, service.backups)
    except HoldfastError as error:
        _log.warning("unrecorded backups not looked for", error=error.message)


async def _until_due(watch: Watch) -> None:
    """Ends when the process has to start anew."""
    while not await asyncio.to_thread(watch.is_due):  # noqa: ASYNC110  another process makes it so
        await asyncio.sleep(_LOOK_EVERY)


async def _until_opened(folder: Path, config: Path | None) -> None:
    """Ends when the catalog can be used."""
    while not await asyncio.to_thread(can_be_opened, folder, config):  # noqa: ASYNC110  another process mends it
        await asyncio.sleep(CATALOG_LOOK_EVERY)


def _announce(
    folder: Path, main: tuple[str, int], second: tuple[str, int], certificate: Certificate | None
) -> None:
    """Says in the data folder where this process listens, for the administration commands."""
    scheme = "https" if certificate else "http"
    run = folder / "run"
    run.mkdir(exist_ok=True)
    temporary = run / f".listeners.{os.getpid()}"
    temporary.write_text(
        json.dumps(
            {
                "main": f"{scheme}://{_shown(main)}",
                "restbackup": f"{scheme}://{_shown(second)}",
                "certificate": str(certificate.certificate.absolute()) if certificate else "",
                "pid": os.getpid(),
            }
        )
        + "\n"
    )
    temporary.replace(run / "listeners.json")
    _log.info(f"RuBackup REST API is running on [{scheme}://{_shown(main)}]")


def _shown(place: tuple[str, int]) -> str:
    host, port = place
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
