"""The verbs about targets, plans, tasks, hosts and the catalog, beside a server that runs."""

from __future__ import annotations

import os
import stat
import time

import pytest

from holdfast.cli.messages import MESSAGES
from holdfast.core.records import TaskState
from holdfast.service.opening import open_ground
from holdfast.service.server import Service

KINDS = {
    "text": str,
    "integer": int,
    "number": (int, float),
    "flag": bool,
    "list": list,
    "object": dict,
}


@pytest.fixture
def server(tmp_path, monkeypatch, holdfast):
    """What a server has open all the while, with a pool of each kind."""
    service = Service.on(open_ground(tmp_path / "data"))
    monkeypatch.setenv("HOLDFAST_DATA", str(tmp_path / "data"))
    assert holdfast("pool", "add", "main", tmp_path / "pool").code == 0
    assert holdfast("pool", "add", "plain", tmp_path / "plain", "--plain").code == 0
    yield service
    service.close()


@pytest.fixture
def told(holdfast):
    """Runs a verb with --json; its objects, which have the fields of the reference."""

    def call(*words):
        ended = holdfast(*words, "--json")
        assert ended.code == 0, ended.err
        return [held(words, each) for each in ended.json]

    return call


def held(words, found):
    verb = " ".join(words[:2])
    [message] = [
        each for each in MESSAGES if (each.verb, each.type) == (verb, found["message_type"])
    ]
    fields = {field.name: field for field in message.fields}
    optional = {"tokens"}
    assert set(found) - {"message_type"} <= set(fields), found
    assert set(fields) - set(found) <= optional, found
    for name, value in found.items():
        if name in fields and (value is not None or not fields[name].optional):
            assert isinstance(value, KINDS[fields[name].kind]), (name, value)
    return found


def test_targets(holdfast, server, told, tmp_path):
    """From being made to being removed; what is not given stays as it is."""
    [made] = told(
        "target", "add", "db", "--pool", "main", "--keep-days", "30", "--keep-at-least", "2",
        "--then", "delete", "--alias", "d", "--template", "db-$I", "--tag", "nightly",
    )  # fmt: skip
    [changed] = told("target", "change", "d", "--name", "database", "--keep-count", "5")
    assert changed["keep"] == {
        "criteria": "count", "value": 5, "action": "delete", "min_backups": 2,
    }  # fmt: skip
    assert (changed["alias"], changed["tags"], changed["id"]) == ("d", ["nightly"], made["id"])
    assert told("target", "list") == [changed | {"message_type": "target"}]
    for name in ("database", "d", made["id"]):
        assert told("target", "show", name)[0]["id"] == made["id"]
    assert "database" in holdfast("target", "list").out
    assert "5 newest, then delete" in holdfast("target", "list").out
    (tmp_path / "dump").write_bytes(b"x" * 1000)
    [kept] = told("target", "backup", "database", str(tmp_path / "dump"))
    assert (kept["name"], kept["size"]) == ("dump", 1000)
    assert [each["id"] for each in told("target", "show", "d")[1:]] == [kept["id"]]
    assert holdfast("target", "remove", "d").code == 1
    told("target", "remove", "d", "--yes")
    assert told("target", "list") == []


def test_a_backup_of_a_tree(holdfast, server, told, tmp_path):
    """Folders with all that is in them, links as links; read back as they were."""
    folder = tmp_path / "folder"
    (folder / "below").mkdir(parents=True)
    (folder / "below" / "file").write_bytes(b"content")
    (folder / "link").symlink_to("/nowhere")
    for pool in ("main", "plain"):
        told("target", "add", pool, "--pool", pool, "--multi")
        [kept] = told("target", "backup", pool, str(folder))
        from holdfast.core.access import SHELL

        backup = server.backups.get(SHELL, kept["id"])
        entries = {each.path: each for each in server.backups.entries(SHELL, backup)}
        assert entries["folder/link"].link == "/nowhere"
        content = server.backups.open(SHELL, backup, "folder/below/file").pieces()
        assert b"".join(content) == b"content"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["target", "add", "x", "--keep-count", "1", "--keep-days", "1"], "exclude one another"),
        (["target", "add", "x", "--then", "burn"], "neither recycle nor delete"),
        (["target", "show", "nobody"], "no target nobody"),
        (["target", "backup", "t"], "has no source"),
        (["target", "backup", "t", "-"], "needs --name"),
        (["target", "backup", "t", "/nowhere"], "cannot be read"),
        (["target", "backup", "t", "/a", "/b"], "is one file"),
        (["plan", "add", "p", "backup"], "--cron or --every"),
        (["plan", "add", "p", "backup", "--every", "soon"], "no interval"),
        (["plan", "add", "p", "dance", "--every", "1h"], "nothing does 'dance'"),
        (["plan", "change", "nobody", "--off"], "no plan nobody"),
        (["task", "show", "7"], "no task 7"),
        (["task", "run", "dance"], "no kind of task"),
        (["task", "run", "backup"], "needs --target"),
        (["task", "run", "move", "--to", "plain"], "needs --backup and --to"),
        (["task", "list", "--state", "odd"], "no state 'odd'"),
        (["host", "add", "a/b"], "cannot be called"),
        (["host", "remove", "nobody"], "no host nobody"),
        (["catalog", "rebuild", "--pool", "main"], "NAME=LOCATION"),
        (["catalog", "rebuild", "--kit", "/nowhere"], "cannot be read"),
        (["recovery-kit", "--output", "/proc/version"], "already"),
    ],
)
def test_mistakes_are_told(holdfast, server, words, said):
    """What happened, what is safe; the exit code is 1."""
    assert holdfast("target", "add", "t").code == 0
    ended = holdfast(*words)
    assert ended.code == 1
    assert said in ended.err
    assert "mistake in Holdfast" not in ended.err


