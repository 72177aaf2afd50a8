"""Time that has passed for a server's backups and sessions, for tests from outside that cannot wait
for it. Only what the catalog says of them changes.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from holdfast.catalog import tables
from holdfast.core.errors import RecordNotFoundError, UsageError
from holdfast.core.keeping import DAY
from holdfast.service.backups import VISIBLE
from holdfast.service.tokens import digest_of

if TYPE_CHECKING:
    from holdfast.catalog.database import Transaction
    from holdfast.core.records import Backup
    from holdfast.service.ground import Ground

_SESSION: Final = re.compile(r"/session/([^/?#]+)")


def age_backup(ground: Ground, reference: str, days: float) -> Backup:
    """The backup with that id, or else of that name, is so many days older. As it is now.

    Raises:
        RecordNotFoundError: there is none.
        UsageError: several have that name.
    """
    moved = int(days * DAY)
    with ground.catalog.write() as tx:
        found = _find(tx, reference)
        tx.backups.change(found.id, received=found.received - moved, created=found.created - moved)
        return tx.backups.get(found.id)


def expire_session(ground: Ground, url: str) -> None:
    """A RestBackup session is over. `url`: as its client got it.

    Raises:
        UsageError: it is no such URL.
        RecordNotFoundError: there is no such session.
    """
    token = _SESSION.search(url)
    if token is None:
        raise UsageError(f"{url!r} is no URL of a session", remedy="Nothing was changed.")
    with ground.catalog.write() as tx:
        session = tx.sessions.find(digest=digest_of(token[1]))
        if session is None:
            raise RecordNotFoundError("there is no such session")
        tx.sessions.change(session.id, expires=ground.now() - 1)


def _find(tx: Transaction, reference: str) -> Backup:
    by_uid = tx.backups.find(uid=reference)
    if by_uid is not None:
        return by_uid
    name = reference.removeprefix("/")  # names of RestBackup's files begin with one
    either = tables.backup.c.name.in_([name, f"/{name}"])
    named = [row for row in tx.backups.all(either) if row.state in VISIBLE]
    if not named:
        raise RecordNotFoundError(f"there is no backup {reference}")
    if len(named) > 1:
        ids = ", ".join(row.uid for row in named)
        raise UsageError(
            f"several backups are called {reference}", remedy=f"Give one of these ids: {ids}"
        )
    return named[0]
