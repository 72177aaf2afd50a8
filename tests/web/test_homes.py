"""Each face's main path, every kind of task, and a take-over: in the embedded home (SQLite and a
directory, one web process and one worker), and on PostgreSQL and S3 with two of each.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
from tests.web.conftest import EMAIL, PASSWORD, Server, free_ports

from holdfast.core.access import SHELL, Verb
from holdfast.core.records import Role, Shape, TaskState
from holdfast.core.secret import Secret
from holdfast.service.server import Service, open_service
from holdfast.service.targets import Draft

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PATIENCE = 120.0


@dataclass
class Home:
    """A catalog, pools, and the processes on them. `webs` serve the same."""

    service: Service
    webs: list[Server]
    workers: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    folder: Path | None = None


def start(home: Home, said: Path) -> None:
    data = str(home.service.ground.folder)
    with said.open("ab") as err:
        for web in home.webs:
            web.process = subprocess.Popen(
                [
                    sys.executable, "-m", "holdfast", "web", "--data", data,
                    "--listen", web.main.partition("//")[2],
                    "--restbackup-listen", web.restbackup.partition("//")[2],
                ],
                stderr=err,
            )  # fmt: skip
        for name in list(home.workers) or [f"w{n}" for n, _ in enumerate(home.webs)]:
            home.workers[name] = start_worker(data, name, err)
    for web in home.webs:
        web.wait_until_up(PATIENCE)


def start_worker(data: str, name: str, err: Any) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "holdfast", "worker", "--data", data, "--name", name], stderr=err
    )


def stop(home: Home) -> list[int]:
    processes = [web.process for web in home.webs if web.process] + list(home.workers.values())
    for process in processes:
        process.send_signal(signal.SIGTERM)
    return [process.wait(90) for process in processes]


@pytest.fixture(
    scope="module", params=["embedded", pytest.param("distributed", marks=pytest.mark.long)]
)
def home(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Home]:
    folder = tmp_path_factory.mktemp("home")
    data, app = folder / "data", folder / "app"
    data.mkdir()
    app.mkdir()
    (app / "file").write_text("app")
    lines = [f"application: {{include: ['{app}']}}", "limits: {tasks: 4, tasks_per_pool: 4}"]
    with ExitStack() as at_the_end:
        locations, credentials = [str(folder / "pool")], {}
        if request.param == "distributed":
            url = database(request.getfixturevalue("postgresql_server"))
            bucket, credentials = at_the_end.enter_context(s3(folder))
            locations = [f"{bucket}/pool"]
            lines += [f"database: {{url: '{url}'}}", "egress_allow: ['127.0.0.0/8']"]
        (data / "holdfast.yaml").write_text("\n".join(lines) + "\n")
        service = at_the_end.enter_context(closing(open_service(data)))
        made = prepare(service, data, locations, credentials, 1 + (request.param != "embedded"))
        made.folder = folder
        start(made, folder / "err")
        yield made
        codes = stop(made)
        assert set(codes) <= {0, 130}, (folder / "err").read_text()[-3000:]


def prepare(
    service: Service, data: Path, locations: list[str], credentials: dict[str, str], webs: int
) -> Home:
    service.pools.add(SHELL, "main", locations, credentials=credentials)
    service.pools.add(SHELL, "second", [f"{data.parent}/second"])
    service.users.add(
        SHELL, name="root", role=Role.SUPERUSER, email=EMAIL, password=Secret(PASSWORD)
    )
    key = service.tokens.new_api_key(SHELL).reveal()
    account, secret = service.accounts.add(SHELL, keep_days=30)
    servers = []
    for _ in range(webs):
        main, second = free_ports(2)
        servers.append(
            Server(
                data=data,
                main=f"http://127.0.0.1:{main}",
                restbackup=f"http://127.0.0.1:{second}",
                api_key=key,
                account=f"{account.name}:{secret.reveal()}",
            )
        )
        (data / "serve.err").touch()
    return Home(service, servers)


def database(server: Any) -> str:
    """An empty one; its address."""
    server.psql("CREATE DATABASE home;")
    return str(server.get_uri("home"))


def s3(folder: Path) -> Any:
    from contextlib import contextmanager

    import boto3
    from botocore.exceptions import BotoCoreError

    credentials = {"access_key": "a", "secret_key": "b", "region": "us-east-1"}

    @contextmanager
    def running() -> Iterator[tuple[str, dict[str, str]]]:
        (port,) = free_ports(1)
        server = subprocess.Popen(
            [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            address = f"http://127.0.0.1:{port}"
            client = boto3.client(
                "s3", endpoint_url=address, aws_access_key_id="a", aws_secret_access_key="b",
                region_name="us-east-1",
            )  # fmt: skip
            deadline = time.monotonic() + PATIENCE
            while True:
                try:
                    client.create_bucket(Bucket="holdfast-test")
                    break
                except BotoCoreError:
                    assert time.monotonic() < deadline
                    time.sleep(0.2)
            yield f"s3:{address}/holdfast-test", credentials
        finally:
            server.terminate()
            server.wait()

    del folder
    return running()


# --- faces ----------------------------------------------------------------------------------------


def curl(*arguments: str) -> bytes:
    return subprocess.run(["curl", "-sS", *arguments], capture_output=True, check=True).stdout


def test_restbackup(home: Home, tmp_path: Path) -> None:
    """What one web process took, another gives back."""
    first, last = home.webs[0], home.webs[-1]
    sent = tmp_path / "sent.bin"
    sent.write_bytes(os.urandom(3_000_000))
    put = curl("-u", first.account, "-T", str(sent), f"{first.restbackup}/")
    assert put == b"Stored /sent.bin\n"
    assert curl("-u", last.account, f"{last.restbackup}/sent.bin") == sent.read_bytes()


def test_backupchan(home: Home, tmp_path: Path) -> None:
    import io

    from backupchan import API
    from backupchan.api import BackupRecycleAction, BackupRecycleCriteria, BackupType

    first, last = (API("127.0.0.1", web.port, web.api_key) for web in (home.webs[0], home.webs[-1]))
    uid = first.new_target(
        "chan", BackupType.SINGLE, BackupRecycleCriteria.COUNT, 1, BackupRecycleAction.RECYCLE,
        "main", "chan-$I", False, None, None, None,
    )  # fmt: skip
    for content in (b"one", b"two"):
        first.upload_backup(uid, io.BytesIO(content), "x.bin", True)
    _, backups = last.get_target(uid)
    path = last.download_backup(backups[0].id, str(tmp_path))
    with open(path, "rb") as file:
        assert file.read() == b"two"
    last.force_run_job("recycle_job")
    deadline = time.monotonic() + PATIENCE
    while [each.is_recycled for each in last.get_target(uid)[1]] != [False, True]:
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_pocketbase(home: Home) -> None:
    from pocketbase import PocketBase

    first, last = (PocketBase(web.main) for web in (home.webs[0], home.webs[-1]))
    for client in (first, last):
        client.collection("_superusers").auth_with_password(EMAIL, PASSWORD)
    first.backups.create("home.zip")
    assert last.backups.download("home.zip")[:4] == b"PK\x03\x04"
    for client in (first, last):
        client.http_client.close()


# --- tasks ----------------------------------------------------------------------------------------


def run(home: Home, kind: str, **values: Any) -> Any:
    tasks = home.service.tasks
    task = tasks.submit(SHELL, Verb.BACKUP_CREATE, kind, **values)
    task = tasks.wait(SHELL, task.id, PATIENCE)
    said = [line.text for line in tasks.log(SHELL, task.id)]
    assert task.state is TaskState.SUCCEEDED, (kind, task, said)
    return task


def make_target(home: Home, name: str, size: int) -> Any:
    assert home.folder is not None
    source = home.folder / name
    source.mkdir()
    (source / "big").write_bytes(os.urandom(size))
    (source / "small").write_text("small")
    return home.service.targets.create(
        SHELL,
        Draft(
            name=name, shape=Shape.MULTI, pool_id=home.service.pools.named("main").id,
            source={"paths": [str(source)]},
        ),
    )  # fmt: skip


def test_every_kind_of_task(home: Home, tmp_path: Path) -> None:
    """Each does what it is for."""
    service = home.service
    target = make_target(home, "all", 2_000_000)
    run(home, "backup", target_id=target.id)
    (backup,) = service.backups.list(SHELL, target)
    run(home, "verify", backup_id=backup.id)
    run(home, "drill", target_id=target.id)
    assert service.targets.get(SHELL, target.id).proven
    run(home, "restore", backup_id=backup.id, spec={"destination": str(tmp_path / "out")})
    restored = list((tmp_path / "out").rglob("big"))
    assert restored[0].read_bytes() == (home.folder / "all" / "big").read_bytes()
    second = service.pools.named("second")
    run(home, "copy", backup_id=backup.id, spec={"pool_id": second.id})
    assert len(service.backups.list(SHELL, target)) == 2
    run(home, "move", backup_id=backup.id, spec={"pool_id": second.id})
    assert service.backups.get(SHELL, backup.uid).pool_id == second.id
    for kind in ("expire", "deduplicate", "stale-uploads", "measure", "tripwire", "purge"):
        run(home, kind)
    run(home, "prune")
    run(home, "check", spec={"read_data": True})
    run(home, "self-backup")
    assert service.backups.get(SHELL, backup.uid)


def test_a_worker_that_is_killed_is_taken_over(home: Home) -> None:
    """F18: in mid-task, with SIGKILL; the task ends once, and nothing is lost."""
    assert home.folder is not None
    service = home.service
    target = make_target(home, "killed", 150_000_000)
    task = service.tasks.submit(SHELL, Verb.BACKUP_CREATE, "backup", target_id=target.id)
    deadline = time.monotonic() + PATIENCE
    while service.tasks.get(SHELL, task.id).state is TaskState.QUEUED:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    holder = service.tasks.get(SHELL, task.id).holder.partition("#")[0]
    home.workers[holder].kill()
    home.workers[holder].wait()
    began = time.monotonic()
    if len(home.workers) == 1:
        with (home.folder / "err").open("ab") as err:
            home.workers[holder] = start_worker(str(service.ground.folder), holder, err)
    ended = service.tasks.wait(SHELL, task.id, PATIENCE)
    assert ended.state is TaskState.SUCCEEDED, ended
    assert time.monotonic() - began < 60
    (backup,) = service.backups.list(SHELL, target)
    assert backup.size == 150_000_000 + len("small")
    run(home, "verify", backup_id=backup.id)
    if len(home.workers) > 1:
        with (home.folder / "err").open("ab") as err:
            home.workers[holder] = start_worker(str(service.ground.folder), holder, err)
        time.sleep(3)
