"""restic's REST protocol, versions 1 and 2."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.applications import Starlette

if TYPE_CHECKING:
    from holdfast.service.server import Service


def app(service: Service) -> Starlette:
    del service
    return Starlette()
