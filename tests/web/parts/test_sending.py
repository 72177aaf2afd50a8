"""Ranges and answers of content on its way out."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import Request

from holdfast.web.sending import Span, UnsatisfiableError, http_date, ranges, respond

BODY = bytes(range(256)) * 40
MODIFIED = 1_700_000_000_000_000_000


@dataclass
class Content:
    """Kept bytes that notice when their reader is closed."""

    body: bytes = BODY
    size: int | None = len(BODY)
    modified: int = MODIFIED
    closed: int = 0
    asked: list[tuple[int, int | None]] = field(default_factory=list)

    def pieces(self, start=0, length=None):
        self.asked.append((start, length))
        end = len(self.body) if length is None else start + length
        try:
            for at in range(start, end, 1000):
                yield self.body[at : min(at + 1000, end)]
        finally:
            self.closed += 1


def ask(content, method="GET", **headers):
    """The answer as a client gets it."""
    raw = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    scope = {"type": "http", "method": method, "path": "/", "headers": raw, "query_string": b""}
    sent = []

    async def send(message):
        sent.append(message)

    async def receive():
        await asyncio.sleep(3600)

    async def run():
        response = respond(Request(scope), content, media_type="application/zip")
        await response(scope, receive, send)

    asyncio.run(run())
    start = sent[0]
    body = b"".join(message.get("body", b"") for message in sent[1:])
    return start["status"], {k.decode(): v.decode() for k, v in start["headers"]}, body


def test_everything():
    status, headers, body = ask(Content())
    assert (status, body) == (200, BODY)
    assert headers["content-length"] == str(len(BODY))
    assert headers["accept-ranges"] == "bytes"
    assert headers["last-modified"] == http_date(MODIFIED)


def test_a_head_has_the_headers_and_reads_nothing():
    content = Content()
    status, headers, body = ask(content, "HEAD")
    assert (status, body, headers["content-length"]) == (200, b"", str(len(BODY)))


@pytest.mark.parametrize(
    ("header", "start", "length"),
    [
        ("bytes=0-0", 0, 1), ("bytes=10-19", 10, 10), ("bytes=10000-", 10000, 240),
        ("bytes=-5", len(BODY) - 5, 5), ("bytes=-999999", 0, len(BODY)),
        ("bytes=5-999999", 5, len(BODY) - 5), ("BYTES=1-2", 1, 2),
    ],
)  # fmt: skip
def test_one_range(header, start, length):
    status, headers, body = ask(Content(), range=header)
    assert (status, body) == (206, BODY[start : start + length])
    assert headers["content-range"] == f"bytes {start}-{start + length - 1}/{len(BODY)}"


@pytest.mark.parametrize("header", ["bytes=", "bytes=a-b", "lines=1-2", "bytes=5-2", "bytes=1"])
def test_what_is_no_range_is_ignored(header):
    assert ask(Content(), range=header)[0] == 200


@pytest.mark.parametrize("header", ["bytes=99999-", "bytes=-0", "bytes=20000-30000"])
def test_a_range_of_nothing(header):
    status, headers, _ = ask(Content(), range=header)
    assert (status, headers["content-range"]) == (416, f"bytes */{len(BODY)}")


def test_several_ranges_come_as_parts():
    status, headers, body = ask(Content(), range="bytes=0-1,5-6,-2")
    assert status == 206
    assert headers["content-type"].startswith("multipart/byteranges; boundary=")
    assert headers["content-length"] == str(len(body))
    for piece in (BODY[0:2], BODY[5:7], BODY[-2:]):
        assert b"\r\n\r\n" + piece in body


def test_too_many_ranges_are_answered_with_everything():
    header = "bytes=" + ",".join(f"{n}-{n}" for n in range(9))
    assert ask(Content(), range=header)[0] == 200


def test_a_client_that_has_it_already():
    assert ask(Content(), if_modified_since=http_date(MODIFIED))[0] == 304
    assert ask(Content(), if_modified_since=http_date(MODIFIED - 10**9 * 60))[0] == 200
    assert ask(Content(), if_modified_since="yesterday")[0] == 200


def test_a_range_of_what_it_was_before():
    assert ask(Content(), range="bytes=0-1", if_range=http_date(MODIFIED))[0] == 206
    assert ask(Content(), range="bytes=0-1", if_range=http_date(MODIFIED - 10**12))[0] == 200
    assert ask(Content(), range="bytes=0-1", if_range='"etag"')[0] == 200


def test_without_a_size_there_are_no_ranges():
    status, headers, body = ask(Content(size=None), range="bytes=0-1")
    assert (status, body) == (200, BODY)
    assert "content-length" not in headers
    assert "accept-ranges" not in headers


def test_the_reader_is_closed_whatever_happens():
    content = Content()
    ask(content)
    assert content.closed == 1


def test_damage_in_the_middle_cuts_the_answer_short():
    """Never a whole answer with less in it."""

    class Damaged(Content):
        def pieces(self, start=0, length=None):
            yield self.body[:1000]
            raise OSError("damaged")

    with pytest.raises(OSError, match="damaged"):
        ask(Damaged())


@given(st.text("bytes=0123456789-, ", max_size=30), st.integers(0, 2000))
def test_spans_lie_within_the_content(header, size):
    try:
        spans = ranges(header, size)
    except UnsatisfiableError:
        return
    for span in spans or []:
        assert isinstance(span, Span)
        assert 0 <= span.start < size
        assert 0 < span.length <= size - span.start
