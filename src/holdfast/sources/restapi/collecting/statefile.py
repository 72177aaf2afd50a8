"""apibackuper_state.json: kept so that other tools that read it, and a way back, go on working."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from holdfast.sources.restapi.asking.paging import timestamp
from holdfast.sources.restapi.project.place import writing

if TYPE_CHECKING:
    from holdfast.sources.restapi.collecting.changes import Changes
    from holdfast.sources.restapi.collecting.run import Report
    from holdfast.sources.restapi.collecting.tally import Tally
    from holdfast.sources.restapi.project.project import Project


def read_state(project: Project) -> dict[str, Any]:
    """What the last run of any tool left; {} for nothing readable. Any: JSON."""
    try:
        state = json.loads((project.folder / project.settings.state_file).read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return state if isinstance(state, dict) else {}


def write_state(project: Project, report: Report, tally: Tally, changes: Changes) -> None:
    """Raises StorageFullError or StoreError where it cannot be written."""
    now = timestamp()
    started = changes.watermark or timestamp(_begun(now, report.elapsed))
    state = {
        **read_state(project),
        "pages_processed": report.pages,
        "records_processed": report.records,
        "bytes_processed": report.bytes,
        "last_page": project.params.start_page + report.pages - 1,
        "last_run_start": started,
        "last_run_end": now,
        "update_watermark": started,
        "outcome": str(report.outcome),
    }
    if tally.change is not None:
        state["last_change_key"] = tally.change
    path = project.folder / project.settings.state_file
    with writing(path):
        draft = path.with_name(path.name + ".new")
        draft.write_text(json.dumps(state, ensure_ascii=False, indent=2) + "\n", "utf-8")
        draft.replace(path)


def _begun(now: str, elapsed: float) -> float:
    from datetime import datetime

    return datetime.fromisoformat(now).timestamp() - elapsed
