"""`holdfast serve`, and its halves `web` and `worker`."""

import fcntl
import json
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from holdfast.cli import settings as settings_of
from holdfast.cli.data import ConfigFile, Data
from holdfast.cli.output import Output
from holdfast.cli.own_agent import OWN_AGENT, own_name
from holdfast.cli.supervising import Supervisor, end_with_parent
from holdfast.core.errors import (
    AddressInUseError,
    CatalogError,
    ConfigurationError,
    DataFolderBusyError,
    StateFolderBusyError,
)

Listen = Annotated[
    str,
    typer.Option(metavar="HOST:PORT", help="Where the main listener is (127.0.0.1:5656)."),
]
RestbackupListen = Annotated[
    str,
    typer.Option(
        "--restbackup-listen",
        metavar="HOST:PORT",
        help="Where RestBackup's listener is (127.0.0.1:5657).",
    ),
]
Tls = Annotated[
    str,
    typer.Option(
        metavar="auto|off|CERT:KEY",
        help="auto makes a local authority and a certificate in the data folder.",
    ),
]

_ENDING = 40.0
"""Seconds that the processes of a `serve` that was killed may need to finish."""


def serve(
    ctx: typer.Context,
    *,
    data: Data,
    listen: Listen = "",
    restbackup_listen: RestbackupListen = "",
    tls: Tls = "",
    config: ConfigFile = None,
) -> None:
    """Runs the server on this machine: one web process, one worker and this machine's own agent,
    nothing else needed.

    It ends with SIGTERM or Ctrl-C, after what is under way.
    """
    output = Output(settings_of.of(ctx))
    from holdfast.service.generation import RESTART
    from holdfast.service.opening import configuration_of, open_ground

    configured = configuration_of(data, config).listen
    places = [listen or configured.main, restbackup_listen or configured.restbackup]
    with _alone(data):
        _wait_until_free(data, places)
        try:
            open_ground(data, config).catalog.close()  # made or migrated once, before both start
        except CatalogError as error:
            output.warn(f"{error.message}. {error.advice}")  # and the web process says so, too
        common = ["--data", str(data), *(["--config", str(config)] if config else [])]
        ways = [
            *(["--listen", listen] if listen else []),
            *(["--restbackup-listen", restbackup_listen] if restbackup_listen else []),
            *(["--tls", tls] if tls else []),
        ]
        children: dict[str, Sequence[str]] = {
            "web": ["web", *common, *ways],
            "worker": ["worker", *common],
        }
        if _admitted(data, config, output):
            children["agent"] = ["agent", "own", "--data", str(data)]
        supervisor = Supervisor(children, restart_code=RESTART)
        output.note(f"serving {data} on {places[0]}, and RestBackup on {places[1]}; Ctrl-C ends it")
        supervisor.run()


def web(
    *,
    data: Data,
    listen: Listen = "",
    restbackup_listen: RestbackupListen = "",
    tls: Tls = "",
    config: ConfigFile = None,
) -> None:
    """Runs the listeners alone; tasks need a `holdfast worker` on this catalog."""
    from holdfast.web.serving import WebOptions
    from holdfast.web.serving import serve as serve_web

    end_with_parent()
    code = serve_web(data, config, WebOptions(listen, restbackup_listen, tls))
    raise typer.Exit(code)


def worker(
    *,
    data: Data,
    config: ConfigFile = None,
    name: Annotated[
        str,
        typer.Option(
            "--name", metavar="NAME", help="Unique among workers (default: this machine's)."
        ),
    ] = "",
) -> None:
    """Runs tasks; as many workers as you like share a catalog on PostgreSQL."""
    from holdfast.service.working import run_worker

    end_with_parent()
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    raise typer.Exit(run_worker(data, config, name or socket.gethostname(), stop))


def _wait_until_free(data: Path, places: Sequence[str]) -> None:
    """Where another process listens there, that is told at once; but one that was left by a
    `serve` of this folder finishes what is under way, and is waited for.

    Raises:
        AddressInUseError, ConfigurationError
    """
    from holdfast.web.addresses import address, check_free

    deadline = time.monotonic() + _ENDING
    while True:
        try:
            for place in places:
                check_free(address(place))
        except AddressInUseError:
            if not _is_ending(data) or time.monotonic() > deadline:
                raise
        else:
            return
        time.sleep(0.2)


def _is_ending(data: Path) -> bool:
    """Whether the web process that last served this folder still lives."""
    try:
        os.kill(json.loads((data / "run" / "listeners.json").read_bytes())["pid"], 0)
    except (OSError, ValueError, KeyError):
        return False
    return True


def _admitted(data: Path, config: Path | None, output: Output) -> bool:
    """Whether this machine's own agent is to run: it is authorised here, as whoever can open the
    data folder may do so anyway.
    """
    from holdfast.agent.folder import Folder
    from holdfast.core.access import SHELL
    from holdfast.service.agents import Agents
    from holdfast.service.opening import open_ground

    try:
        ground = open_ground(data, config)
    except CatalogError:
        return False  # the web process waits for it, and says so
    try:
        if not ground.configuration.agents.own:
            return False
        folder = Folder.held(data / OWN_AGENT)
        try:
            Agents(ground).admit(SHELL, folder.secret(), own_name())
        finally:
            folder.close()
    except StateFolderBusyError as error:
        output.warn(f"{error.message}: it goes on, and no other is started")
        return False
    finally:
        ground.catalog.close()
    return True


@contextmanager
def _alone(data: Path) -> Iterator[None]:
    """One `serve` for a data folder, for as long as its process lives.

    Raises:
        DataFolderBusyError
        ConfigurationError: the folder cannot be made.
    """
    run = data / "run"
    try:
        run.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(
            f"the data folder {data} cannot be used: {error.strerror}",
            remedy="Nothing was started. Name a folder in which you may write.",
        ) from error
    descriptor = os.open(run / "serve.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise DataFolderBusyError(f"a server works on {data} already") from error
        yield
    finally:
        os.close(descriptor)
