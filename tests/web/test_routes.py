"""Nothing of the server answers to nobody but what must."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from holdfast.web.dialects.backupchan.app import Backupchan
from holdfast.web.dialects.pocketbase.app import PocketBase
from holdfast.web.dialects.rubackup.app import Rubackup
from holdfast.web.dialects.rubackup.table import ROWS

if TYPE_CHECKING:
    from tests.web.conftest import Server

OPEN = {
    ("GET", "/healthz"),
    ("GET", "/api/health"),
    # signing in is how one stops being nobody
    ("POST", "/api/collections/{collection}/auth-with-password"),
    ("POST", "/api/admins/auth-with-password"),
    ("POST", "/api/v1/auth/login"),
    # the description of an interface is no secret
    ("GET", "/api/v1/"),
    ("GET", "/api/v1/swagger.json"),
}
REFUSED = {401, 403}


def every_route() -> list[tuple[str, str]]:
    """Of every face, from the tables that the faces themselves go by."""
    from types import SimpleNamespace
    from unittest.mock import MagicMock

    service = MagicMock(spec=SimpleNamespace)
    service.ground = MagicMock()
    found = [
        (method, route.path)
        for face in (Backupchan(service), PocketBase(service))
        for route in face._routes
        for method in sorted(route.methods - {"HEAD"})
    ]
    found += [("GET", "/metrics"), ("GET", "/healthz")]
    found += [(row.method, f"/api/v1/{row.path.replace('{id}', '1')}") for row in ROWS]
    found += [(method, f"/api/v1/{path}") for method, path in Rubackup(service).sessions]
    found += [("GET", "/api/v1/"), ("GET", "/api/v1/swagger.json")]
    found += [
        (method, f"/restic/main/web1/{rest}")
        for method in ("GET", "HEAD", "POST", "DELETE")
        for rest in ("", "config", "data/", "data/" + "0" * 64, "snapshots/" + "0" * 64)
    ]
    return found


@pytest.mark.parametrize(("method", "path"), every_route())
def test_nobody_is_let_in(server: Server, method: str, path: str) -> None:
    """Every route of every face, without credentials and with wrong ones."""
    place = path.replace("{collection}", "_superusers").replace("{id}", "x").replace("{key}", "x")
    place = place.replace("{name}", "x")
    for headers in ({}, {"Authorization": "Bearer bakch-" + "0" * 64}):
        answer = server.request(method, place, headers=headers)
        if (method, path) in OPEN:
            assert answer.status in {200, 400}
        else:
            assert answer.status in REFUSED | {429}, (answer.status, answer.body)


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "POST", "DELETE", "PATCH"])
@pytest.mark.parametrize("path", ["/", "/x", "/a/b"])
def test_access_urls_let_nobody_in(server: Server, method: str, path: str) -> None:
    """401 comes before any look at the path."""
    body = b"x" if method in {"PUT", "POST", "PATCH"} else None
    assert server.request(method, path, body, base=server.restbackup).status == 401
