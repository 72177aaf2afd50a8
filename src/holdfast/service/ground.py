"""What every noun of the service stands on: the catalog, the clock, the configuration, and the one
way to act: authorise, write the audit record, do it.
"""

from __future__ import annotations

import secrets
import uuid
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from holdfast.core.clock import SystemClock
from holdfast.core.errors import DeniedError, NotSignedInError
from holdfast.service.audit import write_record

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path
    from typing import NoReturn

    from holdfast.catalog.database import Catalog, Transaction
    from holdfast.core.access import Principal, Scope, Verb
    from holdfast.core.clock import Clock
    from holdfast.service.configuration import Configuration
    from holdfast.service.custody import MasterKey

_LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789"


@dataclass(slots=True)
class Ground:
    catalog: Catalog
    configuration: Configuration
    master: MasterKey
    folder: Path
    """the data folder"""
    clock: Clock = field(default_factory=SystemClock)

    def allow(
        self,
        who: Principal,
        verb: Verb,
        subject: str = "",
        *,
        target: int | None = None,
        host: int | None = None,
        pool: int | None = None,
    ) -> None:
        """Authorisation, for what only reads.

        Raises:
            NotSignedInError, DeniedError (which leaves an audit record)
        """
        if not who.signed_in:
            raise NotSignedInError("this needs a sign-in")
        if not who.may(verb, target=target, host=host, pool=pool):
            self.refuse(who, verb, subject)

    def scopes(self, who: Principal, verb: Verb, subject: str = "") -> Sequence[Scope]:
        """Where somebody has this right, for what looks at many things at once.

        Raises:
            NotSignedInError, DeniedError: nowhere at all.
        """
        if not who.signed_in:
            raise NotSignedInError("this needs a sign-in")
        found = who.scopes(verb)
        if not found:
            self.refuse(who, verb, subject)
        return found

    def refuse(self, who: Principal, verb: Verb, subject: str) -> NoReturn:
        """Raises DeniedError, and leaves an audit record."""
        with self.catalog.write() as tx:
            write_record(tx, self.clock.now(), who, verb, subject, outcome="denied")
        raise DeniedError(f"{who.name} may not {verb.replace('.', ' ')}")

    @contextmanager
    def read(
        self, who: Principal, verb: Verb, subject: str = "", **scope: int | None
    ) -> Iterator[Transaction]:
        """A transaction for somebody who may look at this."""
        self.allow(who, verb, subject, **scope)
        with self.catalog.read() as tx:
            yield tx

    @contextmanager
    def act(
        self,
        who: Principal,
        verb: Verb,
        subject: str,
        *,
        target: int | None = None,
        host: int | None = None,
        pool: int | None = None,
        detail: dict[str, Any] | None = None,
    ) -> Iterator[Transaction]:
        """A transaction for an act that matters: with its audit record, or not at all (I9).

        What changes things outside the catalog does so after this has ended, as the record is
        durable then.
        """
        self.allow(who, verb, subject, target=target, host=host, pool=pool)
        with self.catalog.write() as tx:
            write_record(tx, self.clock.now(), who, verb, subject, detail=detail)
            yield tx

    def now(self) -> int:
        """Nanoseconds since 1970, by this server's clock."""
        return self.clock.now()


def new_uid() -> str:
    return str(uuid.uuid4())


def short_uid() -> str:
    """15 lower-case letters and digits."""
    return "".join(secrets.choice(_LETTERS) for _ in range(15))
