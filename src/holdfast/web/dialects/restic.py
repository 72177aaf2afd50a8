"""restic's REST protocol, versions 1 and 2, at `/restic/<pool>/<host>/`.

Objects come whole into memory, as their digest must be known before they get their name; a budget
of bytes bounds how many come at once.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import re
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

import msgspec
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from holdfast.core.errors import (
    DamagedError,
    NotSignedInError,
    ObjectExistsError,
)
from holdfast.core.secret import Secret
from holdfast.service.storing import CONFIG_NAME, FileKind
from holdfast.web import failures, receiving, threads
from holdfast.web.security import client_address
from holdfast.web.sending import UnsatisfiableError, ranges

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.types import ASGIApp, Receive, Scope, Send

    from holdfast.service.server import Service
    from holdfast.service.storing import HostRepository

LARGEST: Final = 256 << 20
"""Bytes of one object; restic's packs are 16 to 128 MiB."""
_BUDGET: Final = 256 << 20
_PLACE = re.compile(
    r"/restic/([^/]+)/([^/]+)/"
    r"(?:(config)|(?:(data|index|keys|locks|snapshots)/([0-9a-f]{64})?))?"
)
_V2 = "application/vnd.x.restic.rest.v2"
_V1 = "application/vnd.x.restic.rest.v1"


def app(service: Service) -> ASGIApp:
    face = Restic(service)

    async def call(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            response = await face.answer(Request(scope, receive))
            await response(scope, receive, send)

    return call


class Restic:
    def __init__(self, service: Service) -> None:
        self._service = service
        self._room = _Room(_BUDGET)
        self._idle = service.ground.configuration.limits.idle

    async def answer(self, request: Request) -> Response:
        try:
            return await self._route(request)
        except Exception as raised:  # noqa: BLE001  told, or logged and told
            error = failures.known(raised, request.url.path)
            await receiving.drain(request)
            headers = {}
            if isinstance(error, NotSignedInError):
                headers["WWW-Authenticate"] = 'Basic realm="Holdfast"'
            status = 400 if isinstance(error, DamagedError) else error.http_status
            if isinstance(error, ObjectExistsError):
                status = 403  # restic's server says so
            return PlainTextResponse(f"{error.message}\n", status, headers)

    async def _route(self, request: Request) -> Response:
        place = _PLACE.fullmatch(request.scope["path"])
        creating = request.method == "POST" and request.query_params.get("create") == "true"
        if place is None:
            await receiving.drain(request)
            return PlainTextResponse("There is no such place in a repository.\n", 404)
        pool, host, config, folder, name = place.groups()
        repository = await threads.run(self._open, request, pool, host, creating)
        if folder is None and config is None:
            return await self._whole(repository, creating=creating)
        kind = FileKind.CONFIG if config else FileKind(folder)
        name = CONFIG_NAME if config else name
        if name is None:
            return await self._list(request, repository, kind)
        match request.method:
            case "GET" | "HEAD":
                return await threads.run(_give, request, repository, kind, name)
            case "POST":
                return await self._take(request, repository, kind, name)
            case "DELETE":
                await threads.run(repository.remove, kind, name)
                return Response(status_code=200)
            case _:
                return PlainTextResponse("Not that.\n", 405, {"Allow": "GET, HEAD, POST, DELETE"})

    def _open(self, request: Request, pool: str, host: str, create: bool) -> HostRepository:  # noqa: FBT001
        service = self._service
        address = client_address(request.scope, service.ground.configuration.listen.proxies)
        user, secret = _basic(request)
        who = service.signing_in.host(user, secret, address)
        return service.storing.open(who, pool, host, create=create)

    async def _whole(self, repository: HostRepository, *, creating: bool) -> Response:
        if creating:
            await threads.run(repository.create)
            return Response(status_code=200)
        return PlainTextResponse("A repository is not removed this way.\n", 405)

    async def _list(self, request: Request, repository: HostRepository, kind: FileKind) -> Response:
        if request.method not in {"GET", "HEAD"}:
            return PlainTextResponse("A name is needed.\n", 405, {"Allow": "GET, HEAD"})
        found = await threads.run(repository.list, kind)
        if _V2 in request.headers.get("accept", ""):
            rows = [{"name": each.name, "size": each.size} for each in found]
            return Response(msgspec.json.encode(rows), media_type=_V2)
        return Response(msgspec.json.encode([each.name for each in found]), media_type=_V1)

    async def _take(
        self, request: Request, repository: HostRepository, kind: FileKind, name: str
    ) -> Response:
        size = receiving.announced(request)
        if size is None:
            await receiving.drain(request)
            return PlainTextResponse("A Content-Length is needed.\n", 411)
        if size > LARGEST:
            raise receiving.BodyTooLargeError(f"an object has at most {LARGEST} bytes")
        async with self._room.taken(size):
            content = bytearray()
            async for piece in receiving.pieces(request, idle=self._idle, limit=LARGEST):
                content += piece
            await threads.run(repository.put, kind, name, bytes(content))
        return Response(status_code=200)


class _Room:
    """Bytes that may be in memory at once; who comes last waits, unread."""

    def __init__(self, size: int) -> None:
        self._left = size
        self._changed = asyncio.Condition()

    @asynccontextmanager
    async def taken(self, size: int) -> AsyncIterator[None]:
        async with self._changed:
            await self._changed.wait_for(lambda: self._left >= size)
            self._left -= size
        try:
            yield
        finally:
            async with self._changed:
                self._left += size
                self._changed.notify_all()


def _give(request: Request, repository: HostRepository, kind: FileKind, name: str) -> Response:
    size = repository.stat(kind, name).size
    headers = {"Accept-Ranges": "bytes"}
    if request.method == "HEAD":
        response = Response(headers=headers, media_type="application/octet-stream")
        response.headers["Content-Length"] = str(size)
        return response
    start, length, status = 0, size, 200
    header = request.headers.get("range")
    try:
        spans = ranges(header, size) if header else None
    except UnsatisfiableError:
        headers["Content-Range"] = f"bytes */{size}"
        return PlainTextResponse("No byte of that range is there.\n", 416, headers)
    if spans is not None and len(spans) == 1:
        start, length, status = spans[0].start, spans[0].length, 206
        headers["Content-Range"] = f"bytes {start}-{start + length - 1}/{size}"
    content = repository.get(kind, name, start, length) if length else b""
    return Response(content, status, headers, media_type="application/octet-stream")


def _basic(request: Request) -> tuple[str, Secret]:
    scheme, _, text = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "basic":
        raise NotSignedInError("the host's name and token are needed")
    try:
        user, _, password = base64.b64decode(text, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError) as error:
        raise NotSignedInError("the Authorization header cannot be read") from error
    return user, Secret(password)
