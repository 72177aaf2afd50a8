"""A running server for each test module that asks for one, with everything a client needs."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest

from holdfast.testing.running_server import (
    EMAIL,
    PASSWORD,
    Answer,
    Server,
    free_ports,
    make_server,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

__all__ = ["EMAIL", "PASSWORD", "Answer", "Server", "free_ports", "make_server"]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """With `roots/` as a place for plain pools and `app/` as the application's folder."""
    data = tmp_path_factory.mktemp("server") / "data"
    roots, app = data.parent / "roots", data.parent / "app"
    roots.mkdir()
    app.mkdir()
    configuration = (
        f"backupchan: {{location_roots: ['{roots}']}}\napplication: {{include: ['{app}']}}\n"
    )
    made = make_server(data, configuration=configuration)
    made.start()
    yield made
    made.stop()
    assert '"event": "unexpected"' not in made.said()


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[Server]:
    """One of the test's own, not started yet."""
    made = make_server(tmp_path / "data")
    yield made
    if made.process is not None:
        made.stop()


@pytest.fixture
def eventually() -> Callable[[Callable[[], Any]], Any]:
    """Waits until something is so, and gives it."""

    def wait(look: Callable[[], Any], seconds: float = 30) -> Any:
        deadline = time.monotonic() + seconds
        while not (found := look()):
            assert time.monotonic() < deadline, "it did not come to be so"
            time.sleep(0.05)
        return found

    return wait
