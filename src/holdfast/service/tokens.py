"""Tokens: secrets of 256 bits that are given out once. Only their digests are kept."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from holdfast.core.access import Principal, Verb
    from holdfast.core.records import Token
    from holdfast.core.secret import Secret
    from holdfast.service.ground import Ground


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
        raise NotImplementedError

    def remove_api_key(self, who: Principal) -> None:
        """Raises RecordNotFoundError."""
        raise NotImplementedError

    def api_key(self, who: Principal) -> Token | None:
        """When it was made and used last; None where there is none."""
        raise NotImplementedError

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
        narrowed to what is given; never more than `who`.

        Raises:
            InvalidError: it would have expired already, or no such user.
            DeniedError: it would be allowed what `who` is not.
        """
        raise NotImplementedError

    def list(self, who: Principal, *, user_id: int | None = None) -> Sequence[Token]:
        """Personal tokens: one's own, or (TOKEN_CHANGE) those of others; without `user_id` all."""
        raise NotImplementedError

    def revoke(self, who: Principal, uid: str) -> None:
        """Raises RecordNotFoundError: no such token, or it is another's."""
        raise NotImplementedError

    # --- sessions of the console ------------------------------------------------------------------

    def open_console(self, who: Principal) -> Secret:
        """What the console's cookie holds, for whoever has just signed in with a password."""
        raise NotImplementedError

    def close_console(self, secret: Secret) -> None:
        """Signs out; nothing happens where it is over already."""
        raise NotImplementedError
