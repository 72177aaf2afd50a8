"""What an archiver's project has collected, as a module. The resource is the project's folder."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from holdfast.core.errors import InvalidError
from holdfast.sources.modules import TITLES, Resource, refuse_back
from holdfast.sources.parameters import parameters_of, read_settings
from holdfast.sources.restapi.project.project import FILE_NAMES

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractContextManager

    from holdfast.core.source import Kept, Source
    from holdfast.sources.modules import Asked


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiSettings:
    """None: the project's own file says all."""


class ApiModule:
    """See `sources.modules.Module`. What is kept is what was collected; collecting is not done."""

    name = "api"
    parameters = parameters_of(ApiSettings)
    putting_back = None

    def available(self) -> bool:
        return True

    def check(self, asked: Asked) -> None:
        read_settings(ApiSettings, asked.parameters)
        if not asked.resource:
            text = "no project was named"
            raise InvalidError(text, fields={"resource": ("missing", text)})

    def open(self, asked: Asked) -> AbstractContextManager[Source]:
        from holdfast.sources.restapi.giving.snapshot import ApiSource
        from holdfast.sources.restapi.project.project import load_project

        self.check(asked)
        return closing(ApiSource(load_project(Path(asked.resource))))

    def resources(self, asked: Asked) -> Sequence[Resource]:
        """The projects among the folders of a folder."""
        read_settings(ApiSettings, asked.parameters)
        top = Path(asked.resource or ".").absolute()
        folders = sorted(path for path in top.iterdir() if path.is_dir()) if top.is_dir() else []
        return [
            Resource(name=str(folder), kind="project")
            for folder in folders
            if any((folder / name).is_file() for name in FILE_NAMES)
        ]

    def put_back(self, asked: Asked, kept: Kept) -> str:
        del asked, kept
        return refuse_back(TITLES[self.name])
