"""The generation of a server: it changes where every process has to start anew, because what was
restored is only taken up at a start. A restart never points up: processes notice, finish, and exit
with RESTART; whoever started them starts them again.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from holdfast.core.errors import CatalogError, CatalogUnreachableError
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


class Watch:
    """Notices that a process has to start anew: the generation changed, or the catalog is damaged
    or is not the one any more that it opened.
    """

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._began = current(catalog)
        self._file = _identity(catalog)

    def is_due(self) -> bool:
        if _identity(self._catalog) != self._file:
            return True
        try:
            return current(self._catalog) != self._began
        except CatalogUnreachableError:
            return False  # it will answer again
        except CatalogError:
            return True


def _identity(catalog: Catalog) -> tuple[int, int] | None:
    """Of the file of an embedded one; None where there is none."""
    if not catalog.embedded:
        return None
    try:
        found = Path(catalog.url.database or "").stat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


def bump(tx: Transaction) -> int:
    """Every process starts anew soon after this transaction."""
    found = tx.settings.find(name=_NAME)
    if found is None:
        return int(tx.settings.add(Setting(name=_NAME, value=1)).value)
    tx.settings.change(found.id, value=int(found.value) + 1, rev=found.rev + 1)
    return int(found.value) + 1
