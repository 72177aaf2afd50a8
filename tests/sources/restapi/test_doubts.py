"""Totals, empty pages and short pages that do not add up are asked about until they do, or said."""

from __future__ import annotations

import json
import zipfile
from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest

from holdfast.core.outcome import Outcome
from holdfast.sources.restapi.asking.pages import PageReader
from holdfast.sources.restapi.collecting.run import Orders, run_project
from holdfast.sources.restapi.collecting.tally import Tally
from holdfast.testing.api_listing import Listing
from holdfast.testing.api_server import on_page, server_error
from holdfast.testing.loopback import json_reply


def rows(count):
    return [{"id": number} for number in range(1, count + 1)]


def serve(api, count, **options):
    listing = Listing(rows(count), **options)
    api.listings["/items"] = listing
    return listing


def announce(api, announced, *, count=95, **more):
    """Pages of twenty that are announced to hold fewer records than they do, or more."""

    def answer(request):
        at = (int(request.query["page"]) - 1) * 20
        return json_reply({"data": rows(count)[at : at + 20], "total": announced, **more})

    api.routes["/items"] = answer


def asked(api):
    return sorted(int(request.query["page"]) for request in api.requests_to("/items"))


def empty(total=95):
    return json_reply({"data": [], "total": total} if total is not None else {"data": []})


# --- totals that are too low ---


@pytest.mark.parametrize("announced", [20, 40, 60, 80])
def test_a_total_that_ends_on_a_full_page_is_looked_past(api, workshop, ids, announced):
    """One request more finds that the announced total is too low; all records come, and it is
    said.
    """
    announce(api, announced)
    project = workshop.project()
    report = run_project(project, "full")
    assert ids(project) == list(range(1, 96))
    assert report.outcome is Outcome.PARTIAL
    assert any(f"announced {announced} records but has more" in note for note in report.notes)
    report = run_project(project, "incremental")
    assert (report.outcome, report.records) == (Outcome.PARTIAL, 95)


def test_a_total_that_grew_stale_is_looked_past_by_incremental_runs_too(api, workshop, ids):
    """The API still announces 40 when there are 95: the page after the full one tells."""
    listing = serve(api, 40)
    project = workshop.project()
    run_project(project, "full")
    del api.listings["/items"], listing
    announce(api, 40)
    run_project(project, "incremental")
    assert ids(project) == list(range(1, 96))


def test_looking_past_the_end_costs_one_request(api, workshop):
    """And is no failure, even where the API answers it with an error."""
    serve(api, 60)
    api.script("/items", server_error(400), when=on_page(4), forever=True)
    report = run_project(workshop.project(), "full")
    assert (report.outcome, report.notes) == (Outcome.SUCCEEDED, [])
    assert report.ended_by == "the announced total is reached"
    assert asked(api) == [1, 2, 3, 4]


def test_a_number_of_pages_that_is_too_low_is_looked_past(api, workshop, ids):
    """As with totals: the page after the last announced one tells."""
    announce(api, None, pages=3)
    project = workshop.project(data={"total_number_key": None, "pages_number_key": "pages"})
    report = run_project(project, "full")
    assert ids(project) == list(range(1, 96))
    assert report.outcome is Outcome.PARTIAL
    assert any("announced 3 pages but has more" in note for note in report.notes)


def test_an_estimate_may_be_too_low(api, workshop, ids):
    """A total that the project calls an estimate is remarked on and makes nothing partial."""
    announce(api, 40)
    project = workshop.project(data={"total_is_estimate": True})
    assert run_project(project, "full").outcome is Outcome.SUCCEEDED
    assert ids(project) == list(range(1, 96))


@pytest.mark.parametrize("announced", [7, 50])
def test_a_chain_says_that_its_total_is_too_low(api, workshop, ids, announced):
    """A cursor brings all whatever is announced; that the announcement was wrong is said."""

    def answer(request):
        at = int(request.query.get("cursor", 0))
        following = at + 20 if at + 20 < 95 else None
        return json_reply({"data": rows(95)[at : at + 20], "total": announced, "next": following})

    api.routes["/items"] = answer
    project = workshop.project(
        project={"iterate_by": "cursor"},
        params={"cursor_param": "cursor", "page_number_param": None},
        data={"next_cursor_key": "next"},
    )
    report = run_project(project, "full")
    assert ids(project) == list(range(1, 96))
    assert report.outcome is Outcome.PARTIAL
    assert any(f"announced {announced} records but has more" in note for note in report.notes)


