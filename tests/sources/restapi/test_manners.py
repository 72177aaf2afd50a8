"""Polite and fast: limits hold across tasks, trouble slows down, and nothing waits without
reason.
"""

from __future__ import annotations

import asyncio
import time
from itertools import pairwise

import pytest

from holdfast.core.errors import UnreachableError
from holdfast.net.aio import Reply as Got
from holdfast.sources.restapi.asking.manners import Retrying, limits_of, retry_after, retrying_of
from holdfast.sources.restapi.asking.session import Request, open_session
from holdfast.sources.restapi.collecting.run import run_project
from holdfast.sources.restapi.project.sections import DEFAULT_PARALLEL
from holdfast.testing.api_listing import Listing
from holdfast.testing.api_server import http_date, on_page, server_error, too_many, unavailable


def serve(api, count):
    api.listings["/items"] = Listing([{"id": number} for number in range(1, count + 1)])


def test_requests_per_second_are_kept_side_by_side(api, workshop):
    """Twenty a second with a burst of two: never more than that in any second."""
    serve(api, 595)
    project = workshop.project(rate_limit={"requests_per_second": 20, "burst_size": 2})
    run_project(project, "full")
    assert len(api.requests) == 30
    assert api.most_within(1.0) <= 22
    assert api.requests[-1].at - api.requests[0].at >= 1.3


def test_a_disabled_limit_is_none(api, workshop):
    """enabled: false lets everything go at once."""
    serve(api, 600)
    project = workshop.project(rate_limit={"requests_per_second": 1, "enabled": False})
    begun = time.monotonic()
    run_project(project, "full")
    assert time.monotonic() - begun < 5


def test_a_configured_delay_is_kept_and_none_is_the_default(api, workshop):
    """default_delay 0.1 spaces requests; without it there is no pause."""
    serve(api, 100)
    run_project(workshop.project(project={"default_delay": 0.1}), "full")
    starts = [request.at for request in api.requests]
    # Seen by the server, which may be a little late with one of two.
    assert (starts[-1] - starts[0]) / (len(starts) - 1) > 0.09
    assert limits_of(workshop.project()).spacing == 0


def test_pages_are_fetched_side_by_side(api, workshop):
    """As many at once as are allowed, and no more."""
    serve(api, 2000)
    api.latency = 0.05
    run_project(workshop.project(), "full")
    assert api.peak == DEFAULT_PARALLEL
    assert api.connections <= DEFAULT_PARALLEL


def test_parallelism_bounds(api, workshop):
    """request.parallelism is never exceeded."""
    serve(api, 1000)
    api.latency = 0.02
    run_project(workshop.project(request={"parallelism": 3}), "full")
    assert api.peak <= 3


def test_a_project_may_ask_for_more(api, workshop):
    """request.parallelism above the default is used where answers stay quick."""
    serve(api, 4000)
    api.latency = 0.02
    run_project(workshop.project(request={"parallelism": 24}), "full")
    assert DEFAULT_PARALLEL < api.peak <= 24


def test_trouble_halves_the_width(api, workshop):
    """After 429 fewer requests are under way than before."""

    async def ask():
        async with open_session(workshop.project()) as session:
            for _ in range(40):
                await session.fetch(Request(url=f"{api.url}/items"))
            wide = session.width
            api.script("/items", too_many("0"))
            await session.fetch(Request(url=f"{api.url}/items"))
            return wide, session.width

    serve(api, 5)
    wide, narrow = asyncio.run(ask())
    assert wide == DEFAULT_PARALLEL
    assert narrow <= wide // 2 + 1


def test_everybody_waits_when_the_api_says_so(api, workshop, ids):
    """During Retry-After nobody asks for anything."""
    serve(api, 400)
    api.latency = 0.02
    api.script("/items", unavailable("1"), when=on_page(8))
    project = workshop.project(request={"parallelism": 4})
    run_project(project, "full")
    assert ids(project) == list(range(1, 401))
    starts = sorted(request.at for request in api.requests)
    gaps = [later - before for before, later in pairwise(starts)]
    assert max(gaps) > 0.85


