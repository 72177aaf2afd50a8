"""Backups in a repository whose key the client holds: this server lists and deletes them, and reads
none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

from holdfast.core.errors import ObjectNotFoundError, StateError
from holdfast.store.contract import FileKind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from holdfast.core.records import Backup
    from holdfast.service.keeping.contract import (
        FoundBackup,
        Incoming,
        IncomingTree,
        Listed,
        Order,
        Outgoing,
        Verified,
    )
    from holdfast.store.contract import Store


class CustodyKeeper:
    """See `contract.Keeper`; what needs the key raises StateError."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def begin(self, order: Order) -> Incoming:
        _refuse(order)

    def begin_tree(self, order: Order) -> IncomingTree:
        _refuse(order)

    def open(self, backup: Backup) -> Outgoing:
        _refuse(backup)

    def archive(self, backup: Backup, format_: str, *, top: str = "") -> Outgoing:
        _refuse(backup, format_, top)

    def entries(self, backup: Backup) -> Iterator[Listed]:
        _refuse(backup)

    def open_path(self, backup: Backup, path: str) -> Outgoing:
        _refuse(backup, path)

    def delete(self, backup: Backup) -> None:
        """Its snapshot goes; bytes that nothing else needs go when the client prunes."""
        try:
            self._store.remove(FileKind.SNAPSHOT, backup.snapshot)
        except ObjectNotFoundError:
            return

    def forget(self, backup: Backup) -> None:
        """Its snapshot is the client's."""

    def move(self, backup: Backup, *, recycled: bool) -> None:
        """The recycle bin is no place in a repository: the catalog knows what is in it."""

    def verify(self, backup: Backup, progress: Callable[[int], None]) -> Verified:
        _refuse(backup, progress)

    def rename(self, backup: Backup, path: str) -> str:
        del backup, path
        return ""

    def found(self) -> Iterator[FoundBackup]:
        _refuse()

    def close(self) -> None:
        self._store.close()


def _refuse(*_: object) -> NoReturn:
    raise StateError(
        "the key of this repository is with its host, not with this server",
        remedy="Nothing was done. Do it on that host, with its password.",
    )
