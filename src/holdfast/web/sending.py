"""Content on its way out: ranges, and pieces read in threads while the client takes them."""

from __future__ import annotations

import asyncio
import secrets
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime, parsedate_to_datetime
from typing import TYPE_CHECKING, Protocol, Self

from starlette.responses import PlainTextResponse, Response, StreamingResponse

from holdfast.web import threads

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from starlette.requests import Request

_SECOND = 1_000_000_000
_BATCH = 1 << 20
_RANGES = 8
"""More than so many ranges in one request are answered with everything."""

Piece = bytes | bytearray | memoryview


class Content(Protocol):
    """See `service.keeping.contract.Outgoing`."""

    @property
    def size(self) -> int | None: ...

    @property
    def modified(self) -> int: ...

    def pieces(self, start: int = 0, length: int | None = None) -> Iterator[Piece]: ...


class UnsatisfiableError(Exception):
    """No byte of what was asked for is there."""


@dataclass(frozen=True, slots=True)
class Span:
    start: int
    length: int


def ranges(header: str, size: int) -> list[Span] | None:
    """The spans that a Range header asks for; None where it is to be ignored (RFC 9110, 14.2).

    Raises:
        UnsatisfiableError
    """
    unit, _, rest = header.partition("=")
    if unit.strip().lower() != "bytes" or not rest:
        return None
    asked = [part.strip() for part in rest.split(",")]
    if len(asked) > _RANGES:
        return None
    spans = []
    for part in asked:
        first, dash, last = part.partition("-")
        if not dash or not (first + last).isdigit() or not (first + last).isascii():
            return None
        if first and last and int(last) < int(first):
            return None
        start = int(first) if first else max(size - int(last), 0)
        end = min(int(last) + 1, size) if first and last else size
        if start < end and (first or int(last)):
            spans.append(Span(start, end - start))
    if not spans:
        raise UnsatisfiableError
    return spans


def http_date(nanoseconds: int) -> str:
    return format_datetime(datetime.fromtimestamp(nanoseconds // _SECOND, UTC), usegmt=True)


def respond(
    request: Request, content: Content, *, media_type: str, headers: dict[str, str] | None = None
) -> Response:
    """The whole content, the part that was asked for, or nothing where the client has it already.

    HEAD gives the same headers. Where the size is unknown there are no ranges and no length.
    Blocks while the first of it is read: what cannot be read raises here, where it can be told.
    """
    headers = {"Last-Modified": http_date(content.modified), **(headers or {})}
    if content.size is None:
        return _answer(request, content.pieces(), 200, headers, media_type)
    if _not_modified(request, content.modified):
        return Response(status_code=304, headers=headers)
    headers["Accept-Ranges"] = "bytes"
    try:
        spans = _asked(request, content)
    except UnsatisfiableError:
        headers["Content-Range"] = f"bytes */{content.size}"
        return PlainTextResponse(
            "No byte of that range is there.\n", status_code=416, headers=headers
        )
    if spans is None:
        headers["Content-Length"] = str(content.size)
        return _answer(request, content.pieces(), 200, headers, media_type)
    if len(spans) == 1:
        return _one_range(request, content, spans[0], headers, media_type)
    return _several_ranges(request, content, spans, headers, media_type)


def _not_modified(request: Request, modified: int) -> bool:
    text = request.headers.get("if-modified-since")
    if text is None or request.headers.get("range"):
        return False
    since = _date(text)
    return since is not None and modified // _SECOND <= since


def _asked(request: Request, content: Content) -> list[Span] | None:
    header = request.headers.get("range")
    condition = request.headers.get("if-range")
    assert content.size is not None
    if header is None or request.method not in {"GET", "HEAD"}:
        return None
    if condition is not None and _date(condition) != content.modified // _SECOND:
        return None
    return ranges(header, content.size)


def _date(text: str) -> int | None:
    try:
        return int(parsedate_to_datetime(text).timestamp())
    except ValueError:
        return None


def _one_range(
    request: Request, content: Content, span: Span, headers: dict[str, str], media_type: str
) -> Response:
    end = span.start + span.length - 1
    headers["Content-Range"] = f"bytes {span.start}-{end}/{content.size}"
    headers["Content-Length"] = str(span.length)
    return _answer(request, content.pieces(span.start, span.length), 206, headers, media_type)


def _several_ranges(
    request: Request, content: Content, spans: list[Span], headers: dict[str, str], media_type: str
) -> Response:
    boundary = secrets.token_hex(16)
    heads = [
        (
            f"\r\n--{boundary}\r\nContent-Type: {media_type}\r\nContent-Range: bytes "
            f"{span.start}-{span.start + span.length - 1}/{content.size}\r\n\r\n"
        ).encode()
        for span in spans
    ]
    tail = f"\r\n--{boundary}--\r\n".encode()
    length = sum(map(len, heads)) + sum(span.length for span in spans) + len(tail)
    headers["Content-Length"] = str(length)

    def parts() -> Iterator[Piece]:
        for head, span in zip(heads, spans, strict=True):
            yield head
            yield from content.pieces(span.start, span.length)
        yield tail

    kind = f"multipart/byteranges; boundary={boundary}"
    return _answer(request, parts(), 206, headers, kind)


def _answer(
    request: Request, parts: Iterator[Piece], status: int, headers: dict[str, str], media_type: str
) -> Response:
    if request.method == "HEAD":
        close = getattr(parts, "close", None)
        if close is not None:
            close()
        response = Response(status_code=status, headers=headers, media_type=media_type)
        if "Content-Length" in headers:
            response.headers["Content-Length"] = headers["Content-Length"]
        elif "content-length" in response.headers:
            del response.headers["content-length"]
        return response
    return _Streaming(_Begun(parts), status, headers, media_type)


class _Begun:
    """Parts of which the first are read."""

    def __init__(self, parts: Iterator[Piece]) -> None:
        self._parts = parts
        self._first = _batch(parts)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Piece:
        if self._first:
            first, self._first = self._first, b""
            return first
        return next(self._parts)

    def close(self) -> None:
        close = getattr(self._parts, "close", None)
        if close is not None:
            close()


class _Streaming(StreamingResponse):
    """Ends what is behind the pieces also where the client goes away in the middle."""

    def __init__(
        self, parts: Iterator[Piece], status: int, headers: dict[str, str], media_type: str
    ) -> None:
        super().__init__(_batches(parts), status, headers, media_type)

    async def __call__(self, scope, receive, send) -> None:  # type: ignore[no-untyped-def]  # noqa: ANN001
        async with aclosing(self.body_iterator):  # type: ignore[type-var]
            await super().__call__(scope, receive, send)


async def _batches(parts: Iterator[Piece]) -> AsyncIterator[bytes]:
    """Joined to about a mebibyte; one is read in a thread while the one before is sent."""
    ahead = asyncio.ensure_future(threads.stream(_batch, parts))
    try:
        while batch := await ahead:
            ahead = asyncio.ensure_future(threads.stream(_batch, parts))
            yield batch
    finally:
        await asyncio.wait([ahead])  # an iterator that is at work cannot be closed
        if not ahead.cancelled():
            ahead.exception()  # looked at: whoever would have taken the batch is gone
        close = getattr(parts, "close", None)
        if close is not None:
            await threads.stream(close)


def _batch(parts: Iterator[Piece]) -> bytes:
    joined = bytearray()
    for part in parts:
        joined += part
        if len(joined) >= _BATCH:
            break
    return bytes(joined)
