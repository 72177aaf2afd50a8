"""The Backup-chan face when something goes wrong around it: nothing acknowledged is lost, nothing
half is listed.
"""

from __future__ import annotations

import concurrent.futures
import http.client
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from tests.web.chan import BOUNDARY, FORM, MANUAL, Chan, files_below, form, tar_of, zip_of
from tests.web.conftest import make_server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.web.conftest import Answer

MIB = 1 << 20
SOME = os.urandom(MIB)


@pytest.fixture(scope="module")
def chan(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chan]:
    """A server with a small disk as one of its roots, where that can be had."""
    home = tmp_path_factory.mktemp("trouble")
    roots, disk = home / "roots", home / "disk"
    for folder in (roots, disk):
        folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(disk)]
    mounted = subprocess.run(command, capture_output=True, check=False).returncode == 0
    configuration = (
        f"backupchan: {{location_roots: ['{roots}', '{disk}']}}\nlimits: {{idle: 5.0}}\n"
    )
    server = make_server(home / "data", configuration=configuration)
    try:
        server.start()
        yield Chan(server, roots)
        server.stop()
    finally:
        if mounted:
            subprocess.run(["umount", "-l", str(disk)], check=True)
    log = (server.data / "log" / "web.log").read_text()
    assert '"event": "unexpected"' not in log


@pytest.fixture
def disk(chan: Chan) -> Path:
    found = chan.roots.parent / "disk"
    if not os.path.ismount(found):
        pytest.skip("mounting is not allowed here")
    return found


def kill(chan: Chan) -> None:
    """The web process and the worker die at once, without a last word."""
    assert chan.server.process is not None
    parent = chan.server.process.pid
    os.kill(parent, signal.SIGSTOP)  # or it would see one child go and end the other itself
    children = subprocess.run(
        ["pgrep", "-P", str(parent)], capture_output=True, text=True, check=False
    ).stdout.split()
    for pid in [*map(int, children), parent]:
        os.kill(pid, signal.SIGKILL)
    chan.server.process.wait()
    while any(os.path.exists(f"/proc/{pid}") for pid in children):
        time.sleep(0.01)


def begin(chan: Chan, target: str, *files: tuple[str, str]) -> Answer:
    listed = [{"path": path, "name": name, "uploaded": False} for path, name in files]
    return chan("POST", f"seq/{target}/begin", {"manual": 0, "file_list": listed})


def send(chan: Chan, target: str, path: str, name: str, content: bytes) -> Answer:
    parts = (("name", None, name.encode()), ("path", None, path.encode()), ("file", name, content))
    headers = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
    return chan("POST", f"seq/{target}/upload", form(*parts), headers)


# --- killed -------------------------------------------------------------------------------------


@pytest.mark.parametrize("rounds", [2, pytest.param(40, marks=pytest.mark.long)])
def test_killed_while_uploads_come(chan: Chan, rounds: int, eventually: Any) -> None:
    """I1, I5: what was answered is there, byte for byte; what was not is there whole or not at all;
    nobody is needed to start again.
    """
    targets = [
        chan.target(backup_type=shape, **place)
        for shape in ("single", "multi")
        for place in ({}, {"location": "main"})
    ]
    answered: dict[str, set[bytes]] = {target: set() for target in targets}
    sent: dict[str, set[bytes]] = {target: set() for target in targets}

    def upload_on(target: str, ended: threading.Event) -> None:
        while not ended.is_set():
            content = os.urandom(50_000)
            sent[target].add(content)
            try:
                if chan.upload(target, MANUAL, ("backup_file", "x", content)).status == 200:
                    answered[target].add(content)
            except (OSError, http.client.HTTPException):
                return

    for number in range(rounds):
        ended = threading.Event()
        with concurrent.futures.ThreadPoolExecutor(len(targets)) as pool:
            running = [pool.submit(upload_on, target, ended) for target in targets]
            time.sleep(0.3 + number % 5 * 0.1)
            try:
                kill(chan)
            finally:
                ended.set()
            for each in running:
                each.result()
        chan.server.start()
        for target in targets:
            found = set()
            for backup in chan.backups(target):
                content = chan.content(backup["id"])
                if len(content) != 50_000:
                    [content] = chan.files(backup["id"]).values()
                found.add(content)
            assert answered[target] <= found, "acknowledged and lost"
            assert found <= sent[target], "half of something"
        eventually(lambda: not chan.unfinished())  # found beside the first requests
    for target in targets:
        assert chan("DELETE", f"target/{target}", {"delete_files": True}).status == 200


