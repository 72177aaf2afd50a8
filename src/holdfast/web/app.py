"""The main listener: which face a path belongs to."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.responses import JSONResponse

from holdfast.web.security import Hardened, KnownHosts

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from starlette.types import ASGIApp, Receive, Scope, Send


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
    answer = JSONResponse({"message": "There is nothing at this address."}, status_code=404)
    await answer(scope, receive, send)


def listener(app: ASGIApp, names: Iterable[str]) -> ASGIApp:
    """What every listener does around its faces."""
    return KnownHosts(Hardened(app), names)
