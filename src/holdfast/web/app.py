"""The main listener: which face a path belongs to."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING

import structlog
from starlette.responses import JSONResponse

from holdfast.web.security import Hardened, KnownHosts

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

_log = structlog.get_logger("holdfast.web")
_REFUSED = 400


class Faces:
    """Gives a request to the face that owns its path. `owners`: by the first one or two segments
    of a path, the longer first; everything else goes to `rest`.
    """

    def __init__(self, owners: Mapping[str, ASGIApp], rest: ASGIApp) -> None:
        self._owners = dict(owners)
        self._rest = rest

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._owner(scope["path"])(scope, receive, send)

    def _owner(self, path: str) -> ASGIApp:
        first, _, more = path.removeprefix("/").partition("/")
        second = more.partition("/")[0]
        return (
            self._owners.get(f"/{first}/{second}")
            or self._owners.get(f"/{first}")
            or self._rest
        )  # fmt: skip


async def nothing_here(scope: Scope, receive: Receive, send: Send) -> None:
    """What answers where no face owns the path."""
    said = {"success": False, "message": "There is nothing at this address."}
    answer = JSONResponse(said, status_code=404)
    await answer(scope, receive, send)


class Logged:
    """Writes requests down that change something or were refused: who, what, how it ended and how
    long it took; never a query, as tokens are in some. What nobody caught ends here, too.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] == "/healthz":
            await self._app(scope, receive, send)
            return
        began = time.monotonic()
        status = 0

        async def send_watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, send_watched)
        except Exception as raised:
            _log.exception("unexpected", path=_shown(scope), error=type(raised).__name__)
            raise
        finally:
            client = scope.get("client")
            worth = status >= _REFUSED or scope["method"] not in {"GET", "HEAD"}
            (_log.info if worth else _log.debug)(
                "request",
                method=scope["method"],
                path=_shown(scope),
                status=status,
                seconds=round(time.monotonic() - began, 3),
                client=client[0] if client else "",
            )


def _shown(scope: Scope) -> str:
    """Without what opens doors: a session's name in a path."""
    return re.sub(r"^/session/[^/]+", "/session/***", scope["path"])


def listener(app: ASGIApp, names: Iterable[str]) -> ASGIApp:
    """What every listener does around its faces."""
    return Logged(KnownHosts(Hardened(app), names))
