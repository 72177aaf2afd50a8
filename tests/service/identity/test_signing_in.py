"""Signing in by password, web token, key, host token, access URL and session."""

from __future__ import annotations

import base64
import json

import pytest

from holdfast.core.access import RIGHTS, SHELL, Verb
from holdfast.core.errors import (
    DeniedError,
    InvalidError,
    RecordExistsError,
    RecordNotFoundError,
    SessionExpiredError,
    StorageFullError,
    WrongCredentialsError,
)
from holdfast.core.records import Role
from holdfast.core.secret import Secret
from holdfast.service.accounts import Accounts
from holdfast.service.hosts import Hosts
from holdfast.service.opening import open_ground
from holdfast.service.signing_in import SigningIn
from holdfast.service.tokens import Tokens

PASSWORD = Secret("correct horse")
HERE = "10.0.0.1"
SECOND = 1_000_000_000
DAY = 86_400


@pytest.fixture
def bert(users, anna):
    return users.add(SHELL, name="bert", role=Role.ADMINISTRATOR, password=PASSWORD)


@pytest.fixture
def who(signing_in, anna):
    return signing_in.password("anna", PASSWORD, HERE)[0]


@pytest.fixture
def tokens(ground):
    return Tokens(ground)


# --- passwords ------------------------------------------------------------------------------------


def test_the_right_password_says_who_it_is(signing_in, anna):
    """With the rights of the role, the address, and no secret."""
    for identity in ("anna", "ANNA@example.org"):
        who, user = signing_in.password(identity, PASSWORD, HERE)
        assert (who.name, who.rights, who.user_id) == ("user:anna", RIGHTS[Role.SUPERUSER], anna.id)
        assert (who.address, who.narrowed) == (HERE, False)
        assert user == anna


@pytest.mark.parametrize("identity", ["anna", "nobody", "anna@example.org", "no@body", "", "\0é"])
def test_wrong_and_unknown_are_told_alike(signing_in, anna, identity):
    """The same error with the same words: nobody learns who exists."""
    with pytest.raises(WrongCredentialsError) as caught:
        signing_in.password(identity, Secret("wrong"), HERE)
    assert caught.value.message == "these credentials are wrong"


def test_kinds_are_kept_apart(signing_in, anna, bert):
    """Superusers do not sign in among the others, nor the others among them."""
    assert signing_in.password("anna", PASSWORD, HERE, kind="superuser")
    assert signing_in.password("bert", PASSWORD, HERE, kind="user")
    for name, kind in (("anna", "user"), ("bert", "superuser")):
        with pytest.raises(WrongCredentialsError):
            signing_in.password(name, PASSWORD, HERE, kind=kind)


def test_who_is_disabled_is_out_at_once(users, signing_in, tokens, bert):
    """By password, web token, console and personal token."""
    who, _ = signing_in.password("bert", PASSWORD, HERE)
    web = signing_in.auth_token(who)
    console = tokens.open_console(who)
    _, personal = tokens.issue(who, name="ci")
    users.change(SHELL, bert.id, disabled=True)
    assert signing_in.by_auth_token(web, HERE) is None
    assert signing_in.by_console(console, HERE) is None
    for attempt in (
        lambda: signing_in.password("bert", PASSWORD, HERE),
        lambda: signing_in.bearer(personal, HERE),
    ):
        with pytest.raises(WrongCredentialsError):
            attempt()


def test_a_dated_hash_is_replaced(monkeypatch, users, signing_in, anna, ground):
    """Whoever signs in gets the hash of today; the password stays, and so do tokens."""
    from argon2 import PasswordHasher

    from holdfast.service import passwords

    who, _ = signing_in.password("anna", PASSWORD, HERE)
    token = signing_in.auth_token(who)
    monkeypatch.setattr(
        passwords, "_HASHER", PasswordHasher(time_cost=2, memory_cost=8, parallelism=1)
    )
    signing_in.password("anna", PASSWORD, HERE)
    with ground.catalog.read() as tx:
        assert "t=2" in tx.users.get(anna.id).password_hash
    assert signing_in.password("anna", PASSWORD, HERE)
    assert signing_in.by_auth_token(token, HERE)


