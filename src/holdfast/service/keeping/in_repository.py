"""Backups in a restic repository whose key the server holds: one snapshot each, which carries all
facts as tags.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from holdfast.core.records import Backup
    from holdfast.repo.repository import Repository
    from holdfast.service.keeping.contract import (
        FoundBackup,
        Incoming,
        IncomingTree,
        Listed,
        Order,
        Outgoing,
        Recorder,
        Verified,
    )


class RepositoryKeeper:
    """`repository_id` is the number of the repository's row, given back in every `Kept`."""

    def __init__(self, repository: Repository, repository_id: int, record: Recorder) -> None:
        self.repository = repository
        self.repository_id = repository_id
        self._record = record

    def begin(self, order: Order) -> Incoming:
        raise NotImplementedError

    def begin_tree(self, order: Order) -> IncomingTree:
        raise NotImplementedError

    def open(self, backup: Backup) -> Outgoing:
        raise NotImplementedError

    def archive(self, backup: Backup, format_: str, *, top: str = "") -> Outgoing:
        raise NotImplementedError

    def entries(self, backup: Backup) -> Iterator[Listed]:
        raise NotImplementedError

    def open_path(self, backup: Backup, path: str) -> Outgoing:
        raise NotImplementedError

    def delete(self, backup: Backup) -> None:
        raise NotImplementedError

    def verify(self, backup: Backup, progress: Callable[[int], None]) -> Verified:
        raise NotImplementedError

    def rename(self, backup: Backup, path: str) -> str:
        raise NotImplementedError

    def move(self, backup: Backup, *, recycled: bool) -> None:
        raise NotImplementedError

    def found(self) -> Iterator[FoundBackup]:
        raise NotImplementedError

    def close(self) -> None:
        """Ends the threads that seal; uploads on their way are abandoned."""
        raise NotImplementedError
