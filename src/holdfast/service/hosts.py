"""Hosts: the machines that are protected, and the tokens by which they sign in."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from holdfast.core.access import Principal
    from holdfast.core.records import Host, Token
    from holdfast.core.secret import Secret
    from holdfast.service.ground import Ground


class Hosts:
    def __init__(self, ground: Ground) -> None:
        self.ground = ground

    def add(self, who: Principal, name: str, *, note: str = "") -> Host:
        """Raises InvalidError, RecordExistsError."""
        raise NotImplementedError

    def list(self, who: Principal, *, limit: int | None = None, offset: int = 0) -> Sequence[Host]:
        """By name."""
        raise NotImplementedError

    def find(self, who: Principal, name: str) -> Host:
        """Raises RecordNotFoundError."""
        raise NotImplementedError

    def remove(self, who: Principal, id_: int) -> None:
        """With its tokens. Raises StateError where something of it is still kept."""
        raise NotImplementedError

    # --- tokens -----------------------------------------------------------------------------------

    def issue(
        self, who: Principal, id_: int, *, name: str = "", expires: int | None = None
    ) -> tuple[Token, Secret]:
        """The password of stock restic or an agent on that host, shown this once."""
        raise NotImplementedError

    def tokens(self, who: Principal, id_: int) -> Sequence[Token]:
        """With when they were used last; the digests are empty."""
        raise NotImplementedError

    def revoke(self, who: Principal, id_: int, uid: str) -> None:
        """Raises RecordNotFoundError."""
        raise NotImplementedError