# --- pages that come empty or short ---


def test_an_archive_that_is_whole_outlives_a_list_that_ends_early(api, workshop, ids):
    """The last two pages come empty: asked again, then the run waits for them beside the archive,
    and the next one asks for them alone.
    """
    serve(api, 95)
    project = workshop.project()
    run_project(project, "full")
    before = project.place.pages.read_bytes()
    ill = [True]
    api.script(
        "/items", empty(), when=lambda call: ill[0] and int(call.query["page"]) > 3, forever=True
    )
    report = run_project(project, "full")
    assert (report.outcome, report.published, report.held_back) == (Outcome.PARTIAL, False, True)
    assert report.lacking == 35
    assert any("stays as it is" in note for note in report.notes)
    assert project.place.pages.read_bytes() == before
    ill[0] = False
    api.requests.clear()
    report = run_project(project, "full")
    assert (report.outcome, report.published) == (Outcome.SUCCEEDED, True)
    assert asked(api) == [4, 5]
    assert ids(project) == list(range(1, 96))


def test_a_list_that_ends_early_is_asked_again(api, workshop, ids):
    """What the second look at the end finds is gone on with."""
    serve(api, 95)
    for number in (4, 5):
        api.script("/items", empty(), when=on_page(number))
    project = workshop.project()
    report = run_project(project, "full")
    assert (report.outcome, report.notes) == (Outcome.SUCCEEDED, [])
    assert ids(project) == list(range(1, 96))


@pytest.mark.parametrize("width", [1, 8])
@pytest.mark.parametrize("page", [2, 3, 4])
def test_an_empty_page_among_others_is_not_the_end_without_a_total(api, workshop, ids, width, page):
    """One empty page may be a slip: the page after it tells, and it is asked for again."""
    serve(api, 95, total=None)
    api.script("/items", empty(None), when=on_page(page))
    project = workshop.project(
        data={"total_number_key": None},
        request={"parallelism": width, "retry": {"initial_delay": 0.01}},
    )
    report = run_project(project, "full")
    assert (report.outcome, report.notes) == (Outcome.SUCCEEDED, [])
    assert ids(project) == list(range(1, 96))


def test_a_page_that_stays_empty_without_a_total_is_said(api, workshop, ids):
    """Nothing tells whether records are missing, so the run is partial and names the page; a whole
    archive is not replaced by it.
    """
    serve(api, 95, total=None)
    project = workshop.project(data={"total_number_key": None})
    run_project(project, "full")
    api.script("/items", empty(None), when=on_page(3), forever=True)
    report = run_project(project, "full")
    assert (report.outcome, report.held_back) == (Outcome.PARTIAL, True)
    assert "page 3 is empty, though later pages have records" in report.notes
    assert len(ids(project)) == 95


def test_short_pages_are_asked_for_again(api, workshop, ids):
    """A page that was cut once is whole at the second look."""
    listing = serve(api, 95, short_pages={2: 3, 4: 1})

    def heal(number):
        if number > 5:
            listing.short_pages = {}

    listing.before = heal
    project = workshop.project()
    report = run_project(project, "full")
    assert (report.outcome, report.unique) == (Outcome.SUCCEEDED, 95)
    assert ids(project) == list(range(1, 96))
    assert "short pages that were read again: 2" in report.notes


def test_short_pages_are_asked_for_again_without_a_total(api, workshop, ids):
    """One in the middle may have been cut, whatever is announced; the last one may be short."""
    listing = serve(api, 95, total=None, short_pages={2: 3})

    def heal(number):
        if number > 7:
            listing.short_pages = {}

    listing.before = heal
    project = workshop.project(data={"total_number_key": None})
    assert run_project(project, "full").outcome is Outcome.SUCCEEDED
    assert ids(project) == list(range(1, 96))


