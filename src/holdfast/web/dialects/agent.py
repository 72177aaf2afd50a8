"""Agents, at `/agent/...`: small JSON documents both ways, by the secret of each agent.

A poll is held until there is something to say. One look at the catalog, a few times a second,
serves all polls that are held, however many.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, Final, TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from holdfast.core.errors import (
    CatalogError,
    ClosedError,
    InvalidError,
    NotSignedInError,
    RecordNotFoundError,
)
from holdfast.core.orders import (
    HOLD,
    Announcement,
    Ask,
    Due,
    Heard,
    Hello,
    Opening,
    Poll,
    Report,
)
from holdfast.core.secret import Secret
from holdfast.service.agent_desk import Live
from holdfast.web import failures, receiving, threads
from holdfast.web.security import client_address

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.types import ASGIApp, Receive, Scope, Send

    from holdfast.core.records import Agent
    from holdfast.service.server import Service

T = TypeVar("T")
_LARGEST: Final = 8 << 20
_MOST_HELD: Final = 1000
"""Orders that an agent says it has."""
_LOOK_EVERY: Final = 0.25
_WRITE_EVERY: Final = 2.0
"""Seconds between two times that who was here is written down."""
_IDLE: Final = 120.0
"""Seconds without a poll after which nobody looks any more."""


class Polls:
    """The polls that are held. Everything here happens in the event loop's thread."""

    def __init__(self, service: Service) -> None:
        self._desk = service.agent_desk
        self._live = Live()
        self._fresh = asyncio.Event()
        self._looking: asyncio.Task[None] | None = None
        self._looked = asyncio.Event()
        self._heard: set[int] = set()
        self._last_poll = 0.0
        self._ended = False

    def end(self) -> None:
        """Lets go of all: the process is about to end."""
        self._ended = True
        self._fresh.set()

    async def wait(self, agent: Agent, poll: Poll) -> Due:
        """What an agent is told, at once where there is something."""
        self._last_poll = time.monotonic()
        self._heard.add(agent.id)
        if self._looking is None or self._looking.done():
            self._looked = asyncio.Event()
            self._looking = asyncio.create_task(self._keep_looking(self._looked))
        await self._looked.wait()
        until = time.monotonic() + min(max(poll.wait, 0.0), HOLD)
        held = frozenset(poll.held)
        while True:
            if self._ended:
                raise ClosedError("this server is about to end")
            missing, wishes = self._live.due(agent.id, held)
            authorised = agent.id in self._live.authorised
            left = until - time.monotonic()
            if missing or wishes or authorised != (agent.state == "authorised") or left <= 0:
                break
            try:
                async with asyncio.timeout(left):
                    await self._fresh.wait()
            except TimeoutError:
                continue
        orders = await threads.run(self._desk.orders, agent, missing) if missing else []
        return Due(authorised=authorised, orders=list(orders), wishes=wishes)

    async def _keep_looking(self, looked: asyncio.Event) -> None:
        """One at a time, for all. `looked` is set after the first look."""
        written = time.monotonic()
        while not self._ended and time.monotonic() - self._last_poll < _IDLE:
            try:
                await self._look()
                if self._heard and time.monotonic() - written > _WRITE_EVERY:
                    written = time.monotonic()
                    heard, self._heard = self._heard, set()
                    await threads.run(self._desk.heard, heard)
            except CatalogError as error:
                failures.known(error, "/agent/poll")  # the next look sees it again, or does not
            finally:
                looked.set()
            await asyncio.sleep(_LOOK_EVERY)

    async def _look(self) -> None:
        live = await threads.run(self._desk.live)
        if live != self._live:
            self._live = live
            fresh, self._fresh = self._fresh, asyncio.Event()
            fresh.set()
            if self._ended:
                self._fresh.set()


def app(service: Service, polls: Polls) -> ASGIApp:
    face = AgentFace(service, polls)

    async def call(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            response = await face.answer(Request(scope, receive))
            await response(scope, receive, send)

    return call


class AgentFace:
    def __init__(self, service: Service, polls: Polls) -> None:
        self._desk = service.agent_desk
        self._polls = polls
        self._proxies = service.ground.configuration.listen.proxies
        self._ways = {
            "enrol": self._enrol, "poll": self._poll, "report": self._report,
            "announce": self._announce, "key": self._key, "leave": self._leave,
        }  # fmt: skip

    async def answer(self, request: Request) -> Response:
        try:
            way = self._way(request)
            body = await receiving.whole(request, limit=_LARGEST)
            return _json(await way(request, body))
        except Exception as raised:  # noqa: BLE001  told, or logged and told
            error = failures.known(raised, request.url.path)
            await receiving.drain(request)
            said = {"code": error.code, "message": error.message, "remedy": error.advice}
            return _json(said, error.http_status)

    def _way(self, request: Request) -> Callable[[Request, bytes], Awaitable[object]]:
        way = self._ways.get(request.scope["path"].removeprefix("/agent/"))
        if way is None or request.method != "POST":
            raise RecordNotFoundError("agents ask for nothing here")
        return way

    async def _enrol(self, request: Request, body: bytes) -> object:
        address = client_address(request.scope, self._proxies)
        hello = _decoded(body, Hello)
        _, standing = await threads.run(self._desk.enrol, _secret(request), hello, address)
        return standing

    async def _poll(self, request: Request, body: bytes) -> object:
        poll = _decoded(body, Poll)
        if len(poll.held) > _MOST_HELD:
            raise InvalidError(f"no agent has more than {_MOST_HELD} orders")
        return await self._polls.wait(await self._agent(request), poll)

    async def _report(self, request: Request, body: bytes) -> object:
        report = _decoded(body, Report)
        return Heard(wish=await threads.run(self._desk.report, await self._agent(request), report))

    async def _announce(self, request: Request, body: bytes) -> object:
        said = _decoded(body, Announcement)
        return Heard(wish=await threads.run(self._desk.announce, await self._agent(request), said))

    async def _key(self, request: Request, body: bytes) -> object:
        ask = _decoded(body, Ask)
        address = client_address(request.scope, self._proxies)
        agent = await self._agent(request)
        return Opening(key=await threads.run(self._desk.key, agent, ask.order, address))

    async def _leave(self, request: Request, body: bytes) -> object:
        del body
        await threads.run(self._desk.left, await self._agent(request))
        return {}

    async def _agent(self, request: Request) -> Agent:
        return await threads.run(self._desk.known, _secret(request))


def _secret(request: Request) -> Secret:
    scheme, _, text = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer":
        raise NotSignedInError("an agent comes with its secret")
    return Secret(text)


def _decoded(body: bytes, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidError(f"this is no {kind.__name__.lower()}: {error}") from error


def _json(value: Any, status: int = 200) -> Response:
    return Response(msgspec.json.encode(value), status, media_type="application/json")
