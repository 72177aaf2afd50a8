"""F36, F37: secrets are nowhere to be read, and time tells nothing."""

from __future__ import annotations

import contextlib
import logging
import secrets
import statistics
import time

import pytest

from holdfast.core.access import SHELL
from holdfast.core.errors import HoldfastError
from holdfast.core.records import Role
from holdfast.core.secret import Secret
from holdfast.service.accounts import Accounts
from holdfast.service.hosts import Hosts
from holdfast.service.settings import Settings
from holdfast.service.tokens import Tokens

HERE = "10.0.0.1"


def test_no_secret_is_to_be_read_anywhere(ground, users, signing_in, caplog, capsys):
    """After a life of everything that has a secret: not in the files of the catalog, not in the
    audit, a log, an output, a `repr` or the words of an error. The catalog holds digests only.
    """
    caplog.set_level(logging.DEBUG)
    seen: list[object] = []
    known: dict[str, str] = {}

    def note(what, secret):
        known[what] = secret.reveal() if isinstance(secret, Secret) else secret

    def tried(call, *args, **kwargs):
        try:
            seen.append(call(*args, **kwargs))
        except HoldfastError as error:
            seen.extend([str(error), repr(error), error.message, error.advice])

    note("password", secrets.token_hex(8))
    user = users.add(SHELL, name="anna", role=Role.SUPERUSER, password=Secret(known["password"]))
    who, _ = signing_in.password("anna", Secret(known["password"]), HERE)
    note("wrong password", secrets.token_hex(8))
    tried(signing_in.password, "anna", Secret(known["wrong password"]), HERE)
    tried(signing_in.password, known["wrong password"], Secret("x"), HERE)
    note("short password", "q9z")
    tried(users.change, SHELL, user.id, password=Secret(known["short password"]))
    note("auth token", signing_in.auth_token(who))
    note("file token", signing_in.file_token(who))
    seen.append(signing_in.by_auth_token(known["auth token"], HERE))
    note("api key", Tokens(ground).new_api_key(SHELL))
    tried(Tokens(ground).new_api_key, SHELL)
    token, secret = Tokens(ground).issue(who, name="ci")
    note("personal token", secret)
    note("console", Tokens(ground).open_console(who))
    for what in ("api key", "personal token", "console", "wrong password"):
        tried(signing_in.bearer, Secret(known[what]), HERE)
    host = Hosts(ground).add(SHELL, "web1")
    host_token, secret = Hosts(ground).issue(SHELL, host.id)
    note("host token", secret)
    tried(signing_in.host, "web1", secret, HERE)
    account, secret = Accounts(ground).add(SHELL)
    note("access password", secret)
    visitor, _ = signing_in.account(account.name, secret, HERE)
    tried(signing_in.account, account.name, Secret(known["wrong password"]), HERE)
    note("session", Accounts(ground).open_session(visitor))
    tried(signing_in.session, known["session"], HERE)
    note("setting", secrets.token_hex(8))
    settings = Settings(ground)
    tried(settings.set, SHELL, "s3", {"secret": known["setting"]}, secrets=["secret"])
    tried(settings.set, SHELL, "s3", {"secret": known["setting"]}, secrets=["secret"], rev=9)
    tried(settings.get, SHELL, "s3")
    with ground.catalog.read() as tx:
        rows = [tx.users, tx.tokens, tx.accounts, tx.sessions, tx.guesses, tx.audit, tx.settings]
        kept = [each.all() for each in rows]
        token_key = tx.users.get(user.id).token_key
        note("hash", tx.users.get(user.id).password_hash)
    seen.extend([kept, user, who, token, host_token, account, visitor, Secret("x")])
    shown = capsys.readouterr()
    told = "\n".join([repr(seen), caplog.text, shown.out, shown.err])
    for what, value in known.items():
        assert value not in told, what
    assert token_key not in told
    files = b"".join(each.read_bytes() for each in ground.folder.rglob("*") if each.is_file())
    for what, value in known.items():
        assert what in {"hash", "short password"} or value.encode() not in files, what


