"""Stock restic, and bare requests of its REST protocol, against the running server."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
import subprocess
import time
from typing import TYPE_CHECKING

import pytest
from starlette.datastructures import Headers
from tests.web.conftest import Answer, Server

from holdfast.core.access import SHELL
from holdfast.core.records import Custody, Face
from holdfast.service.server import open_service

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from holdfast.service.server import Service

V2 = "application/vnd.x.restic.rest.v2"
needs_restic = pytest.mark.skipif(not shutil.which("restic"), reason="there is no restic here")


@pytest.fixture(scope="module")
def service(server: Server) -> Iterator[Service]:
    """The running server's data folder, opened beside it; with two pools more."""
    opened = open_service(server.data)
    opened.pools.add(SHELL, "frozen", [str(server.data / "frozen")], options={"append_only": True})
    opened.pools.add(SHELL, "small", [str(server.data / "small")], options={"quota": 100_000})
    yield opened
    opened.close()


class Machine:
    """A host with its token, its restic, and its bare requests."""

    def __init__(self, server: Server, service: Service, name: str) -> None:
        host = service.hosts.add(SHELL, name)
        _, token = service.hosts.issue(SHELL, host.id)
        self.id, self.name, self.server = host.id, name, server
        self.pair = f"{name}:{token.reveal()}"
        self.header = "Basic " + base64.b64encode(self.pair.encode()).decode()

    def __call__(
        self, method: str, path: str, body: bytes | None = None, pool: str = "main", **more: str
    ) -> Answer:
        headers = {"Authorization": self.header} | more
        place = f"/restic/{pool}/{self.name}/{path}"
        answer = self.server.request(method, place, body, headers)
        return Answer(answer.status, answer.body, Headers(answer.headers))  # type: ignore[arg-type]

    def restic(self, *words: str, pool: str = "main") -> subprocess.CompletedProcess[str]:
        base = self.server.main.replace("//", f"//{self.pair}@")
        return restic(f"rest:{base}/restic/{pool}/{self.name}/", *words)

    def put(self, folder: str, content: bytes, pool: str = "main") -> tuple[str, Answer]:
        name = hashlib.sha256(content).hexdigest()
        return name, self("POST", f"{folder}/{name}", content, pool)


