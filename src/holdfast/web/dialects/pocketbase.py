"""The backups API of PocketBase and BosBase."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.applications import Starlette

if TYPE_CHECKING:
    from holdfast.service.server import Service

PATHS = (
    "/api/backups",
    "/api/collections",
    "/api/admins",
    "/api/files",
    "/api/health",
    "/api/settings",
    "/api/crons",
    "/api/logs",
)


def app(service: Service) -> Starlette:
    del service
    return Starlette()
