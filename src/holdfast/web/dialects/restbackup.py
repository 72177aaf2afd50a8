"""RestBackup: access URLs, PUT, GET and list, and sessions for browsers.

The order of checks is the client libraries': 401 before any look at the path, so that nobody learns
what is there; a refused body is read off, because some clients send all of it before they read the
answer.
"""

from __future__ import annotations

import base64
import binascii
import html
import re
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote_to_bytes

import msgspec
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from holdfast.core.access import SERVER
from holdfast.core.errors import (
    DeniedError,
    HoldfastError,
    InvalidError,
    NotSignedInError,
    RecordExistsError,
    RecordNotFoundError,
)
from holdfast.core.keeping import DAY
from holdfast.core.records import BackupState
from holdfast.core.secret import Secret
from holdfast.core.units import format_size
from holdfast.web import failures, receiving, sending, threads
from holdfast.web.receiving import BodyCutError, BodyTooLargeError
from holdfast.web.security import client_address

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.types import ASGIApp, Receive, Scope, Send

    from holdfast.core.access import Principal
    from holdfast.core.records import Account, Backup, Target
    from holdfast.service.server import Service

LARGEST = 5 * 1024 * 1024 * 1024
_SECOND = 1_000_000_000
_LONGEST_NAME = 1024
_FILE_METHODS = "GET, HEAD"
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


@dataclass(frozen=True, slots=True)
class Visitor:
    """Who asks, for which account, and what stands before names in links (a session's path)."""

    who: Principal
    account: Account
    target: Target
    prefix: str = ""


