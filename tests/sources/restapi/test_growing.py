"""Incremental and update runs: nothing lost between runs, nothing kept twice, history kept."""

from __future__ import annotations

import json
import zipfile
from datetime import datetime

import pytest

from holdfast.core.outcome import Outcome
from holdfast.sources.restapi.collecting.run import run_project
from holdfast.sources.restapi.kept.archive import open_archive
from holdfast.sources.restapi.kept.latest import state
from holdfast.testing.api_listing import Listing


def serve(api, count, **options):
    listing = Listing(
        [{"id": number, "changed": number} for number in range(1, count + 1)], **options
    )
    api.listings["/items"] = listing
    return listing


def test_incremental_refreshes_the_half_full_last_page(api, workshop, ids):
    """45 records, then 20 more: all 65, and only the ends of the list are asked for."""
    listing = serve(api, 45)
    project = workshop.project()
    run_project(project, "full")
    listing.records = [{"id": number} for number in range(1, 66)]
    api.requests.clear()
    report = run_project(project, "incremental")
    assert ids(project) == list(range(1, 66))
    assert (report.outcome, report.records) == (Outcome.SUCCEEDED, 65)
    assert sorted(request.query["page"] for request in api.requests) == ["1", "3", "4"]
    with zipfile.ZipFile(project.place.pages) as archive:
        assert len(archive.namelist()) == len(set(archive.namelist()))


def test_continue_on_an_archive_of_the_original(api, workshop, ids):
    """A storage.zip that apibackuper has made goes on, its holes are filled."""
    serve(api, 90)
    project = workshop.project()
    project.place.folder.mkdir()
    with zipfile.ZipFile(project.place.pages, "w", zipfile.ZIP_DEFLATED) as archive:
        for page in (1, 3):
            rows = [{"id": number} for number in range(page * 20 - 19, page * 20 + 1)]
            archive.writestr(f"page_{page}.json", json.dumps({"data": rows, "total": 60}))
    report = run_project(project, "continue")
    assert ids(project) == list(range(1, 91))
    assert report.outcome is Outcome.SUCCEEDED
    assert sorted(request.query["page"] for request in api.requests) == ["1", "2", "3", "4", "5"]


def test_rows_that_moved_are_read_again(api, workshop, ids):
    """Ten records deleted at the start move all others: going back page by page finds every one."""
    listing = serve(api, 60)
    project = workshop.project()
    run_project(project, "full")
    listing.records = [{"id": number} for number in range(11, 81)]
    report = run_project(project, "incremental")
    assert set(ids(project)) >= set(range(11, 81))
    assert report.outcome is Outcome.SUCCEEDED


def test_a_list_that_grows_at_its_head(api, workshop, ids):
    """Newest first: the first page tells that adding at the end is not enough."""
    listing = serve(api, 50)
    project = workshop.project()
    run_project(project, "full")
    listing.records = [{"id": number} for number in range(100, 115)] + listing.records
    report = run_project(project, "incremental")
    assert len(set(ids(project))) == 65
    assert any("does not grow at its end" in note for note in report.notes)


@pytest.mark.parametrize(("count", "asked"), [(95, ["1", "5"]), (100, ["1", "5", "6"])])
def test_nothing_new_costs_few_requests(api, workshop, ids, count, asked):
    """The first and the last page are looked at, and what may follow a full one; the archive stays
    as it is.
    """
    serve(api, count)
    project = workshop.project()
    run_project(project, "full")
    api.requests.clear()
    before = project.place.pages.stat()
    report = run_project(project, "incremental")
    assert sorted(request.query["page"] for request in api.requests) == asked
    assert not report.published
    assert project.place.pages.stat().st_mtime_ns == before.st_mtime_ns
    assert ids(project) == list(range(1, count + 1))


