"""Users: the people who may sign in with a password, each with one role."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict, Unpack

if TYPE_CHECKING:
    from collections.abc import Sequence

    from holdfast.core.access import Principal
    from holdfast.core.records import Role, User
    from holdfast.core.secret import Secret
    from holdfast.service.ground import Ground


class UserChanges(TypedDict, total=False):
    """What can be changed; what is absent stays. A new password ends every session."""

    name: str
    email: str | None
    role: Role
    password: Secret
    verified: bool
    disabled: bool


class Users:
    """Every `User` that is handed up has an empty `password_hash` and `token_key`.

    What sets a password takes a tenth of a second of hashing: never on an event loop.
    """

    def __init__(self, ground: Ground) -> None:
        self.ground = ground

    def add(
        self,
        who: Principal,
        *,
        name: str,
        password: Secret,
        role: Role,
        email: str | None = None,
        verified: bool = True,
    ) -> User:
        """Raises InvalidError, RecordExistsError (name or email is taken), DeniedError."""
        raise NotImplementedError

    def list(
        self, who: Principal, *, sort: str = "name", limit: int | None = None, offset: int = 0
    ) -> Sequence[User]:
        """`sort`: a field's name, with `-` before it downwards.

        Raises:
            InvalidError: no such field.
        """
        raise NotImplementedError

    def count(self, who: Principal) -> int:
        raise NotImplementedError

    def get(self, who: Principal, id_: int) -> User:
        """One's own, too. Raises RecordNotFoundError."""
        raise NotImplementedError

    def find(self, who: Principal, identity: str) -> User:
        """By name, email or uid. Raises RecordNotFoundError."""
        raise NotImplementedError

    def change(self, who: Principal, id_: int, **changes: Unpack[UserChanges]) -> User:
        """Raises InvalidError, RecordExistsError, RecordNotFoundError, StateError (the last
        superuser stays one).
        """
        raise NotImplementedError

    def change_own_password(self, who: Principal, old: Secret, new: Secret) -> User:
        """For whoever is signed in as a user; ends their sessions, this one too.

        Raises:
            WrongCredentialsError, TooManyGuessesError, InvalidError
        """
        raise NotImplementedError

    def remove(self, who: Principal, id_: int) -> None:
        """Raises RecordNotFoundError, StateError (the last superuser stays)."""
        raise NotImplementedError
