"""`rubackup_api`: `holdfast serve` by the commands, the environment and the files of RuBackup.

What the environment says wins over the file. `--start` stays in the foreground, as a service does.
"""

import argparse
import fcntl
import ipaddress
import os
import re
import signal
import socket
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn

from holdfast.core.errors import ConfigurationError, DataFolderBusyError, StateError

ETC = Path("/opt/rubackup/etc")
ENVIRONMENT_FILE = "rubackup_api.env"
LOGGER_FILE = "rubackup_api_logger.conf"
DATA = "/var/lib/holdfast"
_VARIABLES = ("APP_HOST", "APP_PORT", "DB_HOST", "DB_PORT", "RB_SERVER_HOST", "DEBUG")
_OURS = "HOLDFAST_"
_DATABASE = re.compile(r"(postgresql[^:]*://(?:[^@/]*@)?)(\[[^]]*\]|[^:/?]*)(?::(\d+))?([/?].*|)")
"""What stands before the host, it, the port, and what stands behind."""
_PATIENCE = 60.0
"""Seconds that open requests and tasks have to end."""


def main() -> NoReturn:
    """Runs the command of this process and ends it."""
    from holdfast.cli.output import report_error
    from holdfast.core.errors import HoldfastError

    try:
        sys.exit(_run(sys.argv[1:]))
    except HoldfastError as error:
        report_error(error, json=False)
        sys.exit(error.exit_code)