def test_restarts_in_the_middle(chan: Chan) -> None:
    """I5: killed or told to end, what came of a sequential upload is still there to go on with; an
    upload that is under way when the server is told to end may end, and is kept then.
    """
    target = chan.target(backup_type="multi", location="main")
    assert begin(chan, target, ("/", "a"), ("/d", "b"), ("/d", "c")).status == 200
    assert send(chan, target, "/", "a", b"aaa").status == 200
    kill(chan)
    chan.server.start()
    assert send(chan, target, "/d", "b", SOME).status == 200

    single = chan.target()
    body = form(MANUAL, ("backup_file", "x", SOME))
    head = chan.head("POST", f"target/{single}/upload", FORM, f"Content-Length: {len(body)}")
    assert chan.server.process is not None
    with socket.create_connection(("127.0.0.1", chan.server.port), timeout=60) as wire:
        wire.sendall(head + body[:-1000])
        chan.server.process.send_signal(signal.SIGTERM)
        time.sleep(0.5)
        wire.sendall(body[-1000:])
        answer = wire.recv(1000)
    assert chan.server.process.wait(60) == 0
    chan.server.start()
    kept = [chan.content(each) for each in chan.kept(single)]
    assert kept == ([SOME] if answer.startswith(b"HTTP/1.1 200") else [])

    assert begin(chan, target, ("/", "a")).json()["message"] == "Target busy"
    there = chan("GET", f"seq/{target}").json()["file_list"]
    assert [each["uploaded"] for each in there] == [True, True, False]
    assert send(chan, target, "/d", "c", b"").status == 200
    assert chan("POST", f"seq/{target}/finish", {}).status == 200
    [backup] = chan.backups(target)
    assert chan.files(backup["id"]) == {"a": b"aaa", "d/b": SOME, "d/c": b""}
    assert backup["manual"] is False


# --- a full disk ----------------------------------------------------------------------------------


def test_full_disk(chan: Chan, disk: Path) -> None:
    """507 with a sentence; earlier backups stay, the room comes back, the next upload that fits is
    taken.
    """
    single = chan.target(location=str(disk / "single"))
    multi = chan.target(location=str(disk / "multi"), backup_type="multi")
    first, second = chan.put(single, SOME)["id"], chan.put(multi, SOME)["id"]
    free = os.statvfs(disk).f_bavail
    large = os.urandom(20 * MIB)
    for target, name, content in (
        (single, "x", large), (multi, "x", large), (multi, "x.tar", tar_of(("a", large), mode="w")),
        (multi, "x.zip", zip_of(("a", b"1"), ("b", large))),
        (multi, "x.tgz", tar_of(("zeros", bytes(30 * MIB)))),
    ):  # fmt: skip
        answer = chan.upload(target, MANUAL, ("backup_file", name, content))
        assert answer.status == 507, (name, answer.body)
        assert answer.json()["success"] is False
        assert "advice" in answer.json()
    deadline = time.monotonic() + 30
    while os.statvfs(disk).f_bavail < free - 16 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert os.statvfs(disk).f_bavail >= free - 16
    assert chan.kept(single) == [first]
    assert chan.kept(multi) == [second]
    assert chan.content(first) == SOME
    assert chan.files(second) == {"file.bin": SOME}
    # An upload in several requests: its parts are elsewhere, its end meets the full disk.
    begin(chan, multi, ("/", "a"))
    assert send(chan, multi, "/", "a", large).status == 200
    assert chan("POST", f"seq/{multi}/finish", {}).status == 507
    assert chan("GET", f"seq/{multi}").json()["file_list"][0]["uploaded"] is True
    chan("POST", f"seq/{multi}/terminate", {})
    assert chan.content(chan.put(single, SOME[:1000])["id"]) == SOME[:1000]
    for target in (single, multi):
        assert chan("DELETE", f"target/{target}", {"delete_files": True}).status == 200
    assert files_below(disk) == []


def test_a_disk_without_a_free_byte_gives_back_and_deletes(chan: Chan, disk: Path) -> None:
    """Deleting needs no room that is not there."""
    target = chan.target(location=str(disk / "brim"))
    kept, going = chan.put(target, SOME)["id"], chan.put(target, SOME)["id"]
    with (disk / "other").open("wb", buffering=0) as file:
        try:
            while file.write(bytes(65536)):
                pass
        except OSError:
            pass
    try:
        assert chan.content(kept) == SOME
        assert chan.upload(target, MANUAL, ("backup_file", "x", SOME)).status == 507
        assert chan("DELETE", f"backup/{going}", {"delete_files": True}).status == 200
        assert chan.kept(target) == [kept]
        assert len(files_below(disk / "brim")) == 1
    finally:
        (disk / "other").unlink()
    assert chan.content(chan.put(target, SOME)["id"]) == SOME


# --- a pool that is not there -------------------------------------------------------------------


def test_a_plain_pool_that_is_away(chan: Chan) -> None:
    """Told as that, kept nowhere else; when it comes back everything goes on."""
    target = chan.target()
    backup = chan.put(target, SOME)["id"]
    where = chan.roots / chan("GET", f"target/{target}").json()["target"]["name"]
    where.rename(where.with_suffix(".away"))
    try:
        for answer in (
            chan.upload(target, MANUAL, ("backup_file", "x", SOME)),
            chan("GET", f"backup/{backup}/download"),
        ):
            assert answer.status in {502, 503}, answer.body
            assert answer.json()["message"]
        assert not where.exists()
        assert [each["id"] for each in chan.backups(target)] == [backup]
        other = chan.target()
        assert chan.content(chan.put(other, SOME)["id"]) == SOME
        assert chan.run("recycle_job")["status"] in {"FINISHED", "ERROR"}
        assert chan("GET", "jobs").status == 200
    finally:
        where.with_suffix(".away").rename(where)
    assert chan.content(backup) == SOME
    assert chan.content(chan.put(target, b"again")["id"]) == b"again"


