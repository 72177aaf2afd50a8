"""Guesses: how often wrong credentials may be tried.

Only wrong ones are counted: missing ones are no guess, and right ones cost nothing. An account and
an address have a budget each, which fills up again at ten a minute; while it is empty, a password
waits for its turn and what can be compared at once is compared still, as nobody guesses 95 bits.
Whoever knows the right password is not locked out: an attacker empties the budget of that account
at that address, and an account's as a whole counts only for addresses it never came from.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from holdfast.catalog import tables
from holdfast.core.access import ANONYMOUS, Principal
from holdfast.core.errors import TooManyGuessesError, WrongCredentialsError
from holdfast.core.records import Guess
from holdfast.service.audit import write_record

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import NoReturn

    from holdfast.catalog.database import Transaction
    from holdfast.service.ground import Ground

_SECOND = 1_000_000_000
_STEP = 6 * _SECOND
"""One guess more, for every key of the table."""
_LONGEST_WAIT = 60 * _SECOND
"""A longer one comes from a clock that was set back."""
_PATIENCE = 7.0
"""Seconds that a password is held until its turn; longer waits are refused."""
_HELD = 2
"""So many are held at once in a process: each takes a thread."""
_MOST_ROWS = 20_000
_KNOWN_FOR = 90 * 86_400 * _SECOND
_DAY = 86_400 * _SECOND
SIGN_IN = "sign.in"
"""The audit's verb."""


@dataclass(frozen=True, slots=True)
class Strictness:
    """`burst` guesses at once, then one each `step` nanoseconds."""

    burst: int
    step: int = _STEP


@dataclass(frozen=True, slots=True)
class Budget:
    """`burst` guesses at once, then one each `step` nanoseconds."""

    key: str
    burst: int
    step: int = _STEP

    @property
    def depth(self) -> int:
        """How long ago, in nanoseconds, a budget that is full now was empty."""
        return (self.burst - 1) * self.step

    @property
    def longest_wait(self) -> int:
        """A longer one comes from a clock that was set back."""
        return max(_LONGEST_WAIT, 2 * self.step)


_USUAL = Strictness(10)


@dataclass(frozen=True, slots=True)
class Attempt:
    """What is tried at one sign-in, and from where."""

    address: str
    subject: str
    """for the audit; names nobody who does not exist"""
    budgets: tuple[Budget, ...]
    known_key: str = ""
    """remembers that this account came from this address"""
    account: Budget | None = None
    """left out for addresses that the account has come from"""


