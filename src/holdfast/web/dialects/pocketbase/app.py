"""Routes and sign-in of the PocketBase face."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match, Route

from holdfast.core.access import ANONYMOUS, Verb
from holdfast.core.errors import (
    DamagedError,
    DeniedError,
    HeldError,
    HoldfastError,
    InvalidError,
    NotSignedInError,
    RecordExistsError,
    RecordNotFoundError,
    UnknownVersionError,
)
from holdfast.core.records import Role
from holdfast.core.secret import Secret
from holdfast.service.app_schedule import PLAN
from holdfast.service.application import ApplicationBusyError
from holdfast.web import failures, receiving, sending, threads
from holdfast.web.dialects.pocketbase import binding, rendering, uploading
from holdfast.web.dialects.pocketbase.rendering import BUSY, FaceError, json, nothing
from holdfast.web.security import client_address

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.types import ASGIApp, Receive, Scope, Send

    from holdfast.core.access import Principal
    from holdfast.core.records import User
    from holdfast.service.server import Service

PATHS = (
    "/api/backups",
    "/api/collections",
    "/api/admins",
    "/api/files",
    "/api/health",
    "/api/settings",
    "/api/crons",
)
_SUPERUSERS = {"_superusers", "pbc_3142635823"}
_USERS = {"users", "_pb_users_auth_"}
_CORS = {"Access-Control-Allow-Origin": "*", "Vary": "Origin"}


def app(service: Service) -> ASGIApp:
    face = PocketBase(service)

    async def call(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            response = await face.answer(Request(scope, receive))
            response.headers.update(_CORS)
            response.headers["X-Xss-Protection"] = "1; mode=block"
            await response(scope, receive, send)

    return call


class PocketBase:
    def __init__(self, service: Service) -> None:
        self._service = service
        self._routes = [
            Route(path, endpoint, methods=[method])
            for method, path, endpoint in (
                ("POST", "/api/collections/{collection}/auth-with-password", self.sign_in),
                ("POST", "/api/collections/{collection}/auth-refresh", self.refresh),
                ("POST", "/api/admins/auth-with-password", self.sign_in_older),
                ("POST", "/api/admins/auth-refresh", self.refresh_older),
                ("POST", "/api/files/token", self.file_token),
                ("GET", "/api/backups", self.list),
                ("POST", "/api/backups", self.create),
                ("POST", "/api/backups/upload", self.upload),
                ("GET", "/api/backups/{key}", self.download),
                ("DELETE", "/api/backups/{key}", self.delete),
                ("POST", "/api/backups/{key}/restore", self.restore),
                ("GET", "/api/health", self.health),
                ("GET", "/api/settings", self.settings),
                ("PATCH", "/api/settings", self.change_settings),
                ("POST", "/api/settings/test/s3", self.try_s3),
                ("GET", "/api/crons", self.crons),
                ("POST", "/api/crons/{id}", self.run_cron),
            )
        ]

    async def answer(self, request: Request) -> Response:
        older = request.url.path.startswith("/api/admins")
        if request.method == "OPTIONS":
            return _preflight(request)
        try:
            return await self._dispatch(request)
        except FaceError as error:
            await receiving.drain(request)
            return rendering.error(error, older=older)
        except Exception as raised:  # noqa: BLE001  told, or logged and told
            await receiving.drain(request)
            return rendering.error(
                _translated(failures.known(raised, request.url.path)), older=older
            )

    async def _dispatch(self, request: Request) -> Response:
        for route in self._routes:
            match, child = route.matches(request.scope)
            if match is Match.FULL:
                request.scope.update(child)
                endpoint: Callable[[Request, Principal], Awaitable[Response]] = route.endpoint
                return await endpoint(request, await threads.run(self._who, request))
        raise FaceError(404, "The requested resource wasn't found.")

    # --- who --------------------------------------------------------------------------------------

    def _who(self, request: Request) -> Principal:
        """A token that is not good is no error in itself: the request goes on as nobody's."""
        token = request.headers.get("authorization", "").strip()
        scheme, _, rest = token.partition(" ")
        if scheme.lower() == "bearer":
            token = rest.strip()
        if not token and not request.url.path.startswith("/api/backups/"):
            token = request.query_params.get("token", "")  # BosBase takes it there, too
        if not token:
            return ANONYMOUS
        return self._service.signing_in.by_auth_token(token, self._address(request)) or ANONYMOUS

    def _address(self, request: Request) -> str:
        return client_address(request.scope, self._service.ground.configuration.listen.proxies)

    async def sign_in(self, request: Request, _who: Principal) -> Response:
        collection = _collection(request)
        return await self._sign_in(request, superuser=collection == "_superusers", older=False)

    async def sign_in_older(self, request: Request, _who: Principal) -> Response:
        return await self._sign_in(request, superuser=True, older=True)

    async def _sign_in(self, request: Request, *, superuser: bool, older: bool) -> Response:
        parsed = await binding.body(request, ("identity", "password", "identityField"))
        identity, password = binding.credentials(parsed)

        def check() -> tuple[str, User]:
            signing_in = self._service.signing_in
            who, user = signing_in.password(
                identity,
                Secret(password),
                self._address(request),
                kind="superuser" if superuser else "user",
            )
            return signing_in.auth_token(who), user

        try:
            token, user = await threads.run(check)
        except NotSignedInError:
            raise FaceError(400, "Failed to authenticate.") from None
        return _signed_in(token, user, older=older)

    async def refresh(self, request: Request, who: Principal) -> Response:
        collection = _collection(request)
        if who.signed_in and (who.role is Role.SUPERUSER) != (collection == "_superusers"):
            raise FaceError(403, rendering.FORBIDDEN)
        return await self._refresh(who, older=False)

    async def refresh_older(self, _request: Request, who: Principal) -> Response:
        return await self._refresh(who, older=True)

    async def _refresh(self, who: Principal, *, older: bool) -> Response:
        if who.user_id is None:
            raise NotSignedInError("a token is needed")
        token = await threads.run(self._service.signing_in.auth_token, who)
        user = await threads.run(self._service.users.of, who)
        return _signed_in(token, user, older=older)

    async def file_token(self, _request: Request, who: Principal) -> Response:
        self._service.ground.allow(who, Verb.SELF)
        token = await threads.run(self._service.signing_in.file_token, who)
        return json({"token": token})

    # --- backups ----------------------------------------------------------------------------------

    async def list(self, _request: Request, who: Principal) -> Response:
        found = await threads.run(self._service.application.list, who)
        return json([rendering.backup(each) for each in found])

    async def create(self, request: Request, who: Principal) -> Response:
        application = self._service.application
        await threads.run(
            self._service.ground.allow, who, Verb.APPLICATION_BACKUP, "application backups"
        )
        if await threads.run(lambda: application.is_busy):
            raise FaceError(400, BUSY)
        parsed = await binding.body(request, ("name",))
        name = binding.text(parsed, "name") or request.query_params.get("basename", "")
        if name:
            binding.check_name(name)
        # A client that hangs up does not stop the work.
        work = asyncio.ensure_future(threads.stream(application.create, who, name or None))
        try:
            await asyncio.shield(work)
        except RecordExistsError:
            sentence = "The backup file name is invalid or already exists."
            raise FaceError(
                400, rendering.VALIDATE, {"name": ("validation_backup_name_exists", sentence)}
            ) from None
        return nothing()

    async def upload(self, request: Request, who: Principal) -> Response:
        await threads.run(
            self._service.ground.allow, who, Verb.APPLICATION_BACKUP, "application backups"
        )
        await uploading.take(self._service, request, who)
        return nothing()

    async def download(self, request: Request, _who: Principal) -> Response:
        """Only the file token in the query counts."""

        def open_() -> Response:
            token = request.query_params.get("token", "")
            signing_in = self._service.signing_in
            who = signing_in.by_file_token(token, self._address(request)) if token else None
            try:
                backup, content = self._service.application.open(who or ANONYMOUS, _key(request))
            except (NotSignedInError, DeniedError):
                raise FaceError(403, "Insufficient permissions to access the resource.") from None
            except RecordNotFoundError:
                raise FaceError(404, "The requested resource wasn't found.") from None
            headers = {
                "Content-Disposition": _attachment(backup.name),
                "Cache-Control": "no-store",
                "Content-Security-Policy": "default-src 'none'; sandbox",
            }
            return sending.respond(request, content, media_type="application/zip", headers=headers)

        return await threads.run(open_)

    async def delete(self, request: Request, who: Principal) -> Response:
        try:
            await threads.run(self._service.application.delete, who, _key(request))
        except RecordNotFoundError:
            raise FaceError(
                400, "Invalid or already deleted backup file. Raw error: not found"
            ) from None
        except HeldError:
            raise FaceError(
                400, "The backup is currently being used and cannot be deleted."
            ) from None
        return nothing()

    async def restore(self, request: Request, who: Principal) -> Response:
        try:
            await threads.run(self._service.application.restore, who, _key(request))
        except (RecordNotFoundError, DamagedError, InvalidError, UnknownVersionError) as error:
            why = {} if isinstance(error, RecordNotFoundError) else _reason(error)
            raise FaceError(400, "Missing or invalid backup file.", why) from None
        return nothing()

    # --- health, settings, schedule ---------------------------------------------------------------

    async def health(self, request: Request, who: Principal) -> Response:
        data: dict[str, Any] = {}
        if who.role is Role.SUPERUSER:
            application = self._service.application
            busy = await threads.run(lambda: application.is_busy or application.starts_anew)
            proxy = next(
                (name for name in ("X-Forwarded-For", "X-Real-IP") if name in request.headers), ""
            )
            data = {
                "canBackup": not busy,
                "realIP": self._address(request),
                "possibleProxyHeader": proxy,
                "requireS3": False,
            }
        return json({"message": "API is healthy.", "code": 200, "data": data})

    async def settings(self, _request: Request, who: Principal) -> Response:
        return json(await threads.run(self._settings, who))

    def _settings(self, who: Principal) -> dict[str, Any]:
        backups = self._service.app_schedule.get(who)
        backups["s3"].pop("secret", None)
        name = self._service.ground.configuration.application.name
        return {"meta": {"appName": name}, "backups": backups}

    async def change_settings(self, request: Request, who: Principal) -> Response:
        await threads.run(self._service.ground.allow, who, Verb.SETTING_CHANGE, "settings")
        parsed = await binding.body(request, ())
        patch = parsed.get("backups", {})
        if not isinstance(patch, dict):
            raise FaceError(400, rendering.LOAD)
        try:
            await threads.run(self._service.app_schedule.change, who, patch)
        except InvalidError as error:
            message = "An error occurred while saving the new settings."
            raise FaceError(400, message, error.fields) from None
        return json(await threads.run(self._settings, who))

    async def try_s3(self, _request: Request, who: Principal) -> Response:
        try:
            await threads.run(self._service.app_schedule.test_s3, who)
        except (NotSignedInError, DeniedError):
            raise
        except HoldfastError as error:
            raise FaceError(
                400, f"Failed to test the S3 filesystem. Raw error: {error.message}"
            ) from None
        return nothing()

    async def crons(self, _request: Request, who: Principal) -> Response:
        found = await threads.run(self._service.app_schedule.get, who)
        return json([{"id": PLAN, "expression": found["cron"]}] if found["cron"] else [])

    async def run_cron(self, request: Request, who: Principal) -> Response:
        await threads.run(self._service.ground.allow, who, Verb.APPLICATION_BACKUP, "schedule")
        if request.path_params["id"] != PLAN:
            raise FaceError(404, "Missing or invalid cron job.")
        await threads.run(self._service.app_schedule.run_now, who)
        return nothing()


