"""What `info` tells of the archive and of its runs."""

from __future__ import annotations

from holdfast.sources.restapi.collecting.run import run_project
from holdfast.sources.restapi.giving.info import describe
from holdfast.testing.api_listing import Listing
from holdfast.testing.api_server import on_page, server_error


def stored(project):
    return describe(project)["statistics"]["storage"]


def rows(count):
    return [{"id": number} for number in range(1, count + 1)]


def test_a_rerun_that_was_cut_off_is_told(api, workshop):
    """Beside the archive that is whole: which run it is and how far it came; gone once it is
    done.
    """
    api.listings["/items"] = Listing(rows(95))
    project = workshop.project()
    run_project(project, "full")
    assert stored(project)["unfinished"] is False
    api.script("/items", server_error(404), when=on_page(3))
    run_project(project, "full")
    told = stored(project)
    assert (told["file_exists"], told["unfinished"], told["total_records"]) == (True, True, 95)
    waiting = told["unfinished_run"]
    assert (waiting["mode"], waiting["pages"], waiting["records"]) == ("full", 4, 75)
    assert waiting["started"].startswith("20")
    assert waiting["ended"] is None
    run_project(project, "full")
    assert stored(project)["unfinished"] is False
    assert "unfinished_run" not in stored(project)


def test_incremental_runs_are_listed(api, workshop):
    """Under the full run that they have grown, each with what it stored itself."""
    listing = Listing(rows(45))
    api.listings["/items"] = listing
    project = workshop.project()
    run_project(project, "full")
    assert "grown_by" not in stored(project)["runs"][0]
    for count in (65, 85):
        listing.records = rows(count)
        run_project(project, "incremental")
    (run,) = stored(project)["runs"]
    assert (run["mode"], run["records"], run["pages"]) == ("full", 85, 5)
    grown = [(part["mode"], part["records"], part["announced"]) for part in run["grown_by"]]
    assert grown[-1] == ("incremental", 25, 85)
    assert len({part["id"] for part in run["grown_by"]}) == 2
