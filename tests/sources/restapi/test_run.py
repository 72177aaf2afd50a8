"""A run brings every record once, ends by evidence, and tells the truth about it."""

from __future__ import annotations

import json
import zipfile

import pytest

from holdfast.core.errors import (
    AnswerError,
    AuthError,
    FetchError,
    HoldfastError,
    SourceEmptyError,
)
from holdfast.core.outcome import Outcome
from holdfast.sources.restapi.collecting.run import run_project
from holdfast.sources.restapi.kept.archive import open_archive
from holdfast.testing.api_listing import Listing, Synthetic
from holdfast.testing.api_server import (
    cut_body,
    error_object,
    http_date,
    login_page,
    malformed,
    on_page,
    server_error,
    too_many,
    unavailable,
)


def serve(api, count, **options):
    listing = Listing([{"id": number} for number in range(1, count + 1)], **options)
    api.listings["/items"] = listing
    return listing


def test_every_page_is_stored_under_its_own_name(api, workshop, ids):
    """The archive holds page_<N>.json with the API's own bytes, readable by any ZIP program."""
    serve(api, 95)
    project = workshop.project()
    report = run_project(project, "full")
    assert (report.outcome, report.pages, report.records) == (Outcome.SUCCEEDED, 5, 95)
    with zipfile.ZipFile(project.place.pages) as archive:
        assert archive.namelist() == [f"page_{number}.json" for number in range(1, 6)]
        assert archive.testzip() is None
        assert len(json.loads(archive.read("page_5.json"))["data"]) == 15
        assert archive.infolist()[0].date_time[0] >= 2026
    assert ids(project) == list(range(1, 96))
    assert len(api.requests_to("/items")) == 5


@pytest.mark.parametrize("style", ["page", "skip", "range"])
@pytest.mark.parametrize("total", ["total", None])
def test_a_server_that_caps_pages_loses_nothing(api, workshop, ids, style, total):
    """page_size_limit 50 against a server that gives at most 20: all 95 records come."""
    serve(api, 95, style=style, largest_size=20, total=total)
    project = workshop.project(
        project={"iterate_by": style},
        params={
            "page_size_limit": 50,
            "count_skip_param": "skip",
            "count_from_param": "from",
            "count_to_param": "to",
        },
        data={"total_number_key": total},
    )
    report = run_project(project, "full")
    assert ids(project) == list(range(1, 96))
    assert report.outcome is Outcome.SUCCEEDED


@pytest.mark.parametrize("style", ["page", "skip", "range"])
@pytest.mark.parametrize("short", [1, 2, 3])
def test_a_short_page_is_not_the_end(api, workshop, ids, style, short):
    """A page that holds three records back does not hide what comes after it."""
    serve(api, 60, style=style, short_pages={short: 3}, total=None)
    project = workshop.project(
        project={"iterate_by": style},
        params={"count_skip_param": "skip", "count_from_param": "from", "count_to_param": "to"},
        data={"total_number_key": None},
    )
    run_project(project, "full")
    hidden = range(short * 20 - 2, short * 20 + 1)
    assert set(ids(project)) >= set(range(1, 61)) - set(hidden)


def test_received_is_held_against_announced(api, workshop, ids):
    """60 announced and 57 given is partial, and says so."""
    serve(api, 60, short_pages={2: 3})
    project = workshop.project()
    report = run_project(project, "full")
    assert report.outcome is Outcome.PARTIAL
    assert "received 57 records of 60 announced" in report.notes
    assert report.published
    assert len(ids(project)) == 57


def test_rows_added_during_the_run_are_not_missed(api, workshop, ids):
    """The total is read again with every page."""
    listing = serve(api, 45)

    def grow(request):
        if request == 2:
            listing.records = [{"id": number} for number in range(1, 91)]

    listing.before = grow
    project = workshop.project()
    report = run_project(project, "full")
    assert ids(project) == list(range(1, 91))
    assert report.announced == 90


def test_rows_removed_during_the_run_hide_nothing(api, workshop, ids):
    """When the list shrinks while it is read, rows move past the reader: it reads again."""
    listing = serve(api, 100)

    def shrink(request):
        if request == 3:
            listing.records = [row for row in listing.records if row["id"] != 1]

    listing.before = shrink
    project = workshop.project(request={"parallelism": 1})
    report = run_project(project, "full")
    assert ids(project) == list(range(2, 101))
    assert any("shorter" in note for note in report.notes)