# --- web tokens -----------------------------------------------------------------------------------


def claims(token):
    head, middle, _ = token.split(".")
    return [json.loads(base64.urlsafe_b64decode(part + "==")) for part in (head, middle)]


def test_a_superusers_token_is_what_its_clients_read(signing_in, ground, who, anna):
    """HS256, the claims by name, a day long."""
    head, found = claims(signing_in.auth_token(who))
    assert head == {"typ": "JWT", "alg": "HS256"}
    assert found == {
        "id": anna.uid,
        "type": "auth",
        "collectionId": "pbc_3142635823",
        "refreshable": True,
        "exp": ground.now() // SECOND + DAY,
    }


def test_tokens_of_others_and_of_files_are_what_they_say(signing_in, bert, ground):
    """Another collection and life; a file's has no `refreshable`."""
    who, _ = signing_in.password("bert", PASSWORD, HERE)
    now = ground.now() // SECOND
    _, auth = claims(signing_in.auth_token(who))
    assert (auth["collectionId"], auth["exp"]) == ("_pb_users_auth_", now + 432_000)
    _, file = claims(signing_in.file_token(who))
    assert file == {
        "id": bert.uid, "type": "file", "collectionId": "_pb_users_auth_",
        "exp": now + 180,
    }  # fmt: skip


@pytest.mark.parametrize(("make", "seconds"), [("auth", DAY), ("file", 180)])
def test_tokens_end(signing_in, ground, who, make, seconds):
    """Good to the last second, and not one longer."""
    token = getattr(signing_in, f"{make}_token")(who)
    by = getattr(signing_in, f"by_{make}_token")
    ground.clock.advance(seconds - 1)
    assert by(token, HERE)
    ground.clock.advance(1)
    assert by(token, HERE) is None


def test_one_type_is_not_the_other(signing_in, who):
    """A file's token signs nobody in, an auth token downloads nothing, and a file's only reads."""
    auth, file = signing_in.auth_token(who), signing_in.file_token(who)
    assert signing_in.by_auth_token(file, HERE) is None
    assert signing_in.by_file_token(auth, HERE) is None
    reader = signing_in.by_file_token(file, HERE)
    assert reader.may(Verb.BACKUP_READ)
    assert not reader.may(Verb.BACKUP_DELETE)
    with pytest.raises(DeniedError):
        signing_in.auth_token(reader)


def test_a_token_is_refreshed_by_one_and_both_go_on(signing_in, ground, who):
    """As its clients do it."""
    first = signing_in.auth_token(who)
    ground.clock.advance(10)
    second = signing_in.auth_token(signing_in.by_auth_token(first, HERE))
    assert second != first
    assert signing_in.by_auth_token(first, HERE)
    assert signing_in.by_auth_token(second, HERE)


@pytest.mark.parametrize("change", [{"password": Secret("new password")}, {"role": Role.USER}])
def test_a_new_password_or_role_voids_tokens(users, signing_in, bert, change):
    """All of them, at once."""
    superuser = {"role": Role.SUPERUSER}
    users.change(SHELL, bert.id, **superuser)
    who, _ = signing_in.password("bert", PASSWORD, HERE)
    auth, file = signing_in.auth_token(who), signing_in.file_token(who)
    users.change(SHELL, bert.id, **change)
    assert signing_in.by_auth_token(auth, HERE) is None
    assert signing_in.by_file_token(file, HERE) is None


def _forged(token, **changed):
    head, middle = claims(token)
    parts = [
        base64.urlsafe_b64encode(json.dumps(each).encode()).rstrip(b"=").decode()
        for each in (head | changed.pop("head", {}), middle | changed)
    ]
    return ".".join([*parts, token.split(".")[2]])


