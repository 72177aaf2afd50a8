"""A ledger that cannot be read takes nothing of the published archive away."""

from __future__ import annotations

import json

import pytest

from holdfast.core.errors import DamagedError
from holdfast.sources.restapi.giving.export import export
from holdfast.sources.restapi.giving.info import describe
from holdfast.sources.restapi.giving.snapshot import ApiSource
from holdfast.sources.restapi.giving.verify import verify
from holdfast.sources.restapi.kept.archive import open_archive
from holdfast.testing.api_projects import store_run, write_project


def spoil_start(path):
    path.write_bytes(b"garbage" * 1000)


def spoil_inside(path):
    content = bytearray(path.read_bytes())
    content[4096:] = b"\xff" * (len(content) - 4096)
    path.write_bytes(content)


@pytest.fixture(params=[spoil_start, spoil_inside])
def project(tmp_path, request):
    project = write_project(tmp_path / "shop", "http://127.0.0.1:1/items")
    store_run(project, [[{"id": 1}, {"id": 2}], [{"id": 3}]], repeated=0)
    request.param(project.place.ledger)
    return project


def test_everything_that_reads_goes_on(project, tmp_path):
    """Export, info and a snapshot give all; verify names the ledger and checks the rest."""
    target = tmp_path / "out.json"
    with open_archive(project.place) as archive:
        assert archive.lacks_ledger
        export(project, archive, str(target))
    assert [record["id"] for record in json.loads(target.read_text())] == [1, 2, 3]
    storage = describe(project)["statistics"]["storage"]
    assert (storage["total_records"], storage["ledger"]) == (3, "damaged")
    verdict = verify(project)
    assert (verdict.members, verdict.unproven) == (2, 2)
    assert [finding.place for finding in verdict.findings] == ["ledger.db"]
    with ApiSource(project) as source:
        assert source.roots


def test_what_writes_sets_it_aside_and_says_so(project):
    """The first run names file, safety and remedy; the second begins a new ledger."""
    spoiled = project.place.ledger.read_bytes()
    with pytest.raises(DamagedError, match=r"ledger\.db is damaged") as caught:
        store_run(project, [[{"id": 9}]])
    assert "archive is safe" in caught.value.advice
    aside = project.place.ledger.with_name("ledger.db.damaged")
    assert aside.read_bytes() == spoiled
    store_run(project, [[{"id": 9}]])
    assert (verify(project).findings, verify(project).records) == ([], 4)


def test_a_ledger_that_was_only_begun_is_none(tmp_path):
    """A process killed before it made the tables leaves nothing that stops anybody."""
    project = write_project(tmp_path / "p", "http://127.0.0.1:1/items")
    store_run(project, [[{"id": 1}]])
    project.place.ledger.write_bytes(b"")
    assert verify(project).findings == []
    store_run(project, [[{"id": 1}]])
