"""The web process: opens the service, puts the faces on their listeners, and serves."""

from __future__ import annotations

import asyncio
import json
import os
import threading
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING

from holdfast.service import logs
from holdfast.service.generation import RESTART, current
from holdfast.service.server import open_service
from holdfast.web import tls
from holdfast.web.app import Faces, listener, nothing_here
from holdfast.web.dialects import backupchan, pocketbase, restbackup, restic
from holdfast.web.listening import Listener, address, listen
from holdfast.web.watching import watching

if TYPE_CHECKING:
    from pathlib import Path

    from starlette.types import ASGIApp

    from holdfast.service.server import Service
    from holdfast.web.listening import Certificate

_LOOK_EVERY = 0.5
"""Seconds between two looks at the generation."""


@dataclass(frozen=True, slots=True)
class WebOptions:
    """Each overrides the configuration where it is not empty."""

    listen: str = ""
    restbackup_listen: str = ""
    tls: str = ""


def main_app(service: Service) -> ASGIApp:
    """Every face of the main listener."""
    chan = backupchan.app(service)
    application = pocketbase.app(service)
    watch = watching(service)
    owners: dict[str, ASGIApp] = {
        "/restic": restic.app(service),
        **dict.fromkeys(backupchan.PATHS, chan),
        **dict.fromkeys(pocketbase.PATHS, application),
        "/metrics": watch,
        "/healthz": watch,
    }
    return listener(Faces(owners, nothing_here), service.ground.configuration.listen.hosts)


def restbackup_app(service: Service) -> ASGIApp:
    """The listener whose root belongs to access URLs."""
    return listener(restbackup.app(service), service.ground.configuration.listen.hosts)


def serve(folder: Path, config: Path | None, options: WebOptions) -> int:
    """Serves until it is told to end. The process's exit code: RESTART where it wants to be started
    again.
    """
    logs.set_up(folder, "web")
    service = open_service(folder, config)
    try:
        service.backups.reconcile()
        service.plans.ensure_housekeeping()
        return asyncio.run(_serve(service, folder, options))
    finally:
        service.close()


async def _serve(service: Service, folder: Path, options: WebOptions) -> int:
    configured = service.ground.configuration.listen
    main = address(options.listen or configured.main)
    second = address(options.restbackup_listen or configured.restbackup)
    names = [*configured.hosts, main[0], second[0]]
    certificate = tls.certificate_for(options.tls or configured.tls, folder, names)
    listeners = [
        Listener(main_app(service), *main, certificate),
        Listener(restbackup_app(service), *second, certificate, http1_only=True),
    ]
    stop = asyncio.Event()
    watch = asyncio.create_task(_watch_generation(service, stop))

    def ready() -> None:
        _announce(folder, main, second, certificate)
        threading.Thread(target=_warm_up, args=(service,), name="warm-up", daemon=True).start()

    await listen(listeners, ready=ready, stop=stop)
    watch.cancel()
    return RESTART if watch.done() and not watch.cancelled() else 0


def _warm_up(service: Service) -> None:
    """Loads what takes long to load and is not needed to listen."""
    import_module("holdfast.web.form_parser")
    service.tasks.warm_up()


async def _watch_generation(service: Service, stop: asyncio.Event) -> None:
    """Ends, and ends the process, when the generation is another than at the start."""
    catalog = service.ground.catalog
    began = await asyncio.to_thread(current, catalog)
    while await asyncio.to_thread(current, catalog) == began:  # noqa: ASYNC110  another process sets it
        await asyncio.sleep(_LOOK_EVERY)
    stop.set()


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
                "pid": os.getpid(),
            }
        )
        + "\n"
    )
    temporary.replace(run / "listeners.json")


def _shown(place: tuple[str, int]) -> str:
    host, port = place
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
