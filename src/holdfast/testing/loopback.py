"""A small HTTP/1.1 server on the loopback, written for tests: it can also break off, drip and lie
about lengths.

It speaks keep-alive, chunked and counted bodies, and streams bodies of any size in flat memory.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import struct
import threading
import time
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import parse_qsl, unquote, urlsplit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_HEAD_LIMIT = 256 << 10
_NO_BODY = {204, 304}


@dataclass(frozen=True, slots=True)
class Request:
    """One request as it came. `query` keeps the last value of a repeated name; matrix parameters
    (`;k=v`) are in it too.
    """

    method: str
    target: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes
    at: float
    """Seconds of the monotonic clock when the request was complete."""
    connection: int
    """Which connection of the server's life, from 1: shows keep-alive."""

    def json(self) -> Any:
        return json.loads(self.body)

    def form(self) -> dict[str, str]:
        return dict(parse_qsl(self.body.decode(), keep_blank_values=True))


@dataclass(slots=True)
class Reply:
    """One answer. `body` may be an iterable of pieces; then `length` announces its size (absent:
    chunked).

    `cut`: the connection is reset after so many bytes of the body. `drip`: seconds between single
    bytes.
    """

    status: int = 200
    body: bytes | Iterable[bytes] = b""
    headers: dict[str, str] = field(default_factory=dict)
    length: int | None = None
    cut: int | None = None
    drip: float = 0.0
    delay: float = 0.0
    """Seconds before the answer starts, added to the server's own latency."""


def json_reply(document: object, *, status: int = 200, **headers: str) -> Reply:
    """An answer of type application/json; underscores in header names become hyphens."""
    body = json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Reply(status, body, {"Content-Type": "application/json", **named})


class Loopback:
    """Serves `answer` from a thread of its own between `start` and `close`; usable as a context
    manager.

    `answer` runs in the server's only thread, so it sees one request at a time and needs no locks.
    """

    def __init__(
        self, answer: Callable[[Request], Reply], *, latency: float = 0.0, port: int = 0
    ) -> None:
        self.answer = answer
        self.latency = latency
        self.requests: list[Request] = []
        self.active = 0
        self.peak = 0
        """Most requests that were being answered at once."""
        self.connections = 0
        self._loop = asyncio.new_event_loop()
        self._clients: set[asyncio.Task[None]] = set()
        self._listener = socket.create_server(("127.0.0.1", port), backlog=512)
        self.port: int = self._listener.getsockname()[1]
        self._up = threading.Event()
        self._thread = threading.Thread(target=self._run, name="loopback", daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> Self:
        self._thread.start()
        self._up.wait(10)
        return self

    def close(self) -> None:
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(10)
        self._listener.close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.close()

    def _run(self) -> None:
        loop = self._loop
        asyncio.set_event_loop(loop)
        server = loop.run_until_complete(
            asyncio.start_server(self._converse, sock=self._listener, limit=_HEAD_LIMIT)
        )
        loop.call_soon(self._up.set)
        try:
            loop.run_forever()
        finally:
            server.close()
            for task in list(self._clients):
                task.cancel()
            loop.run_until_complete(asyncio.gather(*self._clients, return_exceptions=True))
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.close()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._clients.add(task)
        # asyncio does this only for sockets that say which protocol they speak
        writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.connections += 1
        connection = self.connections
        try:
            while await self._exchange(reader, writer, connection):
                pass
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass  # the client went away, which is its right
        except asyncio.CancelledError:
            pass  # the server closes; ending quietly keeps the stream library from logging it
        finally:
            self._clients.discard(task)
            with contextlib.suppress(ConnectionError):
                writer.close()

    async def _exchange(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, connection: int
    ) -> bool:
        """One request and its answer; whether the connection may be used again."""
        head = await reader.readuntil(b"\r\n\r\n")
        request = await _read_request(head, reader, connection)
        self.requests.append(request)
        self.active += 1
        self.peak = max(self.peak, self.active)
        try:
            reply = self.answer(request)
            if wait := self.latency + reply.delay:
                await asyncio.sleep(wait)
            whole = await _write_reply(writer, reply, with_body=request.method != "HEAD")
        finally:
            self.active -= 1
        return whole and request.headers.get("connection", "").lower() != "close"


async def _read_request(head: bytes, reader: asyncio.StreamReader, connection: int) -> Request:
    first, *lines = head.decode("latin-1").split("\r\n")
    method, target, _ = first.split(" ", 2)
    headers = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if colon:
            headers[name.lower()] = value.strip()
    if headers.get("transfer-encoding", "").lower() == "chunked":
        body = await _read_chunks(reader)
    else:
        body = await reader.readexactly(int(headers.get("content-length", "0")))
    parts = urlsplit(target)
    path, *matrix = parts.path.split(";")
    pairs = parse_qsl(parts.query, keep_blank_values=True)
    pairs += [pair for piece in matrix for pair in parse_qsl(piece, keep_blank_values=True)]
    return Request(
        method, target, unquote(path), dict(pairs), headers, body, time.monotonic(), connection
    )


async def _read_chunks(reader: asyncio.StreamReader) -> bytes:
    pieces = []
    while size := int((await reader.readline()).split(b";")[0], 16):
        pieces.append(await reader.readexactly(size))
        await reader.readline()
    await reader.readline()
    return b"".join(pieces)


async def _write_reply(writer: asyncio.StreamWriter, reply: Reply, *, with_body: bool) -> bool:
    whole = isinstance(reply.body, bytes)
    length = len(reply.body) if isinstance(reply.body, bytes) else reply.length
    chunked = length is None
    status = HTTPStatus(reply.status)
    lines = [f"HTTP/1.1 {status.value} {status.phrase}"]
    lines += [f"{name}: {value}" for name, value in reply.headers.items()]
    if chunked:
        lines.append("Transfer-Encoding: chunked")
    elif reply.status not in _NO_BODY:
        lines.append(f"Content-Length: {length}")
    head = ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1", "replace")
    if not with_body or reply.status in _NO_BODY:
        writer.write(head)
        await writer.drain()
        return True
    if whole and reply.cut is None and not reply.drip:
        assert isinstance(reply.body, bytes)
        writer.write(head + reply.body)
        await writer.drain()
        return True
    writer.write(head)
    return await _write_pieces(writer, reply, chunked=chunked)


async def _write_pieces(writer: asyncio.StreamWriter, reply: Reply, *, chunked: bool) -> bool:
    left = reply.cut
    for piece in [reply.body] if isinstance(reply.body, bytes) else reply.body:
        sent = piece if left is None else piece[:left]
        for part in _drops(sent) if reply.drip else [sent]:
            writer.write(b"%x\r\n%b\r\n" % (len(part), part) if chunked and part else part)
            await writer.drain()
            if reply.drip:
                await asyncio.sleep(reply.drip)
        if left is not None:
            left -= len(sent)
            if not left:
                _reset(writer)
                return False
    if chunked:
        writer.write(b"0\r\n\r\n")
    await writer.drain()
    return True


def _drops(data: bytes) -> list[bytes]:
    return [data[at : at + 1] for at in range(len(data))]


def _reset(writer: asyncio.StreamWriter) -> None:
    """Ends the connection the hard way once what was written is on its way."""
    connection = writer.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.close()
