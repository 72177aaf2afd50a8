"""Pairs of tokens over time, and what they let people do."""

from __future__ import annotations

import pytest

from holdfast.core.access import SHELL, Verb
from holdfast.core.errors import (
    DeniedError,
    NotSignedInError,
    TooManyGuessesError,
    WrongCredentialsError,
)
from holdfast.core.records import Role
from holdfast.core.secret import Secret
from holdfast.service.guesses import Strictness
from holdfast.service.nouns import people
from holdfast.service.nouns.keeping import Nouns
from holdfast.service.token_pairs import TokenPairs
from holdfast.service.users import Charge

HERE = "192.0.2.1"
PASSWORD = Secret("correct horse")
STRICT = Strictness(5, 30 * 60_000_000_000)
NOUNS = (
    people.USER, people.USER_GROUP, people.CLIENT_GROUP, people.MEDIA_SERVER,
)  # fmt: skip


@pytest.fixture
def pairs(ground, signing_in, anna):
    return TokenPairs(ground, signing_in)


@pytest.fixture
def nouns(ground):
    return Nouns(ground, NOUNS)


def open_(pairs, name="anna", password=PASSWORD, address=HERE):
    return pairs.open(name, password, address, STRICT)


def test_an_access_token_lives_for_a_quarter_of_an_hour(ground, pairs):
    pair = open_(pairs)
    ground.clock.advance(899)
    assert pairs.who(pair.access, pair.csrf, HERE).name == "user:anna"
    ground.clock.advance(1)
    with pytest.raises(NotSignedInError):
        pairs.who(pair.access, pair.csrf, HERE)
    renewed = pairs.renew(pair.refresh, HERE, access=pair.access)
    assert pairs.who(renewed.access, renewed.csrf, HERE).name == "user:anna"


def test_a_session_ends_a_day_after_the_sign_in(ground, pairs):
    """However often it was renewed; and the access token of the last minutes with it."""
    pair = open_(pairs)
    for _ in range(3):
        ground.clock.advance(28_799)
        pair = pairs.renew(pair.refresh, HERE)
    ground.clock.advance(3)
    for token in (pair.refresh, pair.access):
        with pytest.raises(NotSignedInError):
            pairs.close(token, HERE)
    with pytest.raises(NotSignedInError):
        pairs.renew(pair.refresh, HERE)


def test_another_run_of_the_server_knows_no_session(ground, signing_in, pairs):
    pair = open_(pairs)
    later = TokenPairs(ground, signing_in)
    with pytest.raises(NotSignedInError):
        later.who(pair.access, pair.csrf, HERE)
    with pytest.raises(NotSignedInError):
        later.renew(pair.refresh, HERE)


@pytest.mark.parametrize("how", ["password", "own", "disabled", "removed"])
def test_who_may_not_sign_in_any_more_is_out(users, pairs, how):
    """A new password, given by oneself or another, a disabled user, one who is gone."""
    added = users.add(SHELL, name="ben", role=Role.SUPERUSER, password=PASSWORD)
    pair = open_(pairs, "ben")
    who = pairs.who(pair.access, pair.csrf, HERE)
    if how == "own":
        users.set_own_password(who, Secret("another one"))
    elif how == "removed":
        users.remove(SHELL, added.id)
    else:
        changed = {"password": Secret("another one")} if how == "password" else {"disabled": True}
        users.change(SHELL, added.id, **changed)
    with pytest.raises(NotSignedInError):
        pairs.who(pair.access, pair.csrf, HERE)
    with pytest.raises(NotSignedInError):
        pairs.renew(pair.refresh, HERE)


def test_wrong_attempts_block_for_half_an_hour(ground, pairs):
    """From that address; the right password does not help there, and does elsewhere."""
    for _ in range(5):
        with pytest.raises(WrongCredentialsError):
            open_(pairs, password=Secret("wrong"))
    with pytest.raises(TooManyGuessesError) as told:
        open_(pairs)
    assert 0 < told.value.wait <= 1800
    open_(pairs, address="198.51.100.7")
    ground.clock.advance(told.value.wait - 10)
    with pytest.raises(TooManyGuessesError):
        open_(pairs)
    ground.clock.advance(11)
    open_(pairs)


