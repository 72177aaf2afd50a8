"""Request bodies on their way in: bounded, timed, counted.

A body is refused, drained or taken; whatever happens, nothing of a body that did not come whole is
kept.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol, TypeVar

from starlette.requests import ClientDisconnect

from holdfast.core.errors import HoldfastError, InvalidError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from concurrent.futures import Future

    from starlette.requests import Request

K = TypeVar("K")
_DRAINED = 64 << 20
"""Bytes of a refused body that are read, for clients that do not look before they have sent all."""
_SILENT = 2.0
"""Seconds after which a client that has sent nothing is taken to wait for the answer."""


class BodyCutError(HoldfastError):
    """The client went away or sent less than it said. There is nobody left to answer."""

    code = "body-cut"
    http_status = 400
    remedy = "Nothing was kept. Send it again."


class BodySlowError(HoldfastError):
    code = "body-slow"
    http_status = 408
    remedy = "Nothing was kept. Send it again over a steadier line."


class BodyTooLargeError(HoldfastError):
    code = "body-too-large"
    http_status = 413
    remedy = "Nothing was kept."


class Stream(Protocol[K]):
    """What a body goes into: `service.backups.Arriving`, or anything like it."""

    def offer(self, piece: bytes) -> Future[None] | None: ...

    def finish(self) -> Future[K]: ...

    def abandon(self) -> None: ...


def announced(request: Request) -> int | None:
    """The Content-Length, None where there is none.

    Raises:
        InvalidError: it is no number.
    """
    text = request.headers.get("content-length")
    if text is None:
        return None
    if not (text.isascii() and text.isdigit()):
        raise InvalidError("the Content-Length is not a number")
    return int(text)


async def pieces(
    request: Request, *, idle: float = 30.0, limit: int | None = None
) -> AsyncIterator[bytes]:
    """The body as it comes.

    `idle`: seconds without a byte; `limit`: bytes.

    Raises:
        BodyCutError, BodySlowError, BodyTooLargeError
    """
    said = announced(request)
    if limit is not None and said is not None and said > limit:
        raise BodyTooLargeError(f"{said} bytes are too many; {limit} are taken")
    came = 0
    stream = request.stream().__aiter__()
    while True:
        try:
            async with asyncio.timeout(idle):
                piece = await anext(stream)
        except StopAsyncIteration:
            break
        except TimeoutError as error:
            raise BodySlowError(f"no byte came for {idle:g} seconds") from error
        except (ClientDisconnect, OSError) as error:
            raise BodyCutError(f"the body ended after {came} bytes") from error
        came += len(piece)
        if limit is not None and came > limit:
            raise BodyTooLargeError(f"more than {limit} bytes came")
        if piece:
            yield piece
    if said is not None and came != said:
        raise BodyCutError(f"{came} bytes came of {said} that were announced")


async def receive(
    request: Request, stream: Stream[K], *, idle: float = 30.0, limit: int | None = None
) -> K:
    """Takes a whole body in; the answer may be given when this returns.

    Raises:
        HoldfastError: nothing was kept.
    """
    try:
        async for piece in pieces(request, idle=idle, limit=limit):
            wait = stream.offer(piece)
            if wait is not None:
                await asyncio.wrap_future(wait)
    except BaseException:
        stream.abandon()
        raise
    return await asyncio.shield(asyncio.wrap_future(stream.finish()))


async def whole(request: Request, *, limit: int = 1 << 20, idle: float = 30.0) -> bytes:
    """A small body in memory."""
    return b"".join([piece async for piece in pieces(request, idle=idle, limit=limit)])


async def drain(request: Request, *, limit: int = _DRAINED, idle: float = 10.0) -> None:
    """Reads a refused body off, where the client does not wait for leave to send it: some send all
    before they read the answer, and would see a broken pipe instead of it.
    """
    if request.headers.get("expect", "").lower() == "100-continue" or request._stream_consumed:  # noqa: SLF001  the library tells it nowhere else
        return
    came = 0
    try:
        async with asyncio.timeout(_SILENT) as silence:
            async for piece in pieces(request, idle=idle):
                silence.reschedule(None)
                came += len(piece)
                if came >= limit:
                    return
    except (HoldfastError, TimeoutError):
        return  # there is nobody to be told, or it is told now
