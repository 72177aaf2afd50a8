"""`holdfast serve` in processes of its own, with everything a client needs: for tests and
benchmarks.
"""

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

from holdfast.core.access import SHELL
from holdfast.core.records import Role
from holdfast.core.secret import Secret
from holdfast.service.server import open_service

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
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
        wait_for(f"{self.main}/healthz", self.process, self.said, seconds)

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
        """See the function."""
        return request(method, (base or self.main) + path, body, headers)


@dataclass
class Answer:
    status: int
    body: bytes
    headers: dict[str, str]

    def json(self) -> Any:
        return json.loads(self.body)


def request(
    method: str, url: str, body: Any = None, headers: dict[str, str] | None = None
) -> Answer:
    """One request; `body` that is no bytes is sent as JSON."""
    headers = dict(headers or {})
    if body is not None and not isinstance(body, bytes):
        body = json.dumps(body).encode()
        headers.setdefault("Content-Type", "application/json")
    asked = urllib.request.Request(url, data=body, method=method, headers=headers)
    try:
        with urllib.request.urlopen(asked, timeout=60) as answer:
            return Answer(answer.status, answer.read(), dict(answer.headers))
    except urllib.error.HTTPError as error:
        with error:
            return Answer(error.code, error.read(), dict(error.headers))


def wait_for(
    url: str,
    process: subprocess.Popen[bytes] | None,
    said: Callable[[], str] = lambda: "",
    seconds: float = 60,
) -> None:
    """Until the address answers, as long as the process lives."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                answer.read()
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            assert process is None or process.poll() is None, said()
            assert time.monotonic() < deadline, said()
            time.sleep(0.05)
        else:
            return


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


def make_server(
    data: Path, *, configuration: str = "", more_pools: Sequence[str] = (), **environment: str
) -> Server:
    """A data folder with a pool (main) and more, a superuser, a key, an account and a host; not
    started yet.
    """
    data.mkdir(parents=True, exist_ok=True)
    if configuration:
        (data / "holdfast.yaml").write_text(configuration)
    service = open_service(data)
    try:
        service.pools.add(SHELL, "main", [str(data / "pool")])
        for pool in more_pools:
            service.pools.add(SHELL, pool, [str(data / f"pool-{pool}")])
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
