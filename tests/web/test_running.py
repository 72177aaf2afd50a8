"""The server as a whole starts, answers and ends."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.web.conftest import Server


def test_it_is_alive_and_says_so(server: Server) -> None:
    """Liveness needs no sign-in; figures do."""
    assert server.request("GET", "/healthz").json() == {"status": "ok"}
    assert server.request("GET", "/metrics").status == 401


def test_restbackup_keeps_and_gives_back(server: Server) -> None:
    """The walk-through of the document."""
    import subprocess

    url = server.restbackup
    payload = server.data.parent / "data.tar.gz"
    payload.write_bytes(b"x" * 1_000_000)
    put = subprocess.run(
        ["curl", "-s", "-u", server.account, f"{url}/", "-T", str(payload)],
        capture_output=True, check=True,
    )  # fmt: skip
    assert put.stdout == b"Stored /data.tar.gz\n"
    got = subprocess.run(
        ["curl", "-s", "-u", server.account, f"{url}/data.tar.gz"], capture_output=True, check=True
    )
    assert got.stdout == payload.read_bytes()
