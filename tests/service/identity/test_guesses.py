"""F38 Guessing is slowed down to ten a minute, and nobody who knows the password is locked out."""

from __future__ import annotations

import threading

import pytest

from holdfast.core.access import SHELL
from holdfast.core.errors import (
    BusyError,
    HoldfastError,
    TooManyGuessesError,
    WrongCredentialsError,
)
from holdfast.core.secret import Secret
from holdfast.service import guesses as guesses_module
from holdfast.service import passwords
from holdfast.service.accounts import Accounts
from holdfast.service.tokens import Tokens

PASSWORD = Secret("correct horse")
WRONG = Secret("wrong")
EVIL, HOME = "10.6.6.6", "10.0.0.1"
SECOND = 1_000_000_000


def outcome(attempt, *args):
    try:
        attempt(*args)
    except HoldfastError as error:
        return type(error)
    return None


def count(signing_in, tries, name="anna", address=EVIL):
    """How many of so many wrong guesses were looked at."""
    found = [outcome(signing_in.password, name, WRONG, address) for _ in range(tries)]
    assert set(found) <= {WrongCredentialsError, TooManyGuessesError}
    return found.count(WrongCredentialsError)


def test_ten_guesses_and_then_ten_a_minute(signing_in, ground, anna):
    """However fast they come; time is what the clock says, also while somebody is held."""
    assert count(signing_in, 12) == 10
    began = ground.clock.monotonic()
    for _ in range(30):
        with pytest.raises(TooManyGuessesError) as caught:
            signing_in.password("anna", WRONG, EVIL)
        assert 0 < caught.value.wait <= 7
    minutes = (ground.clock.monotonic() - began) / 60
    assert 30 / minutes <= 10


def test_the_right_password_passes_after_any_number_of_wrong_ones(signing_in, ground, anna):
    """At the same address it waits its turn, seconds; from another it does not wait at all."""
    count(signing_in, 15)
    began = ground.clock.monotonic()
    assert signing_in.password("anna", PASSWORD, HOME)
    assert ground.clock.monotonic() == began
    assert signing_in.password("anna", PASSWORD, EVIL)
    assert ground.clock.monotonic() - began <= 7


def test_one_attacker_does_not_use_an_account_up(signing_in, ground, anna):
    """An hour of guessing from one address, and a fresh one is let in at once."""
    for _ in range(600):
        ground.clock.advance(6)
        outcome(signing_in.password, "anna", WRONG, EVIL)
    began = ground.clock.monotonic()
    assert signing_in.password("anna", PASSWORD, HOME)
    assert ground.clock.monotonic() == began


def test_many_attackers_share_the_accounts_budget(signing_in, ground, anna):
    """A hundred addresses do not get a hundred times ten guesses; the address that the account
    came from before is not concerned.
    """
    signing_in.password("anna", PASSWORD, HOME)
    looked_at = sum(count(signing_in, 2, address=f"10.6.{i}.1") for i in range(100))
    assert looked_at <= 30 + 10
    began = ground.clock.monotonic()
    assert signing_in.password("anna", PASSWORD, HOME)
    assert ground.clock.monotonic() == began


def test_one_address_does_not_try_all_accounts(signing_in, users, anna, ground):
    """Names that do not exist count as much."""
    looked_at = sum(count(signing_in, 2, name=f"user{i}") for i in range(60))
    minutes = (ground.clock.monotonic() - 1000) / 60
    assert looked_at <= 60 + 10 * minutes


def test_names_of_one_user_are_one_account(signing_in, anna):
    """Email and name do not give twice as many guesses."""
    assert count(signing_in, 6) + count(signing_in, 6, name="anna@example.org") == 10


def test_addresses_of_one_network_are_one(signing_in, anna):
    """Of IPv6, 64 bits belong to one customer; an IPv4 address in it is itself."""
    tries = [count(signing_in, 3, address=f"2001:db8::{i:x}") for i in range(1, 8)]
    assert sum(tries) == 10
    assert count(signing_in, 12, address=EVIL) == 10
    assert count(signing_in, 1, address=f"::ffff:{EVIL}") == 0


def test_right_ones_cost_no_guess_and_missing_ones_are_none(signing_in, anna, ground):
    """A hundred right ones, and the budget is as full as before."""
    for _ in range(100):
        signing_in.password("anna", PASSWORD, EVIL)
    for _ in range(20):
        assert signing_in.by_auth_token("", EVIL) is None
    assert count(signing_in, 12) == 10


