"""Users: the people who may sign in with a password, each with one role."""

from __future__ import annotations

import re
import secrets
import string
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, TypedDict, Unpack

from holdfast.catalog import tables
from holdfast.core.access import Verb
from holdfast.core.errors import (
    DeniedError,
    InvalidError,
    RecordExistsError,
    RecordNotFoundError,
    StateError,
)
from holdfast.core.records import Administrator, Maintainer, Role, Supervisor, User
from holdfast.service import passwords
from holdfast.service.ground import short_uid
from holdfast.service.guesses import Guesses

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from holdfast.catalog.database import Transaction
    from holdfast.core.access import Principal
    from holdfast.core.secret import Secret
    from holdfast.service.ground import Ground

_NAME = re.compile(r"\w[\w.-]{0,63}")
_EMAIL = re.compile(r"[^\s@]{1,64}@[^\s@]{1,189}")
_SORTS = frozenset({"id", "uid", "name", "email", "role", "created", "updated"})
_LETTERS = string.ascii_letters + string.digits
_TOKEN_KEY = 50
_PROMOTED = frozenset({Role.SUPERUSER, Role.SUPERVISOR})


class UserChanges(TypedDict, total=False):
    """What can be changed; what is absent stays. A new password ends every session and voids every
    token of that user.
    """

    name: str
    email: str | None
    role: Role
    password: Secret
    verified: bool
    disabled: bool
    group_id: int
    fullname: str
    address: str
    tel: str
    office: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Charge:
    """What a new user is put in charge of at once."""

    supervisor: bool = False
    client_group_id: int | None = None
    media_server_id: int | None = None


