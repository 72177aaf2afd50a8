"""Tokens: secrets of 256 bits that are given out once. Only their digests are kept."""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from holdfast.catalog import tables
from holdfast.core.access import RIGHTS, Scope, Verb
from holdfast.core.errors import (
    DeniedError,
    InvalidError,
    RecordExistsError,
    RecordNotFoundError,
)
from holdfast.core.records import Token, TokenKind
from holdfast.core.secret import Secret
from holdfast.service.ground import new_uid

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from holdfast.catalog.database import Transaction
    from holdfast.core.access import Principal
    from holdfast.core.records import Json, Role
    from holdfast.service.ground import Ground

_PREFIXES = {
    TokenKind.API_KEY: "bakch-",  # the form that its clients insist on
    TokenKind.PERSONAL: "hfp-",
    TokenKind.HOST: "hfh-",
    TokenKind.CONSOLE: "hfc-",
}
_BYTES = 32
CONSOLE_SECONDS = 12 * 3600
_SECOND = 1_000_000_000
NEEDS_NAMING = frozenset({Verb.SELF, Verb.TOKEN_CHANGE, Verb.USER_CHANGE})
"""Rights by which a stolen token would make itself others: only where the token's scope says so."""
_NARROWINGS = ("hosts", "pools", "targets")


class Tokens:
    """Every `Token` that is handed up has an empty `digest`. What is removed is void at once, in
    every process.
    """

    def __init__(self, ground: Ground) -> None:
        self.ground = ground

    # --- the API key of the Backup-chan face ------------------------------------------------------

    def new_api_key(self, who: Principal, *, overwrite: bool = False) -> Secret:
        """`bakch-` and 64 hexadecimal digits; there is one at most.

        Raises:
            RecordExistsError: there is one, and it is not to be replaced.
        """
        token, secret = fresh(TokenKind.API_KEY, self.ground.now())
        with self.ground.act(
            who, Verb.TOKEN_CHANGE, "api-key", detail={"overwrite": overwrite}
        ) as tx:
            if overwrite:
                tx.tokens.remove(kind=TokenKind.API_KEY)
            elif tx.tokens.count(kind=TokenKind.API_KEY):
                raise RecordExistsError(
                    "there is an API key already",
                    remedy="Nothing was changed. Replace it with --overwrite; the old one is void "
                    "then.",
                )
            tx.tokens.add(token)
        return secret

    def remove_api_key(self, who: Principal) -> None:
        """Raises RecordNotFoundError."""
        with self.ground.act(who, Verb.TOKEN_CHANGE, "api-key", detail={"removed": True}) as tx:
            if not tx.tokens.remove(kind=TokenKind.API_KEY):
                raise RecordNotFoundError("there is no API key")

    def api_key(self, who: Principal) -> Token | None:
        """When it was made and used last; None where there is none."""
        with self.ground.read(who, Verb.TOKEN_CHANGE, "api-key") as tx:
            found = tx.tokens.find(kind=TokenKind.API_KEY)
        return shown(found) if found else None

    # --- tokens of users --------------------------------------------------------------------------

    def issue(
        self,
        who: Principal,
        *,
        name: str,
        user_id: int | None = None,
        verbs: Iterable[Verb] | None = None,
        hosts: Iterable[int] | None = None,
        pools: Iterable[int] | None = None,
        targets: Iterable[int] | None = None,
        expires: int | None = None,
    ) -> tuple[Token, Secret]:
        """A personal token, for oneself or (TOKEN_CHANGE) for another. It may what its owner may,
        narrowed to what is given; never more than `who`. `expires`: nanoseconds since 1970.

        Raises:
            InvalidError: it would have expired already, or nobody to own it is named.
            DeniedError: it would be allowed what `who` is not.
        """
        owner = user_id if user_id is not None else who.user_id
        if owner is None:
            raise InvalidError("a personal token needs a user")
        now = self.ground.now()
        check_expiry(expires, now)
        narrowed = {"hosts": hosts, "pools": pools, "targets": targets}
        scope: Json = {key: sorted(ids) for key, ids in narrowed.items() if ids is not None}
        if verbs is not None:
            scope["verbs"] = sorted(Verb(verb) for verb in verbs)
        token, secret = fresh(
            TokenKind.PERSONAL, now, name=name, scope=scope, user_id=owner, expires=expires
        )
        with self.ground.act(
            who, _verb_for(who, owner), f"token {token.uid}", detail={"issued": name, **scope}
        ) as tx:
            _check_within(who, scope, tx.users.get(owner).role)
            return shown(tx.tokens.add(token)), secret

    def list(self, who: Principal, *, user_id: int | None = None) -> Sequence[Token]:
        """Personal tokens: one's own, or (TOKEN_CHANGE) those of others; without `user_id` all."""
        where: dict[str, Any] = {} if user_id is None else {"user_id": user_id}
        with self.ground.read(who, _verb_for(who, user_id), "tokens") as tx:
            return [shown(each) for each in tx.tokens.all(kind=TokenKind.PERSONAL, **where)]

    def revoke(self, who: Principal, uid: str) -> None:
        """Raises RecordNotFoundError: no such token, or it is another's."""
        with self.ground.catalog.read() as tx:
            token = tx.tokens.find(uid=uid, kind=TokenKind.PERSONAL)
        if token is None or not who.may(_verb_for(who, token.user_id)):
            self.ground.allow(who, Verb.SELF, f"token {uid}")
            raise RecordNotFoundError(f"there is no token {uid}")
        with self.ground.act(
            who, _verb_for(who, token.user_id), f"token {uid}", detail={"revoked": token.name}
        ) as tx:
            tx.tokens.remove(id=token.id)

    # --- sessions of the console ------------------------------------------------------------------

    def open_console(self, who: Principal) -> Secret:
        """What the console's cookie holds, for whoever has just signed in with a password."""
        if who.user_id is None or who.narrowed:
            raise DeniedError(f"{who.name} did not sign in with a password")
        now = self.ground.now()
        token, secret = fresh(
            TokenKind.CONSOLE, now, user_id=who.user_id, expires=now + CONSOLE_SECONDS * _SECOND
        )
        with self.ground.act(who, Verb.SELF, "console", detail={"opened": token.uid}) as tx:
            _forget_expired(tx, now)
            tx.tokens.add(token)
        return secret

    def close_console(self, who: Principal, secret: Secret) -> None:
        """Signs out; nothing happens where it is over already."""
        with self.ground.act(who, Verb.SELF, "console", detail={"closed": True}) as tx:
            tx.tokens.remove(digest=digest_of(secret), kind=TokenKind.CONSOLE)


