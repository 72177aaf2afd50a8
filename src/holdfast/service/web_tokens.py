"""Web tokens: signed claims of who somebody is, in PocketBase's form (JWT, HS256).

The key is the user's own, which changes with the password, and one of the server's for each
collection and type: nothing is stored, and a new password voids all tokens.
"""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Literal, TypeVar

import msgspec
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import OctKey

from holdfast.core.records import Role

if TYPE_CHECKING:
    from holdfast.core.records import User
    from holdfast.service.custody import MasterKey

C = TypeVar("C", bound=msgspec.Struct)
Type = Literal["auth", "file"]
SUPERUSERS = "pbc_3142635823"
"""The collection's id in PocketBase, which its clients look for."""
USERS = "_pb_users_auth_"
LIFETIMES: dict[tuple[str, Type], int] = {
    (SUPERUSERS, "auth"): 86_400,
    (USERS, "auth"): 432_000,
    (SUPERUSERS, "file"): 180,
    (USERS, "file"): 180,
}
"""Seconds."""
_SECOND = 1_000_000_000
_LONGEST = 4096
_ALGORITHM = "HS256"


class Claims(msgspec.Struct):
    """Of a token that nobody has checked yet."""

    id: str
    type: Type
    collection: str = msgspec.field(name="collectionId")
    exp: int


def collection_of(user: User) -> str:
    """The id of the collection that a user is in."""
    return SUPERUSERS if user.role is Role.SUPERUSER else USERS


def make(master: MasterKey, user: User, type_: Type, now: int) -> str:
    collection = collection_of(user)
    claims = {
        "collectionId": collection,
        "exp": now // _SECOND + LIFETIMES[collection, type_],
        "id": user.uid,
        "type": type_,
    }
    if type_ == "auth":
        claims["refreshable"] = True
    return jwt.encode({"alg": _ALGORITHM}, claims, _key(master, user.token_key, collection, type_))


def peek(token: str) -> Claims | None:
    """What it claims, to find whose key it must be signed with; None where it is no such token."""
    return payload_of(token, Claims)


def payload_of(token: str, kind: type[C]) -> C | None:
    """What any token claims, checked by nobody; None where that is not of this kind."""
    if len(token) > _LONGEST or token.count(".") != 2:  # noqa: PLR2004  head, claims, signature
        return None
    middle = token.split(".")[1]
    try:
        raw = base64.urlsafe_b64decode(middle + "=" * (-len(middle) % 4))
        return msgspec.json.decode(raw, type=kind)
    except (ValueError, RecursionError):  # the latter: nested too deep
        return None


def is_good(master: MasterKey, token: str, user: User | None, type_: Type, now: int) -> bool:
    """Signed by us for this user, of this type, and not expired. The work is the same without a
    user.
    """
    collection = collection_of(user) if user else USERS
    key = _key(master, user.token_key if user else "", collection, type_)
    try:
        claims = msgspec.convert(jwt.decode(token, key, algorithms=[_ALGORITHM]).claims, Claims)
    except (JoseError, ValueError):
        return False
    return (
        user is not None
        and claims.id == user.uid
        and claims.type == type_
        and claims.collection == collection
        and now // _SECOND < claims.exp
    )


def _key(master: MasterKey, token_key: str, collection: str, type_: Type) -> OctKey:
    return OctKey.import_key(token_key + master.derive(f"{type_} token of {collection}").hex())