def test_two_targets_of_one_name(holdfast, server, told):
    """Their ids are told."""
    ids = {told("target", "add", "twin")[0]["id"] for _ in range(2)}
    ended = holdfast("target", "show", "twin")
    assert ended.code == 1
    assert all(each in ended.err for each in ids)


def test_plans(holdfast, server, told):
    """Each is due when it says; one that is off never is."""
    told("target", "add", "db")
    [made] = told(
        "plan", "add", "nightly", "backup", "--cron", "30 2 * * *", "--zone", "Europe/Berlin",
        "--target", "db",
    )  # fmt: skip
    assert made["target"] == "db"
    assert made["next"].endswith(("00:30:00+00:00", "01:30:00+00:00"))
    [changed] = told("plan", "change", "nightly", "--every", "6h")
    assert (changed["every"], changed["cron"]) == (21600, "")
    assert "every 6h" in holdfast("plan", "list").out
    [off] = told("plan", "change", "nightly", "--off")
    assert (off["enabled"], off["next"]) == (False, None)
    assert holdfast("plan", "add", "nightly", "backup", "--every", "1d").code == 1
    told("plan", "remove", "nightly")
    assert told("plan", "list") == []


def test_tasks(holdfast, server, told, tmp_path):
    """Queued, paused, let go on, ended and begun anew, while no worker is there to run them."""
    told("target", "add", "docs", "--pool", "main", "--path", str(tmp_path))
    [made] = told("target", "backup", "docs")
    number = str(made["id"])
    assert (made["kind"], made["state"], made["target"]) == ("backup", "queued", "docs")
    assert told("task", "pause", number)[0]["state"] == "paused"
    assert told("task", "continue", number)[0]["state"] == "queued"
    assert holdfast("task", "restart", number).code == 1
    assert told("task", "kill", number)[0]["state"] == "cancelled"
    assert told("task", "restart", number)[0]["state"] == "queued"
    [other] = told("task", "run", "prune", "--pool", "main", "--priority", "7")
    assert (other["pool"], other["priority"]) == ("main", 7)
    assert [each["kind"] for each in told("task", "list")] == ["prune", "backup"]
    assert [each["kind"] for each in told("task", "list", "--target", "docs")] == ["backup"]
    assert told("task", "list", "--state", "running") == []
    assert "prune" in holdfast("task", "list").out
    assert "docs" in holdfast("task", "show", number).out
    assert told("task", "log", number) == []


@pytest.mark.parametrize(
    ("state", "code"),
    [("succeeded", 0), ("partial", 3), ("failed", 1), ("cancelled", 130)],
)
def test_the_exit_code_says_how_a_task_ended(holdfast, server, process, state, code):
    """Whoever waits for it learns the truth (I8)."""
    waiting = process("task", "run", "measure", "--wait", "--json")
    deadline = time.monotonic() + 60
    while True:
        with server.ground.catalog.write() as tx:
            tasks = tx.tasks.all(kind="measure")
            if tasks:
                tx.tasks.change(
                    tasks[0].id, state=TaskState(state), outcome={"message": "so it was"}
                )
                break
        assert time.monotonic() < deadline
        time.sleep(0.1)
    out, _ = waiting.communicate(timeout=60)
    assert waiting.returncode == code
    assert f'"state":"{state}"' in out


def test_hosts(holdfast, server, told):
    """A token's secret is told once; a revoked one is no more."""
    told("host", "add", "web1", "--note", "a web server")
    [made] = told("host", "token", "web1", "--name", "restic")
    assert made["secret"].startswith("hfh-")
    [shown] = told("host", "show", "web1")
    assert [each["id"] for each in shown["tokens"]] == [made["id"]]
    assert made["secret"] not in str(told("host", "list"))
    told("host", "revoke", "web1", made["id"])
    assert told("host", "list")[0]["tokens"] == []
    assert "web1" in holdfast("host", "list").out
    told("host", "remove", "web1")
    assert told("host", "list") == []