def test_pages_that_are_always_short_are_not_all_asked_twice(api, workshop):
    """An API that hides some records of each page is asked for eight of them again, no more."""
    serve(api, 1000, total=None, short_pages=dict.fromkeys(range(2, 51), 3))
    run_project(workshop.project(data={"total_number_key": None}), "full")
    assert [page for page, times in Counter(asked(api)).items() if times > 1] == [*range(2, 10), 51]


@pytest.mark.parametrize("slip", [[], rows(3)], ids=["empty", "short"])
@pytest.mark.parametrize("page", [1, 5])
def test_a_slip_takes_nothing_from_what_is_stored(api, workshop, ids, page, slip):
    """A page that an incremental run refreshes and finds to have lost records is asked twice."""
    serve(api, 95, total=None)
    project = workshop.project(data={"total_number_key": None})
    run_project(project, "full")
    api.script("/items", json_reply({"data": slip}), when=on_page(page))
    assert run_project(project, "incremental").outcome is Outcome.SUCCEEDED
    assert ids(project) == list(range(1, 96))


def test_an_incremental_run_that_lost_records_is_held_back(api, workshop, ids):
    """The list moved and came short: the stored archive, which lacks nothing, stays."""
    listing = serve(api, 95)
    project = workshop.project()
    run_project(project, "full")
    listing.records = [{"id": 0}, *rows(95)]
    listing.short_pages = {2: 5, 3: 5}
    report = run_project(project, "incremental")
    assert (report.outcome, report.held_back) == (Outcome.PARTIAL, True)
    assert ids(project) == list(range(1, 96))


def test_an_empty_first_page_is_asked_for_again(api, workshop, ids):
    """That the whole list is empty is no matter of one answer."""
    serve(api, 95)
    api.script("/items", empty(), when=on_page(1))
    project = workshop.project()
    assert run_project(project, "full").outcome is Outcome.SUCCEEDED
    assert ids(project) == list(range(1, 96))


def test_a_first_page_that_was_cut_is_asked_for_again(api, workshop, ids):
    """It is short against the others, whatever it made them expect."""
    listing = serve(api, 95, short_pages={1: 7})

    def heal(number):
        if number > 8:
            listing.short_pages = {}

    listing.before = heal
    project = workshop.project()
    run_project(project, "full")
    assert ids(project) == list(range(1, 96))


def test_an_archive_that_is_whole_outlives_short_pages(api, workshop, ids):
    """57 of 60 announced do not replace 60 of 60; where nothing better is stored they are kept."""
    listing = serve(api, 60)
    project = workshop.project()
    run_project(project, "full")
    listing.short_pages = {2: 3}
    report = run_project(project, "full")
    assert (report.outcome, report.published, report.lacking) == (Outcome.PARTIAL, False, 3)
    assert ids(project) == list(range(1, 61))
    listing.short_pages = {}
    api.requests.clear()
    report = run_project(project, "full")
    assert (report.outcome, report.published) == (Outcome.SUCCEEDED, True)
    assert set(asked(api)).isdisjoint({1, 3})


def test_a_chain_that_came_short_begins_anew(api, workshop, ids):
    """The whole archive stays; the next run walks the chain from its start."""
    listing = serve(api, 95, style="cursor")
    project = workshop.project(
        project={"iterate_by": "cursor"},
        params={"cursor_param": "cursor", "page_number_param": None},
        data={"next_cursor_key": "next"},
    )
    run_project(project, "full")
    listing.short_pages = {2: 3}
    report = run_project(project, "full")
    assert (report.outcome, report.published, report.held_back) == (Outcome.PARTIAL, False, False)
    assert len(ids(project)) == 95
    listing.short_pages = {}
    report = run_project(project, "full")
    assert (report.outcome, report.published, report.resumed) == (Outcome.SUCCEEDED, True, 0)


def test_an_archive_that_lacks_as_much_is_replaced(api, workshop, ids):
    """A total that always counts three hidden records stops nobody."""
    listing = serve(api, 60, short_pages={2: 3})
    project = workshop.project()
    assert run_project(project, "full").published
    listing.records = rows(80)
    report = run_project(project, "full")
    assert (report.outcome, report.published) == (Outcome.PARTIAL, True)
    assert len(ids(project)) == 77


