"""What `holdfast serve` refuses before it starts anything."""

from __future__ import annotations

import json
import os
import socket
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.cli.conftest import Ended


@pytest.fixture
def taken() -> Iterator[str]:
    """An address at which another process listens that shares its port, as our own do."""
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        other.bind(("127.0.0.1", 0))
        other.listen()
        yield f"127.0.0.1:{other.getsockname()[1]}"


@pytest.mark.parametrize("option", ["--listen", "--restbackup-listen"])
def test_a_port_that_is_taken(
    holdfast: Callable[..., Ended], tmp_path: Path, taken: str, option: str
) -> None:
    ended = holdfast("serve", "--data", tmp_path / "data", option, taken)
    assert ended.code == 1
    assert "[address-in-use]" in ended.err
    assert taken in ended.err
    assert not (tmp_path / "data" / "catalog.db").exists()


@pytest.mark.parametrize("address", ["nonsense", "127.0.0.1:99999", "127.0.0.1:0", ":80"])
def test_no_address(holdfast: Callable[..., Ended], tmp_path: Path, address: str) -> None:
    ended = holdfast("serve", "--data", tmp_path / "data", "--listen", address)
    assert ended.code == 1
    assert "[configuration]" in ended.err


def test_what_a_killed_server_left_is_waited_for(
    holdfast: Callable[..., Ended],
    tmp_path: Path,
    taken: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """I5 Its web process finishes what is under way, and nobody has to start the next one twice."""
    run = tmp_path / "data" / "run"
    run.mkdir(parents=True)
    (run / "listeners.json").write_text(json.dumps({"pid": os.getpid()}))
    looks: list[float] = []

    def sleep(seconds: float) -> None:
        looks.append(seconds)
        if len(looks) == 3:
            (run / "listeners.json").unlink()

    monkeypatch.setattr("holdfast.cli.serve.time.sleep", sleep)
    ended = holdfast("serve", "--data", tmp_path / "data", "--listen", taken)
    assert "[address-in-use]" in ended.err
    assert len(looks) == 3


def test_a_folder_that_cannot_be_made(holdfast: Callable[..., Ended], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    ended = holdfast("serve", "--data", tmp_path / "file" / "data")
    assert ended.code == 1
    assert "[configuration]" in ended.err