def test_retry_after_in_all_its_forms():
    """Seconds, fractions, dates in the future and the past, and nonsense."""
    assert retry_after("7") == 7
    assert retry_after("0.5") == 0.5
    assert 3 < retry_after(http_date(5)) <= 5
    assert retry_after("Wed, 21 Oct 2015 07:28:00 GMT") == 0
    assert retry_after("soon") is None
    assert retry_after(None) is None


def test_retry_keys_in_the_order_of_their_precision(workshop):
    """request.retry, request.retry_*, project.retry_*, and the statuses of all of them."""
    project = workshop.project(
        project={"retry_count": 9, "retry_delay": 3},
        request={
            "retry": {"max_retries": 2},
            "retry_backoff_strategy": "fixed",
            "retry_max_delay": 4,
            "retry_on_status": "418",
        },
        error_handling={"retry_on_errors": [599]},
    )
    retrying = retrying_of(project)
    assert (retrying.tries, retrying.first, retrying.longest, retrying.growing) == (2, 3, 4, False)
    assert {418, 429, 503, 504, 599} <= retrying.statuses


def test_force_retry_tries_what_is_final_again(api, workshop, ids):
    """project.force_retry: a 403 that passes costs nothing; what tells the end is asked once."""
    serve(api, 95)
    api.script("/items", server_error(403), server_error(418), when=on_page(3))
    project = workshop.project(project={"force_retry": True})
    assert run_project(project, "full").retries == 2
    assert ids(project) == list(range(1, 96))
    assert {401, 404, 410, 416}.isdisjoint(retrying_of(project).statuses)


def test_delays_grow_with_jitter_up_to_the_longest():
    """Exponential, between half and all of it, and never beyond."""
    retrying = Retrying(first=1, longest=10)
    for failures, whole in ((1, 1), (2, 2), (3, 4), (4, 8), (5, 10), (50, 10)):
        for _ in range(20):
            assert whole / 2 <= retrying.delay(failures) <= whole


def test_tries_end(api, workshop):
    """An API that is down is asked retry + 1 times."""
    api.script("/items", unavailable(None), forever=True)
    project = workshop.project(request={"retry": {"max_retries": 3, "initial_delay": 0.01}})

    async def ask():
        async with open_session(project) as session:
            await session.fetch(Request(url=f"{api.url}/items"))

    with pytest.raises(Exception, match="503"):
        asyncio.run(ask())
    assert len(api.requests) == 4


def test_a_download_goes_on_where_it_broke(api, workshop, tmp_path):
    """A body that breaks off is continued by range, and the bytes are those of the file."""
    from holdfast.testing.api_server import ServedFile, cut_body

    served = ServedFile(3_000_000, seed=3)
    api.files["/f.bin"] = served
    api.script("/f.bin", cut_body())
    target = tmp_path / "f.bin"

    async def ask():
        async with open_session(workshop.project()) as session:
            await session.download(Request(url=f"{api.url}/f.bin"), target)

    asyncio.run(ask())
    import hashlib

    assert hashlib.sha256(target.read_bytes()).hexdigest() == served.sha256()
    assert not target.with_name("f.bin.meta").exists()


def test_an_answer_tells_its_headers():
    """Names in any case, the first of several."""
    got = Got(status=200, url="u", headers=(("X-A", "1"), ("x-a", "2")), body=b"", elapsed=0)
    assert got.header("X-a") == "1"
    assert got.header("none") is None


def test_proxy_and_timeouts_reach_the_client(api, workshop):
    """request.proxies as a mapping and request.timeout are honoured."""
    project = workshop.project(
        project={"url": "http://elsewhere.invalid/items"}, request={"proxies": {"http": api.url}}
    )
    with pytest.raises(Exception, match="404"):
        run_project(project, "full")
    assert api.requests[0].target.startswith("http://elsewhere.invalid/items")
    serve(api, 5)
    api.latency = 1
    project = workshop.project(request={"timeout": 0.2, "retry": {"max_retries": 0}})
    with pytest.raises(UnreachableError, match="in time"):
        run_project(project, "full")
