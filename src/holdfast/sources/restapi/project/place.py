"""Where a project's archives lie on disk, and the lock that lets one writer at a time at each of
them.

storage/storage.zip, details.zip, files.zip    what people and other tools read
storage/previous/<run>.zip                     earlier full runs
storage/.holdfast/                             ledger, locks and what is being collected
"""

from __future__ import annotations

import errno
import os
import shutil
import sqlite3
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from holdfast.core.errors import (
    DamagedError,
    ProjectBusyError,
    StorageFullError,
    StoreError,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class StorageKind(StrEnum):
    ZIP = "zip"
    FILESYSTEM = "filesystem"
    SQLITE = "sqlite"


PAGES = "storage"
"""Label of the archive that holds the pages."""
FULL_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
DAMAGE_REMEDY = (
    "`holdfast api verify` names all that is hit. `holdfast api run full` collects anew; the"
    " archive is replaced only when that succeeds."
)
_UNTOUCHED = "What was stored before is untouched. Check the folder and its permissions."
_LEAST_ROOM = 1 << 16
"""Bytes that SQLite needs for its files beside a database."""


@dataclass(frozen=True, slots=True)
class Place:
    """`path` is `storage_path` made absolute: a folder, or for SQLite possibly the database
    itself.
    """

    kind: StorageKind
    path: Path

    @property
    def folder(self) -> Path:
        """Holds details.zip, files.zip and the state."""
        if self.kind is StorageKind.SQLITE and (self.path.is_file() or self.path.suffix):
            return self.path.parent
        return self.path

    @property
    def pages(self) -> Path:
        """What holds the pages: a ZIP, a database or a folder."""
        match self.kind:
            case StorageKind.ZIP:
                return self.path / "storage.zip"
            case StorageKind.FILESYSTEM:
                return self.path
            case StorageKind.SQLITE:
                return self.path if self.folder != self.path else self.path / "storage.db"

    @property
    def state(self) -> Path:
        return self.folder / ".holdfast"

    @property
    def ledger(self) -> Path:
        return self.state / "ledger.db"

    @property
    def previous(self) -> Path:
        return self.folder / "previous"

    def partial(self, label: str, run_id: str) -> Path:
        """The archive that a run is still collecting."""
        return self.state / f"{label}-{run_id}.partial"

    def prepare(self) -> None:
        with writing(self.state):
            self.state.mkdir(parents=True, exist_ok=True)


@contextmanager
def locked(place: Place, label: str) -> Iterator[None]:
    """Holds the only right to write an archive; a process that dies gives it back.

    Raises:
        ProjectBusyError: somebody else has it.
    """
    place.prepare()
    path = place.state / f"{label}.lock"
    with writing(path):
        lock = sqlite3.connect(path, timeout=0.2, isolation_level=None)
    try:
        with writing(path):
            try:
                lock.execute("BEGIN EXCLUSIVE")
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
                    raise
                raise ProjectBusyError(
                    f"another program is collecting into {place.folder} ({label})"
                ) from None
        yield
    finally:
        lock.close()


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turns what the operating system says about a failed write into an error people understand.

    Raises:
        StorageFullError: no room.
        StoreError: anything else that kept it from being written.
    """
    remedy = "What was stored before is untouched. Free space and run again; it goes on from here."
    try:
        yield
    except OSError as error:
        if error.errno in FULL_DISK:
            raise StorageFullError(f"no room left to write {path}", remedy=remedy) from error
        reason = error.strerror or error
        raise StoreError(f"cannot write {path}: {reason}", remedy=_UNTOUCHED) from error
    except sqlite3.OperationalError as error:
        if "full" in str(error) or _has_no_room(path):
            raise StorageFullError(f"no room left to write {path}", remedy=remedy) from error
        raise StoreError(f"cannot write {path}: {error}", remedy=_UNTOUCHED) from error


def damaged(message: str) -> DamagedError:
    """To be raised: something of the archive is not what was stored."""
    return DamagedError(message, remedy=DAMAGE_REMEDY)


def _has_no_room(path: Path) -> bool:
    """SQLite often says only that it could not open or write a file."""
    folder = next(each for each in (path, *path.parents) if each.is_dir())
    return shutil.disk_usage(folder).free < _LEAST_ROOM


def sync_folder(folder: Path) -> None:
    """Makes a rename in it durable, where the system can."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
