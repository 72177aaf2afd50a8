"""Hosts: the machines that are protected, and the tokens by which they sign in."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from holdfast.catalog import tables
from holdfast.core.access import Verb
from holdfast.core.errors import InvalidError, RecordExistsError, RecordNotFoundError, StateError
from holdfast.core.records import AgentState, Host, TokenKind
from holdfast.service.tokens import check_expiry, fresh, shown

if TYPE_CHECKING:
    from collections.abc import Sequence

    from holdfast.core.access import Principal
    from holdfast.core.records import Token
    from holdfast.core.secret import Secret
    from holdfast.service.ground import Ground

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*(\.[A-Za-z0-9_-]+)*")
_LONGEST = 253
"""Characters, as in the DNS."""


class Hosts:
    def __init__(self, ground: Ground) -> None:
        self.ground = ground

    # --- looking ----------------------------------------------------------------------------------

    def list(self, who: Principal, *, limit: int | None = None, offset: int = 0) -> Sequence[Host]:
        """By name."""
        with self.ground.read(who, Verb.HOST_LIST, "hosts") as tx:
            return tx.hosts.all(order=(tables.host.c.name,), limit=limit, offset=offset)

    def find(self, who: Principal, name: str) -> Host:
        """Raises RecordNotFoundError."""
        with self.ground.read(who, Verb.HOST_LIST, "hosts") as tx:
            found = tx.hosts.find(name=name)
        if found is None:
            raise RecordNotFoundError(f"there is no host {name}")
        return found

    # --- changing ---------------------------------------------------------------------------------

    def add(self, who: Principal, name: str, *, note: str = "") -> Host:
        """Raises InvalidError, RecordExistsError."""
        check_name(name)
        with self.ground.act(who, Verb.HOST_CHANGE, f"host {name}", detail={"added": name}) as tx:
            if tx.hosts.find(name=name):
                raise RecordExistsError(f"there is a host {name} already")
            return tx.hosts.add(Host(name=name, note=note, created=self.ground.now()))

    def remove(self, who: Principal, id_: int) -> None:
        """With its tokens.

        Raises:
            RecordNotFoundError
            StateError: something of it is still kept.
        """
        with self.ground.act(
            who, Verb.HOST_CHANGE, f"host {id_}", host=id_, detail={"removed": True}
        ) as tx:
            host = tx.hosts.get(id_)
            if tx.targets.count(host_id=id_) or tx.repositories.count(host_id=id_):
                raise StateError(
                    f"backups of {host.name} are still kept",
                    remedy="Nothing was changed. Revoke its tokens to shut it out; it can go when "
                    "its targets and repositories are gone.",
                )
            tx.tokens.remove(host_id=id_)
            agents = tables.agent.c
            tx.agents.change_where(agents.host_id == id_, host_id=None, state=AgentState.WAITING)
            tx.hosts.remove(id=id_)

    # --- tokens -----------------------------------------------------------------------------------

    def issue(
        self, who: Principal, id_: int, *, name: str = "", expires: int | None = None
    ) -> tuple[Token, Secret]:
        """The password of stock restic or an agent on that host, shown this once. `expires`:
        nanoseconds since 1970.

        Raises:
            InvalidError, RecordNotFoundError
        """
        now = self.ground.now()
        check_expiry(expires, now)
        token, secret = fresh(TokenKind.HOST, now, name=name, host_id=id_, expires=expires)
        with self.ground.act(
            who, Verb.HOST_CHANGE, f"token {token.uid}", host=id_, detail={"issued": name}
        ) as tx:
            tx.hosts.get(id_)
            return shown(tx.tokens.add(token)), secret

    def tokens(self, who: Principal, id_: int) -> Sequence[Token]:
        """With when they were used last; the digests are empty."""
        with self.ground.read(who, Verb.HOST_LIST, f"host {id_}", host=id_) as tx:
            return [shown(each) for each in tx.tokens.all(kind=TokenKind.HOST, host_id=id_)]

    def revoke(self, who: Principal, id_: int, uid: str) -> None:
        """Raises RecordNotFoundError."""
        with self.ground.act(
            who, Verb.HOST_CHANGE, f"token {uid}", host=id_, detail={"revoked": True}
        ) as tx:
            if not tx.tokens.remove(kind=TokenKind.HOST, host_id=id_, uid=uid):
                raise RecordNotFoundError(f"the host has no token {uid}")


def check_name(name: str) -> None:
    """Raises InvalidError: no host can be called so."""
    if len(name) > _LONGEST or not _NAME.fullmatch(name):
        said = "A host's name has letters, digits, hyphens and dots, as in the DNS."
        raise InvalidError(
            f"a host cannot be called {name[:_LONGEST]!r}: {said}",
            fields={"name": ("shape", said)},
        )