def test_update_asks_for_what_changed(api, workshop):
    """change_key_param gets the highest change seen; the pages lie under runs/, the base stays."""
    listing = serve(api, 45)
    project = workshop.project(
        data={"change_key": "changed"}, params={"change_key_param": "changed_since"}
    )
    run_project(project, "full")
    before = {}
    with zipfile.ZipFile(project.place.pages) as archive:
        before = {name: archive.read(name) for name in archive.namelist()}
    listing.records = [{"id": 3, "changed": 50}, {"id": 99, "changed": 51}]
    api.requests.clear()
    report = run_project(project, "update")
    assert api.requests[0].query["changed_since"] == "45"
    assert report.records == 2
    with zipfile.ZipFile(project.place.pages) as archive:
        assert {name: archive.read(name) for name in before} == before
        added = [name for name in archive.namelist() if name not in before]
        assert len(added) == 1
        assert added[0].startswith("runs/")
    api.requests.clear()
    run_project(project, "update")
    assert api.requests[0].query["changed_since"] == "51"


def test_update_by_time_asks_from_the_last_start(api, workshop):
    """update_since_param gets the moment at which the last run began."""
    serve(api, 5)
    project = workshop.project(
        project={"update_mode": "by_timestamp"}, params={"update_since_param": "since"}
    )
    run_project(project, "full")
    with open_archive(project.place) as archive:
        started = archive.base().started
    api.requests.clear()
    run_project(project, "update")
    asked = api.requests[0].query["since"]
    assert asked.startswith("20")
    assert abs(float(started) / 1e9 - datetime.fromisoformat(asked).timestamp()) < 2


def test_a_whole_update_stores_only_pages_that_differ(api, workshop):
    """Every run stays a complete listing, though unchanged pages are kept once."""
    listing = serve(api, 60)
    project = workshop.project()
    run_project(project, "full")
    listing.records = [*listing.records[:59], {"id": 60, "changed": 99}]
    run_project(project, "update")
    with open_archive(project.place) as archive:
        base, update = archive.current()
        assert update.whole
        assert len(list(archive.pages(update))) == 3
        assert b'"changed":99' in list(archive.pages(update))[2].body.replace(b" ", b"")
        assert b'"changed":99' not in list(archive.pages(base))[2].body.replace(b" ", b"")
    with zipfile.ZipFile(project.place.pages) as archive:
        assert sum(name.startswith("runs/") for name in archive.namelist()) == 1


def test_a_custom_script_decides_what_an_update_asks(api, workshop):
    """update_mode custom_script: the script's answer is sent along."""
    serve(api, 5)
    workshop.folder.mkdir(parents=True, exist_ok=True)
    (workshop.folder / "since.py").write_text(
        "def update(ctx):\n    return {'params': {'after': ctx['last_run_start'][:4]}}\n"
    )
    project = workshop.project(
        project={"update_mode": "custom_script", "update_script": "since.py"}
    )
    run_project(project, "full")
    api.requests.clear()
    run_project(project, "update")
    assert api.requests[0].query["after"].startswith("20")


def test_a_project_can_be_moved(api, workshop, ids, tmp_path):
    """Nothing of what is kept knows where it lies."""
    from holdfast.sources.restapi.project.project import load_project

    listing = serve(api, 45)
    run_project(workshop.project(), "full")
    workshop.folder.rename(tmp_path / "elsewhere")
    project = load_project(tmp_path / "elsewhere")
    listing.records = [{"id": number} for number in range(1, 66)]
    run_project(project, "incremental")
    assert ids(project) == list(range(1, 66))


def test_an_archive_without_a_directory_is_mended(api, workshop, ids):
    """A storage.zip that another program was killed over: whole pages are saved, others fetched."""
    serve(api, 90)
    project = workshop.project()
    project.place.folder.mkdir()
    with zipfile.ZipFile(project.place.pages, "w", zipfile.ZIP_DEFLATED) as archive:
        for page in (1, 2, 3):
            rows = [{"id": number} for number in range(page * 20 - 19, page * 20 + 1)]
            archive.writestr(f"page_{page}.json", json.dumps({"data": rows, "total": 90}))
        cut = archive.infolist()[2].header_offset + 40
    project.place.pages.write_bytes(project.place.pages.read_bytes()[:cut])
    report = run_project(project, "continue")
    assert report.outcome is Outcome.SUCCEEDED
    assert ids(project) == list(range(1, 91))
    assert project.place.pages.with_name("storage.zip.damaged").stat().st_size == cut


