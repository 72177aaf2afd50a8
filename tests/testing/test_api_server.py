"""The imitation is itself held to what tests rely on."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
import tracemalloc

import pytest
import urllib3

from holdfast.testing.api_listing import Listing, Synthetic
from holdfast.testing.api_server import (
    ApiServer,
    Guard,
    ServedFile,
    TokenDesk,
    collection,
    cut_body,
    on_page,
    server_error,
    too_many,
    tree,
)


@pytest.fixture
def api():
    with ApiServer() as server:
        yield server


@pytest.fixture
def http():
    with urllib3.PoolManager(retries=False, timeout=10) as pool:
        yield pool


def get(http, url, **options):
    return http.request("GET", url, **options)


def walk(http, api, style):
    """Ids of all records, read as a careful client of that style would."""
    ids, url, fields = [], f"{api.url}/{style}", {"size": "7"}
    for step in range(40):
        counted = {
            "page": {"page": step + 1},
            "skip": {"skip": step * 7},
            "range": {"from": step * 7, "to": step * 7 + 7},
            "since-id": {"since_id": ids[-1] if ids else 0},
            "window": {"from": "2026-01", "to": "2027", "page": step + 1},
        }.get(style, {})
        answer = get(http, url, fields={**fields, **counted} if "?" not in url else None)
        document = answer.json()
        ids += [record["id"] for record in document["data"]]
        if style == "cursor":
            fields["cursor"] = document["next"]
        elif style == "cursor-header":
            fields["cursor"] = answer.headers.get("X-Next-Cursor")
        elif style == "next-url":
            url = document["next"]
        elif style == "link":
            link = re.search(r'<([^>]+)>; title="a, b"; rel="next"', answer.headers["Link"])
            url = link and link[1]
        ended = not document["data"] or url is None or ("cursor" in style and not fields["cursor"])
        if ended:
            break
    return ids


@pytest.mark.parametrize("style", list(collection([])))
def test_every_style_gives_every_record_once(api, http, style):
    """Whatever the way of paging, following it reads each record exactly once."""
    api.listings = collection(Synthetic(45))
    assert sorted(walk(http, api, style.strip("/"))) == list(range(1, 46))


def test_scripted_faults_come_first_and_once(api, http):
    """A scripted fault hits the chosen request, in order, then the real answer returns."""
    api.listings["/items"] = Listing(Synthetic(60))
    api.script("/items", too_many("7"), server_error(502), when=on_page(2))
    asked = [get(http, f"{api.url}/items?page={page}") for page in (1, 2, 2, 2)]
    assert [answer.status for answer in asked] == [200, 429, 502, 200]
    assert asked[1].headers["Retry-After"] == "7"


def test_a_cut_body_is_noticed(api, http):
    """A body that is cut shows as a broken connection, never as a short answer."""
    api.script("/items", cut_body())
    with pytest.raises((urllib3.exceptions.ProtocolError, urllib3.exceptions.HTTPError)):
        get(http, f"{api.url}/items")


def test_limits_of_the_collection_show(api, http):
    """Capped sizes, held back records and late data are served as told."""
    records = [{"id": n} for n in range(30)]
    listing = Listing(records, largest_size=10, short_pages={2: 3})
    listing.before = lambda number: records.append({"id": 100}) if number == 3 else None
    api.listings["/items"] = listing
    sizes = [
        len(get(http, f"{api.url}/items?size=50&page={page}").json()["data"]) for page in (1, 2, 4)
    ]
    assert sizes == [10, 7, 1]


def test_guards_admit_only_what_they_should(api, http):
    """Without the right secret there is 401; a used up OAuth2 token is refused; it rotates."""
    api.listings["/items"] = Listing(Synthetic(1))
    api.guard = Guard("apikey", "k1", name="key", where="query")
    assert [get(http, f"{api.url}/items{q}").status for q in ("", "?key=k1")] == [401, 200]
    api.guard = TokenDesk(uses=1)
    form = {"grant_type": "refresh_token", "refresh_token": "refresh-1"}
    url = api.url + "/oauth/token"
    granted = http.request("POST", url, fields=form, encode_multipart=False).json()
    bearer = {"Authorization": "Bearer " + granted["access_token"]}
    statuses = [get(http, f"{api.url}/items", headers=bearer).status for _ in range(2)]
    again = http.request("POST", url, fields=form, encode_multipart=False)
    assert statuses == [200, 401]
    assert (granted["refresh_token"], again.status) == ("refresh-2", 400)


def test_a_large_file_streams_in_flat_memory(api, http):
    """64 MiB cost no memory to speak of, ranges continue where asked, cuts happen as told."""
    served = api.files["/big"] = ServedFile(64 << 20)
    tracemalloc.start()
    with http.request("GET", api.url + "/big", preload_content=False) as answer:
        total = sum(len(piece) for piece in answer.stream(1 << 16))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    rest = get(http, api.url + "/big", headers={"Range": f"bytes={served.size - 3}-"})
    assert total == served.size
    assert peak < 8 << 20
    assert (rest.status, rest.data) == (206, bytes([253, 254, 255]))


def test_rates_and_concurrency_are_measured(api, http):
    """Arrival times are kept, so that a test can count requests within any window."""
    api.listings["/items"] = Listing(Synthetic(1))
    for pause in (0, 0, 0.3):
        time.sleep(pause)
        get(http, api.url + "/items")
    assert (api.most_within(0.25), api.most_within(5), api.peak) == (2, 3, 1)
    assert len({request.connection for request in api.requests}) == 1


def test_trees_end_in_empty_lists(api, http):
    """A drilldown tree names the children of a node; a leaf has none."""
    api.details["/node/"] = tree({"a": ["b", "c"]})
    assert get(http, api.url + "/node/a").json()["children"] == [{"code": "b"}, {"code": "c"}]
    assert get(http, api.url + "/node/b").json()["children"] == []


def test_the_program_serves_until_stopped(http):
    """`python -m` prints its address and serves every style."""
    command = [sys.executable, "-m", "holdfast.testing.api_server", "--records", "5"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as program:
        try:
            address = program.stdout.readline().strip()
            assert json.loads(get(http, address + "/page").data)["total"] == 5
            assert get(http, address + "/items/3").json()["id"] == 3
        finally:
            program.terminate()
