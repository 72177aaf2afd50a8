"""`holdfast user`, `account` and `apikey`, on the data folder of a server."""

from __future__ import annotations

import json
import re

import pytest

from holdfast.cli.messages import MESSAGES
from holdfast.core.errors import HoldfastError, WrongCredentialsError
from holdfast.core.records import Pool
from holdfast.core.secret import Secret
from holdfast.service.opening import open_ground
from holdfast.service.signing_in import SigningIn

KINDS = {"text": str, "integer": int, "flag": bool}
ACCESS_URL = r"^https?://([a-zA-Z0-9]+):([a-zA-Z0-9]+)@([-.a-zA-Z0-9]+(?::[0-9]+)?)/$"
HERE = "127.0.0.1"


@pytest.fixture
def server(tmp_path, monkeypatch):
    """What a server has open all the while."""
    ground = open_ground(tmp_path / "data")
    with ground.catalog.write() as tx:
        tx.pools.add(Pool(name="main", locations=[str(tmp_path / "pool")]))
    monkeypatch.setenv("HOLDFAST_DATA", str(tmp_path / "data"))
    yield SigningIn(ground)
    ground.catalog.close()


@pytest.fixture
def password_file(tmp_path):
    path = tmp_path / "password"
    path.write_text("correct horse\n")
    return path


def held(verb, found):
    """The object, which has the fields of the reference."""
    (message,) = [each for each in MESSAGES if each.verb == verb]
    assert found.pop("message_type") == message.type
    assert set(found) == {field.name for field in message.fields}
    for field in message.fields:
        if found[field.name] is not None or not field.optional:
            assert isinstance(found[field.name], KINDS[field.kind])
    return found


def test_a_user_who_was_added_signs_in(holdfast, server, password_file):
    """With the role that was given, at a server that runs."""
    ended = holdfast(
        "user", "add", "anna", "--role", "superuser", "--email", "anna@example.org",
        "--password-file", password_file, "--json",
    )  # fmt: skip
    assert ended.code == 0, ended.err
    assert held("user add", ended.last)["role"] == "superuser"
    who, _ = server.password("anna@example.org", Secret("correct horse"), HERE, kind="superuser")
    assert who.name == "user:anna"
    assert "correct horse" not in ended.out + ended.err


def test_users_are_listed_changed_and_removed(holdfast, server, password_file, tmp_path):
    """The last superuser stays; a new password ends what the old one began."""
    for name, role in (("anna", "superuser"), ("bert", "maintainer")):
        assert (
            holdfast("user", "add", name, "--role", role, "--password-file", password_file).code
            == 0
        )
    found = [held("user list", each) for each in holdfast("user", "list", "--json").json]
    assert [(each["name"], each["role"]) for each in found] == [
        ("anna", "superuser"),
        ("bert", "maintainer"),
    ]
    assert "maintainer" in holdfast("user", "list").out
    token = server.auth_token(server.password("bert", Secret("correct horse"), HERE)[0])
    new = tmp_path / "new"
    new.write_text("battery staple")
    ended = holdfast("user", "passwd", "bert", "--password-file", new, "--json")
    assert held("user passwd", ended.last)["name"] == "bert"
    assert server.by_auth_token(token, HERE) is None
    assert server.password("bert", Secret("battery staple"), HERE)
    assert held("user remove", holdfast("user", "remove", "bert", "--json").last) == {
        "name": "bert"
    }
    last = holdfast("user", "remove", "anna")
    assert last.code == 1
    assert "last superuser" in last.err


def test_a_password_comes_by_standard_input(holdfast, server, monkeypatch):
    """Never by an argument; none, or a bad one, is an error that says what to do."""
    import io

    monkeypatch.setattr("sys.stdin", io.StringIO("correct horse\n"))
    assert holdfast("user", "add", "anna").code == 0
    assert server.password("anna", Secret("correct horse"), HERE)
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    ended = holdfast("user", "add", "bert")
    assert ended.code == 1
    assert "--password-file" in ended.err
    assert holdfast("user", "add", "bert", "--role", "king").code == 1


