"""Request bodies: bounded, timed, counted."""

from __future__ import annotations

import asyncio
from concurrent.futures import Future

import pytest
from starlette.requests import Request

from holdfast.core.errors import InvalidError
from holdfast.web.receiving import (
    BodyCutError,
    BodySlowError,
    BodyTooLargeError,
    announced,
    drain,
    receive,
)


class Stream:
    """Takes what is offered, and can be slow or full."""

    def __init__(self, *, full_after: int | None = None) -> None:
        self.taken = b""
        self.abandoned = self.finished = False
        self._full_after = full_after

    def offer(self, piece):
        self.taken += piece
        if self._full_after is not None and len(self.taken) > self._full_after:
            wait: Future[None] = Future()
            wait.set_exception(OSError("full"))
            return wait
        return None

    def finish(self):
        self.finished = True
        done: Future[bytes] = Future()
        done.set_result(self.taken)
        return done

    def abandon(self):
        self.abandoned = True


def request(*messages, **headers):
    raw = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    waiting = list(messages)

    async def get():
        if waiting:
            return waiting.pop(0)
        await asyncio.sleep(3600)
        raise AssertionError

    return Request({"type": "http", "method": "PUT", "headers": raw}, get)


def piece(body, *, more=True):
    return {"type": "http.request", "body": body, "more_body": more}


GONE = {"type": "http.disconnect"}


def run(what):
    return asyncio.run(what)


def test_a_whole_body():
    stream = Stream()
    asked = request(piece(b"ab"), piece(b"c", more=False), content_length="3")
    assert run(receive(asked, stream)) == b"abc"
    assert not stream.abandoned


@pytest.mark.parametrize(
    ("messages", "said", "error"),
    [
        ([piece(b"ab"), GONE], "5", BodyCutError),
        ([piece(b"ab", more=False)], "5", BodyCutError),
        ([piece(b"abcdef", more=False)], "5", BodyCutError),
        ([piece(b"ab")], "5", BodySlowError),
        ([piece(b"ab", more=False)], "50", BodyTooLargeError),
    ],
)
def test_what_does_not_come_whole_is_abandoned(messages, said, error):
    stream = Stream()
    with pytest.raises(error):
        run(receive(request(*messages, content_length=said), stream, idle=0.05, limit=20))
    assert stream.abandoned
    assert not stream.finished


def test_more_than_may_be_without_a_word_before():
    stream = Stream()
    with pytest.raises(BodyTooLargeError):
        run(receive(request(piece(b"x" * 30), piece(b"", more=False)), stream, limit=20))
    assert stream.abandoned


def test_a_keeper_that_fails_ends_it():
    stream = Stream(full_after=3)
    with pytest.raises(OSError, match="full"):
        run(receive(request(piece(b"abcd"), piece(b"e", more=False)), stream))
    assert stream.abandoned


@pytest.mark.parametrize("said", ["x", "-1", "1.5", "1e3", "²"])
def test_a_length_that_is_none(said):
    asked = Request({"type": "http", "headers": [(b"content-length", said.encode("utf-8"))]})
    with pytest.raises(InvalidError):
        announced(asked)


def test_draining_ends_quietly_whatever_comes():
    for messages in ([piece(b"x"), GONE], [piece(b"x", more=False)], [GONE]):
        run(drain(request(*messages)))
    asked = request(piece(b"x"), expect="100-continue")
    run(drain(asked))
    assert not asked._stream_consumed


def test_who_sends_nothing_gets_the_answer_at_once(monkeypatch):
    """Many ask with the length alone; who has begun is given time."""
    monkeypatch.setattr("holdfast.web.receiving._SILENT", 0.01)
    run(drain(request(), idle=3600))

    messages = [piece(b"x"), piece(b"y", more=False)]

    async def slowly():
        if len(messages) == 1:
            await asyncio.sleep(0.1)
        return messages.pop(0)

    asked = Request({"type": "http", "method": "PUT", "headers": []}, slowly)
    run(drain(asked, idle=3600))
    assert messages == []
