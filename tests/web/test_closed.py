"""F6: a server whose catalog cannot be used says so, and goes on when it is whole again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.web.conftest import Answer, Server

REMEDY = "holdfast catalog rebuild"


def test_every_path_tells_what_to_do(
    own_server: Server, eventually: Callable[[Callable[[], Any]], Any]
) -> None:
    """I5 On both listeners, to browsers as a page; nothing has to be started again."""
    catalog = own_server.data / "catalog.db"
    whole = catalog.read_bytes()
    catalog.write_bytes(b"damaged" * 1000)
    own_server.start(wait=False)

    def answer(path: str, base: str | None = None, accept: str = "*/*") -> Answer | None:
        try:
            return own_server.request("GET", path, headers={"Accept": accept}, base=base)
        except OSError:
            return None

    found = eventually(lambda: answer("/"))
    for base in (own_server.main, own_server.restbackup):
        for path in ("/", "/healthz", "/api/target", "/api/backups", "/restic/main/web1/config"):
            found = answer(path, base)
            assert found.status == 503, path
            assert REMEDY in found.json()["message"], path
        found = answer("/", base, "text/html,*/*")
        assert found.status == 503
        assert found.headers["content-type"].startswith("text/html")
        assert REMEDY in found.body.decode()
    assert REMEDY in own_server.said()
    catalog.write_bytes(whole)
    eventually(lambda: (found := answer("/healthz")) and found.status == 200)