def app(service: Service) -> ASGIApp:
    face = Restbackup(service)

    async def call(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            request = Request(scope, receive)
            response = await face.answer(request)
            response.headers["X-RequestID"] = secrets.token_hex(8)
            await response(scope, receive, send)

    return call


class Restbackup:
    def __init__(self, service: Service) -> None:
        self._service = service
        self._idle = service.ground.configuration.limits.idle

    async def answer(self, request: Request) -> Response:
        try:
            return await self._route(request)
        except Exception as raised:  # noqa: BLE001  told, or logged and told
            error = failures.known(raised, request.url.path)
            await receiving.drain(request)
            return _refusal(error)

    async def _route(self, request: Request) -> Response:
        raw = request.scope.get("raw_path") or request.scope["path"].encode()
        if raw.startswith(b"/session/"):
            visitor, name = await threads.run(self._by_session, request, raw)
        else:
            visitor = await threads.run(self._by_credentials, request)
            name = _name(raw)
        if request.method in {"GET", "HEAD"}:
            if name == "/":
                return await threads.run(self._list, request, visitor)
            return await threads.run(self._give, request, visitor, name)
        if visitor.prefix:
            return _not_allowed("A session only reads.", _FILE_METHODS)
        if request.method == "PUT":
            return await self._take(request, visitor, name)
        command = request.headers.get("x-http-method-override", "")
        if request.method == "POST" and command == "MAKESESSION" and name == "/":
            return await threads.run(self._make_session, request, visitor)
        await receiving.drain(request)
        return _not_allowed("Files are kept until they expire.", _FILE_METHODS)

    # --- who --------------------------------------------------------------------------------------

    def _by_credentials(self, request: Request) -> Visitor:
        user, password = _basic(request)
        who, account = self._service.signing_in.account(user, password, self._address(request))
        return self._visitor(who, account)

    def _by_session(self, request: Request, raw: bytes) -> tuple[Visitor, str]:
        token, _, rest = raw.removeprefix(b"/session/").partition(b"/")
        text = token.decode("ascii", "replace")
        who, account = self._service.signing_in.session(text, self._address(request))
        return self._visitor(who, account, f"/session/{text}"), _name(b"/" + rest)

    def _visitor(self, who: Principal, account: Account, prefix: str = "") -> Visitor:
        target = self._service.targets.get(SERVER, account.target_id)
        return Visitor(who, account, target, prefix)

    def _address(self, request: Request) -> str:
        return client_address(request.scope, self._service.ground.configuration.listen.proxies)

    # --- backup -----------------------------------------------------------------------------------

    async def _take(self, request: Request, visitor: Visitor, name: str) -> Response:
        if name.endswith("/"):
            raise InvalidError("a name is needed to store under, not a folder")
        size = receiving.announced(request)
        if size is None or "transfer-encoding" in request.headers:
            await receiving.drain(request)
            return PlainTextResponse("A correct Content-Length is needed.\n", 411)
        if size > LARGEST:
            raise BodyTooLargeError(f"a file has at most {LARGEST} bytes")
        try:
            await threads.run(self._forget_expired, visitor, name)
            arriving = await threads.run(
                self._service.backups.receive,
                visitor.who,
                visitor.target,
                name,
                size=size,
                exclusive=True,
            )
            await receiving.receive(request, arriving, idle=self._idle, limit=LARGEST)
        except RecordExistsError:
            await receiving.drain(request)
            return _not_allowed(f"{name} exists; files cannot be replaced.", _FILE_METHODS)
        return PlainTextResponse(f"Stored {name}\n", 201)

    def _forget_expired(self, visitor: Visitor, name: str) -> None:
        """A name is free from the moment its file expires, not from the next sweep on."""
        found = self._service.backups.find(visitor.who, visitor.target, name)
        if found is not None and self._has_expired(visitor, found):
            self._service.backups.delete(SERVER, found)

    # --- restore ----------------------------------------------------------------------------------

    def _give(self, request: Request, visitor: Visitor, name: str) -> Response:
        found = self._service.backups.find(visitor.who, visitor.target, name)
        if found is None or self._has_expired(visitor, found):
            raise RecordNotFoundError(f"there is no file {name}")
        content = self._service.backups.open(visitor.who, found)
        headers = {"Cache-Control": "no-store", "Content-Disposition": "attachment"}
        return sending.respond(
            request, content, media_type="application/octet-stream", headers=headers
        )

    # --- list -------------------------------------------------------------------------------------

    def _list(self, request: Request, visitor: Visitor) -> Response:
        found = self._service.backups.list(
            visitor.who, visitor.target, states=[BackupState.KEPT], oldest_first=True
        )
        living = [each for each in found if not self._has_expired(visitor, each)]
        headers = {"Cache-Control": "no-store"}
        if "text/html" in request.headers.get("accept", ""):
            headers["Content-Security-Policy"] = "default-src 'none'; style-src 'unsafe-inline'"
            return Response(_page(living, visitor), headers=headers, media_type="text/html")
        rows = b",\n ".join(_row(each, visitor.account) for each in living)
        body = b"[\n " + rows + b"\n]\n" if rows else b"[]\n"
        return Response(body, headers=headers, media_type="application/json")

    def _has_expired(self, visitor: Visitor, backup: Backup) -> bool:
        return backup.received + visitor.account.keep_days * DAY <= self._service.ground.now()

    # --- sessions ---------------------------------------------------------------------------------

    def _make_session(self, request: Request, visitor: Visitor) -> Response:
        token = self._service.accounts.open_session(visitor.who)
        base = self._service.ground.configuration.restbackup.url.rstrip("/")
        if not base:
            base = f"{request.url.scheme}://{request.headers.get('host', '')}"
        return Response(status_code=204, headers={"Location": f"{base}/session/{token}/"})


# --- parsing --------------------------------------------------------------------------------------


def _basic(request: Request) -> tuple[str, Secret]:
    """Raises NotSignedInError where nothing that can be read is given."""
    scheme, _, text = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "basic":
        raise NotSignedInError("the access URL's user name and password are needed")
    try:
        user, colon, password = base64.b64decode(text, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        colon = ""
    if not colon:
        raise NotSignedInError("the Authorization header cannot be read")
    return user, Secret(password)


def _name(raw: bytes) -> str:
    """The file's name, which begins with a slash.

    Raises:
        InvalidError: it is not UTF-8, or has empty, dot or control parts.
    """
    try:
        name = unquote_to_bytes(raw.partition(b"?")[0]).decode()
    except UnicodeDecodeError as error:
        raise InvalidError("the name is not UTF-8") from error
    parts = name[1:].removesuffix("/").split("/")
    if name != "/" and any(part in {"", ".", ".."} for part in parts):
        raise InvalidError("the name has an empty or dot part")
    if _CONTROL.search(name):
        raise InvalidError("the name has control characters")
    if len(name) > _LONGEST_NAME:
        raise InvalidError(f"the name has more than {_LONGEST_NAME} characters")
    return name


# --- rendering ------------------------------------------------------------------------------------


def _refusal(error: HoldfastError) -> Response:
    if isinstance(error, NotSignedInError):
        return PlainTextResponse(
            "The access URL is not right.\n", 401, {"WWW-Authenticate": 'Basic realm="RestBackup"'}
        )
    if isinstance(error, DeniedError):
        return PlainTextResponse(f"{error.message}\n", 403)
    headers = {"Retry-After": "5"} if error.http_status in {429, 503} else {}
    if isinstance(error, BodyCutError | receiving.BodySlowError):
        headers["Connection"] = "close"
    return PlainTextResponse(f"{error.message}. {error.advice}\n", error.http_status, headers)


def _not_allowed(sentence: str, allowed: str) -> Response:
    return PlainTextResponse(sentence + "\n", 405, {"Allow": allowed})


def _row(backup: Backup, account: Account) -> bytes:
    created = backup.created // _SECOND
    return msgspec.json.encode(
        {
            "name": backup.name,
            "size": backup.size,
            "createtime": created,
            "deletetime": created + account.keep_days * DAY // _SECOND,
        }
    )


def _page(backups: Sequence[Backup], visitor: Visitor) -> str:
    rows = "".join(
        f'<tr><td><a href="{html.escape(visitor.prefix + quote(each.name))}">'
        f"{html.escape(each.name)}</a></td><td>{format_size(each.size)}</td>"
        f"<td>{_when(each.created)}</td><td>{_when(each.created + visitor.account.keep_days * DAY)}"
        "</td></tr>"
        for each in backups
    )
    return _PAGE.replace("{account}", html.escape(visitor.account.name)).replace("{rows}", rows)


def _when(nanoseconds: int) -> str:
    return datetime.fromtimestamp(nanoseconds // _SECOND, UTC).strftime("%Y-%m-%d %H:%M UTC")


_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Backups of {account}</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>body{font:1rem/1.5 system-ui,sans-serif;margin:2rem auto;max-width:60rem;padding:0 1rem}
table{border-collapse:collapse;width:100%}td,th{text-align:left;padding:.4rem;
border-bottom:1px solid #ccc;overflow-wrap:anywhere}</style></head>
<body><main><h1>Backups of {account}</h1>
<table><thead><tr><th>Name</th><th>Size</th><th>Stored</th><th>Kept until</th></tr></thead>
<tbody>{rows}</tbody></table></main></body></html>
"""
