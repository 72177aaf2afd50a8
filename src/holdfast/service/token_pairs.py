"""Pairs of tokens: what the RuBackup face gives out at a sign-in (JWT, HS256).

The access token is good for 15 minutes, the refresh token for 24 hours from the sign-in on; it is
changed for a new pair once. The pairs of one sign-in are a family: a refresh token that comes a
second time has been copied, and ends it. The key is the user's own and one of the server's, so a
new password voids all of them; and so does the end of this process, whose CSRF token is in each.
"""

from __future__ import annotations

import hmac
import secrets
import string
import uuid
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import msgspec
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import OctKey

from holdfast.catalog import tables
from holdfast.core.access import RIGHTS, Grant, Principal, Scope, Verb
from holdfast.core.errors import NotSignedInError
from holdfast.core.records import Role, TokenFamily
from holdfast.service.audit import write_record
from holdfast.service.guesses import SIGN_IN
from holdfast.service.nouns.people import roles_of
from holdfast.service.users import shown
from holdfast.service.web_tokens import payload_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from holdfast.catalog.database import Transaction
    from holdfast.core.records import User
    from holdfast.core.secret import Secret
    from holdfast.service.ground import Ground
    from holdfast.service.guesses import Strictness
    from holdfast.service.signing_in import SigningIn

Type = Literal["access", "refresh"]
ACCESS_SECONDS = 900
REFRESH_SECONDS = 86_400
_SECOND = 1_000_000_000
_ALGORITHM = "HS256"
_FAMILY = 16


class Claims(msgspec.Struct):
    sub: str
    jti: str
    type: Type
    csrf: str
    family: str
    exp: int


@dataclass(frozen=True, slots=True)
class Pair:
    access: str
    refresh: str
    csrf: str
    user: User
    roles: Sequence[Role]
    failed: int = 0
    """wrong attempts since the sign-in before"""
    failed_at: int | None = None
    """the last of them"""