class Users:
    """Every `User` that is handed up has an empty `password_hash` and `token_key`.

    What sets a password takes a tenth of a second of hashing: never on an event loop.
    """

    def __init__(self, ground: Ground) -> None:
        self.ground = ground

    # --- looking ----------------------------------------------------------------------------------

    def list(
        self, who: Principal, *, sort: str = "name", limit: int | None = None, offset: int = 0
    ) -> Sequence[User]:
        """`sort`: a field's name, with `-` before it downwards.

        Raises:
            InvalidError: no such field.
        """
        name = sort.removeprefix("-")
        if name not in _SORTS:
            raise InvalidError(f"users cannot be sorted by {name!r}")
        column: Any = tables.user.c[name]
        order = (column.desc() if sort.startswith("-") else column, tables.user.c.id)
        with self.ground.read(who, Verb.USER_LIST, "users") as tx:
            return [shown(each) for each in tx.users.all(order=order, limit=limit, offset=offset)]

    def count(self, who: Principal) -> int:
        with self.ground.read(who, Verb.USER_LIST, "users") as tx:
            return tx.users.count()

    def get(self, who: Principal, id_: int) -> User:
        """One's own, too. Raises RecordNotFoundError."""
        verb = Verb.SELF if id_ == who.user_id else Verb.USER_LIST
        with self.ground.read(who, verb, f"user {id_}") as tx:
            return shown(tx.users.get(id_))

    def of(self, who: Principal) -> User:
        """The user that somebody is.

        Raises:
            RecordNotFoundError: no user, or one who is gone.
        """
        with self.ground.read(who, Verb.SELF, who.name) as tx:
            return shown(tx.users.get(who.user_id or 0))

    def find(self, who: Principal, identity: str) -> User:
        """By name, email or uid. Raises RecordNotFoundError."""
        with self.ground.read(who, Verb.USER_LIST, "users") as tx:
            field, value = identifies(identity)
            found = tx.users.find(**{field: value}) or tx.users.find(uid=identity)
        if found is None:
            raise RecordNotFoundError(f"there is no user {identity}")
        return shown(found)

    # --- changing ---------------------------------------------------------------------------------

    def add(
        self,
        who: Principal,
        *,
        name: str,
        password: Secret,
        role: Role,
        email: str | None = None,
        verified: bool = True,
        details: Mapping[str, Any] | None = None,
        charge: Charge | None = None,
    ) -> User:
        """`details`: group_id, fullname, address, tel, office.

        Raises:
            InvalidError, DeniedError
            RecordExistsError: name or email is taken.
        """
        charge = charge or Charge()
        self.ground.allow(who, Verb.USER_CHANGE, f"user {name}")
        if role in _PROMOTED or charge.supervisor:
            self.ground.allow(who, Verb.USER_PROMOTE, f"user {name}")
        email = _email(email)
        _check(name, email)
        with passwords.hashing():
            password_hash = passwords.hashed(password)
        now = self.ground.now()
        user = User(
            uid=short_uid(),
            name=name,
            email=email,
            role=Role(role),
            password_hash=password_hash,
            token_key=_new_token_key(),
            verified=verified,
            created=now,
            updated=now,
            **(details or {}),
        )
        detail = {"added": str(role)} | {k: v for k, v in asdict(charge).items() if v}
        with self.ground.act(who, Verb.USER_CHANGE, f"user {name}", detail=detail) as tx:
            _check_free(tx, user)
            added = tx.users.add(user)
            _put_in_charge(tx, added.id, charge)
            return shown(added)

    def change(self, who: Principal, id_: int, **changes: Unpack[UserChanges]) -> User:
        """Raises InvalidError, RecordExistsError, RecordNotFoundError, StateError (the last
        superuser stays one).
        """
        self.ground.allow(who, Verb.USER_CHANGE, f"user {id_}")
        values: dict[str, Any] = {**changes, "updated": self.ground.now()}
        if "email" in values:
            values["email"] = _email(values["email"])
        if "role" in values:
            values["role"] = Role(values["role"])
        _check(values.get("name", "x"), values.get("email"))
        if "password" in values:
            values |= _of_password(values.pop("password"))
        detail = {"changed": sorted(changes)}
        self._allow_promoted(who, id_, becomes=values.get("role"))
        with self.ground.act(who, Verb.USER_CHANGE, f"user {id_}", detail=detail) as tx:
            before = tx.users.get(id_)
            changed = replace(before, **values)
            _check_free(tx, changed)
            tx.users.change(id_, **values)
            _keep_a_superuser(tx, before)
            if "password" in changes:
                _end_sessions(tx, id_)
        return shown(changed)

    def change_own_password(self, who: Principal, old: Secret, new: Secret) -> User:
        """For whoever is signed in as a user; ends their sessions, this one too.

        Raises:
            WrongCredentialsError, TooManyGuessesError, InvalidError
        """
        user = self._own(who)
        guesses = Guesses(self.ground)
        attempt = guesses.of_password(user.uid, who.address, f"user {user.name}")
        held = guesses.await_turn(attempt)
        with passwords.hashing():
            guesses.refuse_early(attempt)
            if not passwords.is_right(old, user.password_hash):
                guesses.wrong(attempt, held=held)
        return self._set_own(who, user, new)

    def set_own_password(self, who: Principal, new: Secret) -> User:
        """The same for whoever has shown by a fresh session who they are. Raises InvalidError."""
        return self._set_own(who, self._own(who), new)

    def remove(self, who: Principal, id_: int) -> None:
        """With its tokens and roles. Raises RecordNotFoundError, StateError (the last superuser
        stays).
        """
        self.remove_all(who, [id_])

    def remove_all(self, who: Principal, ids: Sequence[int]) -> None:
        """All of them, or none."""
        self.ground.allow(who, Verb.USER_CHANGE, "users")
        for id_ in ids:
            self._allow_promoted(who, id_)
        subject = f"user {', '.join(map(str, ids))}"
        with self.ground.act(who, Verb.USER_CHANGE, subject, detail={"removed": True}) as tx:
            for id_ in ids:
                before = tx.users.get(id_)
                _end_sessions(tx, id_)
                tx.supervisors.remove(user_id=id_)
                tx.administrators.remove(user_id=id_)
                tx.maintainers.remove(user_id=id_)
                tx.users.remove(id=id_)
                _keep_a_superuser(tx, before)

    # --- inside -----------------------------------------------------------------------------------

    def _own(self, who: Principal) -> User:
        self.ground.allow(who, Verb.SELF, "password")
        if who.user_id is None:
            raise DeniedError(f"{who.name} has no password")
        with self.ground.catalog.read() as tx:
            return tx.users.get(who.user_id)

    def _set_own(self, who: Principal, user: User, new: Secret) -> User:
        values = {**_of_password(new), "updated": self.ground.now()}
        with self.ground.act(
            who, Verb.SELF, f"user {user.name}", detail={"changed": ["password"]}
        ) as tx:
            tx.users.change(user.id, **values)
            _end_sessions(tx, user.id)
        return shown(replace(user, **values))

    def _allow_promoted(self, who: Principal, id_: int, *, becomes: Role | None = None) -> None:
        """Whoever may less than a user does not get to be that user by giving it a password."""
        with self.ground.catalog.read() as tx:
            user = tx.users.get(id_)
            promoted = user.role in _PROMOTED or tx.supervisors.find(user_id=id_) is not None
        if promoted or becomes in _PROMOTED:
            self.ground.allow(who, Verb.USER_PROMOTE, f"user {id_}")


