"""Clients of a server that cost little themselves, so that the server has the processors."""

from __future__ import annotations

import asyncio
import random
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterator, Mapping, Sequence

MIB = 1 << 20
_PIECE = 256 << 10
_BLOCK = 64 << 10
Headers = dict[str, str]


@dataclass(frozen=True, slots=True)
class Ask:
    """One request, whole."""

    url: str
    headers: Mapping[str, str] = field(default_factory=dict)
    method: str = "GET"
    body: bytes = b""

    @property
    def place(self) -> tuple[str, int]:
        parts = urlsplit(self.url)
        assert parts.hostname
        assert parts.port
        return parts.hostname, parts.port

    def head(self, length: int) -> bytes:
        parts = urlsplit(self.url)
        path = parts.path + (f"?{parts.query}" if parts.query else "")
        lines = [f"{self.method} {path} HTTP/1.1", f"Host: {parts.netloc}"]
        lines += [f"{name}: {value}" for name, value in self.headers.items()]
        if self.method != "GET":
            lines.append(f"Content-Length: {length}")
        return ("\r\n".join(lines) + "\r\n\r\n").encode()


class RefusedError(Exception):
    """The server did not do what was asked: nothing was measured."""


# --- one at a time, in this thread ----------------------------------------------------------------


def open_line(ask: Ask, length: int = 0) -> socket.socket:
    """A connection on which the head of a request was sent."""
    line = socket.create_connection(ask.place, timeout=120)
    line.sendall(ask.head(length) + ask.body)
    return line


def first_byte(ask: Ask) -> float:
    """Seconds from asking to the first byte of the answer's body; the rest is not taken."""
    began = time.perf_counter()
    with open_line(ask) as line:
        came = b""
        while not came.partition(b"\r\n\r\n")[2]:
            piece = line.recv(1 << 16)
            if not piece:
                raise RefusedError(came.decode(errors="replace"))
            came += piece
        _check(came)
    return time.perf_counter() - began


def give(ask: Ask, size: int, seed: int, *, rate: float = 0) -> None:
    """Sends a body of that size in which no chunk is like another; `rate`: bytes a second."""
    began = time.perf_counter()
    sent = 0
    with open_line(ask, size) as line:
        for piece in _content(size, seed):
            for start in range(0, len(piece), _BLOCK) if rate else [0]:
                part = piece[start : start + _BLOCK] if rate else piece
                line.sendall(part)
                sent += len(part)
                if rate:
                    time.sleep(max(began + sent / rate - time.perf_counter(), 0))
        _check(line.recv(1 << 16))


def _content(size: int, seed: int) -> Iterator[memoryview]:
    chance = random.Random(seed)
    block = bytearray(chance.randbytes(MIB))
    left = size
    while left:
        for at in range(0, MIB, _PIECE):
            block[at : at + 8] = chance.randbytes(8)
        piece = memoryview(block)[: min(left, MIB)]
        left -= len(piece)
        yield piece


def take_slowly(ask: Ask, rate: float, stop: threading.Event) -> None:
    """Reads an answer at so many bytes a second, until it is told to stop."""
    with open_line(ask) as line:
        came = line.recv(1 << 16)
        _check(came)
        while came and not stop.wait(_BLOCK / rate):
            came = line.recv(_BLOCK)


def at_once(acts: Sequence[Callable[[], None]]) -> float:
    """All in threads of their own; seconds until the last has ended. Raises what one of them
    did.
    """
    began = time.perf_counter()
    with ThreadPoolExecutor(len(acts)) as threads:
        for future in [threads.submit(act) for act in acts]:
            future.result()
    return time.perf_counter() - began


def _check(answer: bytes) -> None:
    status = answer.split(b" ", 2)[1:2]
    if not status or not status[0].startswith(b"2"):
        raise RefusedError(answer.decode(errors="replace")[:1000])


# --- many at a time -------------------------------------------------------------------------------


class Line:
    """A connection that is kept."""

    def __init__(self, place: tuple[str, int]) -> None:
        self._place = place
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def ask(self, ask: Ask) -> bytes:
        """The body of the answer, which must be counted."""
        if self._writer is None or self._reader is None:
            self._reader, self._writer = await asyncio.open_connection(*self._place)
        self._writer.write(ask.head(len(ask.body)) + ask.body)
        head = await self._reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
        body = await self._reader.readexactly(length)
        _check(head + body)
        return body

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()


async def ask_at_rate(kinds: Sequence[Ask], rate: float, seconds: float) -> list[float]:
    """Asks so many a second, whoever is late or not, on 32 connections; how long each took from
    when it was due, so that waiting counts.
    """
    chance = random.Random(3)
    free: asyncio.Queue[dict[tuple[str, int], Line]] = asyncio.Queue()
    for _ in range(32):
        free.put_nowait({ask.place: Line(ask.place) for ask in kinds})
    times: list[float] = []

    async def one(ask: Ask, due: float) -> None:
        lines = await free.get()
        await lines[ask.place].ask(ask)
        times.append(time.perf_counter() - due)
        free.put_nowait(lines)

    began = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for number in range(int(rate * seconds)):
            due = began + number / rate
            await asyncio.sleep(max(due - time.perf_counter(), 0))
            group.create_task(one(chance.choice(kinds), due))
    while not free.empty():
        for line in free.get_nowait().values():
            line.close()
    return sorted(times)


async def give_small(
    ask: Callable[[int], Ask], clients: int, seconds: float
) -> tuple[list[float], float]:
    """So many clients, each with one request after the other; how long each took, and all."""
    times: list[float] = []
    numbers = iter(range(1 << 62))
    began = time.perf_counter()

    async def one() -> None:
        line = Line(ask(0).place)
        while (at := time.perf_counter()) < began + seconds:
            await line.ask(ask(next(numbers)))
            times.append(time.perf_counter() - at)
        line.close()

    async with asyncio.TaskGroup() as group:
        for _ in range(clients):
            group.create_task(one())
    return sorted(times), time.perf_counter() - began