# --- for the rest of `service` --------------------------------------------------------------------


def fresh(kind: TokenKind, now: int, **fields: Any) -> tuple[Token, Secret]:
    """A new token, with its secret, which nobody will see again."""
    secret = Secret(_PREFIXES[kind] + secrets.token_hex(_BYTES))
    return Token(uid=new_uid(), kind=kind, digest=digest_of(secret), created=now, **fields), secret


def digest_of(secret: Secret | str) -> str:
    """SHA-256 in hexadecimal: what is drawn at random needs no slow hash."""
    text = secret.reveal() if isinstance(secret, Secret) else secret
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()


def shown(token: Token) -> Token:
    """As it may leave `service`."""
    return replace(token, digest="")


def rights_of(scope: Mapping[str, Any], role: Role) -> frozenset[Verb]:
    """What a token of somebody with this role may."""
    if "verbs" not in scope:
        return RIGHTS[role] - NEEDS_NAMING
    return frozenset(verb for verb in RIGHTS[role] if verb in scope["verbs"])


def scope_of(scope: Mapping[str, Any]) -> Scope:
    return Scope(**{key: frozenset(scope[key]) for key in _NARROWINGS if key in scope})


def check_expiry(expires: int | None, now: int) -> None:
    if expires is not None and expires <= now:
        raise InvalidError(
            "the token would have expired already",
            fields={"expires": ("past", "Must lie in the future.")},
        )


def _check_within(who: Principal, scope: Json, role: Role) -> None:
    """Nobody makes a token that may more than they."""
    if not rights_of(scope, role) <= who.rights:
        raise DeniedError(f"{who.name} may not all that this token would")
    for key in _NARROWINGS:
        own = getattr(who.scope, key)
        if own is not None and not (key in scope and own.issuperset(scope[key])):
            raise DeniedError(f"{who.name} is narrowed to some {key}, and this token would not be")


def _verb_for(who: Principal, user_id: int | None) -> Verb:
    own = user_id is not None and user_id == who.user_id
    return Verb.SELF if own else Verb.TOKEN_CHANGE


def _forget_expired(tx: Transaction, now: int) -> None:
    tx.tokens.remove(tables.token.c.expires < now, kind=TokenKind.CONSOLE)