def test_an_archive_of_another_program_is_held_against_its_own_total(api, workshop, ids):
    """One that was cut off at 20 of 95 is replaced by 92, one that is whole is not."""
    serve(api, 95, short_pages={2: 3})
    project = workshop.project()

    def foreign(pages):
        project.place.folder.mkdir(exist_ok=True)
        with zipfile.ZipFile(project.place.pages, "w") as archive:
            for number in range(pages):
                records = rows(95)[number * 20 : number * 20 + 20]
                body = json.dumps({"data": records, "total": 95})
                archive.writestr(f"page_{number + 1}.json", body)

    foreign(5)
    assert not run_project(project, "full").published
    foreign(1)
    assert run_project(project, "full", Orders(restart=True)).published
    assert len(ids(project)) == 92


# --- pages that come again ---


def third(total=95):
    return json_reply({"data": rows(95)[40:60], "total": total})


@pytest.mark.parametrize("page", [2, 4])
def test_a_page_given_for_another_is_asked_for_again(api, workshop, ids, page):
    """Without item_key the total is reached though one page came twice: the second look brings
    what the first did not.
    """
    serve(api, 95)
    api.script("/items", third(), when=on_page(page))
    report = run_project(workshop.project(data={"item_key": None}), "full")
    assert (report.outcome, report.records, report.notes) == (Outcome.SUCCEEDED, 95, [])
    assert ids(workshop.project(data={"item_key": None})) == list(range(1, 96))


def test_a_page_given_for_another_again_and_again_is_said(api, workshop, ids):
    """What may be missing is named, the run is partial, and a whole archive is not replaced."""
    serve(api, 95)
    project = workshop.project(data={"item_key": None})
    assert run_project(project, "full").published
    api.script("/items", third(), when=on_page(4), forever=True)
    report = run_project(project, "full")
    assert (report.outcome, report.held_back) == (Outcome.PARTIAL, True)
    assert any("page 4 repeats page 3" in note for note in report.notes)
    assert ids(project) == list(range(1, 96))


@pytest.mark.parametrize("width", [1, 8])
def test_a_last_page_that_comes_again_changed_ends_the_list(api, workshop, ids, width):
    """Without a total, pages that bring the same keys over and over are no reason to go on; that
    nothing proves the end is said.
    """

    def answer(request):
        number = min(int(request.query["page"]), 5)
        served = len(api.requests)
        page = [{**row, "served": served} for row in rows(95)[(number - 1) * 20 : number * 20]]
        return json_reply({"data": page})

    api.routes["/items"] = answer
    project = workshop.project(data={"total_number_key": None}, request={"parallelism": width})
    report = run_project(project, "full")
    assert set(ids(project)) == set(range(1, 96))
    assert len(api.requests_to("/items")) < 60
    assert (report.outcome, report.unique) == (Outcome.PARTIAL, 95)
    assert any("only records that came before" in note for note in report.notes)


def test_totals_that_cross_on_their_way_do_not_make_a_list_shorter(workshop):
    """Only a lower number that was asked for after the higher one came tells that rows are gone."""
    project = workshop.project()
    noon = datetime(2026, 1, 1, 12, tzinfo=UTC)
    reader = PageReader(project)
    tally = Tally(project)

    def hear(total, *, came, elapsed):
        page = reader.read_stored(json.dumps({"data": [], "total": total}).encode())
        tally.hear(page, noon + timedelta(seconds=came), elapsed=elapsed)

    hear(50, came=10, elapsed=1)
    hear(48, came=11, elapsed=5)
    assert (tally.announced, tally.shrank) == (50, False)
    hear(49, came=12, elapsed=1)
    assert (tally.announced, tally.shrank) == (49, True)
    tally.close()


# --- keys that lead nowhere ---


def test_a_key_that_no_record_has_is_said(api, workshop):
    """The data is kept, the run is partial, and the sentence names what there is."""
    serve(api, 95)
    project = workshop.project(data={"item_key": "idd"})
    report = run_project(project, "full")
    assert (report.outcome, report.published, report.records) == (Outcome.PARTIAL, True, 95)
    assert any("none of the 95 records has 'idd' (they have id)" in note for note in report.notes)


