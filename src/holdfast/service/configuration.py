"""The server's configuration: one YAML file, every key also in the environment.

`backupchan.location_roots` is `HOLDFAST_BACKUPCHAN_LOCATION_ROOTS`; lists are separated by `:`.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import msgspec
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from holdfast.core.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


class Listen(msgspec.Struct, forbid_unknown_fields=True):
    main: str = "127.0.0.1:5656"
    restbackup: str = "127.0.0.1:5657"
    tls: str = "off"
    """auto, off, or CERT:KEY"""
    hosts: list[str] = []
    """names under which this server is reached, besides loopback (no DNS rebinding)"""
    proxies: list[str] = []
    """addresses whose X-Forwarded-* is believed"""


class Database(msgspec.Struct, forbid_unknown_fields=True):
    url: str = ""
    """empty: SQLite in the data folder; postgresql://... for several machines"""


class MasterKeyPlace(msgspec.Struct, forbid_unknown_fields=True):
    file: str = ""
    environment: str = ""
    command: list[str] = []


class Limits(msgspec.Struct, forbid_unknown_fields=True):
    uploads: int = 8
    """streams that are taken at once; more wait"""
    upload_wait: float = 60.0
    """seconds after which a waiting one is told to come again"""
    idle: float = 30.0
    """seconds without a byte after which a connection is cut"""
    tasks: int = 2
    tasks_per_pool: int = 1


class Backupchan(msgspec.Struct, forbid_unknown_fields=True):
    location_roots: list[str] = []
    page_size: int = 10
    recycle_interval: int = 3600
    filesize_interval: int = 7200
    deduplicate_interval: int = 18000
    stale_upload_interval: int = 3600
    purge_interval: int = 43200
    integrity_interval: int = 57600
    pool: str = ""
    """where targets go whose location names no pool; empty: the first repository pool"""


class Restbackup(msgspec.Struct, forbid_unknown_fields=True):
    url: str = ""
    """how the listener is reached from outside, for access URLs; empty: as it listens"""
    pool: str = ""


class Rubackup(msgspec.Struct, forbid_unknown_fields=True):
    database: str = "rubackup"
    """the name of the service database that people give when they sign in"""
    host: str = ""
    """by which name the API is reached: cookies are set for its domain; empty: as it was asked"""
    server_address: str = ""
    """what is told to people of where the main server is; empty: this machine's name"""


class Application(msgspec.Struct, forbid_unknown_fields=True):
    name: str = "holdfast"
    include: list[str] = []
    restart: list[str] = []
    pool: str = ""
    max_upload: int = 64 << 30


class Proof(msgspec.Struct, forbid_unknown_fields=True):
    verify_days: int = 30
    """all data is read once in so many days"""
    drill_days: int = 7


class Grace(msgspec.Struct, forbid_unknown_fields=True):
    days: int = 7
    """deleted by retention or from the console: so long it can be undone"""


class AgentsOf(msgspec.Struct, forbid_unknown_fields=True):
    own: bool = True
    """whether `holdfast serve` runs this machine's own agent, too"""


class Log(msgspec.Struct, forbid_unknown_fields=True):
    config: str = ""
    """a file in the format of Python's `logging.config.fileConfig`, for the web process: loggers
    `rb_api`, `rb_access` (who signs in, and acts that matter) and `tornado` (the web server)"""
    debug: bool = False


class Configuration(msgspec.Struct, forbid_unknown_fields=True):
    listen: Listen = msgspec.field(default_factory=Listen)
    database: Database = msgspec.field(default_factory=Database)
    master_key: MasterKeyPlace = msgspec.field(default_factory=MasterKeyPlace)
    limits: Limits = msgspec.field(default_factory=Limits)
    backupchan: Backupchan = msgspec.field(default_factory=Backupchan)
    restbackup: Restbackup = msgspec.field(default_factory=Restbackup)
    rubackup: Rubackup = msgspec.field(default_factory=Rubackup)
    application: Application = msgspec.field(default_factory=Application)
    proof: Proof = msgspec.field(default_factory=Proof)
    log: Log = msgspec.field(default_factory=Log)
    grace: Grace = msgspec.field(default_factory=Grace)
    agents: AgentsOf = msgspec.field(default_factory=AgentsOf)
    egress_allow: list[str] = []
    """networks that the server may fetch from although they are private"""


def load(path: Path | None, environment: Mapping[str, str] = os.environ) -> Configuration:
    """Raises ConfigurationError, which names the key."""
    raw = _read(path) if path else {}
    _overlay(raw, Configuration, "HOLDFAST", environment)
    try:
        return msgspec.convert(raw, Configuration)
    except msgspec.ValidationError as error:
        raise ConfigurationError(f"{path or 'the environment'}: {error}") from error


def schema() -> dict[str, Any]:
    """The configuration's JSON schema, as published."""
    return msgspec.json.schema(Configuration)


def _read(path: Path) -> dict[str, Any]:
    try:
        loaded = YAML(typ="safe").load(path)
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror}") from error
    except YAMLError as error:
        raise ConfigurationError(f"{path} is not YAML: {error}") from error
    if loaded is not None and not isinstance(loaded, dict):
        raise ConfigurationError(f"{path} must hold keys and values")
    return loaded or {}


def _overlay(
    raw: dict[str, Any],
    struct: type[msgspec.Struct],
    prefix: str,
    environment: Mapping[str, str],
) -> None:
    for each in msgspec.structs.fields(struct):
        name = f"{prefix}_{each.name.upper()}"
        if isinstance(each.type, type) and issubclass(each.type, msgspec.Struct):
            inner = raw.setdefault(each.name, {})
            if isinstance(inner, dict):
                _overlay(inner, each.type, name, environment)
        elif name in environment:
            raw[each.name] = _parsed(environment[name], each.type, name)


def _parsed(text: str, kind: Any, name: str) -> Any:
    if kind in {int, float}:
        try:
            return kind(text)
        except ValueError as error:
            raise ConfigurationError(f"{name} must be a number, not {text!r}") from error
    if kind is bool:
        return text.lower() in {"1", "true", "yes", "on"}
    return text if kind is str else [part for part in text.split(":") if part]