def _run(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(
        "rubackup_api", description="Runs the server with RuBackup's REST API."
    )
    acts = parser.add_mutually_exclusive_group(required=True)
    for name, help_ in (
        ("start", "serve until told to stop"),
        ("stop", "stop the one that runs, after what is under way"),
        ("restart", "stop the one that runs, if any, then start"),
    ):
        acts.add_argument(f"--{name}", action="store_const", dest="act", const=name, help=help_)
    act = parser.parse_args(arguments).act
    environment = read_environment(ETC, os.environ)
    data = Path(environment.get("HOLDFAST_DATA") or DATA).absolute()
    pid_file = data / "run" / "rubackup_api.pid"
    if act == "stop":
        if not stop(pid_file):
            raise StateError("no rubackup_api runs on this data folder")
        return 0
    if act == "restart":
        stop(pid_file)
    return start(data, pid_file, environment)


# --- the environment ------------------------------------------------------------------------------


def read_environment(etc: Path, given: Mapping[str, str]) -> dict[str, str]:
    """The environment, and below it what the file says. Raises ConfigurationError."""
    path = etc / ENVIRONMENT_FILE
    found: dict[str, str] = {}
    if path.is_file():
        for number, line in enumerate(path.read_text().splitlines(), 1):
            text = line.strip().removeprefix("export ")
            if not text or text.startswith("#"):
                continue
            name, equals, value = text.partition("=")
            known = name in _VARIABLES or name.startswith(_OURS)
            if not equals or not known:
                raise ConfigurationError(f"{path}, line {number}: {name!r} is no variable of it")
            found[name] = value.strip().strip("'\"")
    if (etc / LOGGER_FILE).is_file():
        found.setdefault("HOLDFAST_LOG_CONFIG", str(etc / LOGGER_FILE))
    return found | dict(given)


def translated(environment: Mapping[str, str], *, url: str = "") -> dict[str, str]:
    """The same in the words of the configuration. `url`: of the database, as it is configured.

    Raises:
        ConfigurationError
    """
    host = environment.get("APP_HOST") or "localhost"
    made = {"HOLDFAST_RUBACKUP_HOST": host}
    if not _is_address(host):
        names = environment.get("HOLDFAST_LISTEN_HOSTS", "")
        made["HOLDFAST_LISTEN_HOSTS"] = f"{names}:{host}".strip(":")
    if server := environment.get("RB_SERVER_HOST"):
        made["HOLDFAST_RUBACKUP_SERVER_ADDRESS"] = server
    if environment.get("DEBUG", "").lower() in {"true", "1", "yes"}:
        made["HOLDFAST_LOG_DEBUG"] = "true"
    url = environment.get("HOLDFAST_DATABASE_URL") or url
    if url.startswith("postgresql"):
        made["HOLDFAST_DATABASE_URL"] = _elsewhere(url, environment)
    elif environment.get("DB_HOST"):
        raise ConfigurationError(
            "DB_HOST names a database server, and there is no database.url with the name and the "
            "password to use there",
            remedy="Nothing was started. Set database.url (HOLDFAST_DATABASE_URL) to "
            "postgresql://USER:PASSWORD@HOST/DATABASE, or leave DB_HOST out for SQLite.",
        )
    return made


def _elsewhere(url: str, environment: Mapping[str, str]) -> str:
    """The database's address with another host and port, where those are given."""
    parts = _DATABASE.fullmatch(url)
    if parts is None:
        raise ConfigurationError("database.url is no address of PostgreSQL")
    before, host, port, behind = parts.groups()
    host = environment.get("DB_HOST") or host
    port = environment.get("DB_PORT") or port
    return f"{before}{host}{f':{port}' if port else ''}{behind}"


def listen_at(environment: Mapping[str, str]) -> str:
    """Where to listen: at the address that APP_HOST leads to. Raises ConfigurationError."""
    host = environment.get("APP_HOST") or "localhost"
    port = environment.get("APP_PORT") or "5656"
    if not port.isdecimal() or not 0 < int(port) < 1 << 16:
        raise ConfigurationError(f"APP_PORT is {port!r}, and must be a port from 1 to 65535")
    try:
        found = socket.getaddrinfo(host, int(port), type=socket.SOCK_STREAM)
    except OSError as error:
        raise ConfigurationError(
            f"APP_HOST is {host!r}, and nothing is known of that name",
            remedy="Nothing was started. Write it into /etc/hosts, or give an address.",
        ) from error
    address = next((each for each in found if each[0] is socket.AF_INET), found[0])[4][0]
    return f"[{address}]:{port}" if ":" in str(address) else f"{address}:{port}"


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


# --- the process ----------------------------------------------------------------------------------


def start(data: Path, pid_file: Path, environment: Mapping[str, str]) -> NoReturn:
    """Becomes the server. The lock on the file with its number ends with it.

    Raises:
        DataFolderBusyError, ConfigurationError
    """
    from holdfast.service.opening import configuration_of

    os.environ.update(environment)
    config = environment.get("HOLDFAST_CONFIG")
    configured = configuration_of(data, Path(config) if config else None)
    os.environ.update(translated(environment, url=configured.database.url))
    place = listen_at(environment)
    pid_file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(pid_file, os.O_RDWR | os.O_CREAT, 0o600)
    if not _lock(descriptor):
        raise DataFolderBusyError("rubackup_api runs on this data folder already")
    os.set_inheritable(descriptor, True)
    os.ftruncate(descriptor, 0)
    os.write(descriptor, f"{os.getpid()}\n".encode())
    tls = ["--tls", "auto"] if configured.listen.tls == "off" else []
    words = ["serve", "--data", str(data), "--listen", place, *tls]
    sys.stdout.write("RuBackup API Logger initializing\n")
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, "-m", "holdfast", *words])  # noqa: S606  no shell


def stop(pid_file: Path) -> bool:
    """Ends the one that runs, and waits for it; False where none does.

    Raises:
        StateError: it does not end.
    """
    try:
        descriptor = os.open(pid_file, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        if _lock(descriptor):
            return False
        os.kill(int(os.read(descriptor, 32)), signal.SIGTERM)
        deadline = time.monotonic() + _PATIENCE
        while not _lock(descriptor):
            if time.monotonic() > deadline:
                raise StateError(f"it has not ended after {_PATIENCE:.0f} seconds")
            time.sleep(0.05)
        return True
    finally:
        os.close(descriptor)


def _lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


if __name__ == "__main__":
    main()
