"""Modules: what can be backed up besides and including files, by name, with resource and parameters
as plain data.

A module that needs a library or a program is imported when it is named, so that an agent without it
offers the others.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Final, Protocol

from holdfast.core.errors import InvalidError
from holdfast.sources.parameters import closest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from holdfast.core.clock import Clock
    from holdfast.core.records import Json
    from holdfast.core.source import Kept, Source
    from holdfast.sources.parameters import Parameter

MODULES: Final[Mapping[str, str]] = {
    "files": "holdfast.sources.files.module:FilesModule",
    "postgres": "holdfast.sources.databases.postgres:PostgresModule",
    "mysql": "holdfast.sources.databases.mysql:MySqlModule",
    "sqlite": "holdfast.sources.databases.sqlite:SqliteModule",
    "lvm": "holdfast.sources.devices.lvm:LvmModule",
    "block": "holdfast.sources.devices.block:BlockModule",
    "command": "holdfast.sources.command_module:CommandModule",
    "api": "holdfast.sources.restapi.module:ApiModule",
}
"""By name: where its class is. It is made without arguments."""
TITLES: Final[Mapping[str, str]] = {
    "files": "File system",
    "postgres": "PostgreSQL universal",
    "mysql": "MySQL/MariaDB",
    "sqlite": "SQLite",
    "lvm": "LVM logical volume",
    "block": "Block device",
    "command": "Command output",
    "api": "REST API",
}
"""By name: what people call its sort of resources. No two are the same."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What is asked of a module."""

    resource: str
    """as the person named it: a path, a database, a device; when something is put back: where to,
    which is where it came from where this is empty (databases also take the parameter `new_name`,
    and then a folder here says nothing to them)
    """
    parameters: Json = field(default_factory=dict)
    scratch: Path
    """a folder for what is in the way of the work only; whoever made it empties it afterwards"""
    clock: Clock
    skip: tuple[bytes, ...] = ()
    """absolute paths that are never read: the repository, the agent's own folder"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Resource:
    """Something on this machine that a module could back up. `name` is what `Asked.resource` takes.
    `size`: bytes, None where nobody knows.
    """

    name: str
    kind: str = ""
    size: int | None = None
    note: str = ""


class Module(Protocol):
    """One sort of things to back up. A dump that breaks off is an error, never a short file; where
    a resource has several parts and only some can be kept, the others are problems that name them.
    """

    name: str
    parameters: tuple[Parameter, ...]
    """what `open` and `resources` can be told"""
    putting_back: tuple[Parameter, ...] | None
    """what `put_back` can be told; None: what is kept are files, given back as such"""

    def available(self) -> bool:
        """Whether this machine has what the module needs. Cheap."""
        ...

    def check(self, asked: Asked) -> None:
        """Looks at resource and parameters without touching what they name.

        Raises:
            InvalidError: a parameter is unknown or wrong; it names which.
        """
        ...

    def open(self, asked: Asked) -> AbstractContextManager[Source]:
        """The source to back up; what it holds open or has made is gone at its end.

        Raises:
            InvalidError: as `check`.
            SourceError: there is no such resource, or it cannot be read.
        """
        ...

    def resources(self, asked: Asked) -> Sequence[Resource]:
        """What there is on this machine, where `asked.resource` is empty; below it otherwise.

        Raises:
            InvalidError: as `check`.
            SourceError: a server does not answer, a program is not there.
        """
        ...

    def put_back(self, asked: Asked, kept: Kept) -> str:
        """Puts back into the application what was kept of it; a sentence on what was done.

        Raises:
            InvalidError: a parameter or the destination is wrong, or this module gives files back.
            RestoreError: the application did not take it; it says what is safe.
        """
        ...


def module(name: str) -> Module:
    """By name, or by title.

    Raises:
        InvalidError: there is no such module, or a library that it needs is not here.
    """
    by_title = {title: each for each, title in TITLES.items()}
    name = by_title.get(name, name)
    place = MODULES.get(name)
    if place is None:
        text = f"there is no module {name!r}{closest(name, [*MODULES, *by_title])}"
        raise InvalidError(text, fields={"module": ("unknown", text)})
    path, _, attribute = place.partition(":")
    try:
        made: Module = getattr(import_module(path), attribute)()
    except ModuleNotFoundError as error:
        if (error.name or "holdfast").startswith("holdfast"):
            raise
        raise InvalidError(
            f"the module {name!r} needs the library {error.name}, which is not installed here"
        ) from error
    return made


def available() -> list[str]:
    """The modules that work on this machine."""
    found = []
    for name in sorted(MODULES):
        try:
            if module(name).available():
                found.append(name)
        except InvalidError:
            continue  # a library is missing: it is not available
    return found


def refuse_back(title: str) -> str:
    """For `Module.put_back` of modules whose backups are files.

    Raises:
        InvalidError: always.
    """
    raise InvalidError(
        f"{title}: what was kept are files, and there is no application to put them in",
        remedy="Nothing was changed. Restore them into a folder.",
    )
