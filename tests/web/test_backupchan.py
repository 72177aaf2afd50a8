"""The Backup-chan face, as its published client library uses it and its document describes it."""

from __future__ import annotations

import io
import os
import re
import sqlite3
import tarfile
import time
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

import pytest
from backupchan import (
    API,
    BackupchanAPIError,
    BackupRecycleAction,
    BackupRecycleCriteria,
    BackupType,
    SequentialFile,
)
from tests.web.chan import MANUAL, Chan, files_below, tar_of, zip_of

if TYPE_CHECKING:
    from pathlib import Path

    from tests.web.conftest import Server

DAY = 86_400 * 10**9
SOME = os.urandom(300_000)


@pytest.fixture(scope="module")
def chan(server: Server) -> Chan:
    return Chan(server, server.data.parent / "roots")


@pytest.fixture(scope="module")
def api(server: Server) -> API:
    return API("127.0.0.1", server.port, server.api_key)


@pytest.fixture(params=["plain", "repository"])
def place(request: pytest.FixtureRequest, chan: Chan) -> dict[str, str]:
    """Where a target keeps its backups, to be merged into a draft."""
    return {} if request.param == "plain" else {"location": "main"}


def new_target(api: API, name: str, kind: BackupType, **changes: Any) -> str:
    values = {
        "recycle_criteria": BackupRecycleCriteria.NONE,
        "recycle_value": 0,
        "recycle_action": BackupRecycleAction.RECYCLE,
        "location": "",
        "name_template": f"{name}-$I",
        "deduplicate": False,
        "alias": None,
        "min_backups": None,
        "tags": None,
    }
    return str(api.new_target(name, kind, **(values | changes)))


def age(chan: Chan, backup: str, days: float) -> None:
    """Moves a backup into the past, behind the running server's back."""
    past = time.time_ns() - int(days * DAY)
    with sqlite3.connect(chan.server.data / "catalog.db", timeout=30) as catalog:
        changed = catalog.execute(
            "UPDATE backup SET received = ?, created = ? WHERE uid = ?", (past, past, backup)
        )
    assert changed.rowcount == 1


# --- the client library -----------------------------------------------------------------------


def test_library_single_file(api: API, chan: Chan, tmp_path: Path) -> None:
    """Made, uploaded, listed, downloaded, recycled, brought back, deleted."""
    where = chan.roots / "library-single"
    target = new_target(
        api, "library single", BackupType.SINGLE, location=str(where), alias="library",
        name_template="ls-$I-$M", tags=["cool", "beans"],
    )  # fmt: skip
    assert isinstance(api.upload_backup("library", io.BytesIO(SOME), "data.tar.gz", False), int)
    found, [backup] = api.get_target("library")
    assert (found.id, found.target_type, found.tags, found.min_backups) == (
        target, "single", ["cool", "beans"], 0,
    )  # fmt: skip
    assert (backup.filesize, backup.manual, backup.is_recycled) == (len(SOME), False, False)
    assert abs((datetime.now(UTC) - backup.created_at).total_seconds()) < 120
    # One extension only, as the original: files lie under the name that the template gives.
    assert files_below(where) == [f"ls-{backup.id}-auto.gz"]
    saved = api.download_backup(backup.id, str(tmp_path))
    assert os.path.basename(saved) == f"ls-{backup.id}-auto.gz"
    with open(saved, "rb") as file:
        assert file.read() == SOME

    api.recycle_backup(backup.id, True)
    assert [each.id for each in api.list_recycled_backups()] == [backup.id]
    assert files_below(where) == []
    api.recycle_backup(backup.id, False)
    assert files_below(where) == [f"ls-{backup.id}-auto.gz"]
    api.delete_backup(backup.id, True)
    assert api.get_target(target)[1] == []
    assert files_below(where) == []
    api.delete_target(target, True)


