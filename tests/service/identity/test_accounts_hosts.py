"""Accounts and hosts as things that are kept."""

from __future__ import annotations

import re

import pytest

from holdfast.core.access import SHELL
from holdfast.core.errors import InvalidError, RecordExistsError, RecordNotFoundError, StateError
from holdfast.core.records import Face, Shape, Target
from holdfast.core.secret import Secret
from holdfast.service.accounts import Accounts
from holdfast.service.addresses import access_url
from holdfast.service.hosts import Hosts

ACCESS_URL = r"^https?://([a-zA-Z0-9]+):([a-zA-Z0-9]+)@([-.a-zA-Z0-9]+(?::[0-9]+)?)/$"
"""As its clients parse it."""


@pytest.fixture
def accounts(ground):
    return Accounts(ground)


def test_an_account_has_the_form_of_access_urls_and_a_target(accounts, ground):
    """Six upper-case letters and digits, sixteen letters and digits, never twice the same."""
    made = [accounts.add(SHELL, label="laptop", keep_days=30) for _ in range(5)]
    for account, password in made:
        assert re.fullmatch(r"[A-Z0-9]{6}", account.name)
        assert re.fullmatch(r"[a-zA-Z0-9]{16}", password.reveal())
        with ground.catalog.read() as tx:
            target = tx.targets.get(account.target_id)
        assert (target.face, target.shape, target.name) == (
            Face.RESTBACKUP,
            Shape.SINGLE,
            "laptop",
        )
        assert (target.keep["criteria"], target.keep["value"]) == ("age", 30)
    assert len({account.name for account, _ in made}) == 5
    assert len({password.reveal() for _, password in made}) == 5


@pytest.mark.parametrize("days", [-1, 0, 29, 366, 10_000])
def test_files_are_kept_for_30_days_to_a_year(accounts, days):
    """Anything else is refused, when adding and when changing."""
    account, _ = accounts.add(SHELL)
    with pytest.raises(InvalidError, match="30 to 365"):
        accounts.add(SHELL, keep_days=days)
    with pytest.raises(InvalidError, match="30 to 365"):
        accounts.change(SHELL, account.id, keep_days=days)
    assert [each.keep_days for each in accounts.list(SHELL)] == [365]


def test_a_change_reaches_the_keep_rule(accounts, ground):
    """The rule of the target says the same as the account."""
    account, _ = accounts.add(SHELL)
    assert accounts.change(SHELL, account.id, keep_days=90).keep_days == 90
    with ground.catalog.read() as tx:
        assert tx.targets.get(account.target_id).keep["value"] == 90


def test_accounts_are_found_by_name_and_by_what_they_are_called(accounts):
    """What several are called names none."""
    first, _ = accounts.add(SHELL, label="laptop")
    assert accounts.find(SHELL, first.name) == accounts.find(SHELL, "laptop") == first
    second, _ = accounts.add(SHELL, label="laptop")
    with pytest.raises(InvalidError, match=second.name):
        accounts.find(SHELL, "laptop")
    with pytest.raises(RecordNotFoundError):
        accounts.find(SHELL, "desktop")


def test_without_a_pool_there_is_no_account(accounts, ground):
    """Nothing is made, and the error says what to do."""
    with pytest.raises(RecordNotFoundError):
        accounts.add(SHELL, pool="elsewhere")
    with ground.catalog.write() as tx:
        tx.pools.remove(name="main")
    with pytest.raises(StateError, match="no pool"):
        accounts.add(SHELL)
    assert not accounts.list(SHELL)


@pytest.mark.parametrize(
    ("listening", "configured", "shown"),
    [
        (None, "", "http://NAME:PASSWORD@127.0.0.1:5657/"),
        ('{"restbackup": "https://127.0.0.1:6000"}', "", "https://NAME:PASSWORD@127.0.0.1:6000/"),
        ('{"restbackup": "http://0.0.0.0:80"}', "", "http://NAME:PASSWORD@backup.local:80/"),
        (
            '{"restbackup": "http://0.0.0.0:80"}',
            "https://b.example.org",
            "https://NAME:PASSWORD@b.example.org/",
        ),
        ("{", "", "http://NAME:PASSWORD@127.0.0.1:5657/"),
    ],
)
def test_access_urls_name_the_running_server(accounts, ground, listening, configured, shown):
    """What is configured first, then where it listens, then where it would."""
    if listening:
        (ground.folder / "run").mkdir()
        (ground.folder / "run" / "listeners.json").write_text(listening)
    ground.configuration.restbackup.url = configured
    ground.configuration.listen.hosts = ["backup.local"]
    account, password = accounts.add(SHELL)
    url = access_url(ground, account, password).reveal()
    assert re.fullmatch(ACCESS_URL, url)
    plain = url.replace(account.name, "NAME").replace(password.reveal(), "PASSWORD")
    assert plain == shown


def test_hosts_have_names_that_fit_a_path(ground):
    """No slash, no dots alone, nothing that a shell or an address would mind; each once."""
    hosts = Hosts(ground)
    assert hosts.add(SHELL, "web1.example.org").name == "web1.example.org"
    for name in ("", ".", "..", "a/b", "a b", "-a", "a..b", "a:b", "é", "a" * 254):
        with pytest.raises(InvalidError):
            hosts.add(SHELL, name)
    with pytest.raises(RecordExistsError):
        hosts.add(SHELL, "web1.example.org")
    assert [each.name for each in hosts.list(SHELL)] == ["web1.example.org"]


def test_a_host_goes_when_nothing_of_it_is_kept(ground):
    """With its tokens; while something is kept it stays."""
    hosts = Hosts(ground)
    host = hosts.add(SHELL, "web1")
    hosts.issue(SHELL, host.id)
    with ground.catalog.write() as tx:
        target = tx.targets.add(Target(uid="t", name="t", pool_id=1, host_id=host.id))
    with pytest.raises(StateError, match="still kept"):
        hosts.remove(SHELL, host.id)
    assert len(hosts.tokens(SHELL, host.id)) == 1
    with ground.catalog.write() as tx:
        tx.targets.remove(id=target.id)
    hosts.remove(SHELL, host.id)
    with pytest.raises(RecordNotFoundError):
        hosts.find(SHELL, "web1")


def test_secrets_are_handed_up_as_such(accounts):
    """Whoever prints one sees stars."""
    _, password = accounts.add(SHELL)
    assert isinstance(password, Secret)
    assert str(password) == "***"