def test_forged_tokens_are_nothing(signing_in, who, bert):
    """Altered, unsigned, of another, cut short, or no token at all: None, and never an error."""
    token = signing_in.auth_token(who)
    forged = [
        _forged(token, exp=2**40),
        _forged(token, id=bert.uid),
        _forged(token, head={"alg": "none"}),
        _forged(token, head={"alg": "none"}).rpartition(".")[0] + ".",
        token[:-1],
        token + "x",
        "",
        "a.b.c",
        "..",
        "é.é.é",
        "x" * 100_000,
        token.replace(".", "..", 1),
    ]
    for each in forged:
        assert signing_in.by_auth_token(each, HERE) is None, each[:80]
    assert signing_in.by_auth_token(token, HERE)


# --- the API key ----------------------------------------------------------------------------------


def test_the_api_key_has_the_form_that_its_clients_insist_on(tokens, signing_in):
    """`bakch-` and 64 hexadecimal digits; it comes in with what that face does and no more."""
    key = tokens.new_api_key(SHELL)
    prefix, digits = key.reveal()[:6], key.reveal()[6:]
    assert prefix == "bakch-"
    assert len(digits) == 64
    assert set(digits) <= set("0123456789abcdef")
    who = signing_in.bearer(key, HERE)
    assert who.name == "api-key"
    assert who.may(Verb.BACKUP_DELETE)
    assert not who.may(Verb.USER_CHANGE)


def test_there_is_one_api_key(tokens, signing_in):
    """A second is refused; one that replaces it voids the first at once; removed, none is left."""
    first = tokens.new_api_key(SHELL)
    with pytest.raises(RecordExistsError):
        tokens.new_api_key(SHELL)
    second = tokens.new_api_key(SHELL, overwrite=True)
    assert signing_in.bearer(second, HERE)
    with pytest.raises(WrongCredentialsError):
        signing_in.bearer(first, HERE)
    tokens.remove_api_key(SHELL)
    with pytest.raises(WrongCredentialsError):
        signing_in.bearer(second, HERE)
    with pytest.raises(RecordNotFoundError):
        tokens.remove_api_key(SHELL)


def test_another_process_sees_it_at_once(tokens, ground):
    """What one process makes or removes, another that is open already knows."""
    other = open_ground(ground.folder)
    try:
        there = SigningIn(other)
        key = tokens.new_api_key(SHELL)
        assert there.bearer(key, HERE).name == "api-key"
        tokens.remove_api_key(SHELL)
        with pytest.raises(WrongCredentialsError):
            there.bearer(key, HERE)
    finally:
        other.catalog.close()


# --- personal tokens ------------------------------------------------------------------------------


def test_a_token_may_what_its_owner_may_but_makes_no_others(tokens, signing_in, who):
    """A stolen one does not entrench itself."""
    token, secret = tokens.issue(who, name="ci")
    held = signing_in.bearer(secret, HERE)
    assert held.user_id == who.user_id
    assert held.rights == who.rights - {Verb.SELF, Verb.TOKEN_CHANGE, Verb.USER_CHANGE}
    for attempt in (
        lambda: tokens.issue(held, name="more"),
        lambda: tokens.open_console(held),
        lambda: signing_in.auth_token(held),
        lambda: tokens.revoke(held, token.uid),
    ):
        with pytest.raises(DeniedError):
            attempt()


def test_a_token_is_narrowed(tokens, signing_in, who):
    """To acts, and to things; what names nothing in its scope is refused."""
    _, secret = tokens.issue(who, name="reader", verbs=[Verb.BACKUP_READ], pools=[7])
    held = signing_in.bearer(secret, HERE)
    assert held.may(Verb.BACKUP_READ, pool=7)
    assert not held.may(Verb.BACKUP_READ, pool=8)
    assert not held.may(Verb.BACKUP_READ)
    assert not held.may(Verb.BACKUP_DELETE, pool=7)


