"""Under which addresses people reach this server's listeners."""

from __future__ import annotations

import json
import socket
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from holdfast.core.errors import ConfigurationError
from holdfast.core.secret import Secret

if TYPE_CHECKING:
    from holdfast.core.records import Account
    from holdfast.service.ground import Ground

_ANYWHERE = frozenset({"0.0.0.0", "::"})  # noqa: S104  told apart, not bound


def restbackup_url(ground: Ground) -> str:
    """`https://HOST[:PORT]/`: as configured, else where the running server listens, else where it
    would.

    Raises:
        ConfigurationError: `restbackup.url` is no such address.
    """
    configured = ground.configuration
    listening = (
        configured.restbackup.url
        or _announced(ground)
        or _scheme(configured.listen.tls) + configured.listen.restbackup
    )
    parts = urlsplit(listening)
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.path.strip("/"):
        raise ConfigurationError(
            f"restbackup.url is {listening!r}",
            remedy="Write it as https://backup.example.org, or leave it out.",
        )
    host = parts.hostname
    if host in _ANYWHERE:
        host = next(iter(configured.listen.hosts), socket.gethostname())
    elif ":" in host:
        host = f"[{host}]"
    return f"{parts.scheme}://{host}{f':{parts.port}' if parts.port else ''}/"


def access_url(ground: Ground, account: Account, password: Secret) -> Secret:
    """The four parts of an access URL in one."""
    scheme, _, place = restbackup_url(ground).partition("://")
    return Secret(f"{scheme}://{account.name}:{password.reveal()}@{place}")


def _announced(ground: Ground) -> str:
    """What the web process that started last has written; empty where none did."""
    try:
        announced = json.loads((ground.folder / "run" / "listeners.json").read_bytes())
        return str(announced["restbackup"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def _scheme(tls: str) -> str:
    return "http://" if tls == "off" else "https://"