def test_library_folder(api: API, tmp_path: Path, place: dict[str, str]) -> None:
    """A folder goes up as an archive and comes back as the tree that it was; a second file of
    zeros that packs a thousand times is no reason to refuse it.
    """
    folder = tmp_path / "stuff"
    (folder / "deep" / "er").mkdir(parents=True)
    (folder / "deep" / "er" / "ünï.bin").write_bytes(SOME)
    (folder / "zeros").write_bytes(bytes(30 << 20))
    (folder / "empty").mkdir()
    (folder / "link").symlink_to("deep/er")
    name = f"folder {place.get('location', 'plain')}"
    target = new_target(
        api, name, BackupType.MULTI, name_template=f"{name}-$D",
        location=place.get("location", str(tmp_path.parent.parent / "roots" / "folder")),
    )  # fmt: skip
    for path in (f"{folder}", f"{folder}/"):  # tar says another thing about each
        api.upload_backup_folder(target, path, True)
    _, backups = api.get_target(target)
    assert [each.filesize for each in backups] == [len(SOME) + (30 << 20)] * 2
    for backup, top in zip(backups, ("", "stuff/"), strict=True):
        saved = api.download_backup(backup.id, str(tmp_path))
        assert os.path.basename(saved) == f"{name}_{backup.id}.tar.xz"
        with tarfile.open(saved) as tar:
            names = tar.getnames()
            inner = tar.extractfile(next(each for each in names if each.endswith("ünï.bin")))
            assert inner is not None
            assert inner.read() == SOME
        assert len({each.partition("/")[0] for each in names}) == 1
        below = {each.partition("/")[2] for each in names}
        assert {f"{top}{each}" for each in ("zeros", "empty", "link", "deep/er")} <= below
    with pytest.raises(BackupchanAPIError, match="directory"):
        api.upload_backup_folder(target, str(folder / "zeros"), True)


def test_library_edits_and_searches(api: API) -> None:
    target = new_target(api, "findme one", BackupType.MULTI, tags=["red", "blue"], alias="findme")
    new_target(api, "findme two", BackupType.SINGLE, tags=["red"], deduplicate=True)
    api.edit_target(
        target, "findme 100%", BackupRecycleCriteria.AGE, 7, BackupRecycleAction.DELETE, "main",
        "findme_$D-$I", True, "found-me", 3, ["red", "green"],
    )  # fmt: skip
    found, _ = api.get_target("found-me")
    assert (found.name, found.target_type) == ("findme 100%", "multi")
    assert (found.recycle_criteria, found.recycle_value) == ("age", 7)
    assert (found.recycle_action, found.min_backups) == ("delete", 3)
    assert (found.name_template, found.deduplicate) == ("findme_$D-$I", True)
    assert found.tags == ["red", "green"]

    def names(**wanted: Any) -> list[str]:
        return [each.name for each in api.search_targets(**wanted) if "findme" in each.name]

    assert names(name="FINDME") == ["findme 100%", "findme two"]
    assert names(name="0%") == ["findme 100%"]
    assert names(alias="found") == names(name_template="me_$D") == ["findme 100%"]
    assert names(tags=["red"]) == ["findme 100%", "findme two"]
    assert names(tags=["red", "green"], name="find") == ["findme 100%"]
    assert names(target_type=BackupType.SINGLE, tags=["red"]) == ["findme two"]
    assert names(recycle_criteria=BackupRecycleCriteria.AGE, tags=["green"]) == ["findme 100%"]
    assert names(recycle_action=BackupRecycleAction.DELETE, tags=["red"]) == ["findme 100%"]
    assert names(deduplicate=True, tags=["red"]) == ["findme 100%", "findme two"]
    assert names(deduplicate=False, tags=["red"]) == []
    assert names(location="mai", tags=["green"]) == ["findme 100%"]
    # The command line sends what it was not given as nothing.
    assert names(name="findme 100%", alias="", location="") == ["findme 100%"]
    with pytest.raises(BackupchanAPIError) as refused:
        api.search_targets()
    assert refused.value.status_code == 400


