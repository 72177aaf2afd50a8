"""SQLite databases, copied while others write to them."""

import sqlite3
import subprocess
import sys
from contextlib import closing

import pytest

from holdfast.core.errors import InvalidError, RestoreError, SourceError, SourceMissingError
from holdfast.sources.databases import sqlite as module_
from holdfast.sources.databases.sqlite import SqliteModule

_WRITER = """
import sqlite3, sys
with sqlite3.connect(sys.argv[1], timeout=60, isolation_level=None) as db:
    number = 0
    while True:
        number += 1
        db.execute("BEGIN IMMEDIATE")
        db.execute("UPDATE balance SET amount = amount - 1 WHERE name = 'a'")
        db.execute("UPDATE balance SET amount = amount + 1 WHERE name = 'b'")
        db.execute("INSERT INTO entry(text) VALUES (?)", ("x" * 500,))
        db.execute("COMMIT")
        if number == 3:
            print("writing", flush=True)
"""


@pytest.fixture(params=["wal", "delete"])
def database(request, tmp_path):
    """A database in either mode."""
    path = tmp_path / "data" / "app.db"
    path.parent.mkdir()
    with closing(sqlite3.connect(path)) as db:
        db.execute(f"PRAGMA journal_mode = {request.param}")
        db.executescript(
            "CREATE TABLE balance(name PRIMARY KEY, amount); INSERT INTO balance VALUES"
            " ('a', 1000000), ('b', 0); CREATE TABLE entry(id INTEGER PRIMARY KEY, text);"
        )
        db.executemany("INSERT INTO entry(text) VALUES (?)", [("y" * 700,)] * 9000)
        db.commit()
    return path


