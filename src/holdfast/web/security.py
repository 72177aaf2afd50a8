"""What holds for every answer and every request of a listener, whatever the face."""

from __future__ import annotations

import ipaddress
import socket
from typing import TYPE_CHECKING

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse

if TYPE_CHECKING:
    from collections.abc import Iterable

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "SAMEORIGIN",
    "Referrer-Policy": "no-referrer",
}


class KnownHosts:
    """Refuses requests whose Host is a name that this server does not go by: a page on the web can
    make a name point here, but cannot make it one of ours. An address cannot be pointed anywhere.
    """

    def __init__(self, app: ASGIApp, names: Iterable[str]) -> None:
        self._app = app
        own = {"localhost", socket.gethostname(), socket.getfqdn()}
        self._names = {name.lower() for name in own | set(names)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not self._known(Headers(scope=scope).get("host", "")):
            refusal = PlainTextResponse(
                "This server does not go by that name. Add it to listen.hosts.\n", status_code=421
            )
            await refusal(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _known(self, host: str) -> bool:
        name = _without_port(host).lower()
        return name in self._names or _is_address(name)


class Hardened:
    """Adds the headers that keep browsers from guessing and framing."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_hardened(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        await self._app(scope, receive, send_hardened)


def client_address(scope: Scope, trusted: Iterable[str]) -> str:
    """Where the request comes from; what a proxy says only where that proxy is trusted."""
    client = scope.get("client")
    peer = client[0] if client else ""
    if peer in set(trusted):
        forwarded = Headers(scope=scope).get("x-forwarded-for", "")
        return forwarded.rpartition(",")[2].strip() or peer
    return peer


def _without_port(host: str) -> str:
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0]


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
