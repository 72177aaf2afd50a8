"""What an update asks for: only what changed since, where the API can tell, else everything."""

from __future__ import annotations

import json
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from holdfast.core.errors import HookError
from holdfast.sources.restapi.asking.pages import PageReader
from holdfast.sources.restapi.asking.paging import timestamp
from holdfast.sources.restapi.asking.scripts import Script
from holdfast.sources.restapi.collecting.statefile import read_state
from holdfast.sources.restapi.collecting.tally import Tally, later
from holdfast.sources.restapi.kept.archive import Archive, open_archive

if TYPE_CHECKING:
    from holdfast.sources.restapi.project.project import Project


@dataclass(frozen=True, slots=True)
class Changes:
    """Parameters of an update. Any: as the API wants them."""

    params: dict[str, Any]
    whole: bool
    """The update asks for everything, so what it does not bring is gone."""
    watermark: str | None = None
    """The moment from which the next update will ask."""


def find_changes(project: Project) -> Changes:
    """What to send so that the API gives only what changed.

    Raises:
        NothingStoredError: there is nothing to update.
        HookError: the project's update script failed.
    """
    now = timestamp()
    state = read_state(project)
    with open_archive(project.place) as archive:
        if project.source.update_mode == "custom_script":
            return Changes(_from_script(project, state, archive), whole=False, watermark=now)
        params = project.params
        by_time = project.source.update_mode == "by_timestamp" or not params.change_key_param
        if params.update_since_param and by_time:
            if since := _since(archive, state):
                return Changes({params.update_since_param: since}, whole=False, watermark=now)
        elif params.change_key_param and project.data.change_key:
            change = _highest_change(project, archive, state)
            if change is not None:
                return Changes({params.change_key_param: change}, whole=False, watermark=now)
    return Changes({}, whole=True, watermark=now)


def _since(archive: Archive, state: dict[str, Any]) -> str | None:
    for run in reversed(archive.current()):
        if run.started:
            return str((run.notes or {}).get("since") or timestamp(run.started / 10**9))
    for word in ("update_watermark", "last_run_start", "last_run_end"):
        if state.get(word):
            return str(state[word])
    return None


def _highest_change(project: Project, archive: Archive, state: dict[str, Any]) -> Any:
    """From what runs remembered, or by looking at everything that is stored. Any: as the API
    writes it.
    """
    known = [(run.notes or {}).get("change") for run in archive.current()]
    if any(change is None for change in known):
        reader = PageReader(project)
        with closing(Tally(project)) as tally:
            for run in archive.current():
                for page in archive.pages(run):
                    tally.count(reader.read_stored(page.body))
        known = [tally.change, state.get("last_change_key")]
    highest = None
    for change in known:
        if change is not None and later(change, highest):
            highest = change
    return highest


def _from_script(project: Project, state: dict[str, Any], archive: Archive) -> dict[str, Any]:
    assert project.source.update_script is not None, "checked when the project was read"
    script = Script(
        project.folder / project.source.update_script, folder=project.folder,
        functions=("update", "hook", "run"), limit=project.hooks.timeout,
    )  # fmt: skip
    question = {
        "project_path": str(project.folder),
        "state": state,
        "last_run_start": _since(archive, state),
    }
    with script:
        said = script.ask(json.loads(json.dumps(question, default=str)))
    params = said.get("params", said) if isinstance(said, dict) else None
    if not isinstance(params, dict):
        raise HookError(f"script {project.source.update_script} must return names and values")
    return params
