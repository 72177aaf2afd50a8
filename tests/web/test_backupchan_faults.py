"""What went wrong in the original, one test for each of its known faults: here it does not."""

from __future__ import annotations

import concurrent.futures
import os
import sqlite3
import tarfile
import time
from typing import TYPE_CHECKING

import pytest
from tests.web.chan import BOUNDARY, MANUAL, Chan, files_below, form, tar_of

from holdfast.core.access import SHELL
from holdfast.service.server import open_service

if TYPE_CHECKING:
    from pathlib import Path

    from tests.web.conftest import Answer, Server

A, B = os.urandom(100_000), os.urandom(100_000)
HOUR = 3600 * 10**9


@pytest.fixture(scope="module")
def chan(server: Server) -> Chan:
    return Chan(server, server.data.parent / "roots")


@pytest.fixture(params=["plain", "repository"])
def place(request: pytest.FixtureRequest) -> dict[str, str]:
    return {} if request.param == "plain" else {"location": "main"}


def location(chan: Chan, target: str) -> Path:
    from pathlib import Path

    return Path(chan("GET", f"target/{target}").json()["target"]["location"])


def begin(chan: Chan, target: str, *files: tuple[str, str]) -> Answer:
    listed = [{"path": path, "name": name, "uploaded": False} for path, name in files]
    return chan("POST", f"seq/{target}/begin", {"manual": 1, "file_list": listed})


def send(chan: Chan, target: str, path: str, name: str, content: bytes | None) -> Answer:
    parts = [("path", None, path.encode()), ("name", None, name.encode())]
    if content is not None:
        parts.append(("file", name, content))
    headers = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
    return chan("POST", f"seq/{target}/upload", form(*parts), headers)


def parts_of_uploads(server: Server) -> int:
    with sqlite3.connect(server.data / "catalog.db", timeout=30) as catalog:
        [(number,)] = catalog.execute("SELECT count(*) FROM backup WHERE state = 'part'").fetchall()
    return int(number)


# --- data loss ----------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", ["single", "multi"])
def test_1_the_newest_copy_survives(chan: Chan, place: dict[str, str], shape: str) -> None:
    """I3: A, A, B, A, B: the newest A and the newest B stay; and again nothing goes."""
    target = chan.target(deduplicate=True, backup_type=shape, **place)
    ids = [chan.put(target, content)["id"] for content in (A, A, B, A, B)]
    other = chan.target(deduplicate=False, backup_type=shape, **place)
    for content in (A, A):
        chan.put(other, content)
    for _ in range(2):
        assert chan.run("deduplicate_job")["status"] == "FINISHED"
        assert chan.kept(target) == [ids[4], ids[3]]
    for backup, content in ((ids[4], B), (ids[3], A)):
        found = chan.content(backup) if shape == "single" else chan.files(backup)["file.bin"]
        assert found == content
    assert len(chan.kept(other)) == 2
    if not place:
        assert len(files_below(location(chan, target))) == 2


def test_2_a_copy_in_the_bin_is_no_copy(chan: Chan, place: dict[str, str]) -> None:
    """I3: older or newer, what lies in the bin takes nothing along."""
    target = chan.target(deduplicate=True, **place)
    ids = [chan.put(target, A)["id"] for _ in range(3)]
    for backup in (ids[0], ids[2]):
        chan("PATCH", f"backup/{backup}", {"is_recycled": True})
    chan.run("deduplicate_job")
    assert chan.kept(target) == [ids[1]]
    chan("DELETE", "recycle_bin", {"delete_files": True})
    assert chan.content(ids[1]) == A


def test_1b_a_copy_that_cannot_be_read_is_no_copy(chan: Chan) -> None:
    """I3: the newest copy is gone from the disk; the older one is all there is."""
    target = chan.target(deduplicate=True)
    older, newer = chan.put(target, A)["id"], chan.put(target, A)["id"]
    [newest] = [name for name in files_below(location(chan, target)) if newer in name]
    (location(chan, target) / newest).unlink()
    chan.run("deduplicate_job")
    assert older in chan.kept(target)
    assert chan.content(older) == A
    gone = chan("GET", f"backup/{newer}/download")
    assert gone.status == 503
    assert "gone" in gone.json()["message"]