def test_library_sequential(api: API, place: dict[str, str], tmp_path: Path) -> None:
    """File by file, resumed by a client that was interrupted, as the command line does it."""
    name = f"sequential {place.get('location', 'plain')}"
    location = place.get("location", str(tmp_path.parent.parent / "roots" / "seq"))
    target = new_target(api, name, BackupType.MULTI, location=location, alias=name.replace(" ", ""))
    alias = name.replace(" ", "")
    files = [
        (SequentialFile("/", "a.txt", False), b"aaa"),
        (SequentialFile("/deep/er", "b.bin", False), SOME),
        (SequentialFile("/deep", "empty", False), b""),
    ]
    with pytest.raises(BackupchanAPIError) as idle:
        api.seq_check(alias)
    assert idle.value.status_code == 400
    api.seq_begin(alias, [file for file, _ in files], False)
    api.seq_upload(target, io.BytesIO(files[1][1]), files[1][0])

    with pytest.raises(BackupchanAPIError, match="Target busy") as busy:
        api.seq_begin(target, [file for file, _ in files], False)
    assert busy.value.status_code == 400
    with pytest.raises(BackupchanAPIError) as early:
        api.seq_finish(target)
    assert early.value.status_code == 409
    with pytest.raises(BackupchanAPIError) as again:
        api.seq_upload(target, io.BytesIO(b"other"), files[1][0])
    assert again.value.status_code == 409
    with pytest.raises(BackupchanAPIError) as unknown:
        api.seq_upload(target, io.BytesIO(b"other"), SequentialFile("/", "b.bin", False))
    assert unknown.value.status_code == 400

    there = api.seq_check(target)
    assert [each.uploaded for each in there] == [False, True, False]
    for (file, content), known in zip(files, there, strict=True):
        if not known.uploaded:
            api.seq_upload(alias, io.BytesIO(content), file)
    assert api.get_target(target)[1] == []
    api.seq_finish(alias)
    _, [backup] = api.get_target(target)
    assert (backup.manual, backup.filesize) == (False, 3 + len(SOME))
    with tarfile.open(api.download_backup(backup.id, str(tmp_path))) as tar:
        given = {
            member.name.partition("/")[2]: taken.read()
            for member in tar
            if (taken := tar.extractfile(member)) is not None
        }
    assert given == {"a.txt": b"aaa", "deep/er/b.bin": SOME, "deep/empty": b""}

    api.seq_begin(target, [files[0][0]], True)
    api.seq_terminate(target)
    with pytest.raises(BackupchanAPIError) as over:
        api.seq_terminate(target)
    assert over.value.status_code == 400


def test_library_jobs_log_and_stats(api: API, chan: Chan) -> None:
    """Times are dates in every state: the library reads nothing else."""
    target = chan.target()
    before = api.view_stats()
    backup = chan.put(target, SOME)["id"]
    chan("PATCH", f"backup/{backup}", {"is_recycled": True})
    after = api.view_stats()
    assert after.program_version.startswith("2.9")
    assert after.total_backups - before.total_backups == 1
    assert after.total_recycled_backups - before.total_recycled_backups == 1
    assert after.total_target_size - before.total_target_size == len(SOME)
    assert after.total_recycle_bin_size - before.total_recycle_bin_size == len(SOME)

    assert chan.run("recycle_job")["status"] == "FINISHED"
    delayed, scheduled = api.list_jobs()
    assert {"upload_job", "recycle_job"} <= {each.name for each in delayed}
    intervals = {each.name: each.interval for each in scheduled}
    assert {
        "recycle_job": 3600,
        "backup_filesize_job": 7200,
        "deduplicate_job": 18000,
        "stale_seq_upload_job": 3600,
        "tmp_purge_job": 43200,
    }.items() <= intervals.items()
    for each in chan("GET", "jobs").json()["scheduled"]:
        assert 0 < each["next_run"] - time.time() <= each["interval"]
    for each in chan("GET", "jobs").json()["delayed"]:
        assert parsedate_to_datetime(each["start_time"]) <= parsedate_to_datetime(each["end_time"])
    with pytest.raises(BackupchanAPIError) as unknown:
        api.force_run_job("no_such_job")
    assert unknown.value.status_code == 404

    log = api.get_log(0)
    assert re.search(rf"\[holdfast.backups\] \[INFO\]: backup.create backup {backup} ", log)
    assert re.search(rf"\[INFO\]: backup.change backup {backup} actor=api-key .*recycled", log)
    assert re.search(r"\[holdfast.tasks\] \[INFO\]: task.end task \d+ kind=expire ", log)
    assert len(api.get_log(3).splitlines()) == 3
    assert chan.server.api_key not in log


