"""An imitated API and projects that point at it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from holdfast.sources.restapi.kept.archive import open_archive
from holdfast.sources.restapi.project.project import Project, load_project
from holdfast.sources.restapi.records.documents import parse, records_of
from holdfast.testing.api_server import ApiServer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def api() -> Iterator[ApiServer]:
    with ApiServer() as server:
        yield server


class Workshop:
    """Makes projects in a folder of their own and looks into what they have stored."""

    def __init__(self, folder: Path, api: ApiServer) -> None:
        self.folder = folder
        self.api = api

    def project(
        self, *, path: str = "/items", side: dict[str, Any] | None = None, **sections: Any
    ) -> Project:
        """A project for `/items`; sections overlay the ordinary ones, None takes a key or section
        away.
        """
        settled: dict[str, Any] = {
            "settings": {"name": "test"},
            "project": {"url": f"{self.api.url}{path}", "http_mode": "GET", "iterate_by": "page"},
            "params": {
                "page_size_param": "size", "page_size_limit": 20, "page_number_param": "page",
            },
            "data": {"data_key": "data", "total_number_key": "total", "item_key": "id"},
            "storage": {"storage_type": "zip"},
            "request": {"retry": {"initial_delay": 0.01, "max_delay": 0.05}},
        }  # fmt: skip
        for name, values in sections.items():
            if values is None:
                settled.pop(name)
                continue
            merged = {**settled.get(name, {}), **values}
            settled[name] = {key: value for key, value in merged.items() if value is not None}
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "apibackuper.yaml").write_text(json.dumps(settled, ensure_ascii=False))
        for name, content in (side or {}).items():
            (self.folder / name).write_text(json.dumps(content))
        return load_project(self.folder)


@pytest.fixture
def workshop(tmp_path: Path, api: ApiServer) -> Workshop:
    return Workshop(tmp_path / "project", api)


def stored_ids(project: Project, key: str = "id") -> list[Any]:
    """The key of every record of the base, in the API's order."""
    with open_archive(project.place) as archive:
        return [
            record[key]
            for page in archive.pages(archive.base())
            for record in records_of(project, parse(page.body))
        ]


@pytest.fixture
def ids() -> Any:
    return stored_ids
