"""A running server for each test module that asks for one, with everything a client needs."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from holdfast.core.access import SHELL
from holdfast.core.records import Role
from holdfast.core.secret import Secret
from holdfast.service.server import open_service

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

PASSWORD = "correct horse 7"
EMAIL = "root@example.com"


@dataclass
class Server:
    """One data folder and the processes that serve it."""

    data: Path
    main: str
    restbackup: str
    api_key: str
    account: str
    """user:password of a RestBackup account"""
    host: str = "web1"
    host_token: str = ""
    environment: dict[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None

    @property
    def port(self) -> int:
        return int(self.main.rpartition(":")[2])

    def start(self, *, wait: bool = True) -> None:
        arguments = [
            "serve", "--data", str(self.data), "--listen", self.main.partition("//")[2],
            "--restbackup-listen", self.restbackup.partition("//")[2],
        ]  # fmt: skip
        with (self.data / "serve.err").open("ab") as said:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "holdfast", *arguments],
                env=os.environ | {"HOLDFAST_AGENTS_OWN": "no"} | self.environment,
                stderr=said,
                stdout=subprocess.DEVNULL,
            )
        if wait:
            self.wait_until_up()

    def wait_until_up(self, seconds: float = 240) -> None:
        deadline = time.monotonic() + seconds
        while True:
            try:
                with urllib.request.urlopen(f"{self.main}/healthz", timeout=5) as answer:
                    answer.read()
            except (urllib.error.URLError, ConnectionError, TimeoutError):
                assert self.process is None or self.process.poll() is None, self.said()
                assert time.monotonic() < deadline, self.said()
                time.sleep(0.05)
            else:
                return

    def stop(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(60) == 0, self.said()
        self.process = None

    def said(self) -> str:
        return (self.data / "serve.err").read_text(errors="replace")[-4000:]

    def request(
        self,
        method: str,
        path: str,
        body: Any = None,
        headers: dict[str, str] | None = None,
        *,
        base: str | None = None,
    ) -> Answer:
        """One request; `body` that is no bytes is sent as JSON."""
        headers = dict(headers or {})
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
            headers.setdefault("Content-Type", "application/json")
        request = urllib.request.Request(
            (base or self.main) + path, data=body, method=method, headers=headers
        )
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return Answer(answer.status, answer.read(), dict(answer.headers))
        except urllib.error.HTTPError as error:
            with error:
                return Answer(error.code, error.read(), dict(error.headers))


@dataclass
class Answer:
    status: int
    body: bytes
    headers: dict[str, str]

    def json(self) -> Any:
        return json.loads(self.body)


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


def make_server(data: Path, *, configuration: str = "", **environment: str) -> Server:
    """A data folder with a pool, a superuser, a key, an account and a host; not started yet."""
    data.mkdir(parents=True, exist_ok=True)
    if configuration:
        (data / "holdfast.yaml").write_text(configuration)
    service = open_service(data)
    try:
        service.pools.add(SHELL, "main", [str(data / "pool")])
        service.users.add(
            SHELL, name="root", role=Role.SUPERUSER, email=EMAIL, password=Secret(PASSWORD)
        )
        key = service.tokens.new_api_key(SHELL).reveal()
        account, secret = service.accounts.add(SHELL, keep_days=30)
        host = service.hosts.add(SHELL, "web1")
        _, token = service.hosts.issue(SHELL, host.id)
    finally:
        service.close()
    main, second = free_ports(2)
    return Server(
        data=data,
        main=f"http://127.0.0.1:{main}",
        restbackup=f"http://127.0.0.1:{second}",
        api_key=key,
        account=f"{account.name}:{secret.reveal()}",
        host_token=token.reveal(),
        environment=environment,
    )


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
