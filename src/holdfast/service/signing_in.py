"""Signing in: from what a caller shows to the `Principal` that it is. The one place for it.

Missing credentials are the caller's business (`ANONYMOUS`); whatever is given comes here.
"""

from __future__ import annotations

import hmac
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from holdfast.core.access import (
    ACCOUNT_RIGHTS,
    API_KEY_RIGHTS,
    HOST_RIGHTS,
    RIGHTS,
    SESSION_RIGHTS,
    Principal,
    Scope,
)
from holdfast.core.errors import (
    CatalogError,
    DeniedError,
    RecordNotFoundError,
    SessionExpiredError,
    StorageFullError,
)
from holdfast.core.records import Role, TokenKind
from holdfast.service import passwords, web_tokens
from holdfast.service.accounts import without_secrets
from holdfast.service.audit import write_record
from holdfast.service.guesses import SIGN_IN, Guesses
from holdfast.service.tokens import digest_of, rights_of, scope_of
from holdfast.service.users import identifies, shown

if TYPE_CHECKING:
    from holdfast.core.records import Account, Token, User
    from holdfast.core.secret import Secret
    from holdfast.service.ground import Ground
    from holdfast.service.guesses import Strictness

Kind = Literal["any", "superuser", "user"]
_MINUTE = 60 * 1_000_000_000
_NOBODY = "0" * 64
"""A digest that no secret has, to compare with where there is none."""
_STALE_CLIENT = 60
"""A client with a stale key tries all its calls at once; with 256 bits that is no danger."""


