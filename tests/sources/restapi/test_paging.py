"""Every way of paging is walked to its end, resumed, grown, and recognised."""

from __future__ import annotations

import json

import pytest

from holdfast.core.outcome import Outcome
from holdfast.sources.restapi.asking.paging import next_link
from holdfast.sources.restapi.collecting.detect import detect_project
from holdfast.sources.restapi.collecting.run import run_project
from holdfast.testing.api_listing import Listing
from holdfast.testing.api_server import server_error

WAYS = {
    "cursor": {
        "project": {"iterate_by": "cursor"},
        "params": {"cursor_param": "cursor", "page_number_param": None},
        "data": {"next_cursor_key": "next"},
    },
    "cursor-header": {
        "project": {"iterate_by": "cursor"},
        "params": {"cursor_param": "cursor", "page_number_param": None},
        "data": {"next_cursor_header": "X-Next-Cursor"},
    },
    "link": {"project": {"iterate_by": "link"}, "params": {"page_number_param": None}},
    "next-url": {
        "project": {"iterate_by": "next_url"},
        "params": {"page_number_param": None},
        "data": {"next_url_key": "next"},
    },
    "since-id": {
        "project": {"iterate_by": "since_id"},
        "params": {"since_id_param": "since_id", "page_number_param": None},
        "data": {"total_number_key": None},
    },
}


def rows(count):
    return [
        {
            "id": number,
            "updated": f"2026-{1 + (number - 1) // 28:02}-{1 + (number - 1) % 28:02}T00:00:00Z",
        }
        for number in range(1, count + 1)
    ]


@pytest.mark.parametrize("style", WAYS)
@pytest.mark.parametrize("count", [0, 1, 20, 95])
def test_each_chain_brings_all(api, workshop, ids, style, count):
    """Ends by the absence of a next page, with every record once."""
    api.listings["/items"] = Listing(rows(count), style=style)
    project = workshop.project(**WAYS[style])
    if not count:
        from holdfast.core.errors import SourceEmptyError

        with pytest.raises(SourceEmptyError):
            run_project(project, "full")
        return
    report = run_project(project, "full")
    assert report.outcome is Outcome.SUCCEEDED
    assert ids(project) == list(range(1, count + 1))


@pytest.mark.parametrize("style", WAYS)
def test_a_broken_chain_goes_on_where_it_broke(api, workshop, ids, style):
    """What was stored is not asked for again."""
    api.listings["/items"] = Listing(rows(95), style=style)
    project = workshop.project(**WAYS[style])
    seen = 0

    def fourth(_request):
        nonlocal seen
        seen += 1
        return seen == 4

    api.script("/items", server_error(404), when=fourth)
    assert run_project(project, "full").outcome is Outcome.PARTIAL
    api.requests.clear()
    report = run_project(project, "full")
    assert report.resumed == 3
    assert ids(project) == list(range(1, 96))
    assert len(api.requests) <= 3


@pytest.mark.parametrize("style", WAYS)
def test_a_chain_grows(api, workshop, ids, style):
    """An incremental run goes on from the last page, which it reads again."""
    listing = Listing(rows(45), style=style)
    api.listings["/items"] = listing
    project = workshop.project(**WAYS[style])
    run_project(project, "full")
    listing.records = rows(95)
    api.requests.clear()
    report = run_project(project, "incremental")
    assert report.outcome is Outcome.SUCCEEDED
    assert ids(project) == list(range(1, 96))
    assert len(api.requests) <= 5


@pytest.mark.parametrize("style", WAYS)
def test_a_chain_without_news_changes_nothing(api, workshop, style):
    """Its last page is looked at again, and the archive stays as it is."""
    api.listings["/items"] = Listing(rows(45), style=style)
    project = workshop.project(**WAYS[style])
    run_project(project, "full")
    before = project.place.pages.stat()
    report = run_project(project, "incremental")
    assert (report.outcome, report.records, report.published) == (Outcome.SUCCEEDED, 45, False)
    assert project.place.pages.stat().st_mtime_ns == before.st_mtime_ns


def test_time_windows(api, workshop, ids):
    """Each window is asked for, page by page, up to the end that was named."""
    api.listings["/items"] = Listing(rows(56), style="window", total=None)
    project = workshop.project(
        project={"iterate_by": "window"},
        params={
            "window_from_param": "from",
            "window_to_param": "to",
            "window_start": "2026-01-01",
            "window_end": "2026-03-01",
            "window_size": "7d",
            "window_format": "%Y-%m-%d",
            "page_size_limit": 5,
        },
        data={"total_number_key": None},
    )
    report = run_project(project, "full")
    assert report.outcome is Outcome.SUCCEEDED
    assert ids(project) == list(range(1, 57))


def test_a_cursor_that_repeats_itself_ends(api, workshop, ids):
    """An API that gives the same cursor for ever is not followed for ever."""
    from holdfast.testing.loopback import json_reply

    api.routes["/items"] = lambda _request: json_reply({"data": [{"id": 1}], "next": "again"})
    run_project(workshop.project(**WAYS["cursor"]), "full")
    assert len(api.requests) == 2


