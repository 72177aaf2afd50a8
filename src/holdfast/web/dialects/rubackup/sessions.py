"""Signing in, going on and signing out: tokens in headers or cookies."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, Any, Final

from holdfast.core.errors import NotSignedInError, TooManyGuessesError, WrongCredentialsError
from holdfast.core.fields import Field, iso, read
from holdfast.core.secret import Secret
from holdfast.service import machine
from holdfast.service.global_configuration import values_in
from holdfast.service.guesses import Strictness
from holdfast.web.dialects.rubackup.describing import Body
from holdfast.web.dialects.rubackup.rendering import envelope

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.requests import Request
    from starlette.responses import Response

    from holdfast.core.access import Principal
    from holdfast.service.server import Service
    from holdfast.service.token_pairs import Pair

CSRF: Final = "X-CSRF-TOKEN"
SECOND: Final = "Authorization-Access-Token"
ACCESS_COOKIE: Final = "access_token_cookie"
REFRESH_COOKIE: Final = "refresh_token_cookie"
LOGIN: Final = Body(
    wrapped=False,
    fields=(
        Field(name="rubackup_database", most=255, meaning="The service database."),
        Field(name="rubackup_user", most=255),
        Field(name="password", most=255, secret=True),
    ),
)
_MINUTE: Final = 60_000_000_000


def who(service: Service, request: Request, address: str) -> Principal:
    """Raises NotSignedInError: no token, or a bad one; no CSRF token, or another."""
    access = _bearer(request, "authorization") or request.cookies.get(ACCESS_COOKIE, "")
    if not access:
        raise NotSignedInError("a token is needed")
    return service.token_pairs.who(access, request.headers.get(CSRF, ""), address)


def login(service: Service, request: Request, body: Mapping[str, Any], address: str) -> Response:
    given = read(LOGIN.fields, body, what="request")
    configured = service.ground.configuration.rubackup
    with service.ground.catalog.read() as tx:
        rules = values_in(tx)
    if given["rubackup_database"] != configured.database:
        raise WrongCredentialsError("there is no such database here")
    strictness = Strictness(
        rules["wrong_auth_attempts_count"], rules["wrong_auth_block_period"] * _MINUTE
    )
    try:
        pair = service.token_pairs.open(
            given["rubackup_user"], Secret(given["password"]), address, strictness
        )
    except TooManyGuessesError as error:
        seconds = max(1, round(error.wait))
        return envelope(
            401,
            message=f"Verification failed. Too many wrong attempts: wait {seconds} seconds.",
            headers={"Retry-After": str(seconds)},
        )
    told = rules["show_previous_login_attempts_after_logging_in"] == "yes"
    return _signed_in(service, request, pair, _attempts(pair) if told else "")


def refresh(service: Service, request: Request, address: str) -> Response:
    """By headers; or by cookies, and then with the CSRF token."""
    token = _bearer(request, "authorization")
    if not token:
        token = request.cookies.get(REFRESH_COOKIE, "")
        if request.headers.get(CSRF, "") != service.token_pairs.csrf:
            raise NotSignedInError("with cookies the CSRF token is needed")
    access = _bearer(request, SECOND) or request.cookies.get(ACCESS_COOKIE, "")
    pair = service.token_pairs.renew(token, address, access=access)
    return _signed_in(service, request, pair, "")


def logout(service: Service, request: Request, address: str) -> Response:
    token = _bearer(request, "authorization")
    if not token:
        cookies = request.cookies
        token = cookies.get(ACCESS_COOKIE) or cookies.get(REFRESH_COOKIE) or ""
        if request.headers.get(CSRF, "") != service.token_pairs.csrf:
            raise NotSignedInError("with cookies the CSRF token is needed")
    service.token_pairs.close(token, address)
    response = envelope(200, message="The tokens are deactivated.")
    domain = _domain(_host(service, request))
    for name in (ACCESS_COOKIE, REFRESH_COOKIE):
        response.delete_cookie(name, domain=domain, secure=True, httponly=True)
    return response


def _signed_in(service: Service, request: Request, pair: Pair, message: str) -> Response:
    configured = service.ground.configuration.rubackup
    data = {
        "access_token": pair.access,
        "csrf_token": pair.csrf,
        "refresh_token": pair.refresh,
        "role": [str(each) for each in pair.roles],
        "rubackup_server_address": configured.server_address or machine.host_name(),
        "user_name": pair.user.name,
    }
    response = envelope(200, data, message)
    response.headers["Cache-Control"] = "no-store"
    domain = _domain(_host(service, request))
    for name, value in ((REFRESH_COOKIE, pair.refresh), (ACCESS_COOKIE, pair.access)):
        response.set_cookie(name, value, domain=domain, secure=True, httponly=True, samesite="lax")
    return response


def _attempts(pair: Pair) -> str:
    if not pair.failed_at:
        return ""
    return f"Wrong attempts since the last login: {pair.failed}, the last at {iso(pair.failed_at)}."


def _bearer(request: Request, header: str) -> str:
    scheme, _, token = request.headers.get(header, "").strip().partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def _host(service: Service, request: Request) -> str:
    return service.ground.configuration.rubackup.host or request.url.hostname or ""


def _domain(host: str) -> str | None:
    """Of cookies: the one above the host's own name. None for an address, or a name without one."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        above = host.partition(".")[2]
        return f".{above}" if "." in above else None
    return None
