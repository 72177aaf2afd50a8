"""A server over HTTPS and agents of it, all of them processes of their own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest
from tests.web.conftest import free_ports

from holdfast.core.access import SHELL
from holdfast.core.stages import status_of
from holdfast.service.server import open_service

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from holdfast.core.records import Agent, Task
    from holdfast.core.stages import Status
    from holdfast.service.server import Service

PATIENCE = 240
"""Seconds; a machine may be very busy."""


def eventually(look: Callable[[], Any], told: Callable[[], str] = str) -> Any:
    deadline = time.monotonic() + PATIENCE
    while not (found := look()):
        assert time.monotonic() < deadline, f"it did not come to be so {told()}"
        time.sleep(0.05)
    return found


class Site:
    """A data folder with a pool, its server, and agents."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.data = folder / "data"
        self.data.mkdir()
        self.service: Service = open_service(self.data)
        self.service.pools.add(SHELL, "main", [str(folder / "pool")])
        self.ports = free_ports(2)
        self.processes: list[subprocess.Popen[bytes]] = []
        self.server: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.ports[0]}"

    def serve(self, **environment: str) -> None:
        listen, second = (f"127.0.0.1:{port}" for port in self.ports)
        ready = self.data / "run" / "listeners.json"
        ready.unlink(missing_ok=True)
        self.server = self._start(
            ["serve", "--data", str(self.data), "--listen", listen, "--restbackup-listen", second,
             "--tls", "auto"],
            "serve", {"HOLDFAST_AGENTS_OWN": "no"} | environment,
        )  # fmt: skip
        eventually(ready.exists, lambda: self.said("serve"))

    def agent(self, name: str, state: str = "") -> subprocess.Popen[bytes]:
        """Starts one; it works in a folder called as it is."""
        return self._start(
            ["agent", "run", "--server", self.url, "--name", name,
             "--state", str(self.folder / (state or name)), "--ca", str(self.data / "tls/ca.pem")],
            name, {},
        )  # fmt: skip

    def _start(
        self, words: list[str], name: str, environment: dict[str, str]
    ) -> subprocess.Popen[bytes]:
        with (self.folder / f"{name}.err").open("ab") as said:
            process = subprocess.Popen(
                [sys.executable, "-m", "holdfast", *words],
                env=os.environ | environment, stdin=subprocess.DEVNULL, stdout=said, stderr=said,
                start_new_session=True,
            )  # fmt: skip
        self.processes.append(process)
        return process

    def said(self, name: str) -> str:
        return (self.folder / f"{name}.err").read_text(errors="replace")[-4000:]

    def kill_server(self) -> None:
        """As a power cut would: all of it at once."""
        assert self.server is not None
        os.killpg(self.server.pid, signal.SIGKILL)
        self.server.wait()

    def authorised(self, name: str) -> Agent:
        """The agent of that name, once it has come, and been let in, and is there."""
        agents = self.service.agents
        found = eventually(
            lambda: [each for each in agents.list(SHELL) if each.name == name],
            lambda: self.said(name),
        )[0]
        if found.state == "waiting":
            agents.authorise(SHELL, found.id)
        eventually(lambda: agents.is_online(agents.get(SHELL, found.id)))
        return agents.get(SHELL, found.id)

    def ended(self, task: Task) -> Task:
        now = self.service.tasks.wait(SHELL, task.id, PATIENCE)
        log = [line.text for line in self.service.tasks.log(SHELL, task.id)]
        log += [line.text for line in self.service.agents.log(SHELL, task_id=task.id)]
        assert now.state.ended, (now, log, self.said("serve"))
        return now

    def status(self, task: Task) -> Status:
        now = self.service.tasks.get(SHELL, task.id)
        agents = [each for each in self.service.agents.list(SHELL) if each.host_id == now.host_id]
        away = not any(map(self.service.agents.is_online, agents))
        return status_of(now, away=away)

    def hurry(self, task: Task) -> None:
        """Lifts the limit that keeps the order of a task from ending while it is looked at."""
        with self.service.ground.catalog.write() as tx:
            order = tx.agent_orders.find(task_id=task.id)
            assert order is not None
            tx.agent_orders.change(order.id, spec=order.spec | {"bandwidth": {}})

    def stored(self) -> int:
        """Bytes that hosts have sent."""
        with self.service.ground.catalog.read() as tx:
            return sum(each.stored for each in tx.repositories.all())

    def close(self) -> None:
        for process in reversed(self.processes):
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        for process in self.processes:
            process.wait(PATIENCE)
        self.service.close()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """One that serves, with the authorised agent `web`."""
    made = Site(tmp_path_factory.mktemp("site"))
    try:
        made.serve()
        made.agent("web")
        made.authorised("web")
        yield made
    finally:
        made.close()
    assert '"event": "unexpected"' not in made.said("serve")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    folder = tmp_path / "tree"
    (folder / "below").mkdir(parents=True)
    (folder / "random").write_bytes(os.urandom(3_000_000))
    (folder / "below" / "ümlaut.txt").write_text("text")
    (folder / "link").symlink_to("below/ümlaut.txt")
    return folder
