"""A ledger that cannot be read takes nothing of the published archive away."""

from __future__ import annotations

import json
import shutil
import sqlite3
import zipfile
from contextlib import closing

import pytest

from holdfast.core.errors import DamagedError, ProjectBusyError
from holdfast.sources.restapi.collecting.run import run_project
from holdfast.sources.restapi.details.follow import follow
from holdfast.sources.restapi.giving.export import export
from holdfast.sources.restapi.giving.info import describe
from holdfast.sources.restapi.giving.snapshot import ApiSource
from holdfast.sources.restapi.giving.verify import verify
from holdfast.sources.restapi.kept.archive import open_archive
from holdfast.sources.restapi.kept.latest import state
from holdfast.sources.restapi.project.place import locked
from holdfast.testing.api_listing import Listing
from holdfast.testing.api_projects import store_run, write_project
from holdfast.testing.api_server import on_page, server_error


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


def test_the_next_run_makes_it_anew(project):
    """The first run after it goes on, keeps the damaged one, and everything is proven again."""
    spoiled = project.place.ledger.read_bytes()
    store_run(project, [[{"id": 9}]], mode="update", whole=False)
    aside = project.place.ledger.with_name("ledger.db.damaged")
    assert aside.read_bytes() == spoiled
    verdict = verify(project)
    assert (verdict.findings, verdict.records, verdict.unproven) == ([], 4, 0)


def test_a_ledger_that_was_only_begun_is_none(tmp_path):
    """A process killed before it made the tables leaves nothing that stops anybody."""
    project = write_project(tmp_path / "p", "http://127.0.0.1:1/items")
    store_run(project, [[{"id": 1}]])
    project.place.ledger.write_bytes(b"")
    assert verify(project).findings == []
    store_run(project, [[{"id": 1}]])


# --- made anew from what is left ---


def numbered(low, high, **more):
    return [{"id": number, **more} for number in range(low, high)]


@pytest.fixture
def grown(tmp_path, api, workshop):
    """A base, a whole update that removes records and repeats pages, one more, and details."""
    listing = Listing(numbered(1, 96))
    api.listings["/items"] = listing
    api.details["/item/"] = lambda key: {"key": key}
    project = workshop.project(
        follow={
            "follow_mode": "prefix", "follow_pattern": f"{api.url}/item/", "follow_item_key": "id",
        }
    )  # fmt: skip
    run_project(project, "full")
    listing.records = [*numbered(1, 41), *numbered(44, 96)]
    run_project(project, "update")
    listing.records = [*listing.records[:-1], {"id": 95, "new": True}]
    run_project(project, "update")
    follow(project)
    return project


def latest(project):
    with open_archive(project.place) as archive:
        return [record for batch in state(project, archive) for record in batch]


def spoil_pages(ledger, keep):
    """Zeroes the pages of the database that `keep` does not want, journal and all."""
    with closing(sqlite3.connect(ledger)) as database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        database.execute("PRAGMA journal_mode=DELETE")
    content = bytearray(ledger.read_bytes())
    for at in range(4096, len(content), 4096):
        if not keep(at // 4096):
            content[at : at + 4096] = bytes(4096)
    ledger.write_bytes(content)


def spoil_index(ledger):
    """Zeroes a page that holds no row."""
    query = "SELECT rootpage FROM sqlite_master WHERE name = 'response_time'"
    with closing(sqlite3.connect(ledger)) as database:
        (root,) = database.execute(query).fetchone()
    spoil_pages(ledger, lambda number: number + 1 != root)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda ledger: ledger.write_bytes(b"garbage" * 1000),
        lambda ledger: spoil_pages(ledger, lambda _number: False),
        lambda ledger: spoil_pages(ledger, lambda number: number % 3),
        lambda ledger: spoil_pages(ledger, lambda number: number % 2),
    ],
    ids=["garbage", "all", "third", "half"],
)
def test_deletions_and_versions_outlive_the_ledger(grown, spoil, api):
    """Whatever is lost of it: the latest state is the same, details and pages are proven, and
    updates go on.
    """
    before = latest(grown)
    spoil(grown.place.ledger)
    report = run_project(grown, "update")
    assert any("was made anew from the archives" in note for note in report.notes)
    assert latest(grown) == before
    verdict = verify(grown)
    assert (verdict.findings, verdict.unproven) == ([], 0)
    api.listings["/items"].records = before[:-5]
    run_project(grown, "update")
    assert latest(grown) == before[:-5]


