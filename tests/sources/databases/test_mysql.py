"""MariaDB, dumped and put back, with a real server on the other side."""

import json
import subprocess
from itertools import count
from pathlib import Path

import pytest

from holdfast.core.errors import InvalidError, RestoreError, SourceError
from holdfast.sources.databases.mysql import MySqlModule
from holdfast.sources.databases.mysql_rights import unseen

_NUMBERS = count()
_PASSWORD = r"""p:a\s's "w=#ö"""
"""With everything that a careless option file stumbles over."""


def _quoted(name):
    return "`" + name.replace("`", "``") + "`"


@pytest.fixture
def database(mariadb):
    """A database with what a dump may lose: routines, triggers, events, a view, bytes, emoji."""
    name = f"shop-{next(_NUMBERS)} `é"
    quoted = _quoted(name)
    mariadb.sql(
        f"CREATE DATABASE {quoted} CHARACTER SET latin1 COLLATE latin1_german2_ci; USE {quoted};"
        "CREATE TABLE item(id int AUTO_INCREMENT PRIMARY KEY, name varchar(99) CHARSET utf8mb4,"
        " body blob) ENGINE=InnoDB;"
        "INSERT INTO item(name, body) SELECT concat('🐚 ', seq), unhex(md5(seq))"
        " FROM seq_1_to_1000;"
        "CREATE VIEW names AS SELECT name FROM item;"
        "CREATE FUNCTION twice(n int) RETURNS int DETERMINISTIC RETURN 2 * n;"
        "CREATE TRIGGER stamp BEFORE INSERT ON item FOR EACH ROW SET NEW.body = 'triggered';"
        "CREATE EVENT nightly ON SCHEDULE EVERY 1 YEAR STARTS '2037-01-01' DO DELETE FROM item;"
    )
    yield name
    mariadb.sql(f"DROP DATABASE IF EXISTS {quoted}")


_PICTURE = (
    "SET SESSION group_concat_max_len = 1000000;"
    "SELECT count(*), md5(group_concat(concat(name, hex(body)) ORDER BY id)), twice(21),"
    " (SELECT count(*) FROM names), @@collation_database FROM item WHERE id <= 1000;"
    "SELECT count(*) FROM information_schema.events WHERE event_schema = database();"
    "INSERT INTO item(name) VALUES ('new'); SELECT body FROM item ORDER BY id DESC LIMIT 1;"
)


def test_one_database_goes_and_comes_back(mariadb, database, ask, keep):
    """Under another name, with routines, triggers, events, views and its character set."""
    kept, problems = keep(MySqlModule(), ask(database, **mariadb.login))
    before = mariadb.sql(_PICTURE, database)
    assert problems == []

    name = "a\\copy"
    MySqlModule().put_back(ask(name, **mariadb.login), kept)

    assert mariadb.sql(_PICTURE, name) == before
    assert "triggered" in before
    assert "latin1_german2_ci" in before
    mariadb.sql("DROP DATABASE `a\\copy`")


def test_a_dump_is_one_for_the_tools(mariadb, database, ask, keep):
    """Who has no Holdfast at hand restores it by the client program. The same content gives the
    same bytes.
    """
    kept, _ = keep(MySqlModule(), ask(database, **mariadb.login))
    again, _ = keep(MySqlModule(), ask(database, **mariadb.login))
    assert kept.files == again.files
    [dump] = [text for name, text in kept.files.items() if name.endswith(".sql")]
    mariadb.sql("CREATE DATABASE by_hand")
    mariadb.sql(dump.decode(), "by_hand")
    assert mariadb.sql("SELECT count(*) FROM item", "by_hand") == "1000"
    mariadb.sql("DROP DATABASE by_hand")


def test_the_whole_server_is_all_of_its_databases_and_users(mariadb, database, ask, keep):
    """Users come back with their passwords and rights."""
    mariadb.sql(
        "CREATE USER reader@localhost IDENTIFIED BY 'word'; GRANT SELECT ON *.* TO reader@localhost"
    )
    [server, *others] = MySqlModule().resources(ask(**mariadb.login))
    assert server.name.startswith("MariaDB 1")
    assert [each.name for each in others] == [database]

    kept, problems = keep(MySqlModule(), ask(server.name, **mariadb.login))
    assert problems == []
    assert len([name for name in kept.files if name.startswith("databases/")]) == 1
    mariadb.sql("DROP USER reader@localhost")

    MySqlModule().put_back(ask(server.name, users=True, replace=True, **mariadb.login), kept)

    assert "SELECT" in mariadb.sql("SHOW GRANTS FOR reader@localhost")
    mariadb.sql("DROP USER reader@localhost")