class TokenPairs:
    """All of it reads the catalog: never on an event loop. What is wrong with a token is not told,
    and is never a guess: 256 bits cannot be guessed.
    """

    def __init__(self, ground: Ground, signing_in: SigningIn) -> None:
        self.ground = ground
        self._signing_in = signing_in
        self.csrf = str(uuid.uuid4())
        """of this process"""

    def open(self, name: str, password: Secret, address: str, strictness: Strictness) -> Pair:
        """For a user's name and password.

        Raises:
            WrongCredentialsError, TooManyGuessesError
        """
        _, user = self._signing_in.password(name, password, address, strictness=strictness)
        now = self.ground.now()
        family = TokenFamily(
            name="".join(secrets.choice(string.ascii_lowercase) for _ in range(_FAMILY)),
            user_id=user.id,
            refresh=str(uuid.uuid4()),
            created=now,
            expires=now + REFRESH_SECONDS * _SECOND,
        )
        with self.ground.catalog.write() as tx:
            tx.token_families.remove(tables.token_family.c.expires < now)
            tx.token_families.add(family)
            pair = self._pair(tx, tx.users.get(user.id), family)
            failed, failed_at = _failed_attempts(tx, f"user {user.name}")
        return replace(pair, failed=failed, failed_at=failed_at)

    def renew(self, refresh: str, address: str, *, access: str = "") -> Pair:
        """A new pair for a refresh token, which is void from then on. `access`: the token beside
        it, where that is given; it may have expired.

        Raises:
            NotSignedInError: it is none, expired, or void; where it was used before, its family
            ends.
        """
        claims = self._checked(refresh, "refresh")
        beside = payload_of(access, Claims) if access else claims
        if beside is None or beside.family != claims.family:
            raise NotSignedInError("the two tokens are no pair")
        with self.ground.catalog.write() as tx:
            family = tx.token_families.find(name=claims.family)
            used_before = family is not None and family.refresh != claims.jti
            if family is None or used_before:
                tx.token_families.remove(name=claims.family)
                pair = None
            else:
                family = replace(family, refresh=str(uuid.uuid4()))
                tx.token_families.change(family.id, refresh=family.refresh)
                pair = self._pair(tx, tx.users.get(family.user_id), family)
            if used_before:
                write_record(
                    tx, self.ground.now(), Principal(f"user:{claims.sub}", address=address),
                    SIGN_IN, f"user {claims.sub}", outcome="denied",
                    detail={"used-again": claims.family},
                )  # fmt: skip
        if pair is None:
            raise NotSignedInError("the refresh token is void")
        return pair

    def close(self, token: str, address: str) -> None:
        """Ends the family of a token, whether access or refresh. Raises NotSignedInError."""
        claims = self._checked(token, "access", "refresh")
        with self.ground.catalog.write() as tx:
            if not tx.token_families.remove(name=claims.family):
                raise NotSignedInError("the token is void")
            who = Principal(f"user:{claims.sub}", address=address)
            write_record(tx, self.ground.now(), who, Verb.SELF, "session", detail={"closed": True})

    def who(self, access: str, csrf: str, address: str) -> Principal:
        """Whose access token it is. Raises NotSignedInError."""
        claims = self._checked(access, "access")
        if not hmac.compare_digest(csrf.encode(errors="surrogatepass"), self.csrf.encode()):
            raise NotSignedInError("the CSRF token is missing or wrong")
        with self.ground.catalog.read() as tx:
            if tx.token_families.find(name=claims.family) is None:
                raise NotSignedInError("the token is void")
            user = tx.users.find(name=claims.sub)
            if user is None:
                raise NotSignedInError("the token is void")
            return Principal(
                f"user:{user.name}",
                RIGHTS[user.role],
                user_id=user.id,
                role=user.role,
                address=address,
                grants=tuple(_grants(tx, user.id)),
            )

    # --- inside -----------------------------------------------------------------------------------

    def _pair(self, tx: Transaction, user: User, family: TokenFamily) -> Pair:
        now = self.ground.now()
        access = min(now + ACCESS_SECONDS * _SECOND, family.expires)
        return Pair(
            access=self._token(user, family, "access", str(uuid.uuid4()), access),
            refresh=self._token(user, family, "refresh", family.refresh, family.expires),
            csrf=self.csrf,
            user=shown(user),
            roles=roles_of(tx, [user.id])[user.id],
        )

    def _token(self, user: User, family: TokenFamily, type_: Type, jti: str, until: int) -> str:
        now = self.ground.now() // _SECOND
        claims: dict[str, Any] = {
            "fresh": False,
            "iat": now,
            "jti": jti,
            "type": type_,
            "sub": user.name,
            "nbf": now,
            "csrf": self.csrf,
            "exp": until // _SECOND,
            "family": family.name,
        }
        return jwt.encode({"typ": "JWT", "alg": _ALGORITHM}, claims, self._key(user.token_key))

    def _checked(self, token: str, *types: Type) -> Claims:
        """Signed by us for a user who may sign in, of one of these types, of this process, and not
        expired.
        """
        claims = payload_of(token, Claims)
        if claims is None:
            raise NotSignedInError("the token is none")
        with self.ground.catalog.read() as tx:
            user = tx.users.find(name=claims.sub)
        try:
            jwt.decode(token, self._key(user.token_key if user else ""), algorithms=[_ALGORITHM])
        except (JoseError, ValueError):
            raise NotSignedInError("the token is none of ours") from None
        good = (
            user is not None
            and not user.disabled
            and claims.type in types
            and claims.csrf == self.csrf
            and self.ground.now() // _SECOND < claims.exp
        )
        if not good:
            raise NotSignedInError("the token has expired, or is void")
        return claims

    def _key(self, token_key: str) -> OctKey:
        return OctKey.import_key(token_key + self.ground.master.derive("token pairs").hex())


def _grants(tx: Transaction, user_id: int) -> Sequence[Grant]:
    """What somebody has been put in charge of."""
    found = []
    if tx.supervisors.find(user_id=user_id) is not None:
        found.append(Grant(Role.SUPERVISOR))
    groups = frozenset(each.client_group_id for each in tx.administrators.all(user_id=user_id))
    if groups:
        found.append(Grant(Role.ADMINISTRATOR, Scope(groups=groups)))
    servers = frozenset(each.media_server_id for each in tx.maintainers.all(user_id=user_id))
    if servers:
        found.append(Grant(Role.MAINTAINER, Scope(servers=servers)))
    return found


def _failed_attempts(tx: Transaction, subject: str) -> tuple[int, int | None]:
    """How many wrong attempts there were between somebody's last sign-in and the one before, and
    when the last was.
    """
    row = tables.audit.c
    newest = (row.id.desc(),)
    signed_in = tx.audit.all(
        row.subject == subject, verb=SIGN_IN, outcome="allowed", order=newest, limit=2
    )
    before = signed_in[1].id if len(signed_in) > 1 else 0
    wrong = (row.subject == subject, row.id > before)
    last = tx.audit.all(*wrong, verb=SIGN_IN, outcome="denied", order=newest, limit=1)
    count = tx.audit.count(*wrong, verb=SIGN_IN, outcome="denied")
    return count, last[0].at if last else None
