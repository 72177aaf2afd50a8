"""Backup-chan's JSON API, version 2.9."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.applications import Starlette

if TYPE_CHECKING:
    from holdfast.service.server import Service

PATHS = (
    "/api/target",
    "/api/backup",
    "/api/recycle_bin",
    "/api/jobs",
    "/api/seq",
    "/api/stats",
    "/api/log",
)


def app(service: Service) -> Starlette:
    del service
    return Starlette()
