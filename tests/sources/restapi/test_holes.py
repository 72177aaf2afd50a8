"""An announced total is held against the pages, and the pages against the total."""

from __future__ import annotations

import pytest

from holdfast.core.outcome import Outcome
from holdfast.sources.restapi.collecting.detect import detect_project
from holdfast.sources.restapi.collecting.run import Orders, run_project
from holdfast.testing.api_listing import Listing
from holdfast.testing.api_server import on_page, too_many
from holdfast.testing.loopback import json_reply


def serve(api, count, **options):
    listing = Listing([{"id": number} for number in range(1, count + 1)], **options)
    api.listings["/items"] = listing
    return listing


def counting(api, *, size=20, count=95, total=len):
    """Pages that announce `total` of their own records; returns nothing past the end."""

    def answer(request):
        at = (int(request.query["page"]) - 1) * size
        rows = [{"id": number + 1} for number in range(at, min(at + size, count))]
        return json_reply({"data": rows, "total": total(rows)})

    api.routes["/items"] = answer


@pytest.mark.parametrize("total", [len, lambda _rows: 0, lambda _rows: 7], ids=["page", "0", "7"])
@pytest.mark.parametrize("size", [20, 15])
def test_a_total_that_the_pages_disprove_is_not_believed(api, workshop, ids, total, size):
    """The page's own count, 0 or too few: all records come, and the run says so."""
    counting(api, total=total, size=size)
    project = workshop.project()
    report = run_project(project, "full")
    assert ids(project) == list(range(1, 96))
    assert report.outcome is Outcome.PARTIAL
    assert any("was not believed" in note for note in report.notes)
    assert run_project(project, "incremental").outcome is Outcome.PARTIAL
    assert ids(project) == list(range(1, 96))


def test_a_total_of_one_page_is_believed(api, workshop, ids):
    """A list that fits on one page costs one more look and is complete."""
    serve(api, 20)
    project = workshop.project()
    report = run_project(project, "full")
    assert (report.outcome, report.announced, report.notes) == (Outcome.SUCCEEDED, 20, [])
    assert ids(project) == list(range(1, 21))
    assert len(api.requests_to("/items")) == 2


def test_detect_asks_for_a_second_page_before_it_believes_a_total(api, workshop):
    """The count of a page is no total, and the parameter that leads on is found all the same."""
    counting(api)
    project = workshop.project(
        params={"page_number_param": None}, data={"data_key": None, "total_number_key": None}
    )
    api.routes["/items"] = _first_page_by_default(api.routes["/items"])
    detection = detect_project(project)
    assert "total_number_key" not in detection.found["data"]
    assert detection.found["params"]["page_number_param"] == "page"
    assert detection.proved


def test_detect_believes_the_total_of_a_single_page(api, workshop):
    """Nothing new comes on a second page: the number is the total."""
    serve(api, 12)
    project = workshop.project(
        params={"page_number_param": None}, data={"data_key": None, "total_number_key": None}
    )
    detection = detect_project(project)
    assert detection.found["data"]["total_number_key"] == "total"
    assert detection.test_read == "test read: all 12 records are on one page"
    assert "iterate_by" not in detection.found.get("project", {})


@pytest.mark.parametrize(
    ("name", "style"), [("pageNo", "page"), ("$skip", "skip"), ("starting_after", "since_id")]
)
def test_detect_tries_further_names_where_more_is_announced(api, workshop, ids, name, style):
    """What it writes collects everything; nothing else tells of the parameter."""

    def answer(request):
        given = int(request.query.get(name, 1 if style == "page" else 0))
        at = (given - 1) * 20 if style == "page" else given
        more = {"has_more": at + 20 < 95} if style == "since_id" else {"total": 95}
        return json_reply({"data": [{"id": n + 1} for n in range(at, min(at + 20, 95))], **more})

    api.routes["/items"] = answer
    open_words = {"page_number_param": None}
    nothing = {"data_key": None, "total_number_key": None, "item_key": None}
    detection = detect_project(workshop.project(params=open_words, data=nothing))
    assert detection.proved
    assert detection.found["project"]["iterate_by"] == style
    found = detection.found
    project = workshop.project(
        project=found["project"], params=open_words | found["params"], data=nothing | found["data"]
    )
    assert run_project(project, "full").outcome is Outcome.SUCCEEDED
    assert ids(project) == list(range(1, 96))