def test_secrets_of_settings_are_masked_and_kept(ground):
    """Read as stars; the stars written back leave it; another value replaces it; the server itself
    can open it.
    """
    settings = Settings(ground)
    document = {"s3": {"secret": "topsecret", "bucket": "b"}, "list": [{"key": "other"}]}
    paths = ["s3.secret", "list.0.key"]
    shown = settings.set(SHELL, "backups", document, secrets=paths)
    assert shown.value == {"s3": {"secret": "******", "bucket": "b"}, "list": [{"key": "******"}]}
    assert settings.get(SHELL, "backups") == shown
    changed = {"s3": {"secret": "******", "bucket": "c"}, "list": []}
    assert settings.set(SHELL, "backups", changed, secrets=paths, rev=1).rev == 2
    opened = settings.opened("backups")
    assert opened["s3"]["secret"].reveal() == "topsecret"
    assert opened["s3"]["bucket"] == "c"
    changed["s3"]["secret"] = "another"
    settings.set(SHELL, "backups", changed, secrets=paths)
    assert settings.opened("backups")["s3"]["secret"].reveal() == "another"


def test_settings_refuse_what_cannot_be(ground):
    """Stars where nothing was, a sealed thing from elsewhere, and an older base."""
    settings = Settings(ground)
    assert settings.get(SHELL, "new").rev == 0
    assert settings.opened("new") is None
    for value, secret_paths, rev in (
        ({"a": "******"}, ["a"], None),
        ({"a": {"$sealed": "hf1:x"}}, [], None),
        ({"a": 1}, [], 3),
    ):
        with pytest.raises(HoldfastError):
            settings.set(SHELL, "new", value, secrets=secret_paths, rev=rev)
    assert settings.get(SHELL, "new").value is None
    assert settings.set(SHELL, "new", {"a": ["x", None, 1.5, True]}, rev=0).value["a"][1] is None


@pytest.mark.parametrize(
    "pairs", [1500, pytest.param(50_000, marks=[pytest.mark.long, pytest.mark.timeout(1200)])]
)
def test_time_does_not_tell_who_exists(ground, signing_in, pairs):
    """F37 Wrong passwords of accounts that there are, and of names that there are not, in random
    order: the means do not differ (p >= 0.001).
    """
    assert any(abs(_difference(ground, signing_in, pairs)) < 3.29 for _ in range(2))


def _difference(ground, signing_in, pairs):
    """Welch's statistic of the times of both, without the slowest tenth, which others caused."""
    accounts = Accounts(ground)
    known = [accounts.add(SHELL)[0].name for _ in range(20)]
    unknown = [secrets.token_hex(3).upper() for _ in range(20)]
    wrong, times = Secret("x" * 16), ([], [])

    def timed(name):
        began = time.perf_counter_ns()
        with contextlib.suppress(HoldfastError):
            signing_in.account(name, wrong, HERE)
        return time.perf_counter_ns() - began

    for name in known + unknown + known + unknown:
        timed(name)
    for i in range(pairs):
        both = [(0, known[i % 20]), (1, unknown[i % 20])]
        for which, name in both if secrets.randbits(1) else reversed(both):
            times[which].append(timed(name))
    kept = [sorted(each)[: pairs * 9 // 10] for each in times]
    spread = sum(statistics.variance(each) / len(each) for each in kept) ** 0.5
    return (statistics.fmean(kept[0]) - statistics.fmean(kept[1])) / spread


def test_unknown_users_cost_a_hash(monkeypatch, signing_in, users):
    """F37 As much work is done for a user that is not there."""
    from holdfast.service import passwords

    class Counting:
        def __init__(self, real):
            self.real, self.verified = real, 0

        def verify(self, *args):
            self.verified += 1
            return self.real.verify(*args)

        def __getattr__(self, name):
            return getattr(self.real, name)

    users.add(SHELL, name="anna", role=Role.USER, password=Secret("correct horse"))
    counting = Counting(passwords._HASHER)
    monkeypatch.setattr(passwords, "_HASHER", counting)
    for name in ("anna", "nobody", "no@body"):
        before = counting.verified
        with pytest.raises(HoldfastError):
            signing_in.password(name, Secret("wrong"), HERE)
        assert counting.verified == before + 1, name
