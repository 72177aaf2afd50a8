"""What a command prints, as a module. The resource is the command, as a shell would take it; no
shell does.
"""

from __future__ import annotations

import os
import shlex
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

from holdfast.core.errors import InvalidError
from holdfast.sources.command import StreamSource
from holdfast.sources.modules import TITLES, Resource, refuse_back
from holdfast.sources.parameters import described, parameters_of, read_settings

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractContextManager

    from holdfast.core.source import Kept, Source
    from holdfast.sources.modules import Asked


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandSettings:
    filename: str = described("stdout", "What the file is called that holds what it prints.")


class CommandModule:
    """See `sources.modules.Module`. A command that fails is no backup."""

    name = "command"
    parameters = parameters_of(CommandSettings)
    putting_back = None

    def available(self) -> bool:
        return True

    def check(self, asked: Asked) -> None:
        read_settings(CommandSettings, asked.parameters)
        _words(asked.resource)

    def open(self, asked: Asked) -> AbstractContextManager[Source]:
        settings = read_settings(CommandSettings, asked.parameters)
        return nullcontext(
            StreamSource(
                clock=asked.clock,
                filename=os.fsencode(settings.filename),
                command=[os.fsencode(word) for word in _words(asked.resource)],
            )
        )

    def resources(self, asked: Asked) -> Sequence[Resource]:
        """None that could be listed."""
        read_settings(CommandSettings, asked.parameters)
        return []

    def put_back(self, asked: Asked, kept: Kept) -> str:
        del asked, kept
        return refuse_back(TITLES[self.name])


def _words(command: str) -> list[str]:
    try:
        words = shlex.split(command)
    except ValueError as error:
        text = f"{command!r} cannot be read as a command: {error}"
        raise InvalidError(text, fields={"resource": ("wrong", text)}) from error
    if not words:
        text = "no command was named"
        raise InvalidError(text, fields={"resource": ("missing", text)})
    return words
