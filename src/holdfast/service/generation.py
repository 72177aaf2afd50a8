"""The generation of a server: it changes where every process has to start anew, because what was
restored is only taken up at a start. A restart never points up: processes notice, finish, and exit
with RESTART; whoever started them starts them again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from holdfast.core.records import Setting

if TYPE_CHECKING:
    from holdfast.catalog.database import Catalog, Transaction

RESTART: Final = 75
"""Exit code of a process that wants to be started again at once."""
_NAME: Final = "generation"


def current(catalog: Catalog) -> int:
    with catalog.read() as tx:
        found = tx.settings.find(name=_NAME)
    return 0 if found is None else int(found.value)


def bump(tx: Transaction) -> int:
    """Every process starts anew soon after this transaction."""
    found = tx.settings.find(name=_NAME)
    if found is None:
        return int(tx.settings.add(Setting(name=_NAME, value=1)).value)
    tx.settings.change(found.id, value=int(found.value) + 1, rev=found.rev + 1)
    return int(found.value) + 1