@pytest.mark.parametrize(("past_end", "count"), [("repeat", 45), ("missing", 45), ("empty", 40)])
def test_without_a_total_the_end_is_found(api, workshop, ids, past_end, count):
    """An API that repeats its last page, answers 404 or an empty page: each ends the walk,
    nothing twice.
    """
    serve(api, count, total=None, past_end=past_end)
    project = workshop.project(data={"total_number_key": None})
    report = run_project(project, "full")
    assert ids(project) == list(range(1, count + 1))
    assert report.outcome is Outcome.SUCCEEDED
    assert len(api.requests_to("/items")) < 12


def test_an_api_that_ignores_the_page_number_is_noticed(api, workshop):
    """All pages the same although more are announced: partial, and few requests wasted."""
    serve(api, 400)
    project = workshop.project(params={"page_number_param": "seite"})
    report = run_project(project, "full")
    assert report.outcome is Outcome.PARTIAL
    assert "repeats page 1" in report.ended_by
    assert len(api.requests_to("/items")) < 60


def test_zero_based_pages(api, workshop, ids):
    """start_page 0 works from YAML."""
    serve(api, 45, first_page=0)
    project = workshop.project(params={"start_page": 0})
    run_project(project, "full")
    assert ids(project) == list(range(1, 46))
    with zipfile.ZipFile(project.place.pages) as archive:
        assert archive.namelist()[0] == "page_0.json"


def test_pages_number_key(api, workshop, ids):
    """An announced number of pages is evidence too."""
    serve(api, 45, total=None, pages="pages")
    project = workshop.project(data={"total_number_key": None, "pages_number_key": "pages"})
    run_project(project, "full")
    assert ids(project) == list(range(1, 46))
    assert len(api.requests_to("/items")) == 3


def test_post_with_nested_parameters(api, workshop, ids):
    """POST sends params.json overlaid by dotted page parameters as JSON."""
    serve(api, 45, page_param="paging.page", size_param="paging.size")
    project = workshop.project(
        project={"http_mode": "POST"},
        params={"page_number_param": "paging.page", "page_size_param": "paging.size"},
        side={"params.json": {"paging": {"order": "id"}, "filter": None}},
    )
    run_project(project, "full")
    assert ids(project) == list(range(1, 46))
    sent = json.loads(api.requests_to("/items")[0].body)
    assert sent == {"paging": {"order": "id", "size": 20, "page": 1}, "filter": None}


@pytest.mark.parametrize(
    "fault",
    [
        server_error(500),
        server_error(502),
        unavailable("0"),
        server_error(504),
        too_many("0"),
        cut_body(),
        malformed(),
        error_object(),
    ],
)
def test_what_may_pass_is_tried_again(api, workshop, ids, fault):
    """5xx, 429, cut and malformed bodies, error objects with status 200: asked again, nothing
    lost.
    """
    serve(api, 60)
    api.script("/items", fault, fault, when=on_page(2))
    project = workshop.project()
    report = run_project(project, "full")
    assert ids(project) == list(range(1, 61))
    assert report.retries == 2


def test_retry_after_in_seconds_and_as_a_date(api, workshop, ids):
    """Nobody asks before the moment that the API names."""
    serve(api, 60)
    api.script("/items", too_many("1"), when=on_page(2))
    api.script("/items", unavailable(http_date(2)), when=on_page(3))
    project = workshop.project()
    report = run_project(project, "full")
    assert ids(project) == list(range(1, 61))
    assert report.elapsed >= 1


@pytest.mark.parametrize("status", [401, 403, 404, 400])
def test_what_is_permanent_fails_at_once(api, workshop, status):
    """No second try of a request that cannot succeed, and a sentence that names it."""
    api.script("/items", server_error(status), forever=True)
    project = workshop.project()
    with pytest.raises(FetchError, match=str(status)) as caught:
        run_project(project, "full")
    assert len(api.requests_to("/items")) == 1
    assert isinstance(caught.value, AuthError) == (status in {401, 403})


def test_a_page_that_stays_broken_leaves_the_rest_for_the_next_run(api, workshop, ids):
    """Nothing is published, the exit is partial, and the next run fetches only what is missing."""
    serve(api, 95)
    api.script("/items", server_error(404), when=on_page(3))
    project = workshop.project()
    report = run_project(project, "full")
    assert report.outcome is Outcome.PARTIAL
    assert list(report.failed) == [3]
    assert not report.published
    api.requests.clear()
    report = run_project(project, "full")
    assert (report.outcome, report.resumed) == (Outcome.SUCCEEDED, 4)
    assert [request.query["page"] for request in api.requests] == ["3"]
    assert ids(project) == list(range(1, 96))


