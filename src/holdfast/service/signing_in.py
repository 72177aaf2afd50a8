"""Signing in: from what a caller shows to the `Principal` that it is. The one place for it.

Missing credentials are the caller's business (`ANONYMOUS`); whatever is given comes here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from holdfast.core.access import Principal
    from holdfast.core.records import Account, User
    from holdfast.core.secret import Secret
    from holdfast.service.ground import Ground

Kind = Literal["any", "superuser", "user"]


class SigningIn:
    """`address` is that of the caller, behind whatever proxy is trusted.

    What is wrong raises WrongCredentialsError, and TooManyGuessesError (with `wait`, seconds) from
    there on where an account or an address guesses more than it may. All of it reads the catalog,
    and `password` hashes: never on an event loop.
    """

    def __init__(self, ground: Ground) -> None:
        self.ground = ground

    def password(
        self, identity: str, password: Secret, address: str, *, kind: Kind = "any"
    ) -> tuple[Principal, User]:
        """A user by name or email. `kind`: superusers only, or the others only."""
        raise NotImplementedError

    # --- web tokens, as the PocketBase face gives them out ----------------------------------------

    def auth_token(self, who: Principal) -> str:
        """A fresh one for a user who came in by password or by such a token.

        Raises:
            DeniedError: no user, or one who came in by something narrower.
        """
        raise NotImplementedError

    def file_token(self, who: Principal) -> str:
        """For downloads, in a query; good for 180 seconds."""
        raise NotImplementedError

    def by_auth_token(self, token: str, address: str) -> Principal | None:
        """None where it is no such token, expired, void, or its user disabled. Never a guess."""
        raise NotImplementedError

    def by_file_token(self, token: str, address: str) -> Principal | None:
        raise NotImplementedError

    # --- keys -------------------------------------------------------------------------------------

    def bearer(self, secret: Secret, address: str) -> Principal:
        """The API key, a personal token, or a console session's."""
        raise NotImplementedError

    def host(self, name: str, secret: Secret, address: str) -> Principal:
        """A host by name and token, as stock restic and agents sign in."""
        raise NotImplementedError

    # --- RestBackup accounts ----------------------------------------------------------------------

    def account(self, name: str, password: Secret, address: str) -> tuple[Principal, Account]:
        """An account by its access URL."""
        raise NotImplementedError

    def session(self, token: str, address: str) -> tuple[Principal, Account]:
        """An account by a browser's session: it may only read.

        Raises:
            RecordNotFoundError: never was one.
            SessionExpiredError: was one.
        """
        raise NotImplementedError