def test_earlier_wrong_attempts_are_told(ground, pairs):
    """Since the sign-in before: how many, and when the last was."""
    assert (open_(pairs).failed, open_(pairs).failed_at) == (0, None)
    for _ in range(2):
        ground.clock.advance(60)
        with pytest.raises(WrongCredentialsError):
            open_(pairs, password=Secret("wrong"))
    last = ground.now()
    ground.clock.advance(60)
    pair = open_(pairs)
    assert (pair.failed, pair.failed_at) == (2, last)
    assert open_(pairs).failed == 0


def test_a_refresh_token_that_comes_again_is_in_the_audit(pairs, audit):
    pair = open_(pairs)
    pairs.renew(pair.refresh, HERE)
    with pytest.raises(NotSignedInError):
        pairs.renew(pair.refresh, HERE)
    assert ("user:anna", "sign.in", "user anna", "denied") in audit()


# --- roles ----------------------------------------------------------------------------------------


@pytest.fixture
def signed_in(users, pairs, nouns):
    """A user of that name with that role, signed in."""

    def make(name, role=Role.USER, **charge):
        users.add(SHELL, name=name, role=role, password=PASSWORD, charge=Charge(**charge))
        pair = open_(pairs, name)
        return pairs.who(pair.access, pair.csrf, HERE), pair

    return make


def test_a_supervisor_may_all_but_make_others(signed_in, users, nouns):
    """Nor change the configuration, nor become a superuser by giving one a password."""
    who, pair = signed_in("sue", supervisor=True)
    assert pair.roles == [Role.SUPERVISOR]
    added = users.add(who, name="new", role=Role.USER, password=PASSWORD)
    nouns.add(who, people.CLIENT_GROUP, {"name": "racks"})
    nouns.add(who, people.ADMINISTRATOR, {"client_group_id": "racks", "user_id": "new"})
    users.change(who, added.id, tel="5")
    root = users.find(SHELL, "anna")
    for act in (
        lambda: nouns.add(who, people.SUPERVISOR, {"user_id": "new"}),
        lambda: users.add(who, name="x", role=Role.SUPERUSER, password=PASSWORD),
        lambda: users.add(
            who, name="x", role=Role.USER, password=PASSWORD, charge=Charge(supervisor=True)
        ),
        lambda: users.change(who, added.id, role=Role.SUPERVISOR),
        lambda: users.change(who, root.id, password=Secret("taken over")),
        lambda: users.remove(who, root.id),
        lambda: users.ground.allow(who, Verb.SETTING_CHANGE),
    ):
        with pytest.raises(DeniedError):
            act()


def test_an_administrator_sees_its_group_only(signed_in, nouns):
    from holdfast.core.fields import Asked

    own = nouns.add(SHELL, people.CLIENT_GROUP, {"name": "own"})
    other = nouns.add(SHELL, people.CLIENT_GROUP, {"name": "other"})
    who, pair = signed_in("adam", client_group_id=own)
    assert pair.roles == [Role.ADMINISTRATOR]
    page = nouns.page(who, people.CLIENT_GROUP, Asked())
    assert ([row["name"] for row in page.rows], page.total) == (["own"], 1)
    assert nouns.get(who, people.CLIENT_GROUP, own)["name"] == "own"
    for act in (
        lambda: nouns.get(who, people.CLIENT_GROUP, other),
        lambda: nouns.page(who, people.USER, Asked()),
        lambda: nouns.change(who, people.CLIENT_GROUP, own, {"shared": True}),
        lambda: nouns.remove(who, people.CLIENT_GROUP, [own]),
        lambda: nouns.add(who, people.CLIENT_GROUP, {"name": "more"}),
    ):
        with pytest.raises(Exception, match=r"there is no|may not"):
            act()
    assert nouns.page(who, people.MEDIA_SERVER, Asked()).total == 0


def test_roles_are_looked_up_at_each_request(signed_in, nouns, pairs):
    """One that is taken away is gone at once, for whoever is signed in, too."""
    from holdfast.core.fields import Asked

    who, pair = signed_in("sam", supervisor=True)
    assert who.scopes(Verb.USER_LIST)
    [row] = nouns.page(SHELL, people.SUPERVISOR, Asked()).rows
    nouns.remove(SHELL, people.SUPERVISOR, [row["id"]])
    assert not pairs.who(pair.access, pair.csrf, HERE).scopes(Verb.USER_LIST)


def test_who_has_no_role_sees_nothing_but_themselves(signed_in, nouns):
    from holdfast.core.fields import Asked

    who, pair = signed_in("ned")
    assert pair.roles == []
    with pytest.raises(DeniedError):
        nouns.page(who, people.CLIENT_GROUP, Asked())