def test_the_catalog_is_copied_and_checked(holdfast, server, told, tmp_path):
    """F44 A record that is not as it was written, one that is missing, and a cut end are found."""
    told("host", "add", "web1")
    [made] = told("catalog", "backup", "--to", str(tmp_path / "copy"))
    assert made["path"] == str(tmp_path / "copy.db")
    assert holdfast("catalog", "backup", "--to", tmp_path / "copy").code == 1
    told("catalog", "backup")
    told("host", "add", "web2")
    [summary] = told("catalog", "check")
    lines = holdfast("catalog", "audit").json
    assert len(lines) == summary["audit_records"]
    assert lines[-1]["digest"] == summary["audit_digest"]
    assert all(held(["catalog", "audit"], {**each, "message_type": ""}) for each in lines)
    assert lines[-1]["subject"] == "host web2"
    assert holdfast("catalog", "audit", "--since", "2999-01-01").json == []
    for spoil in (
        lambda tx: tx.audit.change(2, actor="nobody"),
        lambda tx: tx.audit.remove(id=2),
        lambda tx: [tx.audit.remove(id=each["id"]) for each in lines[-3:]],
    ):
        with server.ground.catalog.read() as tx:
            before = tx.audit.all()
        with server.ground.catalog.write() as tx:
            spoil(tx)
        ended = holdfast("catalog", "check")
        assert ended.code == 1
        assert "audit record" in ended.err
        with server.ground.catalog.write() as tx:
            tx.audit.remove(tx.audit.table.c.id > 0)
            tx.audit.add_all(before)
    assert holdfast("catalog", "check").code == 0


def test_the_recovery_kit_is_secret(holdfast, server, told, tmp_path):
    """Into a new file of its owner only, never into one that others may read; it stands in the
    audit, and brings a server back on another machine.
    """
    told("target", "add", "db", "--pool", "main")
    (tmp_path / "dump").write_bytes(b"content")
    [kept] = told("target", "backup", "db", str(tmp_path / "dump"))
    kit = tmp_path / "kit"
    before = os.umask(0)
    try:
        assert holdfast("recovery-kit", "--output", kit).code == 0
    finally:
        os.umask(before)
    assert stat.S_IMODE(kit.stat().st_mode) == 0o600
    assert server.ground.master.text() in kit.read_text()
    assert holdfast("recovery-kit", "--output", kit).code == 1
    assert holdfast("catalog", "audit").json[-1]["verb"] == "recovery-kit.read"
    new = str(tmp_path / "new")
    [summary] = told("catalog", "rebuild", "--kit", str(kit), "--data", new)
    assert (summary["recorded"], summary["anew"]) == (1, True)
    assert told("target", "show", "db", "--data", new)[1]["id"] == kept["id"]


def test_the_kit_is_not_written_where_others_read(process, server, tmp_path):
    """Redirected into a file that the shell has made readable."""
    import subprocess
    import sys

    for mode, code in ((0o644, 1), (0o600, 0)):
        file = tmp_path / f"kit-{mode}"
        file.touch()
        file.chmod(mode)
        with file.open("wb") as into:
            ended = subprocess.run(
                [sys.executable, "-m", "holdfast", "recovery-kit"],
                stdout=into, stderr=subprocess.PIPE, check=False,
            )  # fmt: skip
        assert ended.returncode == code
        assert bool(file.read_bytes()) == (code == 0)
    assert holdfast_text(tmp_path / "kit-384")


def holdfast_text(file):
    return "HOLDFAST RECOVERY KIT" in file.read_text()


def test_rebuilding_is_told(holdfast, server, told, tmp_path):
    """What was set aside, what it began from; a pool that is not there makes it partial."""
    told("target", "add", "db", "--pool", "main")
    (tmp_path / "dump").write_bytes(b"content")
    told("target", "backup", "db", str(tmp_path / "dump"))
    server.close()
    catalog = tmp_path / "data" / "catalog.db"
    catalog.write_bytes(b"garbage" * 1000)
    ended = holdfast("target", "list")
    assert ended.code == 1
    assert "holdfast catalog rebuild" in ended.err
    (tmp_path / "pool").rename(tmp_path / "unmounted")
    ended = holdfast("catalog", "rebuild")
    assert ended.code == 3
    assert str(tmp_path / "pool") in ended.err
    assert "catalog.db.damaged-" in ended.out
    (tmp_path / "unmounted").rename(tmp_path / "pool")
    ended = holdfast("catalog", "rebuild", "--json")
    assert ended.code == 0
    assert held(["catalog", "rebuild"], ended.last)["recorded"] == 1
