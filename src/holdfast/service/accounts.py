"""Accounts of the RestBackup face: an access URL and a space of its own."""

from __future__ import annotations

import secrets
import string
from dataclasses import replace
from typing import TYPE_CHECKING

from holdfast.catalog import tables
from holdfast.core.access import Verb
from holdfast.core.errors import (
    DeniedError,
    InvalidError,
    RecordNotFoundError,
    StateError,
)
from holdfast.core.keeping import Action, Criteria, KeepRule
from holdfast.core.records import Account, Face, PoolKind, Session, Target
from holdfast.core.secret import Secret
from holdfast.service.ground import new_uid
from holdfast.service.tokens import digest_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from holdfast.catalog.database import Transaction
    from holdfast.core.access import Principal
    from holdfast.core.records import Json, Pool
    from holdfast.service.ground import Ground

SHORTEST, LONGEST = 30, 365
"""Days that files may be kept."""
SESSION_SECONDS = 24 * 3600
_SECOND = 1_000_000_000
_REMEMBERED = 30 * 86_400 * _SECOND
"""So long an expired session is told from one that never was."""
_NAME_LETTERS = string.ascii_uppercase + string.digits
_LETTERS = string.ascii_letters + string.digits
_NAME_LENGTH, _PASSWORD_LENGTH, _SESSION_LENGTH = 6, 16, 16
_LONGEST_LABEL = 255


class Accounts:
    """Every `Account` that is handed up has an empty `digest`."""

    def __init__(self, ground: Ground) -> None:
        self.ground = ground

    # --- looking ----------------------------------------------------------------------------------

    def list(self, who: Principal) -> Sequence[Account]:
        with self.ground.read(who, Verb.ACCOUNT_LIST, "accounts") as tx:
            return [without_secrets(each) for each in tx.accounts.all()]

    def find(self, who: Principal, name: str) -> Account:
        """By name or label. Raises RecordNotFoundError, InvalidError (several have that label)."""
        with self.ground.read(who, Verb.ACCOUNT_LIST, "accounts") as tx:
            named = tx.accounts.find(name=name)
            found = [named] if named else tx.accounts.all(label=name)
        if not found:
            raise RecordNotFoundError(f"there is no account {name}")
        if len(found) > 1:
            names = ", ".join(each.name for each in found)
            raise InvalidError(
                f"several accounts are called {name}: {names}",
                remedy="Nothing was changed. Give one of these names.",
            )
        return without_secrets(found[0])

    # --- changing ---------------------------------------------------------------------------------

    def add(
        self,
        who: Principal,
        *,
        label: str = "",
        keep_days: int = LONGEST,
        pool: str | None = None,
    ) -> tuple[Account, Secret]:
        """A new account, with its target, and the password, which is shown this once. `name` is
        6 upper-case letters and digits, the password 16 letters and digits.

        Raises:
            InvalidError: `keep_days` is outside 30 to 365, or the label cannot be.
            RecordNotFoundError, StateError: no such pool, or none at all.
        """
        _check_label(label)
        keep = _keep(keep_days)
        password = _drawn(_LETTERS, _PASSWORD_LENGTH)
        now = self.ground.now()
        detail = {"added": label, "keep_days": keep_days}
        name = _drawn(_NAME_LETTERS, _NAME_LENGTH)
        with self.ground.act(who, Verb.ACCOUNT_CHANGE, f"account {name}", detail=detail) as tx:
            target = tx.targets.add(
                Target(
                    uid=new_uid(),
                    name=label or name,
                    face=Face.RESTBACKUP,
                    pool_id=self._pool(tx, pool).id,
                    keep=keep,
                    created=now,
                )
            )
            account = tx.accounts.add(
                Account(
                    name=name,
                    label=label,
                    digest=digest_of(password),
                    keep_days=keep_days,
                    target_id=target.id,
                    created=now,
                )
            )
        return without_secrets(account), Secret(password)

    def change(self, who: Principal, id_: int, *, keep_days: int) -> Account:
        """From now on, for the files that are there as well.

        Raises:
            InvalidError, RecordNotFoundError
        """
        keep = _keep(keep_days)
        with self.ground.act(
            who, Verb.ACCOUNT_CHANGE, f"account {id_}", detail={"keep_days": keep_days}
        ) as tx:
            account = tx.accounts.get(id_)
            tx.accounts.change(id_, keep_days=keep_days)
            tx.targets.change(account.target_id, keep=keep)
        return without_secrets(replace(account, keep_days=keep_days))

    def remove(self, who: Principal, id_: int) -> None:
        """Nobody signs in to it any more; its files stay until they expire.

        Raises:
            RecordNotFoundError
        """
        with self.ground.act(
            who, Verb.ACCOUNT_CHANGE, f"account {id_}", detail={"removed": True}
        ) as tx:
            tx.accounts.get(id_)
            tx.sessions.remove(account_id=id_)
            tx.accounts.remove(id=id_)

    def open_session(self, who: Principal) -> str:
        """16 letters and digits by which a browser reads for 24 hours; `who` is an account.

        Raises:
            DeniedError: it is not, or came in by such a session itself.
        """
        if who.account_id is None or not who.rights >= {Verb.BACKUP_CREATE}:
            raise DeniedError(f"{who.name} opens no sessions")
        token = _drawn(_LETTERS, _SESSION_LENGTH)
        now = self.ground.now()
        [target] = who.scope.targets or [None]
        with self.ground.act(
            who, Verb.BACKUP_READ, who.name, target=target, detail={"opened": "session"}
        ) as tx:
            tx.sessions.remove(tables.session.c.expires < now - _REMEMBERED)
            tx.sessions.add(
                Session(
                    digest=digest_of(token),
                    account_id=who.account_id,
                    created=now,
                    expires=now + SESSION_SECONDS * _SECOND,
                )
            )
        return token

    def _pool(self, tx: Transaction, name: str | None) -> Pool:
        name = name or self.ground.configuration.restbackup.pool
        if name:
            found = tx.pools.find(name=name)
            if found is None:
                raise RecordNotFoundError(f"there is no pool {name}")
            return found
        pools = tx.pools.all(kind=PoolKind.REPOSITORY, limit=1)
        if not pools:
            raise StateError(
                "there is no pool to keep the files in",
                remedy="Nothing was changed. Add a pool first.",
            )
        return pools[0]


def without_secrets(account: Account) -> Account:
    """As it may leave `service`."""
    return replace(account, digest="")


def _drawn(letters: str, length: int) -> str:
    return "".join(secrets.choice(letters) for _ in range(length))


def _keep(days: int) -> Json:
    """The keep rule of an account's target."""
    if not SHORTEST <= days <= LONGEST:
        said = f"Files are kept for {SHORTEST} to {LONGEST} days."
        raise InvalidError(
            f"files cannot be kept for {days} days: {said}",
            fields={"keep_days": ("out_of_range", said)},
        )
    return KeepRule(Criteria.AGE, days, Action.DELETE).plain()


def _check_label(label: str) -> None:
    if len(label) > _LONGEST_LABEL or not label.isprintable():
        said = f"A name has up to {_LONGEST_LABEL} printable characters."
        raise InvalidError("the account cannot be called that", fields={"label": ("shape", said)})