def test_without_the_file_of_runs_nothing_is_taken_away(grown):
    """Of an older archive, whose runs are lost with the ledger, every record is kept: an update of
    which not all pages are known removes nothing.
    """
    before = latest(grown)
    (grown.place.state / "runs.json").unlink()
    grown.place.ledger.write_bytes(b"garbage" * 1000)
    run_project(grown, "incremental")
    assert {record["id"] for record in latest(grown)} >= {record["id"] for record in before}
    assert {"id": 95, "new": True} in latest(grown)
    assert verify(grown).findings == []


def test_evidence_that_can_be_read_is_kept(grown):
    """A damaged corner of the ledger costs the evidence in that corner, no more."""
    with open_archive(grown.place) as archive:
        before = [page.evidence for page in archive.pages(archive.base())]
    spoil_index(grown.place.ledger)
    count = verify(grown).members
    report = run_project(grown, "update")
    told = next(note for note in report.notes if "made anew" in note)
    assert f"{count} of {count} stored responses have their evidence" in told
    with open_archive(grown.place) as archive:
        assert [page.evidence for page in archive.pages(archive.base())] == before


def test_a_run_that_was_cut_off_goes_on_with_what_can_be_proved(api, workshop, ids):
    """Pages in the unfinished archive are used where their rows and bytes are right."""
    api.listings["/items"] = Listing(numbered(1, 96))
    api.script("/items", server_error(404), when=on_page(3), forever=True)
    project = workshop.project()
    run_project(project, "full")
    spoil_index(project.place.ledger)
    (partial,) = project.place.state.glob("*.partial")
    content = bytearray(partial.read_bytes())
    content[60] ^= 1
    partial.write_bytes(content)
    (project.place.state / "storage-orphan.partial").write_bytes(b"x")
    api._scripts.clear()
    api.requests.clear()
    run_project(project, "full")
    assert ids(project) == list(range(1, 96))
    assert sorted(request.query["page"] for request in api.requests) == ["1", "3"]
    assert list(project.place.state.glob("*.partial")) == []


def test_killed_while_it_is_made_anew(grown, monkeypatch):
    """A program that ends in the middle of it has taken nothing, and the next one does it."""
    before = latest(grown)
    grown.place.ledger.write_bytes(b"garbage" * 1000)
    monkeypatch.setattr("holdfast.sources.restapi.kept.rebuild.sync_folder", _die)
    monkeypatch.setattr("holdfast.sources.restapi.kept.rebuild._Builder.build", _die)
    with pytest.raises(KeyboardInterrupt):
        run_project(grown, "incremental")
    assert grown.place.ledger.read_bytes() == b"garbage" * 1000
    monkeypatch.undo()
    run_project(grown, "incremental")
    assert latest(grown) == before


def _die(*_args):
    raise KeyboardInterrupt


def test_nobody_else_may_be_at_work_meanwhile(grown):
    """Who writes to the damaged ledger would lose what it writes."""
    grown.place.ledger.write_bytes(b"garbage" * 1000)
    with locked(grown.place, "files"), pytest.raises(ProjectBusyError):
        run_project(grown, "incremental")
    run_project(grown, "incremental")


# --- another program has been at the archive ---


def test_an_archive_that_another_program_replaced_is_exported(grown, tmp_path):
    """What is known is about something else then: pages count as they are, and verify says so."""
    pages = grown.place.pages
    with zipfile.ZipFile(pages, "w") as archive:
        archive.writestr("page_1.json", json.dumps({"data": [{"id": "a"}], "total": 1}))
        archive.writestr("page_2.json", json.dumps({"data": [{"id": "b"}], "total": 1}))
    assert latest(grown) == [{"id": "a"}, {"id": "b"}]
    assert [finding.message[:20] for finding in verify(grown).findings] == ["nothing in it is wha"]


def test_a_page_that_was_changed_is_not_exported(grown, tmp_path):
    """A changed page in an archive that is otherwise ours is refused, though the ZIP is sound."""
    pages, copy = grown.place.pages, tmp_path / "copy.zip"
    with zipfile.ZipFile(pages) as old, zipfile.ZipFile(copy, "w") as new:
        for name in old.namelist():
            body = old.read(name)
            new.writestr(name, body.replace(b"3}", b"7}") if "page_1" in name else body)
    shutil.copyfile(copy, pages)
    with pytest.raises(DamagedError, match="is not what was received") as caught:
        latest(grown)
    assert "holdfast api verify" in caught.value.advice