@pytest.fixture
def writer(database):
    """A process that moves money and appends, as fast as it can."""
    process = subprocess.Popen(
        [sys.executable, "-c", _WRITER, database], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "writing\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def _sum(path):
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        [[total]] = db.execute("SELECT sum(amount) FROM balance")
        [[moved]] = db.execute("SELECT amount FROM balance WHERE name = 'b'")
        [[entries]] = db.execute("SELECT count(*) FROM entry")
    return total, moved, entries


def test_a_copy_is_of_one_moment_though_somebody_writes(database, writer, ask, keep, tmp_path):
    """And it ends, however fast they write; nothing is left of the copy on the way."""
    for each in range(3):
        kept, problems = keep(SqliteModule(), ask(database))
        assert problems == []
        copy = tmp_path / f"copy{each}.db"
        copy.write_bytes(kept.files["app.db"])
        total, moved, entries = _sum(copy)
        assert total == 1000000
        assert entries == 9000 + moved
    assert writer.poll() is None
    assert list((tmp_path / "scratch").iterdir()) == []


def test_what_is_in_the_wal_only_is_in_the_copy(ask, keep, tmp_path):
    """The file alone would lack it."""
    path = tmp_path / "wal.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("PRAGMA journal_mode = wal")
        db.execute("PRAGMA wal_autocheckpoint = 0")
        db.execute("CREATE TABLE t AS SELECT 7 AS seven")
        kept, _ = keep(SqliteModule(), ask(path))
        assert b"seven" not in path.read_bytes()
    (tmp_path / "copy.db").write_bytes(kept.files["wal.db"])
    with closing(sqlite3.connect(tmp_path / "copy.db")) as db:
        assert db.execute("SELECT seven FROM t").fetchall() == [(7,)]


def test_it_is_put_back_where_it_was(database, ask, keep):
    """By its name, or under another."""
    before = _sum(database)
    kept, _ = keep(SqliteModule(), ask(database))
    for each in database.parent.iterdir():
        each.unlink()
    said = SqliteModule().put_back(ask(), kept)
    assert str(database) in said
    assert _sum(database) == before
    other = database.with_name("other.db")
    SqliteModule().put_back(ask(other), kept)
    assert _sum(other) == before
    assert {each.name for each in database.parent.iterdir()} == {"app.db", "other.db"}


def test_a_live_database_is_replaced_in_one_transaction(database, ask, keep):
    """Whoever has it open goes on with what was put back; without consent nothing is changed."""
    kept, _ = keep(SqliteModule(), ask(database))
    with closing(sqlite3.connect(database, isolation_level=None)) as user:
        user.execute("DELETE FROM entry")
        with pytest.raises(RestoreError, match="there is a file"):
            SqliteModule().put_back(ask(database), kept)
        assert user.execute("SELECT count(*) FROM entry").fetchall() == [(0,)]

        SqliteModule().put_back(ask(database, replace=True), kept)

        assert user.execute("SELECT count(*) FROM entry").fetchall() == [(9000,)]
        assert user.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


def test_a_database_that_is_locked_all_the_time_is_not_replaced(database, ask, keep):
    """It is as it was, and the error says why."""
    kept, _ = keep(SqliteModule(), ask(database))
    with closing(sqlite3.connect(database, isolation_level=None)) as user:
        user.execute("BEGIN IMMEDIATE")
        user.execute("DELETE FROM entry")
        user.execute("ROLLBACK")
        user.execute("BEGIN EXCLUSIVE")
        with pytest.raises(RestoreError, match="locked"):
            SqliteModule().put_back(ask(database, replace=True, wait=0), kept)
        user.execute("ROLLBACK")
    assert _sum(database)[2] == 9000


def test_what_lies_beside_would_be_taken_for_a_part_of_it(ask, keep, tmp_path):
    """A WAL of a database that is gone must not be read into the new one."""
    path = tmp_path / "app.db"
    with closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE t(x)")
    kept, _ = keep(SqliteModule(), ask(path))
    path.unlink()
    wal = tmp_path / "app.db-wal"
    wal.write_bytes(b"old")
    with pytest.raises(RestoreError, match=r"app\.db-wal"):
        SqliteModule().put_back(ask(), kept)
    assert not path.exists()
    assert wal.read_bytes() == b"old"


def test_a_damaged_database_is_no_backup(ask, keep, tmp_path):
    """Its damage is told; and what is no database is refused."""
    path = tmp_path / "app.db"
    with closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE t(x)")
        db.executemany("INSERT INTO t VALUES (?)", [("y" * 900,)] * 200)
        db.execute("CREATE INDEX i ON t(x)")
        db.commit()
    damaged = bytearray(path.read_bytes())
    damaged[4096 * 20 : 4096 * 21] = b"\xff" * 4096
    path.write_bytes(damaged)
    with pytest.raises(SourceError, match=r"damaged|malformed"):
        keep(SqliteModule(), ask(path))
    path.write_bytes(b"no database at all" * 100)
    with pytest.raises(SourceError, match="not a database"):
        keep(SqliteModule(), ask(path))
    with pytest.raises(SourceMissingError):
        keep(SqliteModule(), ask(tmp_path / "nowhere.db"))
    assert list((tmp_path / "scratch").iterdir()) == []


def test_damaged_content_is_not_put_back(database, ask, keep):
    """What is there stays."""
    kept, _ = keep(SqliteModule(), ask(database))
    damaged = bytearray(kept.files["app.db"])
    damaged[4096 * 3 : 4096 * 4] = b"\xff" * 4096
    kept.files["app.db"] = bytes(damaged)
    before = _sum(database)
    with pytest.raises(RestoreError, match=r"damaged|malformed"):
        SqliteModule().put_back(ask(database, replace=True), kept)
    assert _sum(database) == before


def test_no_room_for_the_copy_is_said_before(database, ask, keep, monkeypatch):
    """With the way out."""
    full = type(module_.shutil.disk_usage("/"))(1, 1, 0)
    monkeypatch.setattr(module_.shutil, "disk_usage", lambda _: full)
    with pytest.raises(SourceError, match="no room") as caught:
        keep(SqliteModule(), ask(database))
    assert "scratch" in caught.value.advice


def test_databases_are_found_by_what_they_hold(database, ask):
    """Not by their names."""
    (database.parent / "fake.db").write_bytes(b"x" * 100)
    found = SqliteModule().resources(ask(database.parent))
    assert [each.name for each in found] == [str(database)]
    with pytest.raises(InvalidError, match="did you mean check"):
        SqliteModule().check(ask(database, chek="full"))
    with pytest.raises(InvalidError, match="full or quick"):
        SqliteModule().check(ask(database, check="none"))