# --- the document -----------------------------------------------------------------------------


def test_document_targets(chan: Chan) -> None:
    """The example payloads and answers, word by word."""
    payload = {
        "name": "My backup", "backup_type": "multi", "recycle_criteria": "count",
        "recycle_value": 10, "recycle_action": "recycle", "location": "/var/backups/MyBackup",
        "name_template": "backup-$I-$D", "deduplicate": True, "alias": "mybackup",
        "min_backups": 2, "tags": ["cool", "beans"],
    }  # fmt: skip
    made = chan("POST", "target", payload)
    assert made.status == 201
    assert set(made.json()) == {"success", "id"}
    uid = made.json()["id"]
    assert re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", uid)
    shown = {**payload, "id": uid, "target_type": "multi"}
    del shown["backup_type"]
    assert chan("GET", f"target/{uid}").json() == {
        "success": True, "target": shown, "backups": [],
    }  # fmt: skip
    assert shown in chan("GET", "target/search?name=My%20backup").json()["targets"]

    edited = {
        "name": "New name of target", "recycle_criteria": "age", "recycle_value": 11,
        "recycle_action": "delete", "location": "/path/to/backups",
        "name_template": "name-template-$I-$D", "deduplicate": False, "alias": "new-alias",
        "num_backups": 7, "tags": ["uncool", "beans"], "backup_type": "single",
    }  # fmt: skip
    answer = chan("PATCH", "target/mybackup", edited)  # by the alias that changes
    assert (answer.status, answer.json()) == (200, {"success": True})
    now = chan("GET", "target/new-alias").json()["target"]
    assert now == {
        **{name: value for name, value in edited.items() if name in shown},
        "id": uid,
        "min_backups": 7,
        "target_type": "multi",
    }
    assert chan("GET", "target/mybackup").status == 404
    # What is optional stays as it was; null takes an alias away.
    del edited["tags"], edited["num_backups"]
    assert chan("PATCH", f"target/{uid}", {**edited, "alias": None}).status == 200
    now = chan("GET", f"target/{uid}").json()["target"]
    assert (now["alias"], now["tags"], now["min_backups"]) == (None, ["uncool", "beans"], 7)
    gone = chan("DELETE", f"target/{uid}", {"delete_files": True})
    assert (gone.status, gone.json()) == (200, {"success": True})
    assert chan("GET", f"target/{uid}").status == 404


def test_document_optional_fields(chan: Chan) -> None:
    """What the document leaves out may be left out; old libraries send no tags."""
    draft = chan.draft()
    for name in ("tags", "alias", "deduplicate", "min_backups"):
        del draft[name]
    uid = chan("POST", "target", draft).json()["id"]
    found = chan("GET", f"target/{uid}").json()["target"]
    assert (found["tags"], found["alias"], found["deduplicate"], found["min_backups"]) == (
        [], None, False, 0,
    )  # fmt: skip
    for changes in ({"min_backups": None}, {"tags": None}, {"tags": [","]}):
        assert chan("GET", f"target/{chan.target(**changes)}").json()["target"]["tags"] == []


