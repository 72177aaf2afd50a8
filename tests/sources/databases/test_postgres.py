"""PostgreSQL, dumped and put back, with a real server on the other side."""

import json
import os
import shutil
import subprocess
import tempfile
import time
from itertools import count
from pathlib import Path

import pytest

from holdfast.core.errors import InvalidError, RestoreError, SourceError
from holdfast.sources.databases.postgres import PostgresModule

_NUMBERS = count()


@pytest.fixture
def database(postgres):
    """A database with what a dump may lose: types, a sequence, a large object, settings."""
    name = f"shop {next(_NUMBERS)} 'é"
    quoted = f'"{name}"'
    postgres.sql(f"CREATE DATABASE {quoted}")
    postgres.sql(
        "CREATE TABLE item(id serial PRIMARY KEY, name text, body bytea);"
        "INSERT INTO item(name, body) SELECT 'naïve ' || n, decode(md5(n::text), 'hex')"
        " FROM generate_series(1, 1000) AS n;"
        "CREATE INDEX ON item(name);"
        "SELECT lo_from_bytea(4711, 'a large object');"
        f"ALTER DATABASE {quoted} SET work_mem TO '7MB';"
        f"ALTER DATABASE {quoted} SET search_path TO public, pg_catalog;",
        name,
    )
    yield name
    postgres.sql(f"DROP DATABASE IF EXISTS {quoted} WITH (FORCE)")


_PICTURE = (
    "SELECT count(*), md5(string_agg(name || encode(body, 'hex'), ',' ORDER BY id)),"
    " (SELECT convert_from(lo_get(4711), 'UTF8')), nextval('item_id_seq'),"
    " current_setting('work_mem'), current_setting('search_path') FROM item"
)


def test_one_database_goes_and_comes_back(postgres, database, ask, keep):
    """Under another name, with its settings, its large objects, and the state of its sequences."""
    before = postgres.sql(_PICTURE, database)
    kept, problems = keep(PostgresModule(), ask(database, **postgres.login))
    assert problems == []
    assert min(kept.files) == "about.json"
    assert "globals.sql" in kept.files

    name = f"copy of {database}"
    said = PostgresModule().put_back(ask(name, **postgres.login), kept)

    assert name in said
    rows, digest, large, number, *settings = postgres.sql(_PICTURE, name).split("|")
    was = before.split("|")
    assert [rows, digest, large, *settings] == [*was[:3], *was[4:]]
    assert int(number) == int(was[3]) + 1
    postgres.sql(f'DROP DATABASE "{name}"')


def test_rights_and_limits_of_the_database_come_back(postgres, database, ask, keep):
    """What pg_dump keeps only for those who restore under the same name."""
    quoted = f'"{database}"'
    postgres.sql(
        f"CREATE ROLE guest; REVOKE ALL ON DATABASE {quoted} FROM PUBLIC;"
        f"GRANT CONNECT ON DATABASE {quoted} TO guest WITH GRANT OPTION;"
        f"ALTER DATABASE {quoted} CONNECTION LIMIT 5"
    )
    picture = (
        "SELECT datacl, datconnlimit, datcollate, encoding FROM pg_database WHERE datname = '{}'"
    )
    before = postgres.sql(picture.format(database.replace("'", "''")))
    kept, _ = keep(PostgresModule(), ask(database, **postgres.login))
    PostgresModule().put_back(ask("elsewhere", **postgres.login), kept)
    assert postgres.sql(picture.format("elsewhere")) == before
    assert "guest=c*" in before
    postgres.sql(f"DROP DATABASE elsewhere; DROP DATABASE {quoted}; DROP ROLE guest")

    PostgresModule().put_back(ask("/a/folder", globals=True, **postgres.login), kept)
    assert postgres.sql("SELECT count(*) FROM pg_roles WHERE rolname = 'guest'") == "1"
    postgres.sql(f"DROP DATABASE {quoted}; DROP ROLE guest")


def test_who_sorts_text_comes_back(postgres, ask, keep):
    """A database of ICU's stays one of ICU's."""
    try:
        postgres.sql(
            "CREATE DATABASE sorted TEMPLATE template0 ENCODING 'UTF8' LOCALE_PROVIDER icu"
            " ICU_LOCALE 'de-DE'"
        )
    except AssertionError as error:
        if "ICU is not supported" not in str(error):
            raise
        pytest.skip("this PostgreSQL was built without ICU; Debian's has it")
    kept, _ = keep(PostgresModule(), ask("sorted", **postgres.login))
    PostgresModule().put_back(ask("again", **postgres.login), kept)
    picture = (
        "SELECT to_jsonb(d) ->> 'datlocprovider', coalesce(to_jsonb(d) ->> 'datlocale',"
        " to_jsonb(d) ->> 'daticulocale') FROM pg_database AS d WHERE datname = '{}'"
    )
    assert postgres.sql(picture.format("again")) == "i|de-DE"
    assert postgres.sql(picture.format("sorted")) == "i|de-DE"
    postgres.sql("DROP DATABASE sorted; DROP DATABASE again")


