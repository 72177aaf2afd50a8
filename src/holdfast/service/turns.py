"""One at a time, whichever process: a turn that is renewed while it lasts and passes by itself when
its holder has died. By the clock of the database.
"""

from __future__ import annotations

import secrets
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from sqlalchemy import or_

from holdfast.catalog import tables
from holdfast.core.errors import RecordExistsError
from holdfast.core.records import Lease

if TYPE_CHECKING:
    from collections.abc import Iterator

    from holdfast.catalog.database import Catalog

_ROW = tables.lease.c
_SECONDS: Final = 15.0


def is_taken(catalog: Catalog, name: str) -> bool:
    with catalog.read() as tx:
        found = tx.leases.find(name=name)
        return found is not None and found.until > tx.now()


@contextmanager
def turn(catalog: Catalog, name: str) -> Iterator[bool]:
    """Whether it is ours, for the block."""
    holder = secrets.token_hex(8)
    if not _hold(catalog, name, holder):
        yield False
        return
    ended = threading.Event()

    def renew() -> None:
        while not ended.wait(_SECONDS / 3):
            _hold(catalog, name, holder)

    renewing = threading.Thread(target=renew, name=f"turn {name}", daemon=True)
    renewing.start()
    try:
        yield True
    finally:
        ended.set()
        renewing.join()
        with catalog.write() as tx:
            tx.leases.change_where(_ROW.name == name, _ROW.holder == holder, until=0)


def _hold(catalog: Catalog, name: str, holder: str) -> bool:
    try:
        with catalog.write() as tx:
            now = tx.now()
            until = now + int(_SECONDS * 1e9)
            if tx.leases.find(name=name) is None:
                tx.leases.add(Lease(name=name, holder=holder, token=1, until=until))
                return True
            free = or_(_ROW.holder == holder, _ROW.until < now)
            values = {"holder": holder, "until": until}
            return tx.leases.change_where(_ROW.name == name, free, **values) == 1
    except RecordExistsError:
        return False  # another was first with the very first turn