def test_document_pages(chan: Chan) -> None:
    """Ten a page, by name; past the end there is nothing."""
    for number in range(25):
        chan.target(name=f"zz page {number:02}", location="")
    found: list[str] = []
    for page in range(1, 50):
        names = [each["name"] for each in chan("GET", f"target?page={page}").json()["targets"]]
        if not names:
            break
        assert len(names) <= 10
        found += names
    assert found == sorted(found)
    assert found[-25:] == [f"zz page {number:02}" for number in range(25)]
    first = [each["name"] for each in chan("GET", "target").json()["targets"]]
    assert first == found[:10]


@pytest.mark.parametrize(
    "missing",
    ["name", "backup_type", "recycle_criteria", "recycle_value", "recycle_action", "location",
     "name_template"],
)  # fmt: skip
def test_document_required(chan: Chan, missing: str) -> None:
    draft = chan.draft()
    del draft[missing]
    answer = chan("POST", "target", draft)
    assert answer.status == 400
    assert answer.json()["message"] == f"Parameter '{missing}' required"
    if missing != "backup_type":
        target = chan.target()
        answer = chan("PATCH", f"target/{target}", draft)
        assert (answer.status, answer.json()["message"]) == (
            400, f"Parameter '{missing}' required",
        )  # fmt: skip


def test_document_backups(chan: Chan, place: dict[str, str]) -> None:
    """Upload, list, recycle, restore and delete, with the answers that are shown there."""
    target = chan.target(**place)
    for manual, said in ((b"true", True), (b"false", False), (b"1", True), (b"0", False),
                         (b"False", False), (b"True", True)):  # fmt: skip
        answer = chan.upload(
            target, ("manual", None, manual), ("backup_file", "x.txt", manual + SOME)
        )
        assert answer.status == 200
        assert set(answer.json()) == {"success", "job_id"}
        backup = chan.backups(target)[0]
        assert backup["manual"] is said
        assert chan.content(backup["id"]) == manual + SOME
    assert {"id", "target_id", "created_at", "manual", "is_recycled", "filesize"} <= set(backup)
    assert backup["target_id"] == target
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", backup["created_at"])
    backup = backup["id"]

    recycled = chan("PATCH", f"backup/{backup}", {"is_recycled": True})
    assert (recycled.status, recycled.json()) == (200, {"success": True})
    shown = [each for each in chan("GET", "recycle_bin").json()["backups"] if each["id"] == backup]
    assert shown[0]["is_recycled"] is True
    assert shown == [each for each in chan.backups(target) if each["id"] == backup]
    assert chan.content(backup) == b"True" + SOME  # still there for whoever asks
    assert chan("PATCH", f"backup/{backup}", {"is_recycled": True}).status == 400
    assert chan("PATCH", f"backup/{backup}", {"is_recycled": False}).status == 200
    assert chan("PATCH", f"backup/{backup}", {"is_recycled": False}).status == 400

    assert chan("DELETE", f"backup/{backup}", {"delete_files": True}).json() == {"success": True}
    for method, body in (("DELETE", {"delete_files": True}), ("PATCH", {"is_recycled": True})):
        assert chan(method, f"backup/{backup}", body).status == 404
    assert chan("GET", f"backup/{backup}/download").status == 404
    kept = chan.kept(target)
    assert len(kept) == 5
    for each in kept[:2]:
        chan("PATCH", f"backup/{each}", {"is_recycled": True})
    assert chan("DELETE", f"target/{target}/recycled", {"delete_files": True}).status == 200
    assert [each["id"] for each in chan.backups(target)] == kept[2:]
    assert chan("DELETE", f"target/{target}/all", {"delete_files": True}).status == 200
    assert chan.backups(target) == []


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("DELETE", "target/{target}", {}), ("DELETE", "target/{target}/all", {}),
        ("DELETE", "target/{target}/recycled", {}), ("DELETE", "backup/{backup}", {}),
        ("PATCH", "backup/{backup}", {}), ("DELETE", "recycle_bin", {}),
        ("POST", "seq/{target}/begin", {"file_list": [{"path": "/", "name": "a"}]}),
        ("POST", "seq/{target}/begin", {"manual": True}),
    ],
)  # fmt: skip
def test_required_parameters(chan: Chan, method: str, path: str, body: dict[str, Any]) -> None:
    target = chan.target(backup_type="multi")
    backup = chan.put(target, b"x")["id"]
    answer = chan(method, path.format(target=target, backup=backup), body)
    assert answer.status == 400
    assert re.fullmatch(r"Parameter '\w+' required", answer.json()["message"])
    assert chan.kept(target) == [backup]