def _collection(request: Request) -> str:
    name = request.path_params["collection"]
    if name in _SUPERUSERS:
        return "_superusers"
    if name in _USERS:
        return "users"
    raise FaceError(404, "Missing or invalid collection context.")


def _signed_in(token: str, user: User, *, older: bool) -> Response:
    if older:
        return json({"admin": rendering.admin(user), "token": token})
    return json({"record": rendering.record(user), "token": token})


def _key(request: Request) -> str:
    """One segment, percent-encoded: a slash in it leads nowhere."""
    raw = request.scope.get("raw_path") or request.scope["path"].encode()
    parts = raw.partition(b"?")[0].decode("latin-1").split("/")
    return unquote(parts[3])


def _translated(error: HoldfastError) -> FaceError:
    if isinstance(error, NotSignedInError):
        return FaceError(401, rendering.UNAUTHORIZED)
    if isinstance(error, DeniedError):
        return FaceError(403, rendering.FORBIDDEN)
    if isinstance(error, ApplicationBusyError):
        return FaceError(400, BUSY)
    if isinstance(error, InvalidError):
        return FaceError(400, error.message, error.fields)
    if isinstance(error, receiving.BodyTooLargeError):
        return FaceError(413, error.message)
    return FaceError(error.http_status, error.message)


def _reason(error: HoldfastError) -> dict[str, tuple[str, str]]:
    return {"key": ("validation_invalid_backup", rendering.sentenced(error.message))}


def _attachment(name: str) -> str:
    safe = name.replace("\\", "_").replace('"', "_")
    return f'attachment; filename="{safe}"'.encode().decode("latin-1")


def _preflight(request: Request) -> Response:
    asked = request.headers.get("access-control-request-headers", "")
    return Response(
        status_code=204,
        headers={
            "Access-Control-Allow-Methods": "GET,HEAD,PUT,PATCH,POST,DELETE",
            "Access-Control-Allow-Headers": asked,
            "Access-Control-Max-Age": "86400",
        },
    )
