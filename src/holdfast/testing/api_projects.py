"""REST archiver projects for tests: written to a folder, and filled without a network."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from holdfast.sources.restapi.kept.collector import open_collector
from holdfast.sources.restapi.project.project import load_project

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from holdfast.sources.restapi.kept.ledger import Run
    from holdfast.sources.restapi.project.project import Project


def write_project(folder: Path, url: str, **sections: dict[str, Any]) -> Project:
    """Writes `apibackuper.yaml` for a paged API at `url`; `sections` are laid over the defaults.

    A key that is None is left out. Any: values as YAML has them.
    """
    content: dict[str, dict[str, Any]] = {
        "settings": {"name": folder.name, "initialized": True},
        "project": {"url": url, "http_mode": "GET", "iterate_by": "page"},
        "params": {"page_size_param": "size", "page_size_limit": 20, "page_number_param": "page"},
        "data": {"total_number_key": "total", "data_key": "data", "item_key": "id"},
        "storage": {"storage_type": "zip"},
    }
    for name, given in sections.items():
        section = {**content.get(name, {}), **given}
        content[name] = {word: value for word, value in section.items() if value is not None}
    folder.mkdir(parents=True, exist_ok=True)
    # JSON is YAML, and needs no library to write.
    path = folder / "apibackuper.yaml"
    path.write_text(json.dumps(content, ensure_ascii=False, indent=1), encoding="utf-8")
    return load_project(folder)


def store_run(
    project: Project,
    pages: Sequence[Sequence[Any]],
    *,
    mode: str = "full",
    whole: bool = True,
    announced: int | None = None,
    repeated: int | None = None,
    keep_runs: int = 5,
) -> Run:
    """Stores and publishes a run as if these pages of records had been fetched. Any: JSON."""
    update = mode == "update"
    with open_collector(project.place, keep=update, mode=mode) as collector:
        folder = f"runs/{collector.run.id}/" if update else ""
        for number, records in enumerate(pages, start=1):
            document: dict[str, Any] = {"data": list(records)}
            if announced is not None:
                document["total"] = announced
            evidence = {
                "url": f"{project.source.url}?page={number}",
                "status": 200,
                "time": f"2026-01-0{number % 9 + 1}T00:00:00Z",
            }
            collector.add(
                f"{folder}page_{number}.json",
                json.dumps(document, ensure_ascii=False).encode(),
                evidence,
                number=number,
                records=len(records),
            )
        return collector.publish(
            whole=whole, announced=announced, repeated=repeated, keep_runs=keep_runs
        )
