"""`holdfast pool`, on the data folder of a server."""

from __future__ import annotations

import pytest

from holdfast.cli.messages import MESSAGES
from holdfast.core.access import SERVER
from holdfast.core.records import Target
from holdfast.service.opening import open_ground
from holdfast.service.server import Service

KINDS = {"text": str, "integer": int, "flag": bool, "list": list}


@pytest.fixture
def server(tmp_path, monkeypatch):
    """What a server has open all the while."""
    service = Service.on(open_ground(tmp_path / "data"))
    monkeypatch.setenv("HOLDFAST_DATA", str(tmp_path / "data"))
    yield service
    service.close()


def held(verb, found):
    """The object, which has the fields of the reference."""
    name = found.pop("message_type")
    (message,) = [each for each in MESSAGES if (each.verb, each.type) == (verb, name)]
    assert set(found) == {field.name for field in message.fields}
    for field in message.fields:
        if found[field.name] is not None or not field.optional:
            assert isinstance(found[field.name], KINDS[field.kind])
    return found


def put(server, pool, content):
    with server.ground.catalog.write() as tx:
        target = tx.targets.add(Target(uid=pool, name="t", pool_id=tx.pools.find(name=pool).id))
    arriving = server.backups.receive(SERVER, target, "dump.sql")
    arriving.write(content)
    return arriving.finish().result(20)


@pytest.mark.parametrize("kind", [[], ["--plain"]])
def test_a_pool_that_was_added_is_used_by_the_running_server(holdfast, server, tmp_path, kind):
    ended = holdfast("pool", "add", "main", tmp_path / "disk", *kind, "--note", "fast", "--json")
    assert ended.code == 0, ended.err
    added = held("pool add", ended.last)
    assert (added["reachable"], added["backups"], added["note"]) == (False, 0, "fast")
    put(server, "main", b"x" * 100_000)
    (listed,) = [held("pool list", each) for each in holdfast("pool", "list", "--json").json]
    assert (listed["reachable"], listed["backups"]) == (True, 1)
    assert listed["free"] > 0
    assert str(tmp_path / "disk") in holdfast("pool", "list").out
    ended = holdfast("pool", "check", "main", "--read-data", "--json")
    assert ended.code == 0, ended.err
    assert held("pool check", ended.last)["num_errors"] == 0


def test_damage_is_named_and_ends_with_1(holdfast, server, tmp_path):
    holdfast("pool", "add", "main", tmp_path / "disk", "--plain")
    put(server, "main", b"content")
    (tmp_path / "disk" / "t" / "dump.sql").write_bytes(b"changed")
    ended = holdfast("pool", "check", "main", "--read-data")
    assert ended.code == 1
    assert "dump.sql" in ended.err
    ended = holdfast("pool", "check", "main", "--read-data", "--json")
    problem, summary = ended.json
    assert "dump.sql" in held("pool check", problem)["message"]
    assert held("pool check", summary)["num_errors"] == 1


def test_a_pool_in_use_is_not_removed(holdfast, server, tmp_path):
    holdfast("pool", "add", "main", tmp_path / "disk")
    backup = put(server, "main", b"content")
    ended = holdfast("pool", "remove", "main")
    assert ended.code == 1
    assert "1 backups" in ended.err
    server.backups.delete(SERVER, backup)
    with server.ground.catalog.write() as tx:
        tx.targets.remove(id=backup.target_id)
    ended = holdfast("pool", "remove", "main", "--json")
    assert held("pool remove", ended.last) == {"name": "main"}
    assert holdfast("pool", "list", "--json").json == []
    assert (tmp_path / "disk" / "server" / "config").exists()


def test_what_makes_no_sense_is_told(holdfast, server, tmp_path):
    for words, said in (
        (["add", "a/b", tmp_path], "cannot be called"),
        (["add", "main", "sftp:host:/x"], "sftp"),
        (["add", "main", tmp_path, "--quota", "much"], "--quota"),
        (["add", "main", tmp_path, "--credentials-file", tmp_path / "none"], "cannot be read"),
        (["check", "none"], "there is no pool none"),
        (["remove", "none"], "there is no pool none"),
    ):
        ended = holdfast("pool", *words)
        assert ended.code in {1, 2}, words
        assert said in ended.err, words


def test_secrets_come_from_a_file_and_show_nowhere(holdfast, server, tmp_path):
    path = tmp_path / "credentials"
    path.write_text("access_key=AKIA1\nsecret_key = hush-hush\n\n")
    ended = holdfast(
        "pool", "add", "far", "s3:https://192.0.2.7/bucket", "--credentials-file", path, "--json"
    )
    assert "hush" not in ended.out + ended.err
    path.write_text("secret_key\n")
    ended = holdfast("pool", "add", "more", tmp_path / "x", "--credentials-file", path)
    assert "must have lines" in ended.err


def test_a_directory_is_as_seen_from_here(holdfast, server, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ended = holdfast("pool", "add", "main", "here", "--json")
    assert ended.last["locations"][0]["address"] == str(tmp_path / "here")
