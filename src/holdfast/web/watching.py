"""For those who watch the server: liveness, and figures for Prometheus."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Gauge, generate_latest
from starlette.applications import Starlette
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from holdfast.core.errors import CatalogError, HoldfastError, NotSignedInError
from holdfast.core.secret import Secret
from holdfast.service.figures import figures
from holdfast.web import threads
from holdfast.web.security import client_address

if TYPE_CHECKING:
    from starlette.requests import Request

    from holdfast.core.access import Principal
    from holdfast.service.server import Service


def watching(service: Service) -> Starlette:
    async def healthz(_request: Request) -> Response:
        """200 where requests can be served: the catalog answers."""
        try:
            await threads.run(_look, service)
        except CatalogError as error:
            return JSONResponse(
                {"status": "failed", "message": error.message, "remedy": error.advice}, 503
            )
        return JSONResponse({"status": "ok"})

    async def metrics(request: Request) -> Response:
        try:
            who = await threads.run(_who, service, request)
            text = await threads.run(_metrics, service, who)
        except HoldfastError as error:
            challenge = {"WWW-Authenticate": "Bearer"} if error.http_status == 401 else None  # noqa: PLR2004
            return PlainTextResponse(f"{error.message}\n", error.http_status, challenge)
        return Response(text, media_type=CONTENT_TYPE_LATEST)

    return Starlette(
        routes=[Route("/healthz", healthz, methods=["GET"]), Route("/metrics", metrics)]
    )


def _look(service: Service) -> None:
    with service.ground.catalog.read() as tx:
        tx.settings.count()


def _who(service: Service, request: Request) -> Principal:
    """A personal token with the right to read metrics."""
    scheme, _, secret = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not secret:
        raise NotSignedInError("metrics need a token: Authorization: Bearer TOKEN")
    trusted = service.ground.configuration.listen.proxies
    return service.signing_in.bearer(Secret(secret), client_address(request.scope, trusted))


def _metrics(service: Service, who: Principal) -> bytes:
    registry = CollectorRegistry()
    for figure in figures(service, who):
        gauge = Gauge(figure.name, figure.help, list(figure.labels), registry=registry)
        for values, number in figure.values.items():
            (gauge.labels(*values) if values else gauge).set(number)
    return generate_latest(registry)
