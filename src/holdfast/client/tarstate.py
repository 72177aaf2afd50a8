"""What a set of tar backups remembers between two runs.

Three files, as RestBackup's programs have them: GNU tar's snapshot of what it has seen, the name of
the last full backup, and the number of the last incremental one. They change together, and only
when the archive that they speak of is stored: a run writes down what it is about to store, and the
next one settles whatever a dead one has left.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from holdfast.client.arrival import explained, sync_folder, write_whole
from holdfast.core.errors import LockedError, SourceError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

SNAPSHOT_FOLDER: Final = "~/.restbackup-tar"


class Pending(msgspec.Struct, frozen=True):
    """An archive that is being stored."""

    archive: str
    backup_name: str
    level: int
    size: int
    """Bytes, as stored."""


class SetState:
    """The files of one set, beside its snapshot file. Writers hold its lock."""

    def __init__(self, snapshot: Path) -> None:
        self.snapshot = snapshot
        self.next = _beside(snapshot, ".next")
        """The snapshot file that the current run's tar works on."""
        self._name = _beside(snapshot, ".backupname")
        self._level = _beside(snapshot, ".lastbackuplevel")
        self._pending = _beside(snapshot, ".pending")

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keeps other runs of this set out; the lock of a dead one is none.

        Raises:
            LockedError: there is one.
        """
        path = _beside(self.snapshot, ".lock")
        with explained(path):
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise LockedError(
                    f"another run works on the set of {self.snapshot}",
                    remedy="Nothing was changed. Wait for it, and run again.",
                ) from error
            yield

    def last(self) -> tuple[str, int]:
        """Name of the last full backup, and level of the last backup on it.

        Raises:
            UsageError: there was none, or what is remembered cannot be understood.
        """
        try:
            name = self._name.read_text(encoding="utf-8").strip()
            level = int(self._level.read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise UsageError(
                f"there was no full backup of this set: {error.filename} is missing",
                remedy="Nothing was changed. Begin with --full; -n or -s name another set.",
            ) from error
        except (OSError, ValueError) as error:
            raise UsageError(
                f"what is remembered of this set cannot be used: {error}",
                remedy="Nothing was changed. Make a new full backup with --full.",
            ) from error
        return name, level

    def begin(self, *, full: bool) -> None:
        """Makes `next` ready for tar: for a full backup none, else a copy.

        Raises:
            UsageError: there is no snapshot to build on.
        """
        self.discard()
        if full:
            return
        if not self.snapshot.exists():
            raise UsageError(
                f"the snapshot file {self.snapshot} is missing",
                remedy="Nothing was changed. Make a new full backup with --full.",
            )
        with explained(self.next):
            shutil.copyfile(self.snapshot, self.next)

    def announce(self, pending: Pending) -> None:
        """What is about to be stored, durably, with the snapshot file that belongs to it."""
        with explained(self.next), self.next.open("rb") as file:
            os.fsync(file.fileno())
        write_whole(self._pending, msgspec.json.encode(pending))

    def commit(self) -> None:
        """What was announced is stored: remembers it. Cut short, it is done again."""
        pending = self.pending()
        assert pending is not None
        with explained(self.snapshot):
            if self.next.exists():
                self.next.replace(self.snapshot)
                sync_folder(self.snapshot.parent)
            write_whole(self._name, pending.backup_name.encode())
            write_whole(self._level, str(pending.level).encode())
            self._pending.unlink()

    def discard(self) -> None:
        """What was announced is not stored: forgets it."""
        for path in (self._pending, self.next):
            with explained(path):
                path.unlink(missing_ok=True)

    def pending(self) -> Pending | None:
        """What a dead run was storing."""
        try:
            return msgspec.json.decode(self._pending.read_bytes(), type=Pending)
        except FileNotFoundError:
            return None
        except (OSError, msgspec.MsgspecError) as error:
            raise SourceError(
                f"{self._pending} cannot be used: {error}",
                remedy="Nothing was changed. Remove that file and make a new full backup.",
            ) from error

    def settle(self, stored: Mapping[str, int]) -> str:
        """Ends a dead run, given sizes by name of what is in the account; what became of it."""
        pending = self.pending()
        if pending is None:
            return ""
        if stored.get(pending.archive) == pending.size:
            self.commit()
            return f"{pending.archive} of an interrupted run is stored, and counts"
        self.discard()
        return f"{pending.archive} of an interrupted run was not stored, and does not count"


def snapshot_of(name: str) -> Path:
    """Where the snapshot file of a set lies by default; its folder is made."""
    folder = Path(SNAPSHOT_FOLDER).expanduser()
    with explained(folder):
        folder.mkdir(mode=0o700, exist_ok=True)
    return folder / f"{name.replace('/', '#')}.snapshot"


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)