def test_keys_pass_at_once_whatever_was_tried(signing_in, ground):
    """Secrets drawn at random are compared still: their wrong ones are refused without a write,
    the right one passes without a wait, from the same address.
    """
    key = Tokens(ground).new_api_key(SHELL)
    account, password = Accounts(ground).add(SHELL)
    for _ in range(70):
        outcome(signing_in.bearer, WRONG, EVIL)
        outcome(signing_in.account, account.name, WRONG, EVIL)
    assert outcome(signing_in.bearer, WRONG, EVIL) is TooManyGuessesError
    assert outcome(signing_in.account, account.name, WRONG, EVIL) is TooManyGuessesError
    began = ground.clock.monotonic()
    for _ in range(20):
        assert signing_in.bearer(key, EVIL)
        assert signing_in.account(account.name, password, EVIL)
    assert ground.clock.monotonic() == began


def test_the_good_case_writes_nothing(monkeypatch, signing_in, ground):
    """Neither a right account nor a flood of blocked guesses is a write."""
    account, password = Accounts(ground).add(SHELL)
    for _ in range(70):
        outcome(signing_in.account, account.name, WRONG, EVIL)

    def no_writing():
        raise AssertionError("written")

    monkeypatch.setattr(ground.catalog, "write", no_writing)
    assert signing_in.account(account.name, password, EVIL)
    assert outcome(signing_in.account, account.name, WRONG, EVIL) is TooManyGuessesError


def test_guesses_at_once_are_counted_one_by_one(signing_in, anna):
    """Thirty threads do not get thirty guesses."""
    found = []
    start = threading.Barrier(30)

    def guess():
        start.wait()
        found.append(outcome(signing_in.password, "anna", WRONG, EVIL))

    threads = [threading.Thread(target=guess) for _ in range(30)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    # Whoever is held moves the clock of this test, and fills the budget by that.
    assert found.count(WrongCredentialsError) <= 10 + 4
    assert len(found) == 30


def test_few_are_held_at_once(monkeypatch, signing_in, ground, anna):
    """Each one that is held takes a thread: the next of the same account is told to come again."""
    count(signing_in, 10)
    inside, go_on = threading.Event(), threading.Event()

    def sleep(_seconds):
        inside.set()
        assert go_on.wait(10)

    monkeypatch.setattr(ground.clock, "sleep", sleep)
    held = threading.Thread(target=outcome, args=(signing_in.password, "anna", WRONG, EVIL))
    held.start()
    assert inside.wait(10)
    assert outcome(signing_in.password, "anna", PASSWORD, EVIL) is TooManyGuessesError
    go_on.set()
    held.join()


def test_a_clock_that_was_set_back_blocks_nobody_for_long(signing_in, ground, anna):
    """A minute at most, and not until the clock is where it was."""
    count(signing_in, 10)
    ground.clock.jump(-86_400)
    assert 0 < guesses_wait(signing_in, ground) <= 60


def guesses_wait(signing_in, ground):
    with pytest.raises(TooManyGuessesError) as caught:
        signing_in.password("anna", WRONG, EVIL)
    return caught.value.wait


def test_the_table_is_bounded(monkeypatch, signing_in, ground):
    """Names and addresses without end leave a few rows; what means nothing any more goes first."""
    monkeypatch.setattr(guesses_module, "_MOST_ROWS", 50)
    for i in range(120):
        outcome(signing_in.password, f"user{i}", WRONG, f"10.6.{i}.1")
        ground.clock.advance(1)
        with ground.catalog.read() as tx:
            assert tx.guesses.count() <= 50
    with ground.catalog.read() as tx:
        newest = max(each.last for each in tx.guesses.all())
    assert ground.now() - newest <= 2 * SECOND


def test_the_table_tells_no_names(signing_in, ground):
    """What was typed as a name may have been a password."""
    outcome(signing_in.password, "hunter2-hunter2", WRONG, EVIL)
    with ground.catalog.read() as tx:
        assert tx.guesses.count() == 3
        assert "hunter2" not in repr([*tx.guesses.all(), *tx.audit.all()])


def test_wrong_guesses_are_audited_as_far_as_they_are_looked_at(signing_in, anna, audit):
    """I9 One record each; beyond the budget there is neither a look nor a record."""
    count(signing_in, 10)
    assert [each[1:] for each in audit()].count(("sign.in", "user anna", "denied")) == 10
    signing_in.password("anna", PASSWORD, HOME)
    assert audit()[-1] == ("user:anna", "sign.in", "user anna", "allowed")


def test_few_passwords_are_hashed_at_once(monkeypatch, signing_in, anna):
    """A rush waits, and then is told to come again: neither processor nor memory is used up."""
    monkeypatch.setattr(passwords, "_SLOTS", threading.BoundedSemaphore(1))
    monkeypatch.setattr(passwords, "_PATIENCE", 0.01)
    with passwords.hashing():
        assert outcome(signing_in.password, "anna", PASSWORD, HOME) is BusyError
    assert signing_in.password("anna", PASSWORD, HOME)