def test_the_repositorys_password_is_not_the_users(holdfast, server, monkeypatch, tmp_path):
    """Variables that name that one are not looked at here."""
    import io

    (tmp_path / "other").write_text("repository password")
    monkeypatch.setenv("HOLDFAST_PASSWORD_FILE", str(tmp_path / "other"))
    monkeypatch.setattr("sys.stdin", io.StringIO("correct horse\n"))
    assert holdfast("user", "add", "anna").code == 0
    assert server.password("anna", Secret("correct horse"), HERE)


def test_an_account_prints_its_access_url_first(holdfast, server, tmp_path):
    """It is that of the running server, in the form that clients parse, and opens the account."""
    run = tmp_path / "data" / "run"
    run.mkdir()
    (run / "listeners.json").write_text(json.dumps({"restbackup": "http://127.0.0.1:6789"}))
    ended = holdfast("account", "add", "laptop", "--keep-days", "90")
    assert ended.code == 0, ended.err
    (url,) = ended.out.splitlines()
    name, password, place = re.fullmatch(ACCESS_URL, url).groups()
    assert place == "127.0.0.1:6789"
    assert server.account(name, Secret(password), HERE)[1].keep_days == 90


def test_accounts_are_listed_changed_and_removed(holdfast, server):
    """Without secrets; a removed one signs in no more, beside a running server."""
    added = held("account add", holdfast("account", "add", "laptop", "--json").last)
    name, password, _ = re.fullmatch(ACCESS_URL, added["access_url"]).groups()
    assert server.account(name, Secret(password), HERE)
    listed = holdfast("account", "list", "--json")
    (found,) = [held("account list", each) for each in listed.json]
    assert (found["name"], found["label"], found["keep_days"]) == (name, "laptop", 365)
    assert password not in listed.out + holdfast("account", "list").out
    ended = holdfast("account", "change", "laptop", "--keep-days", "30", "--json")
    assert held("account change", ended.last)["keep_days"] == 30
    assert held("account remove", holdfast("account", "remove", name, "--json").last)
    with pytest.raises(WrongCredentialsError):
        server.account(name, Secret(password), HERE)


@pytest.mark.parametrize("days", ["29", "366", "x"])
def test_other_retention_periods_are_refused(holdfast, server, days):
    """Nothing is made."""
    assert holdfast("account", "add", "--keep-days", days).code == 1
    assert holdfast("account", "list", "--json").out == ""


def test_the_api_key_is_printed_alone_and_works_at_once(holdfast, server):
    """One line on standard output; a second key needs --overwrite and voids the first."""
    first = holdfast("apikey", "new").out.rstrip("\n")
    assert re.fullmatch("bakch-[0-9a-f]{64}", first)
    assert server.bearer(Secret(first), HERE).name == "api-key"
    refused = holdfast("apikey", "new")
    assert (refused.code, refused.out) == (1, "")
    assert "--overwrite" in refused.err
    ended = holdfast("apikey", "new", "--overwrite", "--json")
    second = held("apikey new", ended.last)["api_key"]
    with pytest.raises(HoldfastError):
        server.bearer(Secret(first), HERE)
    assert server.bearer(Secret(second), HERE)
    assert held("apikey remove", holdfast("apikey", "remove", "--json").last)
    with pytest.raises(HoldfastError):
        server.bearer(Secret(second), HERE)
    assert holdfast("apikey", "remove").code == 1


def test_a_folder_that_is_not_there_is_not_made(holdfast, tmp_path):
    """A slip of the pen in --data makes no second server."""
    ended = holdfast("apikey", "new", "--data", tmp_path / "dta")
    assert ended.code == 1
    assert not (tmp_path / "dta").exists()