def shown(user: User) -> User:
    """As it may leave `service`."""
    return replace(user, password_hash="", token_key="")


def identifies(identity: str) -> tuple[str, str]:
    """The field that somebody is named by, and its value: an email, which alone has an `@`, or a
    name.
    """
    return ("email", _email(identity) or "") if "@" in identity else ("name", identity)


def _end_sessions(tx: Transaction, id_: int) -> None:
    tx.tokens.remove(user_id=id_)
    tx.token_families.remove(user_id=id_)


def _put_in_charge(tx: Transaction, id_: int, charge: Charge) -> None:
    if charge.supervisor:
        tx.supervisors.add(Supervisor(user_id=id_))
    if charge.client_group_id is not None:
        tx.administrators.add(Administrator(user_id=id_, client_group_id=charge.client_group_id))
    if charge.media_server_id is not None:
        tx.maintainers.add(Maintainer(user_id=id_, media_server_id=charge.media_server_id))


def _of_password(password: Secret) -> dict[str, Any]:
    with passwords.hashing():
        return {"password_hash": passwords.hashed(password), "token_key": _new_token_key()}


def _new_token_key() -> str:
    return "".join(secrets.choice(_LETTERS) for _ in range(_TOKEN_KEY))


# --- rules ----------------------------------------------------------------------------------------


def _email(given: str | None) -> str | None:
    """Case does not tell emails apart."""
    return given.strip().lower() or None if given else None


def _check(name: str, email: str | None) -> None:
    wrong: dict[str, tuple[str, str]] = {}
    if not _NAME.fullmatch(name):
        said = "A user name has 1 to 64 letters, digits, dots, hyphens or underscores."
        wrong["name"] = ("match_invalid", said)
    if email is not None and not _EMAIL.fullmatch(email):
        wrong["email"] = ("is_email", "Must be a valid email address.")
    if wrong:
        raise InvalidError(
            "the user cannot be like that: " + " ".join(said for _, said in wrong.values()),
            fields=wrong,
        )


def _check_free(tx: Transaction, user: User) -> None:
    """Raises RecordExistsError in words, before the catalog would in its own."""
    for name in ("name", "email"):
        value = getattr(user, name)
        other = tx.users.find(**{name: value}) if value else None
        if other is not None and other.id != user.id:
            raise RecordExistsError(f"there is a user with the {name} {value} already")


def _keep_a_superuser(tx: Transaction, before: User) -> None:
    was_one = before.role is Role.SUPERUSER and not before.disabled
    if was_one and not tx.users.count(role=Role.SUPERUSER, disabled=False):
        raise StateError(
            "this is the last superuser",
            remedy="Nothing was changed. Add another superuser first.",
        )
