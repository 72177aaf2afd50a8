"""What records, links and redirects call an address may be none: it costs that one thing alone."""

from __future__ import annotations

import pytest

from holdfast.core.errors import AddressError
from holdfast.core.outcome import Outcome
from holdfast.net.addresses import led_to
from holdfast.sources.restapi.collecting.run import run_project
from holdfast.sources.restapi.details.follow import follow
from holdfast.sources.restapi.details.getfiles import getfiles
from holdfast.sources.restapi.records.naming import escaped
from holdfast.testing.api_projects import store_run, write_project
from holdfast.testing.api_server import ServedFile
from holdfast.testing.loopback import Reply, json_reply

NONE = ["http://[broken/x", "http://127.0.0.1:99999/x"]


def many(links):
    """More than the failures in a row that end a run."""
    return [f"{link}{number}" for number in range(6) for link in links]


@pytest.mark.parametrize("link", [*NONE, "mailto:a@example.org", "//[", "file:///etc/passwd"])
def test_a_link_that_leads_nowhere_is_an_error_of_ours(link):
    """Not one of a library, whatever is wrong with it."""
    with pytest.raises(AddressError, match="is not an address"):
        led_to("http://127.0.0.1/list", link)


@pytest.mark.parametrize("kind", ["zip", "filesystem"])
def test_values_that_make_no_address_are_lines(tmp_path, api, kind):
    """However many there are in a row, the other files arrive, and the run is a partial one."""
    values = [*many(NONE), "/docs/../../../etc/passwd", "/docs/1.bin"]
    api.files["/docs/1.bin"] = ServedFile(7)
    files = {"fetch_mode": "prefix", "root_url": api.url, "keys": "file"}
    project = write_project(
        tmp_path / "p", f"{api.url}/list", files=files | {"file_storage_type": kind}
    )
    store_run(project, [[{"file": value} for value in values]])
    report = getfiles(project)
    assert (report.fetched, report.present) == (1, 0)
    assert report.misses == len(values) - 1
    assert all(request.path.startswith("/docs/") for request in api.requests)
    listed = (project.place.folder / "files_skipped.list").read_text()
    assert "'http://[broken/x0' is not an address" in listed


def test_a_value_cannot_climb_out_of_a_prefix_without_a_slash():
    """Its first slash stays, so that it does not become a part of the host's name."""
    assert escaped("/a/../b") == "/a%2F..%2Fb"
    assert escaped("//a/../b") == "/a%2F..%2Fb"
    assert escaped("../b") == "..%2Fb"


def test_links_to_follow_that_are_no_addresses_are_lines(tmp_path, api):
    """The details of the other records are fetched."""
    api.details["/items/"] = lambda key: {"id": key}
    rule = {"follow_mode": "url", "follow_url_key": "link", "follow_item_key": "id"}
    project = write_project(tmp_path / "p", f"{api.url}/list", follow=rule)
    links = [*many(NONE), f"{api.url}/items/7"]
    store_run(project, [[{"id": number, "link": link} for number, link in enumerate(links)]])
    (report,) = follow(project)
    assert (report.fetched, report.misses) == (1, len(links) - 1)


def test_a_record_that_lacks_what_the_pattern_asks_for_is_a_line(tmp_path, api):
    """It says which field; the others are followed."""
    api.details["/items/"] = lambda key: {"id": key}
    rule = {"follow_mode": "item", "follow_pattern": f"{api.url}/items/{{slug}}",
            "follow_item_key": "id"}  # fmt: skip
    project = write_project(tmp_path / "p", f"{api.url}/list", follow=rule)
    store_run(project, [[{"id": 1}, {"id": 2, "slug": "two"}]])
    (report,) = follow(project)
    assert (report.fetched, report.misses) == (1, 1)
    assert "{slug}" in report.first_misses[0].reason


@pytest.mark.parametrize("link", NONE)
@pytest.mark.parametrize("style", ["link", "next_url", "redirect"])
def test_a_next_page_that_is_none_is_a_failed_page(api, workshop, ids, style, link):
    """The run says so and publishes nothing; when the API is mended the next run gets all."""
    ill = [True]

    def answer(request):
        at = int(request.query.get("at", 0))
        following = f"{api.url}/items?at={at + 20}"
        if at == 20 and ill[0]:
            following = link
        document, headers = {"data": [{"id": at + n} for n in range(20)]}, {}
        if style == "redirect" and following == link:
            return Reply(302, headers={"Location": link})
        if at < 40 and style == "link":
            headers["Link"] = f'<{following}>; rel="next"'
        elif at < 40:
            document["next"] = following
        return json_reply(document, **headers)

    api.routes["/items"] = answer
    project = workshop.project(
        project={"iterate_by": "link" if style == "link" else "next_url"},
        params={"page_number_param": None},
        data={"total_number_key": None, "next_url_key": None if style == "link" else "next"},
    )
    report = run_project(project, "full")
    assert (report.outcome, report.published) == (Outcome.PARTIAL, False)
    assert "is not an address" in report.failed[2]
    ill[0] = False
    report = run_project(project, "full")
    assert (report.outcome, report.published, report.resumed) == (Outcome.SUCCEEDED, True, 1)
    assert ids(project) == list(range(60))
