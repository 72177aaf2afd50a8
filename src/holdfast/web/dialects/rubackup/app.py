"""The renderer: finds the row of a request, who asks, and what it says; acts, and answers."""

from __future__ import annotations

import re
from functools import partial
from typing import TYPE_CHECKING, Final

from starlette.requests import Request
from starlette.responses import RedirectResponse

from holdfast.web import failures, receiving, threads
from holdfast.web.dialects.rubackup import explorer, parsing, sessions
from holdfast.web.dialects.rubackup.describing import Call
from holdfast.web.dialects.rubackup.rendering import envelope, refused, told
from holdfast.web.dialects.rubackup.table import ROWS
from holdfast.web.security import client_address

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.responses import Response
    from starlette.types import ASGIApp, Receive, Scope, Send

    from holdfast.service.server import Service
    from holdfast.web.dialects.rubackup.describing import Row

PATHS: Final = ("/api/v1",)
_ROOT: Final = "/api/v1"
_NUMBER: Final = re.compile(r"[1-9]\d{0,17}", re.ASCII)


def app(service: Service) -> ASGIApp:
    face = Rubackup(service)

    async def call(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            response = await face.answer(Request(scope, receive))
            await response(scope, receive, send)

    return call


class Rubackup:
    def __init__(self, service: Service) -> None:
        self._service = service
        self._idle = service.ground.configuration.limits.idle
        self.sessions: dict[tuple[str, str], Callable[[Request], Awaitable[Response]]] = {
            ("POST", "auth/login"): self._login,
            ("POST", "auth/refresh"): self._refresh,
            ("DELETE", "auth/logout"): self._logout,
        }
        self._rows: dict[str, dict[str, Row]] = {}
        for row in ROWS:
            self._rows.setdefault(row.path, {})[row.method] = row

    async def answer(self, request: Request) -> Response:
        path = request.url.path.removeprefix(_ROOT)
        if path == "":
            return RedirectResponse(f"{_ROOT}/")
        found = explorer.answer(path) if request.method in {"GET", "HEAD"} else None
        if found is not None:
            return found
        place = path.strip("/")
        row: Row | None = None
        try:
            session = self.sessions.get((request.method, place))
            if session is not None:
                return await session(request)
            rows, id_ = self._find(place)
            row = rows.get("GET" if request.method == "HEAD" else request.method)
            if row is None:
                await receiving.drain(request, idle=self._idle)
                return self._nothing(place, rows)
            return await self._act(request, row, id_)
        except Exception as raised:  # noqa: BLE001  told, or logged and told
            error = failures.known(raised, request.url.path)
            if not isinstance(error, receiving.BodySlowError):
                await receiving.drain(request, idle=self._idle)
            return refused(error, row)

    def _find(self, place: str) -> tuple[dict[str, Row], int]:
        """The rows of a path, and the number in it."""
        if place in self._rows:
            return self._rows[place], 0
        above, _, last = place.rpartition("/")
        if _NUMBER.fullmatch(last):
            return self._rows.get(f"{above}/{{id}}", {}), int(last)
        return {}, 0

    def _nothing(self, place: str, rows: dict[str, Row]) -> Response:
        allowed = set(rows) | {method for method, path in self.sessions if path == place}
        if allowed:
            headers = {"Allow": ", ".join(sorted(allowed))}
            return envelope(405, message="That method is not for this address.", headers=headers)
        return envelope(404, message="There is nothing at this address.")

    async def _act(self, request: Request, row: Row, id_: int) -> Response:
        who = await threads.run(sessions.who, self._service, request, self._address(request))
        body = await parsing.body_of(request, row.body, idle=self._idle) if row.body else {}
        call = Call(
            service=self._service, who=who, row=row, id=id_, body=body, query=request.query_params
        )
        return told(row, await threads.run(row.act, call))

    def _address(self, request: Request) -> str:
        return client_address(request.scope, self._service.ground.configuration.listen.proxies)

    # --- sessions ---------------------------------------------------------------------------------

    async def _login(self, request: Request) -> Response:
        body = await parsing.body_of(request, sessions.LOGIN, idle=self._idle)
        login = partial(sessions.login, self._service, request, body, self._address(request))
        return await threads.run(login)

    async def _refresh(self, request: Request) -> Response:
        return await threads.run(sessions.refresh, self._service, request, self._address(request))

    async def _logout(self, request: Request) -> Response:
        return await threads.run(sessions.logout, self._service, request, self._address(request))
