"""Modules: what an agent can back up, by name, with resource and parameters as plain data.

A module that needs a library or a program is imported when it is named, so that an agent without it
offers the others.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Final, Protocol

from holdfast.core.errors import InvalidError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from holdfast.core.clock import Clock
    from holdfast.core.records import Json
    from holdfast.core.source import Source

MODULES: Final[Mapping[str, str]] = {
    "files": "holdfast.sources.files.module:FilesModule",
}
"""By name: where its class is. It is made without arguments."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What is asked of a module."""

    resource: str
    """as the person named it: a path, a database, a device"""
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
    """One sort of things to back up."""

    name: str

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
        """What there is on this machine, where `asked.resource` is empty; below it otherwise."""
        ...

    def put_back(self, asked: Asked, folder: Path) -> None:
        """Puts what was restored into `folder` back into the application.

        Raises:
            InvalidError: this module gives files back only.
            RestoreError: the application did not take it.
        """
        ...


def module(name: str) -> Module:
    """Raises InvalidError: there is no such module, or a library that it needs is not here."""
    place = MODULES.get(name)
    if place is None:
        text = f"there is no module {name!r}; known are {', '.join(sorted(MODULES))}"
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


def refuse_unknown(parameters: Json, known: Mapping[str, type | tuple[type, ...]]) -> None:
    """For `Module.check`: every parameter is one of these, and of its type.

    Raises:
        InvalidError
    """
    wrong = {name: ("unknown", f"There is no {name}.") for name in parameters if name not in known}
    for name, kind in known.items():
        value = parameters.get(name)
        mistaken = isinstance(value, bool) and kind is int
        if value is not None and (mistaken or not isinstance(value, kind)):
            wrong[name] = ("type", f"{name} must be {_called(kind)}.")
    if wrong:
        said = " ".join(text for _, text in wrong.values())
        raise InvalidError(f"these parameters cannot be: {said}", fields=wrong)


def _called(kind: type | tuple[type, ...]) -> str:
    kinds = kind if isinstance(kind, tuple) else (kind,)
    words = {
        str: "a text",
        int: "a number",
        bool: "true or false",
        list: "a list",
        dict: "an object",
    }
    return " or ".join(words.get(each, each.__name__) for each in kinds)