def test_nobody_makes_a_token_that_may_more(tokens, signing_in, who, users, bert):
    """Neither more acts, nor more things, nor for somebody with a higher role."""
    maker, secret = tokens.issue(
        who, name="maker", verbs=[Verb.TOKEN_CHANGE, Verb.SELF, Verb.BACKUP_READ]
    )
    held = signing_in.bearer(secret, HERE)
    with pytest.raises(DeniedError):
        tokens.issue(held, name="more", verbs=[Verb.BACKUP_READ, Verb.BACKUP_DELETE])
    with pytest.raises(DeniedError):
        tokens.issue(held, name="all")
    assert tokens.issue(held, name="same", verbs=[Verb.BACKUP_READ])
    narrow_to = {"verbs": [Verb.SELF, Verb.BACKUP_READ]}
    bert_is, _ = signing_in.password("bert", PASSWORD, HERE)
    assert tokens.issue(bert_is, name="own", **narrow_to)
    with pytest.raises(DeniedError):
        tokens.issue(bert_is, name="hers", user_id=who.user_id)
    assert [each.name for each in tokens.list(bert_is, user_id=bert.id)] == ["own"]
    with pytest.raises(DeniedError):
        tokens.list(bert_is)
    with pytest.raises(RecordNotFoundError):
        tokens.revoke(bert_is, maker.uid)


def test_tokens_expire_and_are_revoked(tokens, signing_in, ground, who):
    """At the moment, and at once. One that would have expired already is refused."""
    expires = ground.now() + 60 * SECOND
    _, short = tokens.issue(who, name="short", expires=expires)
    token, long = tokens.issue(who, name="long")
    ground.clock.advance(59)
    assert signing_in.bearer(short, HERE)
    ground.clock.advance(1)
    with pytest.raises(WrongCredentialsError):
        signing_in.bearer(short, HERE)
    tokens.revoke(who, token.uid)
    with pytest.raises(WrongCredentialsError):
        signing_in.bearer(long, HERE)
    with pytest.raises(InvalidError):
        tokens.issue(who, name="past", expires=expires)


def test_last_use_is_shown_and_written_once_a_minute(tokens, signing_in, ground, who, writes):
    """No write for each request."""
    _, secret = tokens.issue(who, name="ci")
    first = ground.now()
    signing_in.bearer(secret, HERE)
    ground.clock.advance(59)
    before = writes()
    for _ in range(20):
        signing_in.bearer(secret, HERE)
    assert writes() == before
    assert [each.used for each in tokens.list(who, user_id=who.user_id)] == [first]
    ground.clock.advance(1)
    signing_in.bearer(secret, HERE)
    assert [each.used for each in tokens.list(who)] == [first + 60 * SECOND]


def test_a_full_disk_keeps_nobody_from_restoring(monkeypatch, tokens, signing_in, ground, who):
    """What only notes a use may fail; the key is right all the same."""
    _, secret = tokens.issue(who, name="ci")

    def full():
        raise StorageFullError("no room")

    monkeypatch.setattr(ground.catalog, "write", full)
    assert signing_in.bearer(secret, HERE).name == "user:anna"


@pytest.fixture
def writes(monkeypatch, ground):
    """How often the catalog was written."""
    count = [0]
    write = ground.catalog.write

    def counted():
        count[0] += 1
        return write()

    monkeypatch.setattr(ground.catalog, "write", counted)
    return lambda: count[0]


# --- the console ----------------------------------------------------------------------------------


def test_a_console_session_ends_by_signing_out_by_time_and_with_the_password(
    tokens, signing_in, ground, who, users
):
    """It is a cookie's and no bearer's."""
    first, second, third = (tokens.open_console(who) for _ in range(3))
    assert signing_in.by_console(first, HERE).rights == who.rights
    with pytest.raises(WrongCredentialsError):
        signing_in.bearer(first, HERE)
    tokens.close_console(who, first)
    assert signing_in.by_console(first, HERE) is None
    users.change(SHELL, who.user_id, password=Secret("new password"))
    assert signing_in.by_console(second, HERE) is None
    assert signing_in.by_console(third, HERE) is None
    fourth = tokens.open_console(who)
    ground.clock.advance(12 * 3600)
    assert signing_in.by_console(fourth, HERE) is None