def test_a_dump_is_one_for_the_tools(postgres, database, ask, keep, tmp_path):
    """Who has no Holdfast at hand restores it by pg_restore."""
    kept, _ = keep(PostgresModule(), ask(database, **postgres.login))
    [name] = [name for name in kept.files if name.startswith("databases/")]
    (tmp_path / "dump").write_bytes(kept.files[name])
    listed = subprocess.run(
        [postgres.tools / "pg_restore", "--list", tmp_path / "dump"],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    assert "TABLE DATA public item" in listed.stdout


def test_the_whole_server_is_all_of_its_databases(postgres, database, ask, keep):
    """With a name for the server under which it is listed."""
    [server, *others] = PostgresModule().resources(ask(**postgres.login))
    assert server.name.startswith("PostgreSQL ")
    assert database in {each.name for each in others}

    kept, problems = keep(PostgresModule(), ask(server.name, **postgres.login))

    about = json.loads(kept.files["about.json"])
    assert problems == []
    assert {"postgres", database} <= {each["name"] for each in about["databases"]}
    assert all(kept.files[each["file"]].startswith(b"PGDMP") for each in about["databases"])


def test_a_database_that_is_there_is_replaced_only_where_that_is_asked_for(
    postgres, database, ask, keep
):
    """And in one moment: it is the old one until the new one is whole."""
    kept, _ = keep(PostgresModule(), ask(database, **postgres.login))
    postgres.sql("DELETE FROM item", database)

    with pytest.raises(RestoreError, match="already"):
        PostgresModule().put_back(ask(**postgres.login), kept)
    assert postgres.sql("SELECT count(*) FROM item", database) == "0"

    PostgresModule().put_back(ask(replace=True, **postgres.login), kept)
    assert postgres.sql("SELECT count(*) FROM item", database) == "1000"
    left = postgres.sql("SELECT count(*) FROM pg_database WHERE datname LIKE 'holdfast%'")
    assert left == "0"


def test_a_dump_that_is_cut_short_leaves_no_database(postgres, database, ask, keep):
    """Nor touches the one that is there."""
    kept, _ = keep(PostgresModule(), ask(database, **postgres.login))
    [name] = [name for name in kept.files if name.startswith("databases/")]
    kept.files[name] = kept.files[name][: len(kept.files[name]) // 2]

    with pytest.raises(RestoreError) as caught:
        PostgresModule().put_back(ask(replace=True, **postgres.login), kept)

    assert "not there any more" in caught.value.advice
    assert postgres.sql("SELECT count(*) FROM item", database) == "1000"
    assert postgres.sql("SELECT count(*) FROM pg_database WHERE datname LIKE 'holdfast%'") == "0"


def test_a_server_that_goes_away_in_the_middle_fails_the_backup(postgres, database, ask, read):
    """I8: what came until then is no backup, however well it begins."""
    postgres.sql("INSERT INTO item(name) SELECT repeat('x', 1000) FROM generate_series(1, 30000)",
                 database)  # fmt: skip
    with PostgresModule().open(ask(database, **postgres.login)) as source:
        for step in source.walk():
            path = getattr(step, "path", b"")
            if not path.endswith(b".dump"):
                continue
            content = source.open(path, step.entry)
            buffer = memoryview(bytearray(1000))
            assert content.readinto(buffer)
            postgres.sql(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE application_name = 'pg_dump' OR backend_type = 'client backend'"
                " AND pid <> pg_backend_pid() AND application_name LIKE 'holdfast%'"
            )
            with pytest.raises(SourceError, match="could not be dumped: pg_dump ended with status"):
                read(content)
            break


def test_of_several_databases_the_one_that_fails_is_named(postgres, database, ask, keep):
    """And the others are kept: the backup is partial."""

    def drop(name):
        if name.startswith("databases/shop"):
            postgres.sql(f'DROP DATABASE "{database}"')

    kept, problems = keep(PostgresModule(), ask(**postgres.login), meanwhile=drop)

    [problem] = problems
    assert database in problem
    assert "databases/postgres.dump" in kept.files
    assert not any(name.startswith("databases/shop") for name in kept.files)


def test_a_password_is_nowhere_but_in_a_file_that_vanishes(
    postgres, ask, keep, tmp_path, monkeypatch
):
    """Whatever it holds; and a wrong one fails, without being told."""
    # The server's socket trusts everybody: a stand-in for psql looks at what it is given.
    tools = tmp_path / "tools"
    tools.mkdir()
    seen = tmp_path / "seen"
    (tools / "psql").write_text(
        f'#!/bin/sh\n{{ cat /proc/$$/cmdline; env; stat -c %a "$PGPASSFILE"; cat "$PGPASSFILE"; }}'
        f" > {seen}\necho no >&2\nexit 2\n"
    )
    (tools / "psql").chmod(0o755)
    secret = tmp_path / "secret"
    secret.write_text("se:c\\ret\n")
    monkeypatch.setenv("PGPASSWORD", "another")

    with pytest.raises(SourceError, match="psql failed: no") as caught:
        PostgresModule().resources(ask(tools=str(tools), password_file=str(secret)))

    told = seen.read_text()
    assert told.endswith("600\n*:*:*:*:se\\:c\\\\ret\n")
    assert told.count("ret\n") == 1
    assert "another" not in told
    [file] = [line for line in told.splitlines() if "PGPASSFILE=" in line]
    assert not Path(file.partition("=")[2]).exists()
    assert "ret" not in str(caught.value)


def test_what_cannot_be_is_said_by_name(postgres, ask, keep):
    """With the parameter that was meant."""
    with pytest.raises(InvalidError) as caught:
        PostgresModule().check(ask(usr="me", method="both", port="x"))
    assert "did you mean user" in caught.value.fields["usr"][1]
    assert "dump or base" in caught.value.fields["method"][1]
    assert "whole number" in caught.value.fields["port"][1]
    with pytest.raises(InvalidError, match="whole server"):
        PostgresModule().check(ask("app", method="base"))
    with pytest.raises(SourceError, match="no database 'nobody'"):
        keep(PostgresModule(), ask("nobody", **postgres.login))
    with pytest.raises(SourceError, match="there is no psql in /nowhere"):
        keep(PostgresModule(), ask(**{**postgres.login, "tools": "/nowhere"}))
    with pytest.raises(SourceError, match="psql failed"):
        keep(PostgresModule(), ask(**{**postgres.login, "host": "/nowhere"}))
    with pytest.raises(InvalidError, match="several places"):
        keep(PostgresModule(), ask(**postgres.login, password_env="A", password_file="B"))


# --- base backups ---------------------------------------------------------------------------------


@pytest.fixture
def started(postgres):
    """Starts a server on a data folder; a function that asks it. The server may not be root."""
    folder = Path(tempfile.mkdtemp(prefix="holdfast-started-"))
    folder.chmod(0o755)
    processes = []

    def start(data):
        owner = data.stat().st_uid or (shutil.chown(folder, "postgres") or "postgres")
        user = {"user": owner} if os.getuid() == 0 else {}
        if user:
            shutil.chown(folder, owner)
            subprocess.run(["chown", "-R", str(owner), data], check=True)
        log = folder / "log"
        with log.open("wb") as writing:
            process = subprocess.Popen(
                [postgres.tools / "postgres", "-D", data, "-k", folder, "-h", "",
                 "-c", "shared_buffers=8MB"],
                stdout=writing, stderr=writing, **user,
            )  # fmt: skip
        processes.append(process)
        deadline = time.monotonic() + 120
        while True:
            asking = subprocess.run(
                [postgres.tools / "psql", "-XAtq", "-h", folder, "-U", "postgres", "postgres"],
                input="SELECT pg_is_in_recovery()", capture_output=True, text=True, check=False,
            )  # fmt: skip
            if asking.stdout.strip() == "f":
                return type(postgres)(str(folder), postgres.tools)
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)

    yield start
    for process in processes:
        process.terminate()
        process.wait(60)
    shutil.rmtree(folder)


def test_a_base_backup_becomes_a_server_that_recovers(postgres, database, ask, keep, started):
    """To a consistent state, with all that was committed before; the copy is checked against the
    manifest.
    """
    kept, problems = keep(PostgresModule(), ask(**postgres.login, method="base"))
    assert problems == []
    assert sorted(kept.files) == ["about.json", "base.tar"]
    assert postgres.sql("SELECT count(*) FROM pg_replication_slots") == "0"

    place = Path(tempfile.mkdtemp(prefix="holdfast-base-"))
    place.chmod(0o755)
    said = PostgresModule().put_back(ask(place / "data"), kept)

    assert "as its manifest says" in said
    server = started(place / "data")
    assert server.sql("SELECT count(*) FROM item", database) == "1000"
    shutil.rmtree(place, ignore_errors=True)


def test_a_damaged_base_backup_leaves_no_folder(postgres, ask, keep, tmp_path):
    """What the manifest does not agree with is not put in place."""
    kept, _ = keep(PostgresModule(), ask(**postgres.login, method="base"))
    place = kept.files["base.tar"].index(b"PG_VERSION\0") + 512
    whole = bytearray(kept.files["base.tar"])
    whole[place] ^= 1
    kept.files["base.tar"] = bytes(whole)

    with pytest.raises(RestoreError, match="manifest"):
        PostgresModule().put_back(ask(tmp_path / "data"), kept)
    assert not (tmp_path / "data").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["scratch"]

    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "mine").touch()
    with pytest.raises(RestoreError, match="not empty"):
        PostgresModule().put_back(ask(tmp_path / "data"), kept)


def test_tablespaces_are_refused_by_name(postgres, ask, keep):
    """Rather than to keep a server without them."""
    folder = Path(tempfile.mkdtemp(prefix="holdfast-tablespace-"))
    os.chown(folder, Path(postgres.socket).stat().st_uid, -1)
    postgres.sql(f"CREATE TABLESPACE elsewhere LOCATION '{folder}'")
    try:
        with pytest.raises(SourceError, match="elsewhere"):
            keep(PostgresModule(), ask(**postgres.login, method="base"))
    finally:
        postgres.sql("DROP TABLESPACE elsewhere")
        folder.rmdir()