@pytest.mark.parametrize("shape", ["single", "multi"])
@pytest.mark.parametrize("damage", ["cut", "gone"])
def test_1c_what_cannot_be_read_is_told(chan: Chan, shape: str, damage: str) -> None:
    """Also where that shows only when the first of it is read."""
    target = chan.target(backup_type=shape)
    backup = chan.put(target, A)["id"]
    [path] = [location(chan, target) / name for name in files_below(location(chan, target))]
    os.truncate(path, len(A) // 2) if damage == "cut" else path.unlink()
    answer = chan("GET", f"backup/{backup}/download")
    assert answer.status in {500, 503}
    assert answer.json()["success"] is False
    assert answer.json()["message"]


def test_3_a_file_that_did_not_come_is_missing(chan: Chan, place: dict[str, str]) -> None:
    """I8: a request without its file counts for nothing."""
    target = chan.target(backup_type="multi", **place)
    assert begin(chan, target, ("/", "a")).status == 200
    refused = send(chan, target, "/", "a", None)
    assert (refused.status, refused.json()["message"]) == (400, "No file given")
    assert chan("POST", f"seq/{target}/finish", {}).status == 409
    assert chan("GET", f"seq/{target}").json()["file_list"][0]["uploaded"] is False
    assert send(chan, target, "/", "a", b"now").status == 200
    assert chan("POST", f"seq/{target}/finish", {}).status == 200
    assert chan.files(chan.kept(target)[0]) == {"a": b"now"}


def test_4_what_was_given_up_mixes_with_nothing(chan: Chan, place: dict[str, str]) -> None:
    """Terminated, expired or left behind by a deleted target: nothing of it comes again."""
    target = chan.target(backup_type="multi", **place)
    begin(chan, target, ("/", "old"), ("/", "a"))
    send(chan, target, "/", "old", A)
    assert chan("POST", f"seq/{target}/terminate", {}).status == 200
    begin(chan, target, ("/", "a"), ("/", "never"))
    send(chan, target, "/", "a", B)
    catalog = chan.server.data / "catalog.db"
    with sqlite3.connect(catalog, timeout=30) as changed:
        changed.execute(f"UPDATE upload SET touched = touched - {2 * HOUR}")
        changed.execute(f"UPDATE backup SET received = received - {2 * HOUR} WHERE state = 'part'")
    chan.run("stale_seq_upload_job")
    assert chan("GET", f"seq/{target}").status == 400
    begin(chan, target, ("/", "a"))
    assert chan("GET", f"seq/{target}").json()["file_list"][0]["uploaded"] is False
    send(chan, target, "/", "a", b"new")
    chan("POST", f"seq/{target}/finish", {})
    assert chan.files(chan.kept(target)[0]) == {"a": b"new"}

    begin(chan, target, ("/", "orphan"))
    send(chan, target, "/", "orphan", A)
    chan("DELETE", f"target/{target}", {"delete_files": True})
    with sqlite3.connect(catalog, timeout=30) as changed:
        changed.execute(f"UPDATE backup SET received = received - {2 * HOUR} WHERE state = 'part'")
    chan.run("stale_seq_upload_job")
    assert parts_of_uploads(chan.server) == 0


# --- retention and disk -------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["x.tar.gz", "x.sql", "x", ".hidden"])
def test_5_files_go_when_they_should(chan: Chan, name: str) -> None:
    """Deleted, expired, thrown out of the bin: nothing stays on the disk, with any extension."""
    target = chan.target(recycle_criteria="count", recycle_value=1, recycle_action="delete")
    folder = location(chan, target)
    for _ in range(2):
        chan.put(target, A, name)
    chan.run("recycle_job")
    assert len(files_below(folder)) == len(chan.backups(target)) == 1
    chan("PATCH", f"backup/{chan.kept(target)[0]}", {"is_recycled": True})
    chan("DELETE", "recycle_bin", {"delete_files": True})
    chan("DELETE", f"backup/{chan.put(target, A, name)['id']}", {"delete_files": True})
    chan.put(target, A, name)
    chan("DELETE", f"target/{target}", {"delete_files": True})
    left = [path for path in folder.rglob("*") if path.is_file() and path.stat().st_size >= len(A)]
    assert left == []


def test_6_one_target_in_trouble_keeps_no_other_from_its_turn(chan: Chan) -> None:
    """No value, a file that is missing: the others are seen to all the same."""
    for value in (None, 1):
        broken = chan.target(name="aa first", recycle_criteria="count", recycle_value=value)
        for _ in range(2):
            chan.put(broken, A)
    for path in location(chan, broken).glob("*-*"):
        path.unlink()
    last = chan.target(name="zz last", recycle_criteria="count", recycle_value=1)
    ids = [chan.put(last, A)["id"] for _ in range(3)]
    chan.run("recycle_job")
    assert chan.kept(last) == [ids[2]]


def test_7_nothing_is_left_behind(chan: Chan, place: dict[str, str]) -> None:
    """Neither of unpacked archives nor of downloads of folders."""
    target = chan.target(backup_type="multi", **place)
    for name, content in (("a.tar.gz", tar_of(("a", A))), ("b", B)):
        chan.files(chan.put(target, content, name)["id"])
    places = [chan.server.data / "scratch", chan.roots, chan.server.data / "pool"]
    left = [
        path
        for folder in places
        for path in folder.rglob("*")
        if path.is_file() and ("tmp" in path.relative_to(folder).parts or folder.name == "scratch")
    ]
    assert left == []
    assert not list(chan.server.data.rglob("*.tar.xz"))


def test_8_an_upload_that_fails_leaves_no_row(chan: Chan, place: dict[str, str]) -> None:
    """I8: what is refused at its very end has never been listed."""
    target = chan.target(backup_type="multi", **place)
    cut = tar_of(("a", A))[:-60_000]
    assert chan.upload(target, MANUAL, ("backup_file", "a.tar.gz", cut)).status == 400
    single = chan.target(**place)
    assert chan.upload(single, ("backup_file", "a", A)).status == 400  # `manual` never came
    assert chan.backups(target) == chan.backups(single) == []
    with sqlite3.connect(chan.server.data / "catalog.db", timeout=30) as catalog:
        rows = catalog.execute(
            "SELECT count(*) FROM backup WHERE size = 0 AND state <> 'part' AND name = 'a.tar.gz'"
        ).fetchall()
    assert rows == [(0,)]


# --- security -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "name"),
    [("/..", "x"), ("/a/../..", "x"), ("../", "x"), ("/", ".."), ("/", "../x"), ("/", "a/b"),
     ("..\\..", "x"), ("/./", "x"), ("/", ""), ("/", "a\x00b"), ("/a\nb", "x"), ("/", "x" * 256)],
)  # fmt: skip
def test_9_sequential_paths_lead_nowhere_else(chan: Chan, path: str, name: str) -> None:
    """I10: refused when the list comes, so that no byte is sent in vain."""
    target = chan.target(backup_type="multi")
    answer = begin(chan, target, ("/", "good"), (path, name))
    assert (answer.status, answer.json()["message"]) == (400, "File list validation failed")
    assert begin(chan, target, ("/", "good")).status == 200
    assert send(chan, target, path, name, b"x").status == 400