def test_a_database_that_is_there_is_replaced_only_where_that_is_asked_for(
    mariadb, database, ask, keep
):
    """And what was not kept costs nothing that is there."""
    kept, _ = keep(MySqlModule(), ask(database, **mariadb.login))
    mariadb.sql("DELETE FROM item WHERE id > 10", database)
    with pytest.raises(RestoreError, match="already"):
        MySqlModule().put_back(ask(**mariadb.login), kept)
    assert mariadb.sql("SELECT count(*) FROM item", database) == "10"

    MySqlModule().put_back(ask(replace=True, **mariadb.login), kept)
    assert mariadb.sql("SELECT count(*) FROM item", database) == "1000"


def test_a_database_that_cannot_be_loaded_is_not_half_there(mariadb, database, ask, keep):
    """It is dropped again, and the error says what the server said."""
    kept, _ = keep(MySqlModule(), ask(database, **mariadb.login))
    [name] = [name for name in kept.files if name.endswith(".sql")]
    kept.files[name] += b"\nSELECT nonsense FROM nowhere;\n"
    with pytest.raises(RestoreError, match="nowhere"):
        MySqlModule().put_back(ask("half", **mariadb.login), kept)
    assert mariadb.sql("SHOW DATABASES LIKE 'half'") == ""


def test_tables_without_transactions_are_named(mariadb, database, ask, keep):
    """They are kept; the backup says that they may not fit together, unless they were locked."""
    mariadb.sql("CREATE TABLE old(id int) ENGINE=MyISAM", database)
    kept, [problem] = keep(MySqlModule(), ask(database, **mariadb.login))
    assert "together: old" in problem
    assert any(b"CREATE TABLE `old`" in text for text in kept.files.values())
    _, problems = keep(MySqlModule(), ask(database, lock_tables=True, **mariadb.login))
    assert problems == []


def test_a_password_may_hold_anything_and_is_on_no_command_line(  # noqa: PLR0917  fixtures
    mariadb, database, ask, keep, tmp_path, monkeypatch
):
    """From a file, from the environment, from a command; a wrong one fails."""
    spelt = _PASSWORD.replace("\\", "\\\\").replace("'", "''")
    mariadb.sql(f"CREATE USER keeper@localhost IDENTIFIED BY '{spelt}';"
                "GRANT ALL ON *.* TO keeper@localhost")  # fmt: skip
    login = {**mariadb.login, "user": "keeper"}
    secret = tmp_path / "secret"
    secret.write_text(_PASSWORD + "\n")
    monkeypatch.setenv("MARIA_SECRET", _PASSWORD)
    monkeypatch.setenv("MYSQL_PWD", "another")
    started = []
    popen = subprocess.Popen

    class Watched(popen):
        def __init__(self, words, *rest, **options):
            started.append((list(map(str, words)), dict(options.get("env") or {})))
            super().__init__(words, *rest, **options)

    monkeypatch.setattr(subprocess, "Popen", Watched)
    for place in (
        {"password_file": str(secret)},
        {"password_env": "MARIA_SECRET"},
        {"password_command": f"cat {secret}"},
    ):
        _, problems = keep(MySqlModule(), ask(database, **login, **place))
        assert problems == []
    assert len(started) > 6
    for words, environment in started:
        environment.pop("MARIA_SECRET", None)
        assert not any(_PASSWORD in text for text in (*words, *environment.values()))
        assert "MYSQL_PWD" not in environment or words[0] == "cat"
    [file] = {word for word in started[0][0] if word.startswith("--defaults-extra-file=")}
    assert not Path(file.partition("=")[2]).exists()

    secret.write_text("wrong\n")
    with pytest.raises(SourceError, match="Access denied") as caught:
        keep(MySqlModule(), ask(database, **login, password_file=str(secret)))
    assert "wrong" not in caught.value.message
    secret.write_text("")
    with pytest.raises(SourceError, match="is empty"):
        keep(MySqlModule(), ask(database, **login, password_file=str(secret)))
    with pytest.raises(SourceError, match="no variable NOWHERE"):
        keep(MySqlModule(), ask(database, **login, password_env="NOWHERE"))
    with pytest.raises(SourceError, match="cat failed"):
        keep(MySqlModule(), ask(database, **login, password_command="cat /nowhere/at/all"))
    monkeypatch.undo()
    mariadb.sql("DROP USER keeper@localhost")


