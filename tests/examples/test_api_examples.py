"""Each example project works against the imitation of its API, in both forms of configuration."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from holdfast.core.outcome import Outcome
from holdfast.sources.restapi.collecting.run import run_project
from holdfast.sources.restapi.details.follow import follow
from holdfast.sources.restapi.details.getfiles import getfiles
from holdfast.sources.restapi.giving.export import Selection, export
from holdfast.sources.restapi.giving.verify import verify
from holdfast.sources.restapi.kept.archive import open_archive
from holdfast.sources.restapi.project.project import load_project, read_project
from holdfast.testing.api_examples import COUNTS, imitate
from holdfast.testing.api_server import ApiServer

EXAMPLES = Path(__file__).parents[2] / "examples" / "api"


@pytest.fixture(scope="module")
def api():
    with ApiServer() as server:
        yield imitate(server)


@pytest.fixture
def copied(tmp_path, api, monkeypatch):
    monkeypatch.setenv("EXAMPLE_API", api.url)

    def copy(name, form):
        folder = tmp_path / name
        shutil.copytree(EXAMPLES / name, folder)
        (folder / ("apibackuper.cfg" if form == "yaml" else "holdfast.yaml")).unlink()
        return load_project(folder)

    return copy


def exported(project, target, part=None):
    with open_archive(project.place) as archive:
        export(project, archive, str(target), selection=Selection(part=part))
    return [json.loads(line) for line in target.read_text().splitlines()]


@pytest.mark.parametrize("form", ["yaml", "ini"])
@pytest.mark.parametrize("name", sorted(COUNTS))
def test_an_example_collects_everything(copied, tmp_path, name, form):
    """Every record of the API is collected once, exported, and verifies."""
    project = copied(name, form)
    assert run_project(project, "full").outcome == Outcome.SUCCEEDED
    records = exported(project, tmp_path / "out.jsonl", "records")
    assert len({json.dumps(record) for record in records}) == len(records) == COUNTS[name]
    if project.follow:
        (report,) = follow(project)
        assert (report.fetched, report.misses) == (COUNTS[name], 0)
        assert len(exported(project, tmp_path / "details.jsonl")) == COUNTS[name]
    if project.files:
        assert getfiles(project).fetched == 2 * COUNTS[name]
    assert verify(project).findings == []


@pytest.mark.parametrize("name", sorted(COUNTS))
def test_both_forms_say_the_same(name, tmp_path, monkeypatch):
    """YAML and INI of an example read as one project, without a word that is not known."""
    monkeypatch.delenv("EXAMPLE_API", raising=False)
    readings = []
    for file in ("holdfast.yaml", "apibackuper.cfg"):
        shutil.copytree(EXAMPLES / name, tmp_path / file)
        for other in {"holdfast.yaml", "apibackuper.cfg"} - {file}:
            (tmp_path / file / other).unlink()
        readings.append(read_project(tmp_path / file))
    yaml, ini = (replace(reading.project, folder=tmp_path, file=tmp_path) for reading in readings)
    assert yaml == ini
    assert all(reading.unknown == () for reading in readings)
    assert all(reading.notes == () for reading in readings)


def test_there_are_ten():
    """Each imitated API has its example and each example its imitation."""
    assert {path.name for path in EXAMPLES.iterdir() if path.is_dir()} == set(COUNTS)