def test_templates_in_full(chan: Chan) -> None:
    """`$I`, `$D` and `$M`, for single files and for folders."""
    single = chan.target(name_template="t1-$D-$I-$M", location=str(chan.roots / "names"))
    multi = chan.target(
        name_template="t2-$M-$D", location=str(chan.roots / "names"), backup_type="multi"
    )
    one, two = chan.put(single, b"1", "a.b.c"), chan.put(multi, b"2", "a.b.c")
    moment = one["created_at"].removesuffix("+00:00")
    assert f"t1-{moment}-{one['id']}-manual.c" in files_below(chan.roots / "names")
    moment = two["created_at"].removesuffix("+00:00")
    assert f"t2-manual-{moment}/a.b.c" in files_below(chan.roots / "names")
    header = chan("GET", f"backup/{one['id']}/download").headers["content-disposition"]
    assert header == f'attachment; filename="t1-{one["created_at"][:19]}-{one["id"]}-manual.c"'


def test_targets_that_cannot_be(chan: Chan) -> None:
    """Refused whole: no target is left behind, and the sentence names the field."""
    taken = chan.draft(alias="taken-alias", name_template="taken-$I")
    chan.target(**taken)
    number = chan("GET", "stats").json()["total_targets"]
    for field, changes in (
        ("name", {"name": "  "}), ("name", {"name": "x" * 256}), ("name", {"name": "a\x07"}),
        ("name_template", {"name_template": "none"}), ("slash", {"name_template": "../$I"}),
        ("name_template", {"name_template": "$I" + "x" * 250}),
        ("template", {"name_template": "taken-$I"}), ("alias", {"alias": "taken-alias"}),
        ("alias", {"alias": ""}), ("alias", {"alias": "0" * 8 + "-0000" * 3 + "-" + "0" * 12}),
        ("location", {"location": "a\nb"}), ("location", {"location": "x" * 256}),
        ("tags", {"tags": ["two words"]}), ("tags", {"tags": ["a,b"]}), ("tags", {"tags": [""]}),
        ("tags", {"tags": ["x" * 51]}), ("tags", {"tags": ["twice", "twice"]}),
        ("backup_type", {"backup_type": "double"}), ("criteria", {"recycle_criteria": "size"}),
        ("action", {"recycle_action": "burn"}), ("recycle_value", {"recycle_value": -1}),
        ("recycle_value", {"recycle_value": "many"}), ("min_backups", {"min_backups": -1}),
        ("deduplicate", {"deduplicate": "maybe"}),
        (".holdfast", {"location": f"{chan.roots}/.holdfast/x"}),
    ):  # fmt: skip
        answer = chan("POST", "target", chan.draft(**changes))
        assert answer.status == 400, changes
        assert field in answer.json()["message"].replace("_", " " if field == "template" else "_")
        assert answer.json()["success"] is False
    assert chan("GET", "stats").json()["total_targets"] == number


# --- retention, moving, other jobs --------------------------------------------------------------