def test_a_failed_rerun_leaves_the_archive_alone(api, workshop, ids):
    """The previous archive stays byte for byte until a new one is complete."""
    listing = serve(api, 60)
    project = workshop.project()
    run_project(project, "full")
    before = project.place.pages.read_bytes()
    listing.records = [{"id": number} for number in range(1, 201)]
    api.script("/items", server_error(403), when=on_page(2), forever=True)
    assert not run_project(project, "full").published
    assert project.place.pages.read_bytes() == before


def test_an_emptied_api_is_a_failure(api, workshop, ids):
    """A source that turned empty is no success, and takes nothing away."""
    listing = serve(api, 60)
    project = workshop.project()
    run_project(project, "full")
    listing.records = []
    with pytest.raises(SourceEmptyError):
        run_project(project, "full")
    assert len(ids(project)) == 60


def test_a_login_page_instead_of_json(api, workshop):
    """It is recognised, and the sentence says what to do."""
    serve(api, 5)
    api.script("/items", login_page(), forever=True)
    with pytest.raises(AnswerError, match="HTML page") as caught:
        run_project(workshop.project(), "full")
    assert "auth" in caught.value.advice


def test_a_missing_data_key_names_what_is_there(api, workshop):
    """The sentence names the keys of the answer."""
    serve(api, 5)
    with pytest.raises(AnswerError, match="data_key 'items'; it has the keys data, total"):
        run_project(workshop.project(data={"data_key": "items"}), "full")
    assert len(api.requests_to("/items")) == 1


def test_evidence_lies_beside_each_response(api, workshop):
    """URL, status, headers, time and SHA-256, without secrets."""
    serve(api, 45)
    project = workshop.project(
        side={
            "headers.json": {"X-Api-Key": "verysecretvalue"},
            "params.json": {"token": "tok-123456"},
        }
    )
    run_project(project, "full")
    with open_archive(project.place) as archive:
        proofs = [page.evidence for page in archive.pages(archive.base())]
    assert [proof["status"] for proof in proofs] == [200, 200, 200]
    assert "page=2" in proofs[1]["url"]
    assert len(proofs[1]["sha256"]) == 64
    assert proofs[1]["time"].startswith("20")
    assert any(name.lower() == "content-type" for name, _ in proofs[0]["headers"])
    for path in project.folder.rglob("*"):
        if path.is_file() and "storage" in path.parts:
            assert b"verysecretvalue" not in path.read_bytes()
            assert b"tok-123456" not in path.read_bytes()


@pytest.mark.parametrize("kind", ["zip", "filesystem", "sqlite"])
def test_each_kind_of_storage(api, workshop, ids, kind):
    """The same records, whatever holds the pages; a second full run replaces, and keeps the first
    aside.
    """
    serve(api, 45)
    project = workshop.project(storage={"storage_type": kind})
    run_project(project, "full")
    serve(api, 25)
    run_project(project, "full")
    assert ids(project) == list(range(1, 26))
    with open_archive(project.place) as archive:
        assert [run.records for run in archive.runs()] == [45, 25]


def test_a_list_without_a_data_key(api, workshop, ids):
    """A document that is the list itself."""
    serve(api, 45, data="", total=None)
    project = workshop.project(data={"data_key": None, "total_number_key": None})
    run_project(project, "full")
    assert ids(project) == list(range(1, 46))


def test_every_failure_is_a_sentence(api, workshop):
    """An unreachable host ends with a message, not a traceback."""
    project = workshop.project(
        project={"url": "http://127.0.0.1:9/items"},
        request={"retry": {"max_retries": 1, "initial_delay": 0.01}},
    )
    with pytest.raises(HoldfastError, match="cannot be reached"):
        run_project(project, "full")


def test_memory_of_many_records_is_their_keys_only(api, workshop, ids):
    """Two hundred pages of synthetic records come whole and in order."""
    api.listings["/items"] = Listing(Synthetic(4000))
    project = workshop.project()
    report = run_project(project, "full")
    assert report.unique == 4000
    assert ids(project) == list(range(1, 4001))