class SigningIn:
    """`address` is that of the caller, behind whatever proxy is trusted.

    What is wrong raises WrongCredentialsError, and TooManyGuessesError (with `wait`, seconds) from
    there on where an account or an address guesses more than it may. All of it reads the catalog,
    and `password` hashes, and may hold a guesser for some seconds: never on an event loop.
    """

    def __init__(self, ground: Ground) -> None:
        self.ground = ground
        self._guesses = Guesses(ground)

    # --- people -----------------------------------------------------------------------------------

    def password(
        self,
        identity: str,
        password: Secret,
        address: str,
        *,
        kind: Kind = "any",
        strictness: Strictness | None = None,
    ) -> tuple[Principal, User]:
        """A user by name or email. `kind`: superusers only, or the others only. `strictness`: how
        often may be guessed, where that is not as usual.
        """
        with self.ground.catalog.read() as tx:
            field, value = identifies(identity)
            user = tx.users.find_or_other(**{field: value})
        if user is not None and not (_same(getattr(user, field), value) and _fits(user, kind)):
            user = None
        subject = f"user {user.name}" if user else "nobody"
        attempt = self._guesses.of_password(
            user.uid if user else identity, address, subject, strictness=strictness
        )
        held = self._guesses.await_turn(attempt)
        with passwords.hashing():
            # Within the slot, so that guesses that come all at once are counted one by one.
            self._guesses.refuse_early(attempt)
            if not passwords.is_right(password, user.password_hash if user else None):
                self._guesses.wrong(attempt, held=held)
            assert user is not None
            dated = passwords.is_dated(user.password_hash)
            new_hash = passwords.hashed(password) if dated else user.password_hash
        who = _person(user, address)
        with self.ground.catalog.write() as tx:
            write_record(tx, self.ground.now(), who, SIGN_IN, subject)
            self._guesses.right(tx, attempt)
            if dated:
                tx.users.change(user.id, password_hash=new_hash)
        return who, shown(user)

    # --- web tokens, as the PocketBase face gives them out ----------------------------------------

    def auth_token(self, who: Principal) -> str:
        """A fresh one for a user who came in by password or by such a token.

        Raises:
            DeniedError: no user, or one who came in by something narrower.
        """
        return self._web_token(who, "auth")

    def file_token(self, who: Principal) -> str:
        """For downloads, in a query; good for 180 seconds."""
        return self._web_token(who, "file")

    def by_auth_token(self, token: str, address: str) -> Principal | None:
        """None where it is no such token, expired, void, or its user disabled. Never a guess."""
        user = self._of_web_token(token, "auth")
        return None if user is None else _person(user, address)

    def by_file_token(self, token: str, address: str) -> Principal | None:
        """The same; whoever comes by it only reads."""
        user = self._of_web_token(token, "file")
        if user is None:
            return None
        who = _person(user, address)
        return replace(who, rights=who.rights & SESSION_RIGHTS, narrowed=True)

    def _web_token(self, who: Principal, type_: web_tokens.Type) -> str:
        if who.user_id is None or who.narrowed:
            raise DeniedError(f"{who.name} did not sign in with a password")
        with self.ground.catalog.read() as tx:
            user = tx.users.get(who.user_id)
        return web_tokens.make(self.ground.master, user, type_, self.ground.now())

    def _of_web_token(self, token: str, type_: web_tokens.Type) -> User | None:
        claims = web_tokens.peek(token)
        if claims is None:
            return None
        with self.ground.catalog.read() as tx:
            user = tx.users.find(uid=claims.id)
        good = web_tokens.is_good(self.ground.master, token, user, type_, self.ground.now())
        return user if good and user is not None and not user.disabled else None

    # --- keys -------------------------------------------------------------------------------------

    def bearer(self, secret: Secret, address: str) -> Principal:
        """The API key, or a personal token."""
        with self.ground.catalog.read() as tx:
            token = tx.tokens.find(digest=digest_of(secret))
            owner = tx.users.get(token.user_id) if token and token.user_id else None
        who = self._holder(token, owner, address)
        if token is None or who is None:
            attempt = self._guesses.of_secret("bearer", address, "a key", burst=_STALE_CLIENT)
            self._guesses.wrong(attempt)
        self._note_use(token)
        return who

    def by_console(self, secret: Secret, address: str) -> Principal | None:
        """Whose session of the console a cookie is; None where it is over. Never a guess."""
        with self.ground.catalog.read() as tx:
            token = tx.tokens.find(digest=digest_of(secret), kind=TokenKind.CONSOLE)
            if token is None or token.user_id is None or self._is_over(token.expires):
                return None
            owner = tx.users.get(token.user_id)
        return None if owner.disabled else _person(owner, address)

    def host(self, name: str, secret: Secret, address: str) -> Principal:
        """A host by name and token, as stock restic and agents sign in."""
        with self.ground.catalog.read() as tx:
            token = tx.tokens.find(digest=digest_of(secret), kind=TokenKind.HOST)
            host = tx.hosts.get(token.host_id) if token and token.host_id else None
        if token is None or host is None or host.name != name or self._is_over(token.expires):
            attempt = self._guesses.of_secret(
                f"host {name}", address, "a host", burst=_STALE_CLIENT
            )
            self._guesses.wrong(attempt)
        self._note_use(token)
        return Principal(
            f"host:{host.name}",
            HOST_RIGHTS,
            scope=Scope(hosts=frozenset({host.id})),
            address=address,
            token_id=token.id,
            host_id=host.id,
            narrowed=True,
        )

    def _holder(self, token: Token | None, owner: User | None, address: str) -> Principal | None:
        """Who comes by a bearer token; None where it is none, or void."""
        if token is None or self._is_over(token.expires):
            return None
        if token.kind is TokenKind.API_KEY:
            return Principal(
                "api-key", API_KEY_RIGHTS, address=address, token_id=token.id, narrowed=True
            )
        if token.kind is not TokenKind.PERSONAL or owner is None or owner.disabled:
            return None
        return replace(
            _person(owner, address),
            rights=rights_of(token.scope, owner.role),
            scope=scope_of(token.scope),
            token_id=token.id,
            narrowed=True,
        )

    def _note_use(self, token: Token) -> None:
        """When it was used last, to the minute: no write for each request."""
        now = self.ground.now()
        if token.used is not None and 0 <= now - token.used < _MINUTE:
            return
        try:
            with self.ground.catalog.write() as tx:
                tx.tokens.change(token.id, used=now)
                if token.host_id is not None:
                    tx.hosts.change(token.host_id, seen=now)
        except (StorageFullError, CatalogError):
            # Whoever comes to restore while the disk is full must still get in.
            return

    # --- RestBackup accounts ----------------------------------------------------------------------

    def account(self, name: str, password: Secret, address: str) -> tuple[Principal, Account]:
        """An account by its access URL."""
        with self.ground.catalog.read() as tx:
            account = tx.accounts.find_or_other(name=name)
        named = account is not None and _same(account.name, name)
        stored = account.digest if account else _NOBODY
        right = hmac.compare_digest(digest_of(password), stored)
        if account is None or not named or not right:
            subject = f"account {account.name}" if account and named else "nobody"
            self._guesses.wrong(self._guesses.of_secret(f"account {name}", address, subject))
        return _of_account(account, address), without_secrets(account)

    def session(self, token: str, address: str) -> tuple[Principal, Account]:
        """An account by a browser's session: it may only read.

        Raises:
            RecordNotFoundError: never was one.
            SessionExpiredError: was one.
        """
        with self.ground.catalog.read() as tx:
            session = tx.sessions.find(digest=digest_of(token))
            account = tx.accounts.get(session.account_id) if session else None
        if session is None or account is None:
            raise RecordNotFoundError("there is no such session")
        if self._is_over(session.expires):
            raise SessionExpiredError("this session has expired")
        who = replace(_of_account(account, address), rights=SESSION_RIGHTS)
        return who, without_secrets(account)

    def _is_over(self, expires: int | None) -> bool:
        return expires is not None and expires <= self.ground.now()


def _same(one: str | None, other: str) -> bool:
    return hmac.compare_digest((one or "").encode(), other.encode(errors="surrogatepass"))


def _fits(user: User, kind: Kind) -> bool:
    if user.disabled:
        return False
    return kind == "any" or (kind == "superuser") == (user.role is Role.SUPERUSER)


def _person(user: User, address: str) -> Principal:
    return Principal(
        f"user:{user.name}",
        RIGHTS[user.role],
        user_id=user.id,
        role=user.role,
        address=address,
    )


def _of_account(account: Account, address: str) -> Principal:
    return Principal(
        f"account:{account.name}",
        ACCOUNT_RIGHTS,
        scope=Scope(targets=frozenset({account.target_id})),
        address=address,
        account_id=account.id,
        narrowed=True,
    )