def test_detect_says_that_there_must_be_more(api, workshop):
    """A total of 95 beside 20 records is no single page, whatever leads on."""
    api.routes["/items"] = lambda _request: json_reply(
        {"data": [{"id": n} for n in range(20)], "total": 95}
    )
    detection = detect_project(workshop.project(params={"page_number_param": None}))
    assert not detection.proved
    assert "though there is one" in detection.test_read


def _first_page_by_default(answer):
    def defaulting(request):
        request.query.setdefault("page", "1")
        return answer(request)

    return defaulting


@pytest.mark.parametrize("rows", [[], None], ids=["empty", "null"])
@pytest.mark.parametrize("mode", ["full", "update"])
def test_an_empty_page_in_the_middle_is_a_failed_page(api, workshop, ids, rows, mode):
    """It is tried again and named; the archive stays, and the next run asks for it alone."""
    serve(api, 95)
    project = workshop.project(request={"retry": {"initial_delay": 0.01, "max_retries": 2}})
    run_project(project, "full")
    before = project.place.pages.read_bytes()
    hole = json_reply({"data": rows, "total": 95})
    api.script("/items", *[hole] * 4, when=on_page(3))
    api.requests.clear()
    report = run_project(project, mode)
    assert (report.outcome, report.published) == (Outcome.PARTIAL, False)
    assert list(report.failed) == [3]
    assert "no records of its own" in report.failed[3]
    assert "reached" not in report.ended_by
    assert sum(request.query["page"] == "3" for request in api.requests) == 4
    assert project.place.pages.read_bytes() == before
    api.requests.clear()
    report = run_project(project, mode)
    assert (report.outcome, report.resumed) == (Outcome.SUCCEEDED, 4)
    assert [request.query["page"] for request in api.requests] == ["3"]
    assert ids(project) == list(range(1, 96))


def test_an_empty_page_that_fills_is_no_failure(api, workshop, ids):
    """The second try brings what the first lacked."""
    serve(api, 95)
    api.script("/items", json_reply({"data": [], "total": 95}), when=on_page(3))
    project = workshop.project()
    report = run_project(project, "full")
    assert (report.outcome, report.failed) == (Outcome.SUCCEEDED, {})
    assert ids(project) == list(range(1, 96))


def test_pages_alike_are_kept_where_the_total_counts_them(api, workshop):
    """Records without a key may repeat: inside the announced list a repeated page is no end."""
    listing = serve(api, 95)
    listing.records = [*[{"name": "same"}] * 60, *[{"name": n} for n in range(35)]]
    project = workshop.project(data={"item_key": None})
    report = run_project(project, "full")
    assert (report.outcome, report.records, report.pages) == (Outcome.SUCCEEDED, 95, 5)


def test_nothing_but_the_same_page_is_said(api, workshop):
    """An API that ignores the page's number gives as many records as announced, but not those."""
    serve(api, 95)
    project = workshop.project(params={"page_number_param": "seite"}, data={"item_key": None})
    report = run_project(project, "full")
    assert report.outcome is Outcome.PARTIAL
    assert any("all pages are alike" in note for note in report.notes)


def test_a_wait_that_is_too_long_is_said_and_not_waited_for(api, workshop):
    """A Retry-After of a day fails the page at once; request.retry.max_wait decides."""
    serve(api, 95)
    api.script("/items", too_many("86400"), when=on_page(3), forever=True)
    said = []
    report = run_project(workshop.project(), "full", Orders(say=said.append))
    assert list(report.failed) == [3]
    assert any("86400 s" in line for line in said)