def restic(repository: str, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["restic", "--no-cache", "-r", repository, *words],
        env=os.environ | {"RESTIC_PASSWORD": "secret words"},
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip


def good(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    folder = tmp_path / "tree"
    (folder / "below").mkdir(parents=True)
    (folder / "random").write_bytes(os.urandom(3_000_000))
    (folder / "below" / "ümlaut.txt").write_text("text")
    return folder


@pytest.fixture(scope="module")
def bare(server: Server, service: Service) -> Machine:
    """One that sends what it likes, with a place in every pool."""
    made = Machine(server, service, "bare")
    for pool in ("main", "frozen", "small"):
        assert made("POST", "?create=true", b"", pool).status == 200
    return made


# --- stock restic ---------------------------------------------------------------------------------


@needs_restic
@pytest.mark.interop
def test_restic_works_as_at_home(
    server: Server, service: Service, tree: Path, tmp_path: Path
) -> None:
    """Init, two backups, check of every byte, forget with prune, restore; the catalog follows."""
    machine = Machine(server, service, "whole-life")
    good(machine.restic("init"))
    assert machine.restic("init").returncode != 0  # it is there, and stays as it is
    before = service.ground.now()
    good(machine.restic("backup", str(tree), "--time", "2001-01-01 00:00:00"))
    (tree / "below" / "more").write_bytes(os.urandom(200_000))
    good(machine.restic("backup", str(tree)))
    snapshots = json.loads(good(machine.restic("snapshots", "--json")))
    with service.ground.catalog.read() as tx:
        target = tx.targets.find(face=Face.RESTIC, host_id=machine.id)
        assert target is not None
        rows = tx.backups.all(target_id=target.id)
    assert {row.snapshot for row in rows} == {each["id"] for each in snapshots}
    assert all(before <= row.created <= service.ground.now() for row in rows)
    assert {row.facts["custody"] for row in rows} == {str(Custody.CLIENT)}
    good(machine.restic("forget", "--keep-last", "1", "--prune"))
    good(machine.restic("check", "--read-data"))
    with service.ground.catalog.read() as tx:
        assert len(tx.backups.all(target_id=target.id)) == 1
    good(machine.restic("restore", "latest", "--target", str(tmp_path / "back")))
    back = tmp_path / "back" / tree.relative_to("/")
    for path in ("random", "below/ümlaut.txt", "below/more"):
        assert (back / path).read_bytes() == (tree / path).read_bytes()


@needs_restic
@pytest.mark.interop
def test_an_append_only_pool_keeps_what_it_has(
    server: Server, service: Service, tree: Path
) -> None:
    """What forget sends is refused; backups and locks work."""
    machine = Machine(server, service, "frozen-life")
    good(machine.restic("init", pool="frozen"))
    good(machine.restic("backup", str(tree), pool="frozen"))
    [snapshot] = machine("GET", "snapshots/", pool="frozen").json()
    # what `restic forget` sends; it tries a refusal again for most of a minute
    assert machine("DELETE", f"snapshots/{snapshot}", pool="frozen").status == 403
    snapshots = json.loads(good(machine.restic("snapshots", "--json", pool="frozen")))
    assert len(snapshots) == 1
    assert machine("GET", "locks/", pool="frozen").json() == []


@needs_restic
@pytest.mark.long
def test_restic_is_about_as_fast_as_on_a_directory(
    server: Server, service: Service, tmp_path: Path
) -> None:
    """256 MiB that do not compress; within three times of a bare directory."""
    source = tmp_path / "large"
    source.mkdir()
    for number in range(8):
        (source / str(number)).write_bytes(os.urandom(32 << 20))
    machine = Machine(server, service, "fast")
    good(machine.restic("init"))
    good(restic(str(tmp_path / "bare"), "init"))
    began = time.monotonic()
    good(restic(str(tmp_path / "bare"), "backup", str(source)))
    alone = time.monotonic() - began
    began = time.monotonic()
    good(machine.restic("backup", str(source)))
    through = time.monotonic() - began
    print(f"bare directory {alone:.1f} s, through the server {through:.1f} s")  # noqa: T201  what was measured
    assert through < 3 * alone + 5


# --- objects --------------------------------------------------------------------------------------


@pytest.mark.parametrize("folder", ["data", "index", "keys", "locks", "snapshots"])
def test_an_object_comes_and_goes(bare: Machine, folder: str) -> None:
    """Each kind: stored once, listed in both versions, read, removed."""
    content = os.urandom(1000)
    name, answer = bare.put(folder, content)
    assert answer.status == 200
    assert bare("POST", f"{folder}/{name}", content).status == 403  # taken; nothing is replaced
    one = bare("GET", f"{folder}/")
    assert one.headers["Content-Type"] == "application/vnd.x.restic.rest.v1"
    assert name in one.json()
    two = bare("GET", f"{folder}/", Accept=V2)
    assert two.headers["Content-Type"] == V2
    assert {"name": name, "size": 1000} in two.json()
    head = bare("HEAD", f"{folder}/{name}")
    assert (head.status, head.headers["Content-Length"]) == (200, "1000")
    assert bare("GET", f"{folder}/{name}").body == content
    assert bare("DELETE", f"{folder}/{name}").status == 200
    for method in ("GET", "HEAD", "DELETE"):
        assert bare(method, f"{folder}/{name}").status == 404


def test_parts_of_an_object(bare: Machine) -> None:
    """restic reads packs by parts."""
    content = os.urandom(5000)
    name, _ = bare.put("data", content)
    for asked, part in (
        ("bytes=0-99", content[:100]), ("bytes=4000-", content[4000:]), ("bytes=-7", content[-7:])
    ):  # fmt: skip
        answer = bare("GET", f"data/{name}", Range=asked)
        assert (answer.status, answer.body) == (206, part)
    start = content.index(part)
    assert answer.headers["Content-Range"] == f"bytes {start}-4999/5000"
    beyond = bare("GET", f"data/{name}", Range="bytes=5000-")
    assert (beyond.status, beyond.headers["Content-Range"]) == (416, "bytes */5000")


def test_content_must_have_its_names_digest(bare: Machine) -> None:
    """What was damaged on its way is refused, and is not there."""
    name = hashlib.sha256(b"good").hexdigest()
    assert bare("POST", f"data/{name}", b"bad").status == 400
    assert bare("GET", f"data/{name}").status == 404
    assert bare("POST", f"data/{name}", b"good").status == 200


def test_a_name_that_is_none_leads_nowhere(bare: Machine) -> None:
    """No other letters, no way out of the repository."""
    for name in ("x", "0" * 63, "A" * 64, "../config", "%2e%2e/config", "0" * 64 + "/x"):
        for method in ("GET", "POST", "DELETE"):
            body = b"x" if method == "POST" else None
            assert bare(method, f"data/{name}", body).status == 404


def test_an_object_over_256_mebibytes_is_refused(bare: Machine) -> None:
    """From its header alone."""
    import http.client

    connection = http.client.HTTPConnection("127.0.0.1", bare.server.port, timeout=30)
    connection.putrequest("POST", f"/restic/main/bare/data/{'0' * 64}")
    connection.putheader("Authorization", bare.header)
    connection.putheader("Content-Length", str((256 << 20) + 1))
    connection.putheader("Expect", "100-continue")
    connection.endheaders()
    assert connection.getresponse().status == 413
    connection.close()


def test_the_config_is_there_once(bare: Machine) -> None:
    """Its name is no digest; it goes when it is deleted, and not from an append-only pool."""
    for pool, removed in (("main", 200), ("frozen", 403)):
        assert bare("GET", "config", pool=pool).status == 404
        assert bare("POST", "config", b"sealed", pool).status == 200
        assert bare("POST", "config", b"other", pool).status == 403
        assert bare("DELETE", "config", pool=pool).status == removed
        assert bare("HEAD", "config", pool=pool).status == (404 if removed == 200 else 200)


@pytest.mark.parametrize("folder", ["data", "index", "keys", "snapshots"])
def test_append_only_removes_nothing_but_locks(bare: Machine, folder: str) -> None:
    """By no request."""
    name, _ = bare.put(folder, folder.encode(), "frozen")
    assert bare("DELETE", f"{folder}/{name}", pool="frozen").status == 403
    assert bare("GET", f"{folder}/{name}", pool="frozen").body == folder.encode()
    lock, _ = bare.put("locks", folder.encode(), "frozen")
    assert bare("DELETE", f"locks/{lock}", pool="frozen").status == 200


def test_a_quota_that_is_used_up(bare: Machine) -> None:
    """413; locks and what is there go on, and room that is given back is room again."""
    name, answer = bare.put("data", os.urandom(90_000), "small")
    assert answer.status == 200
    assert bare.put("data", os.urandom(20_000), "small")[1].status == 413
    assert bare("GET", f"data/{name}", pool="small").status == 200
    assert bare.put("locks", b"lock", "small")[1].status == 200
    assert bare("DELETE", f"data/{name}", pool="small").status == 200
    assert bare.put("data", os.urandom(20_000), "small")[1].status == 200


# --- who ------------------------------------------------------------------------------------------


def test_a_machine_reaches_only_its_own(server: Server, service: Service, bare: Machine) -> None:
    """Another's repository is refused alike whether it is there or not; only of its own place is a
    machine told that there is no such pool.
    """
    other = Machine(server, service, "other")
    headers = {"Authorization": other.header}
    answers = {
        server.request(method, f"/restic/{place}/config", headers=headers).status
        for place in ("main/bare", "main/nobody", "nothing/bare", "nothing/nobody")
        for method in ("GET", "DELETE")
    }
    assert answers == {403}
    assert other("GET", "config").status == 404
    assert other("GET", "config", pool="nothing").status == 404
    assert server.request("GET", "/restic/main/bare/config").status == 401
    crossed = base64.b64encode(f"bare:{other.pair.partition(':')[2]}".encode()).decode()
    answer = server.request(
        "GET", "/restic/main/bare/config", headers={"Authorization": f"Basic {crossed}"}
    )
    assert answer.status == 401


def test_a_repository_is_not_removed_over_the_protocol(bare: Machine) -> None:
    """Neither whole nor by kinds."""
    assert bare("DELETE", "").status == 405
    assert bare("DELETE", "data/").status == 405


def test_a_body_that_is_cut_leaves_nothing(bare: Machine, eventually) -> None:
    """And its name is free."""
    import socket

    content = os.urandom(300_000)
    name = hashlib.sha256(content).hexdigest()
    with socket.create_connection(("127.0.0.1", bare.server.port), timeout=30) as connection:
        head = (
            f"POST /restic/main/bare/data/{name} HTTP/1.1\r\nHost: 127.0.0.1\r\n"
            f"Authorization: {bare.header}\r\nContent-Length: {len(content)}\r\n\r\n"
        )
        connection.sendall(head.encode() + content[:200_000])
    assert bare("GET", f"data/{name}").status == 404
    assert bare("POST", f"data/{name}", content).status == 200