@pytest.mark.parametrize(
    ("header", "target"),
    [
        ('<https://a/?page=2>; rel="next", <https://a/?page=9>; rel="last"', "https://a/?page=2"),
        ("<https://a/?a,b=2>; rel=next", "https://a/?a,b=2"),
        ('<https://a/1>; rel="prev"', ""),
        ('<https://a/3>; title="x"; rel="last next"', "https://a/3"),
        ("", ""),
    ],
)
def test_next_link(header, target):
    """The Link header's next address, whatever stands around it."""
    assert next_link(header) == target


@pytest.mark.parametrize("style", ["page", "skip", *WAYS])
def test_detect_recognises(api, workshop, ids, style):
    """From one request and one that proves it; what it finds is enough for a run."""
    query = "?since_id=0" if style == "since-id" else ""
    api.listings["/items"] = Listing(
        rows(95), style=style, data="result.rows", total="result.count"
    )
    bare = workshop.project(
        path="/items" + query,
        params={"page_number_param": None, "page_size_param": None},
        data={"data_key": None, "total_number_key": None, "item_key": None},
    )
    detection = detect_project(bare)
    assert detection.proved, detection.lines()
    assert "data_key: result.rows" in detection.lines()
    assert "total_number_key: result.count" in detection.lines()
    assert "item_key: id" in detection.lines()
    found = json.loads(json.dumps(detection.found))
    project = workshop.project(
        project=found.get("project"),
        params={"page_number_param": None, "page_size_param": None, **found.get("params", {})},
        data={
            "total_number_key": None,
            **found["data"],
            **({"total_number_key": None} if style == "since-id" else {}),
        },
    )
    run_project(project, "full")
    assert ids(project) == list(range(1, 96))


def test_detect_leaves_a_dotted_name_whole(api, workshop):
    """OData: @odata.count has the splitter in its name, so another splitter is proposed where it
    matters.
    """
    from holdfast.testing.loopback import json_reply

    api.routes["/items"] = lambda _request: json_reply(
        {"@odata.count": 2, "value": [{"Id": 1}, {"Id": 2}]}
    )
    project = workshop.project(data={"data_key": None, "total_number_key": None, "item_key": None})
    lines = detect_project(project).lines()
    assert "data_key: value" in lines
    assert "total_number_key: @odata.count" in lines
    assert "item_key: Id" in lines


def windows(workshop, **params):
    return workshop.project(
        project={"iterate_by": "window"},
        params={
            "window_from_param": "from", "window_to_param": "to", "window_start": "2026-01-01",
            "window_end": "2026-03-01", "window_size": "7d", "window_format": "%Y-%m-%d",
            "page_size_limit": 5, **params,
        },
    )  # fmt: skip


def test_time_windows_that_announce_their_own_totals(api, workshop, ids):
    """The totals of all windows together are what was announced, also after a run that was cut
    off and in an incremental one.
    """
    listing = Listing(rows(56), style="window")
    api.listings["/items"] = listing
    project = windows(workshop)
    api.script("/items", server_error(404), when=lambda call: call.query["from"] == "2026-01-29")
    assert run_project(project, "full").outcome is Outcome.PARTIAL
    report = run_project(project, "full")
    assert (report.outcome, report.announced, report.notes) == (Outcome.SUCCEEDED, 56, [])
    assert ids(project) == list(range(1, 57))
    report = run_project(project, "incremental")
    assert (report.outcome, report.announced, report.notes) == (Outcome.SUCCEEDED, 56, [])


def test_a_window_that_gives_less_than_its_total_is_said(api, workshop, ids):
    """Received is held against announced in windows, too."""
    listing = Listing(rows(56), style="window", short_pages={2: 1})
    api.listings["/items"] = listing
    report = run_project(windows(workshop), "full")
    assert report.outcome is Outcome.PARTIAL
    assert any("of 56 announced" in note for note in report.notes)


@pytest.mark.parametrize("left", [False, True], ids=["whole", "what-is-left"])
def test_since_id_with_a_total(api, workshop, ids, left):
    """Whether an API announces the whole list or what follows the id, all come and nothing is
    complained of.
    """
    from holdfast.testing.loopback import json_reply

    count = 45

    def answer(request):
        after = int(request.query.get("since_id", 0))
        total = count - after if left else count
        return json_reply({"data": rows(count)[after : after + 20], "total": total})

    api.routes["/items"] = answer
    ways = {**WAYS["since-id"], "data": {}}
    project = workshop.project(**ways)
    report = run_project(project, "full")
    assert (report.outcome, report.announced, report.notes) == (Outcome.SUCCEEDED, 45, [])
    count = 95
    report = run_project(project, "incremental")
    assert (report.outcome, report.records, report.notes) == (Outcome.SUCCEEDED, 95, [])
    assert ids(project) == list(range(1, 96))