def test_a_connection_that_is_cut_in_the_middle_fails_the_backup(mariadb, database, ask, read):
    """I8: what came until then is no backup, however well it begins."""
    mariadb.sql("INSERT INTO item(name, body) SELECT 'x', repeat('y', 60000) FROM seq_1_to_300",
                database)  # fmt: skip
    mariadb.sql("UPDATE item SET body = repeat('y', 60000) WHERE id > 1000", database)
    with MySqlModule().open(ask(database, **mariadb.login)) as source:
        for step in source.walk():
            path = getattr(step, "path", b"")
            if not path.endswith(b".sql"):
                continue
            content = source.open(path, step.entry)
            buffer = memoryview(bytearray(100))
            assert content.readinto(buffer)
            ids = mariadb.sql(
                "SELECT id FROM information_schema.processlist WHERE id <> connection_id()"
                " AND user = 'root' AND command <> 'Daemon'"
            )
            for number in ids.splitlines():
                mariadb.sql(f"KILL {number}")
            with pytest.raises(SourceError, match="could not be dumped"):
                read(content)
            break


def test_what_a_user_may_not_see_is_said_to_be_missing(mariadb, database, ask, keep):
    """The dump program leaves out what it does not see, and ends well; the backup does not."""
    mariadb.sql("CREATE USER half@localhost; GRANT SELECT, LOCK TABLES, SHOW VIEW, EVENT"
                f" ON {_quoted(database)}.* TO half@localhost")  # fmt: skip
    half = {**mariadb.login, "user": "half"}
    kept, [problem] = keep(MySqlModule(), ask(database, **half))
    assert "triggers and routines may be missing" in problem
    assert not any(b"FUNCTION" in text for text in kept.files.values())

    mariadb.sql(f"GRANT TRIGGER, EXECUTE ON {_quoted(database)}.* TO half@localhost")
    with pytest.raises(SourceError, match="insufficient privileges"):
        keep(MySqlModule(), ask(database, **half))

    mariadb.sql("GRANT SELECT ON mysql.proc TO half@localhost")
    _, problems = keep(MySqlModule(), ask(database, **half))
    assert problems == []
    mariadb.sql("DROP USER half@localhost")


@pytest.mark.parametrize(
    ("grants", "hidden"),
    [
        (["GRANT ALL PRIVILEGES ON *.* TO `a`@`b` WITH GRANT OPTION"], []),
        (["GRANT SELECT ON *.* TO `a`@`b`"], ["triggers"]),
        (["GRANT USAGE ON *.* TO `a`@`b`", "GRANT ALL PRIVILEGES ON `sh%`.* TO `a`@`b`"], []),
        (["GRANT ALL PRIVILEGES ON `sh\\_p`.* TO `a`@`b`"], ["triggers", "routines"]),
        (["GRANT ALL PRIVILEGES ON `sh_p`.* TO `a`@`b`"], []),
        (["GRANT TRIGGER ON `shop`.`item` TO `a`@`b`"], ["triggers", "routines"]),
        (["GRANT SELECT, TRIGGER ON *.* TO `a`@`b`", "no grant"], []),
    ],
)
def test_rights_are_read_as_the_server_writes_them(grants, hidden):
    """With patterns of names, and rights on one table that say nothing of the others."""
    assert unseen(grants, "shop") == hidden


def test_of_several_databases_the_one_that_fails_is_named(mariadb, database, ask, keep):
    """And the others are kept: the backup is partial."""
    mariadb.sql("CREATE DATABASE zoo; CREATE TABLE zoo.ape(id int)")

    def drop(name):
        if name == "databases/zoo.sql":
            mariadb.sql("DROP DATABASE zoo")

    kept, [problem] = keep(MySqlModule(), ask(**mariadb.login), meanwhile=drop)
    assert "database zoo could not be dumped" in problem
    about = json.loads(kept.files["about.json"])
    assert {each["name"] for each in about["databases"]} == {database, "zoo"}
    assert len([name for name in kept.files if name.startswith("databases/")]) == 1


def test_what_cannot_be_is_said_by_name(mariadb, ask, keep):
    """With the parameter that was meant."""
    with pytest.raises(InvalidError) as caught:
        MySqlModule().check(ask(lock_table=True, users="perhaps"))
    assert "did you mean lock_tables" in caught.value.fields["lock_table"][1]
    assert "true or false" in caught.value.fields["users"][1]
    with pytest.raises(SourceError, match="no database 'nobody'"):
        keep(MySqlModule(), ask("nobody", **mariadb.login))
    with pytest.raises(SourceError, match="there is no mariadb and no mysql in /nowhere"):
        keep(MySqlModule(), ask(tools="/nowhere", **mariadb.login))
    with pytest.raises(SourceError, match="failed"):
        keep(MySqlModule(), ask(host="/nowhere/socket"))