def test_9b_lists_that_cannot_be(chan: Chan) -> None:
    """Twice the same file by any spelling, a file that is a folder too, no file at all."""
    target = chan.target(backup_type="multi")
    for files in (
        [("/", "a"), ("/", "a")], [("/s", "a"), ("s/", "a")], [("/s", "a"), ("\\s", "a")],
        [("/", "a"), ("/a", "b")], [],
    ):  # fmt: skip
        answer = begin(chan, target, *files)
        assert (answer.status, answer.json()["message"]) == (400, "File list validation failed")
    for listed in ("x", 1, None, [1], [{}], [{"path": "/"}], [{"path": 1, "name": "a"}], {}):
        answer = chan("POST", f"seq/{target}/begin", {"manual": 1, "file_list": listed})
        assert (answer.status, answer.json()["message"]) == (400, "File list validation failed")
    single = chan.target()
    answer = begin(chan, single, ("/", "a"))
    assert answer.status == 400
    assert answer.json()["message"] == "Cannot begin sequential upload on single-file target"


@pytest.mark.parametrize("name", ["../x", "/etc/x", "a/../../x", ".."])
def test_10_archives_lead_nowhere_else(chan: Chan, place: dict[str, str], name: str) -> None:
    """I10: the whole archive is refused, also where a link was to lead out first."""
    target = chan.target(backup_type="multi", **place)
    link = tarfile.TarInfo("out")
    link.type, link.linkname = tarfile.SYMTYPE, "/tmp"
    for content in (
        tar_of(("good", A), (name, B)), tar_of((link, b""), ("out/x", B)),
        tar_of(("good", A), (name, B), mode="w"),
    ):  # fmt: skip
        answer = chan.upload(
            target, MANUAL, ("backup_file", "x.tar" if content[257:262] == b"ustar" else "x.tgz",
                             content),
        )  # fmt: skip
        assert answer.status == 400, answer.body
        assert answer.json()["advice"].startswith("Nothing was kept")
    assert chan.backups(target) == []
    assert not os.path.exists("/tmp/x")


