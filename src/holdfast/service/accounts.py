"""Accounts of the RestBackup face: an access URL and a space of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from holdfast.core.access import Principal
    from holdfast.core.records import Account
    from holdfast.core.secret import Secret
    from holdfast.service.ground import Ground

SHORTEST, LONGEST = 30, 365
"""Days that files may be kept."""


class Accounts:
    """Every `Account` that is handed up has an empty `digest`."""

    def __init__(self, ground: Ground) -> None:
        self.ground = ground

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
            InvalidError: `keep_days` is outside 30 to 365.
            RecordNotFoundError, StateError: no such pool, or none at all.
        """
        raise NotImplementedError

    def list(self, who: Principal) -> Sequence[Account]:
        raise NotImplementedError

    def find(self, who: Principal, name: str) -> Account:
        """By name or label. Raises RecordNotFoundError, InvalidError (several have that label)."""
        raise NotImplementedError

    def change(self, who: Principal, id_: int, *, keep_days: int) -> Account:
        """From now on, for the files that are there as well.

        Raises:
            InvalidError, RecordNotFoundError
        """
        raise NotImplementedError

    def remove(self, who: Principal, id_: int) -> None:
        """Nobody signs in to it any more; its files stay until they expire."""
        raise NotImplementedError

    def open_session(self, who: Principal) -> str:
        """16 letters and digits by which a browser reads for 24 hours; `who` is an account."""
        raise NotImplementedError