def test_a_repository_pool_that_is_away(chan: Chan) -> None:
    """The same, for the pool that is a repository."""
    target = chan.target(location="main")
    backup = chan.put(target, SOME)["id"]
    pool = chan.server.data / "pool"
    pool.rename(pool.with_suffix(".away"))
    try:
        for answer in (
            chan.upload(target, MANUAL, ("backup_file", "x", SOME)),
            chan("GET", f"backup/{backup}/download"),
        ):
            assert answer.status in {502, 503}, answer.body
            assert answer.json()["message"]
        assert not pool.exists()
        assert [each["id"] for each in chan.backups(target)] == [backup]
    finally:
        if pool.exists():
            shutil.rmtree(pool)
        pool.with_suffix(".away").rename(pool)
    assert chan.content(backup) == SOME
    assert chan.content(chan.put(target, b"again")["id"]) == b"again"


# --- races ----------------------------------------------------------------------------------------


def at_once(*acts: Callable[[], Any]) -> list[Any]:
    """All of them as close together as can be."""
    ready = threading.Barrier(len(acts))

    def run(act: Callable[[], Any]) -> Any:
        ready.wait()
        return act()

    with concurrent.futures.ThreadPoolExecutor(len(acts)) as pool:
        return [each.result() for each in [pool.submit(run, act) for act in acts]]


@pytest.mark.parametrize("field", ["alias", "name_template"])
def test_two_clients_want_one_name(chan: Chan, field: str) -> None:
    """One gets it, the other is told."""
    for number in range(5):
        drafts = [chan.draft(location="", **{field: f"race-{number}-$I"}) for _ in range(2)]
        statuses = at_once(
            *(lambda draft=draft: chan("POST", "target", draft).status for draft in drafts)
        )
        assert sorted(statuses) == [201, 400]


@pytest.mark.parametrize("_round", range(3))
def test_two_clients_go_on_with_one_upload(chan: Chan, _round: int) -> None:
    """Each file counts once, and one backup is made, whoever asks how often."""
    target = chan.target(backup_type="multi", location="")
    statuses = at_once(*[lambda: begin(chan, target, ("/", "a"), ("/", "b")).status] * 2)
    assert sorted(statuses) == [200, 400]
    contents = [b"1" * 1000, b"2" * 1000]
    answers = at_once(
        *(lambda each=each: send(chan, target, "/", "a", each).status for each in contents)
    )
    assert sorted(answers) == [200, 409]
    send(chan, target, "/", "b", SOME)
    finished = at_once(*[lambda: chan("POST", f"seq/{target}/finish", {}).status] * 2)
    assert 200 in finished
    assert set(finished) <= {200, 400, 409}
    [backup] = chan.kept(target)
    assert chan.files(backup) == {"a": contents[answers.index(200)], "b": SOME}


@pytest.mark.parametrize("_round", range(5))
def test_a_target_goes_while_an_upload_comes(chan: Chan, _round: int) -> None:
    """Either it is there with its backup, or neither is; files without a row stay nowhere."""
    target = chan.target()
    name = chan("GET", f"target/{target}").json()["target"]["name"]
    uploaded, deleted = at_once(
        lambda: chan.upload(target, MANUAL, ("backup_file", "x", SOME)).status,
        lambda: chan("DELETE", f"target/{target}", {"delete_files": True}).status,
    )
    assert (uploaded, deleted) in {(200, 200), (400, 200), (404, 200), (200, 400)}
    if deleted == 200:
        assert chan("GET", f"target/{target}").status == 404
        assert files_below(chan.roots / name) == []
    else:
        assert [chan.content(each) for each in chan.kept(target)] == [SOME]


def test_one_backup_is_moved_by_many(chan: Chan) -> None:
    """Recycled and restored by several clients at once: it ends in one of both states, readable."""
    target = chan.target()
    backup = chan.put(target, SOME)["id"]
    for _ in range(3):
        statuses = at_once(
            *(
                lambda state=state: chan("PATCH", f"backup/{backup}", {"is_recycled": state}).status
                for state in (True, False, True, False)
            )
        )
        assert set(statuses) <= {200, 400}
        assert chan.content(backup) == SOME
    deleted = at_once(
        *[lambda: chan("DELETE", f"backup/{backup}", {"delete_files": True}).status] * 3
    )
    assert sorted(deleted) == [200, 404, 404]


def test_forcing_a_job_over_and_over(chan: Chan, eventually: Any) -> None:
    """What waits already is not made to wait again."""
    for _ in range(30):
        assert chan("GET", "jobs/force_run/tmp_purge_job").status == 200

    def runs() -> list[str]:
        delayed = chan("GET", "jobs").json()["delayed"]
        return [each["status"] for each in delayed if each["name"] == "tmp_purge_job"]

    eventually(lambda: set(runs()) == {"FINISHED"})
    assert 0 < len(runs()) < 25