@pytest.mark.parametrize("name", ["../../x", "a/b/x", "..\\\\x", "/etc/x", "C:\\\\d\\\\x"])
def test_11_names_of_uploads_are_names_only(chan: Chan, place: dict[str, str], name: str) -> None:
    """I10: what a client puts before the name of its file says nothing here."""
    target = chan.target(backup_type="multi", **place)
    assert list(chan.files(chan.put(target, A, name)["id"])) == ["x"]
    single = chan.target(**place)
    assert chan.content(chan.put(single, A, name)["id"]) == A


def test_12_locations_are_where_the_configuration_says(chan: Chan, tmp_path: Path) -> None:
    """I10: outside the roots nothing is a directory; through a link out of them, nothing at all."""
    outside = tmp_path / "outside"
    outside.mkdir()
    for where in (str(outside), f"{chan.roots}/../{outside.name}", "relative/place", "/etc"):
        target = chan.target(location=where)
        assert chan.content(chan.put(target, A)["id"]) == A
    assert list(outside.iterdir()) == []
    assert not os.path.lexists(chan.roots.parent / outside.name)
    (chan.roots / "exit").symlink_to(outside)
    try:
        answer = chan("POST", "target", chan.draft(location=f"{chan.roots}/exit/x"))
        assert answer.status == 400
    finally:
        (chan.roots / "exit").unlink()
    assert list(outside.iterdir()) == []


def test_13_one_key_that_can_be_replaced_while_the_server_runs(chan: Chan) -> None:
    """The old one is void at once; guesses run out, and the right key goes on working."""
    server, old = chan.server, chan.server.api_key
    service = open_service(server.data)
    try:
        server.api_key = service.tokens.new_api_key(SHELL, overwrite=True).reveal()
    finally:
        service.close()
    assert chan("GET", "stats", key=old).status == 403
    assert chan("GET", "stats").status == 200
    statuses = {chan("GET", "stats", key=f"bakch-{n:064x}").status for n in range(90)}
    assert statuses == {403, 429}
    assert chan("GET", "stats").status == 200
    assert old not in (server.data / "catalog.db").read_bytes().decode("latin-1")
    assert server.api_key not in server.said()