class Guesses:
    """Counts are in the catalog, so that all processes share them."""

    def __init__(self, ground: Ground) -> None:
        self.ground = ground
        self._key = ground.master.derive("guesses")
        self._lock = threading.Lock()
        self._held: set[str] = set()

    # --- what is tried ----------------------------------------------------------------------------

    def of_password(
        self, account: str, address: str, subject: str, *, strictness: Strictness | None = None
    ) -> Attempt:
        """`strictness`: of guesses at this account from this address, where it is not as usual."""
        place = _network(address)
        strictness = strictness or _USUAL
        key = self._digest("password", account, place)
        return Attempt(
            address,
            subject,
            (
                Budget(key, strictness.burst, strictness.step),
                Budget(self._digest("address", place), 60),
            ),
            known_key="k" + self._digest("known", account, place),
            account=Budget(self._digest("account", account), 30),
        )

    def of_secret(self, account: str, address: str, subject: str, *, burst: int = 10) -> Attempt:
        """Of secrets made at random. A client with a stale key tries all its calls at once."""
        place = _network(address)
        return Attempt(
            address,
            subject,
            (
                Budget(self._digest("secret", account, place), burst),
                Budget(self._digest("address", place), 60),
            ),
        )

    # --- before, and after ------------------------------------------------------------------------

    def wait(self, attempt: Attempt) -> float:
        """Seconds until it may be looked at; 0.0 now. Reads only."""
        with self.ground.catalog.read() as tx:
            return self._wait(tx, attempt)

    def await_turn(self, attempt: Attempt) -> bool:
        """Returns when the credentials may be looked at: at once, or (True) after some seconds.

        Raises:
            TooManyGuessesError: the turn is far off, or others wait for it.
        """
        wait = self.wait(attempt)
        if not wait:
            return False
        with self._holding(attempt) as held:
            if not held or wait > _PATIENCE:
                raise _too_many(wait)
            self.ground.clock.sleep(wait)
            self.refuse_early(attempt)
        return True

    def refuse_early(self, attempt: Attempt) -> None:
        """Raises TooManyGuessesError where others have used the budget up meanwhile."""
        if wait := self.wait(attempt):
            raise _too_many(wait)

    def wrong(self, attempt: Attempt, *, held: bool = False) -> NoReturn:
        """Counts a wrong guess, once for each budget, and says so. Beyond the budget nothing is
        written, so that a flood is not one on the disk.

        Raises:
            WrongCredentialsError
            TooManyGuessesError: instead, where there are no guesses left, or it was `held`.
        """
        if wait := self.wait(attempt):
            raise _too_many(wait)
        with self.ground.catalog.write() as tx:
            # The record first: from there on nobody else counts. Raising undoes it.
            actor = Principal(ANONYMOUS.name, address=attempt.address, signed_in=False)
            write_record(tx, self.ground.now(), actor, SIGN_IN, attempt.subject, outcome="denied")
            if wait := self._wait(tx, attempt):
                raise _too_many(wait)
            self._count(tx, attempt)
        if held:
            raise _too_many(_STEP / _SECOND)
        raise WrongCredentialsError("these credentials are wrong")

    def right(self, tx: Transaction, attempt: Attempt) -> None:
        """Remembers where the account came from, within the transaction of its sign-in."""
        if not attempt.known_key:
            return
        now = self.ground.now()
        known = tx.guesses.find(key=attempt.known_key)
        if known is None:
            tx.guesses.add(Guess(key=attempt.known_key, wrong=0, last=now))
            self._tidy(tx, now)
        elif now - known.last > _DAY:
            tx.guesses.change(known.id, last=now)

    # --- inside -----------------------------------------------------------------------------------

    def _wait(self, tx: Transaction, attempt: Attempt) -> float:
        now = self.ground.now()
        keys = [budget.key for budget in self._budgets(attempt)]
        rows = tx.guesses.all(tables.guess.c.key.in_([*keys, attempt.known_key]))
        found = {row.key: row.blocked_until for row in rows}
        if attempt.account and attempt.known_key in found:
            found.pop(attempt.account.key, None)
        waits = [
            min(found[budget.key] - now, budget.longest_wait)
            for budget in self._budgets(attempt)
            if budget.key in found
        ]
        return max(0, *waits, 0) / _SECOND

    def _count(self, tx: Transaction, attempt: Attempt) -> None:
        now = self.ground.now()
        for budget in self._budgets(attempt):
            row = tx.guesses.find(key=budget.key)
            # The moment until which it is blocked, or has been, tells how much is left.
            since = now - budget.depth
            if row is None:
                tx.guesses.add(
                    Guess(key=budget.key, wrong=1, last=now, blocked_until=since + budget.step)
                )
                self._tidy(tx, now)
                continue
            latest = min(row.blocked_until, now + budget.longest_wait)
            blocked_until = max(latest, since) + budget.step
            tx.guesses.change(row.id, wrong=row.wrong + 1, last=now, blocked_until=blocked_until)

    def _tidy(self, tx: Transaction, now: int) -> None:
        """Keeps the table small: rows that mean nothing any more go, then the oldest."""
        if tx.guesses.count() <= _MOST_ROWS:
            return
        row = tables.guess.c
        tx.guesses.remove(row.wrong > 0, row.last < now - _LONGEST_WAIT * 10)
        tx.guesses.remove(row.wrong == 0, row.last < now - _KNOWN_FOR)
        over = tx.guesses.count() - _MOST_ROWS * 9 // 10
        if over > 0:
            oldest = tx.guesses.all(order=(row.last,), limit=over)
            tx.guesses.remove(row.id.in_([each.id for each in oldest]))

    def _budgets(self, attempt: Attempt) -> Sequence[Budget]:
        return (*attempt.budgets, *([attempt.account] if attempt.account else []))

    def _digest(self, *parts: str) -> str:
        """What was typed as a name may be a password: no key of the table can be read back."""
        text = "\0".join(parts).encode(errors="surrogatepass")
        return hmac.new(self._key, text, hashlib.sha256).hexdigest()[:32]

    @contextmanager
    def _holding(self, attempt: Attempt) -> Iterator[bool]:
        key = attempt.budgets[0].key
        with self._lock:
            free = key not in self._held and len(self._held) < _HELD
            if free:
                self._held.add(key)
        try:
            yield free
        finally:
            if free:
                with self._lock:
                    self._held.discard(key)


def _too_many(wait: float) -> TooManyGuessesError:
    seconds = max(1, round(wait))
    return TooManyGuessesError(
        f"too many wrong guesses; the next is looked at in {seconds} s", wait=wait
    )


def _network(address: str) -> str:
    """One attacker's addresses count as one: of IPv6 the network of 64 bits."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return "elsewhere"
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.ipv4_mapped is not None:
            return str(parsed.ipv4_mapped)
        return str(ipaddress.ip_network((int(parsed), 64), strict=False))
    return str(parsed)