# --- hosts ----------------------------------------------------------------------------------------


def test_a_host_signs_in_with_its_name_and_token(ground, signing_in):
    """It may store into its own repository alone, and shows when it was heard of last."""
    hosts = Hosts(ground)
    web, other = hosts.add(SHELL, "web1"), hosts.add(SHELL, "web2")
    token, secret = hosts.issue(SHELL, web.id, name="restic")
    who = signing_in.host("web1", secret, HERE)
    assert (who.name, who.host_id) == ("host:web1", web.id)
    assert who.may(Verb.HOST_STORE, host=web.id)
    assert not who.may(Verb.HOST_STORE, host=other.id)
    assert not who.may(Verb.BACKUP_READ, host=web.id)
    assert hosts.find(SHELL, "web1").seen == ground.now()
    for name, given in (("web2", secret), ("web1", Secret("wrong")), ("web3", secret)):
        with pytest.raises(WrongCredentialsError):
            signing_in.host(name, given, HERE)
    with pytest.raises(WrongCredentialsError):
        signing_in.bearer(secret, HERE)
    hosts.revoke(SHELL, web.id, token.uid)
    with pytest.raises(WrongCredentialsError):
        signing_in.host("web1", secret, HERE)


# --- RestBackup accounts --------------------------------------------------------------------------


def test_an_account_signs_in_within_its_own_target(ground, signing_in):
    """It lists, reads and adds there; nothing else, and nowhere else."""
    accounts = Accounts(ground)
    account, password = accounts.add(SHELL)
    other, _ = accounts.add(SHELL)
    who, found = signing_in.account(account.name, password, HERE)
    assert found == account
    assert who.name == f"account:{account.name}"
    assert who.may(Verb.BACKUP_CREATE, target=account.target_id)
    assert not who.may(Verb.BACKUP_CREATE, target=other.target_id)
    assert not who.may(Verb.BACKUP_DELETE, target=account.target_id)
    for name, given in ((other.name, password), (account.name, Secret("x")), ("NOBODY", password)):
        with pytest.raises(WrongCredentialsError):
            signing_in.account(name, given, HERE)


def test_a_removed_account_is_out_at_once_and_its_files_stay(ground, signing_in):
    """Sessions end with it; the target that keeps the files stays with its keep rule."""
    accounts = Accounts(ground)
    account, password = accounts.add(SHELL, keep_days=30)
    who, _ = signing_in.account(account.name, password, HERE)
    session = accounts.open_session(who)
    accounts.remove(SHELL, account.id)
    with pytest.raises(WrongCredentialsError):
        signing_in.account(account.name, password, HERE)
    with pytest.raises(RecordNotFoundError):
        signing_in.session(session, HERE)
    with ground.catalog.read() as tx:
        assert tx.targets.get(account.target_id).keep["value"] == 30


def test_a_session_reads_for_a_day(ground, signing_in):
    """Then it has expired, which is not the same as never having been one."""
    accounts = Accounts(ground)
    account, password = accounts.add(SHELL)
    who, _ = signing_in.account(account.name, password, HERE)
    token = accounts.open_session(who)
    assert len(token) == 16
    assert token.isalnum()
    assert accounts.open_session(who) != token
    reader, found = signing_in.session(token, HERE)
    assert found == account
    assert reader.may(Verb.BACKUP_READ, target=account.target_id)
    assert not reader.may(Verb.BACKUP_CREATE, target=account.target_id)
    with pytest.raises(DeniedError):
        accounts.open_session(reader)
    ground.clock.advance(DAY - 1)
    assert signing_in.session(token, HERE)
    ground.clock.advance(1)
    with pytest.raises(SessionExpiredError):
        signing_in.session(token, HERE)
    with pytest.raises(RecordNotFoundError):
        signing_in.session("G4c9Pf7kN73Sklc3", HERE)
