"""Users: what they may be, what others see of them, and that somebody always has the say."""

from __future__ import annotations

import pytest

from holdfast.core.access import ANONYMOUS, RIGHTS, SHELL, Principal
from holdfast.core.errors import (
    DeniedError,
    InvalidError,
    NotSignedInError,
    RecordExistsError,
    RecordNotFoundError,
    StateError,
    WrongCredentialsError,
)
from holdfast.core.records import Role
from holdfast.core.secret import Secret
from holdfast.service.audit import first_broken

PASSWORD = Secret("correct horse")


def test_what_is_handed_up_has_no_secrets(users, anna):
    """Neither hash nor key leaves, by whatever way a user is asked for."""
    for user in [anna, users.get(SHELL, anna.id), users.find(SHELL, "anna"), *users.list(SHELL)]:
        assert user.password_hash == ""
        assert user.token_key == ""
        assert user.name == "anna"


def test_users_are_found_by_name_email_and_uid(users, anna):
    """Case does not tell emails apart."""
    for identity in ("anna", "Anna@Example.org", anna.uid):
        assert users.find(SHELL, identity).id == anna.id
    with pytest.raises(RecordNotFoundError):
        users.find(SHELL, "Anna")


def test_lists_are_sorted_and_paged(users, anna):
    """Both ways; a field that is none is an error that names it."""
    for name in ("bert", "carl"):
        users.add(SHELL, name=name, role=Role.USER, password=PASSWORD)
    assert [each.name for each in users.list(SHELL, sort="-name", limit=2)] == ["carl", "bert"]
    assert [each.name for each in users.list(SHELL, offset=1)] == ["bert", "carl"]
    assert users.count(SHELL) == 3
    with pytest.raises(InvalidError, match="password_hash"):
        users.list(SHELL, sort="password_hash")


@pytest.mark.parametrize(
    ("field", "given"),
    [
        ("name", ""), ("name", "a b"), ("name", "a@b"), ("name", "-a"), ("name", "a" * 65),
        ("email", "nobody"), ("email", "a b@c"), ("password", "short"), ("password", "x" * 256),
    ],
)  # fmt: skip
def test_mistakes_are_named(users, field, given):
    """The error carries the field; nothing is added."""
    wanted = {"name": "anna", "email": None, "password": "long enough"} | {field: given}
    wanted["password"] = Secret(wanted["password"])
    with pytest.raises(InvalidError) as caught:
        users.add(SHELL, role=Role.USER, **wanted)
    assert set(caught.value.fields) == {field}
    assert users.count(SHELL) == 0


def test_names_and_emails_are_unique(users, anna):
    """When adding and when changing."""
    bert = users.add(SHELL, name="bert", role=Role.USER, password=PASSWORD)
    with pytest.raises(RecordExistsError, match="anna"):
        users.add(SHELL, name="anna", role=Role.USER, password=PASSWORD)
    with pytest.raises(RecordExistsError, match="with the email"):
        users.change(SHELL, bert.id, email="ANNA@example.org")
    assert users.change(SHELL, anna.id, email="anna@example.org", name="anna").name == "anna"


def test_the_last_superuser_stays(users, anna):
    """Neither removed, nor disabled, nor made less; two may be made one."""
    for attempt in (
        lambda: users.remove(SHELL, anna.id),
        lambda: users.change(SHELL, anna.id, disabled=True),
        lambda: users.change(SHELL, anna.id, role=Role.USER),
    ):
        with pytest.raises(StateError, match="last superuser"):
            attempt()
    assert users.get(SHELL, anna.id).role is Role.SUPERUSER
    bert = users.add(SHELL, name="bert", role=Role.SUPERUSER, password=PASSWORD)
    users.remove(SHELL, anna.id)
    assert [each.id for each in users.list(SHELL)] == [bert.id]


def test_an_ordinary_user_may_go_where_there_is_no_superuser(users):
    """The rule is about superusers."""
    bert = users.add(SHELL, name="bert", role=Role.USER, password=PASSWORD)
    users.change(SHELL, bert.id, disabled=True)
    users.remove(SHELL, bert.id)
    assert users.count(SHELL) == 0


@pytest.mark.parametrize("role", [role for role in Role if role is not Role.SUPERUSER])
def test_only_superusers_make_superusers(users, anna, role):
    """And supervisors other users; everybody else is refused, and sees themselves."""
    added = users.add(SHELL, name="bert", role=role, password=PASSWORD)
    bert = Principal("user:bert", RIGHTS[role], user_id=added.id, role=role)
    if role is Role.SUPERVISOR:
        carl = users.add(bert, name="carl", role=Role.USER, password=PASSWORD)
        users.remove(bert, carl.id)
    else:
        with pytest.raises(DeniedError):
            users.add(bert, name="carl", role=Role.USER, password=PASSWORD)
    with pytest.raises(DeniedError):
        users.change(bert, added.id, role=Role.SUPERUSER)
    with pytest.raises(DeniedError):
        users.remove(bert, anna.id)
    assert users.get(bert, added.id).name == "bert"


def test_strangers_learn_nothing(users, anna):
    """Without a sign-in there is no answer but that."""
    for attempt in (
        lambda: users.list(ANONYMOUS),
        lambda: users.get(ANONYMOUS, anna.id),
        lambda: users.find(ANONYMOUS, "anna"),
    ):
        with pytest.raises(NotSignedInError):
            attempt()


def test_ones_own_password_needs_the_old_one(users, anna, signing_in):
    """A session that somebody left open does not take the account over."""
    who, _ = signing_in.password("anna", PASSWORD, "10.0.0.1")
    token = signing_in.auth_token(who)
    with pytest.raises(WrongCredentialsError):
        users.change_own_password(who, Secret("not it at all"), Secret("new password"))
    assert signing_in.by_auth_token(token, "10.0.0.1")
    users.change_own_password(who, PASSWORD, Secret("new password"))
    assert signing_in.by_auth_token(token, "10.0.0.1") is None
    assert signing_in.password("anna", Secret("new password"), "10.0.0.1")


def test_each_act_is_audited_once(ground, users, anna, audit):
    """I9 Adding, changing, removing, and being refused each leave one record, in one chain."""
    bert = users.add(SHELL, name="bert", role=Role.USER, password=PASSWORD)
    users.change(SHELL, bert.id, disabled=True)
    nobody = Principal("user:bert", RIGHTS[Role.USER], user_id=bert.id)
    with pytest.raises(DeniedError):
        users.remove(nobody, anna.id)
    users.remove(SHELL, bert.id)
    assert audit()[-4:] == [
        ("shell", "user.change", "user bert", "allowed"),
        ("shell", "user.change", f"user {bert.id}", "allowed"),
        ("user:bert", "user.change", f"user {anna.id}", "denied"),
        ("shell", "user.change", f"user {bert.id}", "allowed"),
    ]
    with ground.catalog.read() as tx:
        assert first_broken(tx) is None