def test_detect_fills_in_what_is_left_open(api, workshop):
    """project.detect: a project without keys finds them when it runs."""
    serve(api, 45, data="rows", total="count")
    project = workshop.project(
        project={"detect": True},
        params={"page_number_param": None},
        data={"data_key": None, "total_number_key": None},
    )
    report = run_project(project, "full")
    assert (report.announced, report.records, report.pages) == (45, 45, 3)


def test_growing_where_the_server_caps_pages(api, workshop, ids):
    """skip by what pages really hold, in the incremental run as in the full one."""
    listing = serve(api, 45, style="skip", largest_size=20)
    project = workshop.project(
        project={"iterate_by": "skip"}, params={"page_size_limit": 50, "count_skip_param": "skip"}
    )
    run_project(project, "full")
    listing.records = [{"id": number} for number in range(1, 86)]
    report = run_project(project, "incremental")
    assert ids(project) == list(range(1, 86))
    assert (report.outcome, report.records) == (Outcome.SUCCEEDED, 85)


def latest(project):
    """The ids of the latest state."""
    with open_archive(project.place) as archive:
        return sorted(record["id"] for batch in state(project, archive) for record in batch)


def test_an_update_that_fell_short_removes_nothing(api, workshop):
    """Announced 60, received 40: what was not seen stays, and new versions are taken over."""
    listing = serve(api, 60)
    project = workshop.project()
    run_project(project, "full")
    listing.records = [{"id": number, "changed": 99} for number in range(1, 61)]
    listing.short_pages = {2: 7}
    report = run_project(project, "update")
    assert (report.outcome, report.unique) == (Outcome.PARTIAL, 53)
    assert latest(project) == list(range(1, 61))
    listing.short_pages = {}
    listing.records = listing.records[:50]
    assert run_project(project, "update").outcome is Outcome.SUCCEEDED
    assert latest(project) == list(range(1, 51))


def test_an_update_that_fell_short_doubles_nothing(api, workshop):
    """Where no key tells records apart, an incomplete list is not laid over the stored one."""
    listing = serve(api, 60)
    project = workshop.project(data={"item_key": None})
    run_project(project, "full")
    listing.short_pages = {2: 7}
    report = run_project(project, "update")
    assert (report.outcome, report.published) == (Outcome.PARTIAL, False)
    assert latest(project) == list(range(1, 61))


def test_incremental_looks_at_the_latest_state(api, workshop):
    """All pages are stored, yet an update has taken records away that are announced again."""
    listing = serve(api, 60)
    project = workshop.project()
    run_project(project, "full")
    listing.records = listing.records[:40]
    run_project(project, "update")
    listing.records = [{"id": number, "changed": number} for number in range(1, 61)]
    report = run_project(project, "incremental")
    assert len(latest(project)) == 40
    assert report.outcome is Outcome.PARTIAL
    assert any("run full" in note for note in report.notes)


def test_incremental_reads_short_pages_again(api, workshop, ids):
    """A page that was short when it was stored is asked for again while records are missing."""
    listing = serve(api, 95, short_pages={2: 3})
    project = workshop.project()
    assert run_project(project, "full").outcome is Outcome.PARTIAL
    listing.short_pages = {}
    api.requests.clear()
    report = run_project(project, "incremental")
    assert ids(project) == list(range(1, 96))
    assert (report.outcome, report.records) == (Outcome.SUCCEEDED, 95)
    assert not {request.query["page"] for request in api.requests} & {"3", "4"}


def test_incremental_that_stays_short_names_the_remedy(api, workshop):
    """Nothing is left to read again: only a full run can help, and the report says so."""
    serve(api, 95, short_pages={2: 3})
    project = workshop.project()
    run_project(project, "full")
    report = run_project(project, "incremental")
    assert report.outcome is Outcome.PARTIAL
    assert any("run full" in note for note in report.notes)