def test_count_retention(chan: Chan, place: dict[str, str]) -> None:
    """The newest stay, whatever `min_backups` says; what lies in the bin is not counted."""
    target = chan.target(recycle_criteria="count", recycle_value=2, min_backups=9, **place)
    ids = [chan.put(target, b"%d" % number)["id"] for number in range(4)]
    chan("PATCH", f"backup/{ids[3]}", {"is_recycled": True})
    chan.run("recycle_job")
    assert chan.kept(target) == [ids[2], ids[1]]
    assert {each["id"] for each in chan.backups(target)} == set(ids)
    chan.run("recycle_job")
    assert chan.kept(target) == [ids[2], ids[1]]
    assert chan.content(ids[0]) == b"0"  # recycled, not gone


def test_age_retention(chan: Chan, place: dict[str, str]) -> None:
    """Older than so many whole days, the oldest first, while more than the least are left."""
    target = chan.target(
        recycle_criteria="age", recycle_value=7, recycle_action="delete", min_backups=2, **place
    )
    ids = [chan.put(target, b"%d" % number)["id"] for number in range(5)]
    for backup, days in zip(ids, (30, 20, 10, 8.1, 7.9), strict=True):
        age(chan, backup, days)
    chan.run("recycle_job")
    assert chan.kept(target) == [ids[4], ids[3]]  # 8.1 days are more than 7, but two stay
    draft = chan.draft(recycle_criteria="age", recycle_value=7, recycle_action="delete", **place)
    found = chan("GET", f"target/{target}").json()["target"]
    chan(
        "PATCH", f"target/{target}",
        draft | {name: found[name] for name in ("location", "name_template")},
    )  # fmt: skip
    chan.run("recycle_job")
    assert chan.kept(target) == [ids[4]]
    assert [each["id"] for each in chan.backups(target)] == [ids[4]]
    if not place:
        assert len(files_below(chan.roots / found["name"])) == 1


def test_a_moved_target_takes_its_backups_along(chan: Chan, eventually: Any) -> None:
    """Another location, another template, a repository and back: readable all the time."""
    target = chan.target(alias="mover")
    kept, binned = chan.put(target, SOME, "x.dat")["id"], chan.put(target, b"2", "x.dat")["id"]
    chan("PATCH", f"backup/{binned}", {"is_recycled": True})
    first = chan("GET", f"target/{target}").json()["target"]["location"]

    def move(location: str, template: str) -> None:
        draft = chan.draft(location=location, name_template=template, alias="mover")
        assert chan("PATCH", "target/mover", draft).status == 200

    there = chan.roots / "moved"
    for location, template, expected in (
        (str(there), "moved-$I", there / f"moved-{kept}.dat"),
        (str(there), "again-$I", there / f"again-{kept}.dat"),
        ("main", "again-$I", None),
        (str(there / "below"), "back-$I", there / "below" / f"back-{kept}.dat"),
    ):
        move(location, template)
        assert chan.content(kept) == SOME
        if expected is not None:
            eventually(expected.exists)
            assert expected.read_bytes() == SOME
        else:
            eventually(lambda: not files_below(there))
        assert chan.content(kept) == SOME
        assert chan.content(binned) == b"2"
    assert files_below(chan.roots / os.path.basename(first)) == []
    assert chan("PATCH", f"backup/{binned}", {"is_recycled": False}).status == 200
    eventually((there / "below" / f"back-{binned}.dat").exists)
    assert chan.put(target, b"3", "x.dat")["id"] in " ".join(files_below(there / "below"))


def test_delete_files_false_leaves_them(chan: Chan) -> None:
    """Out of the list; on the disk until somebody removes them there."""
    target = chan.target()
    location = chan.roots / chan("GET", f"target/{target}").json()["target"]["name"]
    backup = chan.put(target, SOME)["id"]
    assert chan("DELETE", f"backup/{backup}", {"delete_files": False}).status == 200
    assert chan.backups(target) == []
    assert chan("GET", f"backup/{backup}/download").status == 404
    [left] = files_below(location)
    assert (location / left).read_bytes() == SOME
    assert chan("DELETE", f"target/{target}", {"delete_files": False}).status == 200
    assert files_below(location) == [left]