@pytest.mark.parametrize("word", ["total_number_key", "pages_number_key"])
def test_a_number_that_no_answer_has_is_said(api, workshop, ids, word):
    """Without it nothing proves that all came, and that is what the project asked for."""
    serve(api, 95)
    project = workshop.project(data={"total_number_key": None, word: "meta.count"})
    report = run_project(project, "full")
    assert (report.outcome, report.published) == (Outcome.PARTIAL, True)
    assert any(f"data.{word}: no answer has a number at 'meta.count'" in n for n in report.notes)
    assert len(ids(project)) == 95


def test_some_records_without_a_key_are_no_mistake(api, workshop):
    """Only a key that leads nowhere at all is one."""
    listing = serve(api, 95)
    listing.records = [*rows(90), *[{"name": number} for number in range(5)]]
    report = run_project(workshop.project(), "full")
    assert (report.outcome, report.unique) == (Outcome.SUCCEEDED, 95)


# --- lists that run in a circle, and pages that are not there ---


@pytest.mark.parametrize("announced", [95, None])
def test_a_chain_that_leads_back_ends(api, workshop, ids, announced):
    """The last page's cursor is that of an earlier one: the run ends instead of going round, and
    says so where it cannot know that all came.
    """

    def answer(request):
        at = int(request.query.get("cursor", "0"))
        following = at + 20 if at + 20 < 95 else 40
        document = {"data": rows(95)[at : at + 20], "next": str(following)}
        return json_reply(document if announced is None else document | {"total": announced})

    api.routes["/items"] = answer
    project = workshop.project(
        project={"iterate_by": "cursor"},
        params={"cursor_param": "cursor", "page_number_param": None},
        data={"next_cursor_key": "next"},
    )
    report = run_project(project, "full")
    assert ids(project) == list(range(1, 96))
    assert len(api.requests_to("/items")) == 5
    assert report.outcome is (Outcome.PARTIAL if announced is None else Outcome.SUCCEEDED)


@pytest.mark.parametrize("last", ["0", 0, "", None])
def test_a_cursor_of_nothing_is_the_end(api, workshop, ids, last):
    """Some APIs say 0 where there is no more: that is not followed back to the first page."""

    def answer(request):
        at = int(request.query.get("cursor", "0"))
        following = str(at + 20) if at + 20 < 95 else last
        return json_reply({"data": rows(95)[at : at + 20], "next": following})

    api.routes["/items"] = answer
    project = workshop.project(
        project={"iterate_by": "cursor"},
        params={"cursor_param": "cursor", "page_number_param": None},
        data={"next_cursor_key": "next", "total_number_key": None},
    )
    assert run_project(project, "full").outcome is Outcome.SUCCEEDED
    assert ids(project) == list(range(1, 96))
    assert len(api.requests_to("/items")) == 5


@pytest.mark.parametrize(("row", "outcome"), [("same", "partial"), ("other", "succeeded")])
def test_a_chain_of_pages_alike_is_no_certain_end(api, workshop, row, outcome):
    """Where nothing tells records apart, a page like the one before may be news: it is said."""

    def answer(request):
        at = int(request.query.get("cursor", "0"))
        page = [{"v": 0 if row == "same" else n} for n in range(20)]
        return json_reply({"data": page, "next": str(at + 20)})

    api.routes["/items"] = answer
    project = workshop.project(
        project={"iterate_by": "cursor"},
        params={"cursor_param": "cursor", "page_number_param": None},
        data={"next_cursor_key": "next", "total_number_key": None, "item_key": None},
    )
    report = run_project(project, "full")
    assert str(report.outcome) == outcome
    assert report.ended_by == "page 2 repeats page 1"


def test_a_page_that_is_not_there_is_not_the_end_without_a_total(api, workshop, ids):
    """Page 3 answers 404, and the pages behind it hold records: they come, and it is said."""

    def answer(request):
        number = int(request.query["page"])
        if number == 3 or number > 5:
            return json_reply({"error": "not found"}, status=404)
        return json_reply({"data": rows(95)[(number - 1) * 20 : number * 20]})

    api.routes["/items"] = answer
    project = workshop.project(data={"total_number_key": None})
    report = run_project(project, "full")
    assert ids(project) == [*range(1, 41), *range(61, 96)]
    assert report.outcome is Outcome.PARTIAL