def test_15_nobody_comes_in_without_the_key(chan: Chan) -> None:
    """Closed, also from this machine, and with 401 where nothing was given."""
    for headers in ({}, {"Bearer": chan.server.api_key}, {"X-Forwarded-For": "127.0.0.1"},
                    {"Authorization": f"bearer {chan.server.api_key}"}):  # fmt: skip
        answer = chan("GET", "target", headers=headers, key="")
        assert (answer.status, answer.json()["message"]) == (401, "Unauthorized")
    wrong = chan("GET", "target", key="bakch-" + "0" * 64)
    assert wrong.status in {403, 429}
    padded = {"Authorization": f"Bearer   {chan.server.api_key}  "}
    assert chan("GET", "target", headers=padded, key="").status == 200


# --- protocol -----------------------------------------------------------------------------------


def test_17_every_refusal_is_json(chan: Chan) -> None:
    """With `success` false, a sentence, and no status of 500."""
    target = chan.target()
    backup = chan.put(target, A)["id"]
    json_type = {"Content-Type": "application/json"}
    refused = [
        (chan("GET", "target?page=0"), 400), (chan("GET", "target?page=x"), 400),
        (chan("POST", "target", b"{", json_type), 400), (chan("POST", "target", b"[]"), 400),
        (chan("POST", "target", b"name=x", {"Content-Type": "text/plain"}), 400),
        (chan("PATCH", f"target/{target}", chan.draft(name="")), 400),
        (chan("GET", "nowhere"), 404), (chan("GET", "target/x/y/z"), 404),
        (chan("PUT", "target"), 405), (chan("POST", "jobs/force_run/recycle_job"), 405),
        (chan("GET", "log?tail=x"), 400), (chan("GET", "target/none"), 404),
        (chan("DELETE", "target/none", {"delete_files": True}), 404),
        (chan("DELETE", "target/none", {"delete_files": False}), 404),
        (chan.upload(target, MANUAL), 400),
        (chan.upload(target, MANUAL, ("backup_file", "a", A), ("backup_file", "b", B)), 400),
        (chan("POST", f"target/{target}/upload", b"x"), 400),
        (chan("PATCH", f"backup/{backup}", {"is_recycled": False}), 400),
        (chan("GET", f"backup/{backup}/download", headers={"Range": "bytes=9999999-"}), 416),
    ]  # fmt: skip
    for answer, status in refused:
        assert answer.status == status, answer.body
        assert answer.headers["content-type"] == "application/json"
        assert answer.json()["success"] is False
        assert answer.json()["message"]
        assert b"Traceback" not in answer.body


def test_18_uploads_may_be_larger_than_ten_mebibytes(chan: Chan, place: dict[str, str]) -> None:
    large = os.urandom(1 << 20) * 33
    target = chan.target(**place)
    assert chan.content(chan.put(target, large)["id"]) == large


def test_19_changes_by_others_are_seen_at_once(chan: Chan) -> None:
    """What another process has written, the next request knows."""
    target = chan.target()
    service = open_service(chan.server.data)
    try:
        found = service.targets.get(SHELL, target)
        arriving = service.backups.receive(SHELL, found, "elsewhere.bin")
        arriving.write(A)
        backup = arriving.finish().result(60).uid
    finally:
        service.close()
    assert chan.kept(target) == [backup]
    assert chan.content(backup) == A


def test_20_many_at_once(chan: Chan) -> None:
    """Lists, uploads and downloads beside one another."""
    target = chan.target(location="main")
    kept = chan.put(target, A)["id"]

    def visit(number: int) -> bool:
        if number % 3 == 0:
            return chan.put(target, b"%d" % number + A) is not None
        if number % 3 == 1:
            return chan.content(kept) == A
        return chan("GET", "target").status == 200

    began = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(12) as pool:
        assert all(pool.map(visit, range(60)))
    assert len(chan.kept(target)) == 21
    assert time.monotonic() - began < 60