@pytest.mark.parametrize(
    ("name", "content"),
    [("x.tar", tar_of(("d/a", SOME), ("b", b""), mode="w")),
     ("x.tar.gz", tar_of(("d/a", SOME), ("b", b""))),
     ("X.TGZ", tar_of(("d/a", SOME), ("b", b""))),
     ("x.tar.xz", tar_of(("d/a", SOME), ("b", b""), mode="w:xz")),
     ("x.tar.bz2", tar_of(("d/a", SOME), ("b", b""), mode="w:bz2")),
     ("x.zip", zip_of(("d/a", SOME), ("b", b"")))],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_archives_become_folders(
    chan: Chan, place: dict[str, str], name: str, content: bytes
) -> None:
    target = chan.target(backup_type="multi", **place)
    assert chan.files(chan.put(target, content, name)["id"]) == {"d/a": SOME, "b": b""}


@pytest.mark.parametrize("name", ["report.docx", "dump.sql.gz", "x.tar.gz", "100%.txt", "tar"])
def test_other_files_stay_what_they_are(chan: Chan, place: dict[str, str], name: str) -> None:
    """Content that is packed is no archive without the name, nor the name without the content."""
    content = b"no archive" if name.startswith(("x", "1")) else zip_of(("a", SOME))
    target = chan.target(backup_type="multi", **place)
    assert chan.files(chan.put(target, content, name)["id"]) == {name: content}


def test_several_files_at_once(chan: Chan, place: dict[str, str]) -> None:
    """No file takes the place of another, and what follows an archive is kept as it is."""
    target = chan.target(backup_type="multi", **place)
    archive = tar_of(("d/a", b"1"), ("c", b"2"))
    answer = chan.upload(
        target, ("backup_file", "x.tar.gz", archive), ("backup_file", "c", b"3"),
        ("backup_file", "y.tar.gz", archive), ("backup_file", "c", b"4"), MANUAL,
    )  # fmt: skip
    assert answer.status == 200
    files = chan.files(chan.kept(target)[0])
    assert {files.pop(name) for name in ("d/a", "c", "y.tar.gz")} == {b"1", b"2", archive}
    assert sorted(files.values()) == [b"3", b"4"]
    assert all(name.startswith("c~") for name in files)


def test_only_its_own_are_shown(chan: Chan, server: Server) -> None:
    """Backups of other faces are neither listed nor reached, whatever is known of them."""
    stats = chan("GET", "stats").json()
    import base64

    credentials = base64.b64encode(server.account.encode()).decode()
    put = server.request(
        "PUT", "/other", SOME, {"Authorization": f"Basic {credentials}"}, base=server.restbackup
    )
    assert put.status == 201
    with sqlite3.connect(server.data / "catalog.db", timeout=30) as catalog:
        [(uid, target)] = catalog.execute(
            "SELECT backup.uid, target.uid FROM backup JOIN target ON target.id = target_id "
            "WHERE target.face = 'restbackup'"
        ).fetchall()
        catalog.execute("UPDATE backup SET state = 'recycled' WHERE uid = ?", (uid,))
    try:
        assert chan("GET", f"target/{target}").status == 404
        assert chan("GET", f"backup/{uid}/download").status == 404
        assert chan("DELETE", f"backup/{uid}", {"delete_files": True}).status == 404
        assert uid not in {each["id"] for each in chan("GET", "recycle_bin").json()["backups"]}
        assert chan("GET", "stats").json() == stats
    finally:
        with sqlite3.connect(server.data / "catalog.db", timeout=30) as catalog:
            catalog.execute("UPDATE backup SET state = 'kept' WHERE uid = ?", (uid,))
