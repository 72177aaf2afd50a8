"""The places of pools: directories and store addresses, checked, opened and looked at.

Credentials are taken out of addresses and kept sealed with the pool.
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from ipaddress import ip_network
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote, urlsplit

from holdfast.core.errors import ConfigurationError, HoldfastError, InvalidError
from holdfast.core.secret import Secret
from holdfast.net.egress import Egress
from holdfast.store.contract import FileKind
from holdfast.store.locate import open_store
from holdfast.store.retry import Patience
from holdfast.store.s3 import S3Options

if TYPE_CHECKING:
    from collections.abc import Mapping

    from holdfast.core.records import Pool
    from holdfast.service.ground import Ground
    from holdfast.store.contract import Store

CREDENTIALS: Final = "credentials"
"""The option of a pool that holds them, sealed."""
_KNOWN_CREDENTIALS: Final = frozenset(
    {"access_key", "secret_key", "session_token", "region", "user", "password"}
)
_SCHEME = re.compile(r"(local|s3|rest):")
SOON: Final = Patience(attempts=3, deadline=10.0)
"""To get in touch: a place that does not answer at all is told within seconds."""
_TO_LIST: Final = Patience(attempts=1, deadline=5.0)


@dataclass(frozen=True, slots=True)
class LocationState:
    """One place of a pool, as it is right now."""

    address: str
    """without secrets"""
    reachable: bool
    problem: str = ""
    free: int | None = None
    """bytes; None where the place does not tell"""
    total: int | None = None


def checked(text: str) -> tuple[str, dict[str, str]]:
    """A location as it is kept, and the credentials that it carried.

    Raises:
        InvalidError: it is neither an absolute directory nor an address of a store.
    """
    scheme = _SCHEME.match(text)
    if scheme is None or scheme[1] == "local":
        place = text.removeprefix("local:")
        if not place.startswith("/"):
            raise InvalidError(
                f"{text!r} is no place for a pool",
                remedy="Nothing was changed. Write an absolute directory, s3:... or rest:...",
            )
        return os.path.normpath(place), {}
    if scheme[1] == "s3":
        return text.rstrip("/"), {}
    parts = urlsplit(text.removeprefix("rest:"))
    host = parts.netloc.rpartition("@")[2]
    carried = {"user": unquote(parts.username or ""), "password": unquote(parts.password or "")}
    clean = f"rest:{parts.scheme}://{host}{parts.path.rstrip('/')}"
    return clean, {name: value for name, value in carried.items() if value}


def is_local(address: str) -> bool:
    return address.startswith("/")


def below(address: str, *names: str) -> str:
    """The address of a folder below another."""
    return "/".join((address, *names))


def seal_credentials(ground: Ground, pool: str, credentials: Mapping[str, str]) -> str:
    """Raises InvalidError for a name that means nothing."""
    unknown = credentials.keys() - _KNOWN_CREDENTIALS
    if unknown:
        raise InvalidError(
            f"unknown credentials: {', '.join(sorted(unknown))}; known are "
            f"{', '.join(sorted(_KNOWN_CREDENTIALS))}"
        )
    return ground.master.seal(json.dumps(dict(credentials)).encode(), _purpose(pool))


def credentials_of(ground: Ground, pool: Pool) -> dict[str, str]:
    """Raises DamagedError where the master key is another."""
    sealed = pool.options.get(CREDENTIALS)
    return json.loads(ground.master.open(sealed, _purpose(pool.name))) if sealed else {}


def _purpose(pool: str) -> str:
    return f"credentials of pool {pool}"


def store_at(
    ground: Ground, pool: Pool, address: str, *, patience: Patience | None = None
) -> Store:
    """The store at an address of a pool. Nothing is read yet.

    Raises:
        UnsupportedStoreError, EgressDeniedError, StoreDeniedError, DamagedError
    """
    credentials = credentials_of(ground, pool)
    secret, token = credentials.get("secret_key"), credentials.get("session_token")
    return open_store(
        address,
        s3=S3Options(
            region=credentials.get("region", ""),
            access_key=credentials.get("access_key", ""),
            secret_key=Secret(secret) if secret else None,
            session_token=Secret(token) if token else None,
        ),
        egress=egress_of(ground),
        environ=_environment(address, credentials),
        patience=patience,
        clock=ground.clock,
    )


def _environment(address: str, credentials: Mapping[str, str]) -> Mapping[str, str]:
    """What a store may take from the environment: S3 the server's own account; another server's
    password never, as an administrator of pools could send it anywhere.
    """
    if not address.startswith("rest:"):
        return os.environ
    return {
        "HOLDFAST_REST_USERNAME": credentials.get("user", ""),
        "HOLDFAST_REST_PASSWORD": credentials.get("password", ""),
    }


def egress_of(ground: Ground) -> Egress:
    """Where this server may go for its pools. Raises ConfigurationError."""
    try:
        networks = tuple(map(ip_network, ground.configuration.egress_allow))
    except ValueError as error:
        raise ConfigurationError(f"egress_allow: {error}") from error
    return Egress(allowed=networks)


def state_of(ground: Ground, pool: Pool, address: str) -> LocationState:
    """Looks at a place; never raises for what is wrong with it."""
    if is_local(address):
        return _state_of_folder(address)
    try:
        store = store_at(ground, pool, address, patience=_TO_LIST)
        try:
            next(iter(store.list(FileKind.CONFIG)), None)
        finally:
            store.close()
    except HoldfastError as error:
        return LocationState(address, False, error.message)
    return LocationState(address, True)


def _state_of_folder(address: str) -> LocationState:
    try:
        found = os.statvfs(address)
    except FileNotFoundError:
        return LocationState(address, False, "there is no such folder (yet)")
    except OSError as error:
        return LocationState(address, False, error.strerror or str(error))
    if not os.access(address, os.R_OK | os.W_OK | os.X_OK):
        return LocationState(address, False, "this server may not write there")
    size = found.f_frsize
    return LocationState(address, True, free=found.f_bavail * size, total=found.f_blocks * size)


def room_of(address: str) -> int | None:
    """Bytes free where a folder is or will be; None where nobody tells."""
    if not is_local(address):
        return None
    path = Path(address)
    while not path.exists() and path != path.parent:
        path = path.parent
    try:
        found = os.statvfs(path)
    except OSError:
        return None
    return found.f_bavail * found.f_frsize
