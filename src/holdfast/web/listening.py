"""Listening sockets of one web process: several, in one event loop, stopped together."""

from __future__ import annotations

import asyncio
import signal
from dataclasses import dataclass
from typing import TYPE_CHECKING

from granian.constants import HTTPModes, Interfaces
from granian.http import HTTP1Settings
from granian.server.embed import Server

from holdfast.web.addresses import check_free

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from starlette.types import ASGIApp

_HEADER_SECONDS = 30
_GRACE = 20.0
"""Seconds that requests under way have when the process is told to stop."""


@dataclass(frozen=True, slots=True)
class Certificate:
    certificate: Path
    key: Path


@dataclass(frozen=True, slots=True)
class Listener:
    app: ASGIApp
    host: str
    port: int
    certificate: Certificate | None = None
    http1_only: bool = False
    """where clients demand HTTP/1.x status lines"""


async def listen(
    listeners: Sequence[Listener],
    *,
    ready: Callable[[], None],
    ending: Callable[[], None],
    stop: asyncio.Event,
) -> None:
    """Serves until `stop` is set or the process is told to end. `ending` lets go of requests that
    are only held.

    Raises:
        AddressInUseError, ConfigurationError
    """
    for each in listeners:
        check_free((each.host, each.port))
    servers = [_server(each) for each in listeners]
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    running = [asyncio.ensure_future(server.serve()) for server in servers]
    stopping = asyncio.ensure_future(stop.wait())
    await asyncio.sleep(0)
    ready()
    await asyncio.wait([*running, stopping], return_when=asyncio.FIRST_COMPLETED)
    ending()
    for server in servers:
        server.stop()  # type: ignore[no-untyped-call]
    stopping.cancel()
    done, late = await asyncio.wait(running, timeout=_GRACE)
    for task in late:
        task.cancel()
    for task in done:
        task.result()


def _server(listener: Listener) -> Server:
    certificate = listener.certificate
    return Server(
        listener.app,
        address=listener.host,
        port=listener.port,
        interface=Interfaces.ASGINL,
        http=HTTPModes.http1 if listener.http1_only else HTTPModes.auto,
        http1_settings=HTTP1Settings(header_read_timeout=_HEADER_SECONDS * 1000),
        log_enabled=False,
        websockets=False,
        backlog=1024,
        ssl_cert=certificate.certificate if certificate else None,
        ssl_key=certificate.key if certificate else None,
    )
