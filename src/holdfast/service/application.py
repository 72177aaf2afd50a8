"""Backups of this server itself and of the application beside it (`application.include`): each is a
zip, kept like any other stream, so that it comes back byte for byte and deduplicates.

In the zip lie `holdfast/state.json` and the folders. Of a single folder the content lies at the
top, as the application's own backups have it; of several, each below its own name.
"""

from __future__ import annotations

import re
import secrets
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from holdfast.catalog import tables
from holdfast.core.access import SERVER, Verb
from holdfast.core.errors import HeldError, RecordNotFoundError, StateError
from holdfast.core.records import BackupState, Face, Shape, Target, TaskState
from holdfast.service import app_archive, turns
from holdfast.service.generation import current
from holdfast.service.ground import new_uid

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from holdfast.core.access import Principal
    from holdfast.core.records import Backup, Pool, Task
    from holdfast.service.backups import Arriving, Backups
    from holdfast.service.ground import Ground
    from holdfast.service.keeping.contract import Outgoing
    from holdfast.service.pools import Pools
    from holdfast.service.tasks import Tasks

AUTOMATIC: Final = "@auto_pb_backup_"
"""Begins the names of those that the schedule makes, and only those does it remove."""
RESTORE: Final = "self-restore"
BACKUP: Final = "self-backup"
_TURN: Final = "application"
_KEPT: Final = (BackupState.KEPT,)


class ApplicationBusyError(StateError):
    """A backup or a restore of the application is under way."""

    code = "application-busy"
    http_status = 400


class Application:
    def __init__(self, ground: Ground, pools: Pools, backups: Backups, tasks: Tasks) -> None:
        self._ground = ground
        self._pools = pools
        self._backups = backups
        self._tasks = tasks
        self._creating: set[str] = set()
        self._began = current(ground.catalog)

    # --- looking ----------------------------------------------------------------------------------

    def list(self, who: Principal) -> Sequence[Backup]:
        """By name, as bytes compare."""
        self._ground.allow(who, Verb.APPLICATION_BACKUP, "application backups")
        found = self._backups.list(SERVER, self._target(), states=_KEPT)
        return sorted(found, key=lambda each: each.name.encode())

    def find(self, who: Principal, key: str) -> Backup:
        """Raises RecordNotFoundError."""
        self._ground.allow(who, Verb.APPLICATION_BACKUP, f"application backup {key}")
        return self._find(key)

    def _find(self, key: str) -> Backup:
        found = self._backups.find(SERVER, self._target(), key)
        if found is None or found.state is not BackupState.KEPT:
            raise RecordNotFoundError(f"there is no backup {key}")
        return found

    def open(self, who: Principal, key: str) -> tuple[Backup, Outgoing]:
        """For whoever may read backups, a token for downloads among them."""
        self._ground.allow(who, Verb.BACKUP_READ, f"application backup {key}")
        found = self._find(key)
        return found, self._backups.open(SERVER, found)

    @property
    def is_busy(self) -> bool:
        """A backup or a restore is under way, or waits to be done."""
        if turns.is_taken(self._ground.catalog, _TURN):
            return True
        return self._restoring() is not None

    @property
    def starts_anew(self) -> bool:
        """Something was restored, and this process still has to go."""
        return current(self._ground.catalog) != self._began

    # --- making -----------------------------------------------------------------------------------

    def create(self, who: Principal, name: str | None = None) -> Backup:
        """Makes one now; durable when it returns.

        Raises:
            ApplicationBusyError, RecordExistsError
        """
        with self._ground.act(
            who,
            Verb.APPLICATION_BACKUP,
            f"application backup {name or ''}",
            detail={"act": "create"},
        ):
            pass
        with self.busy():
            return self.make(name or self.automatic_name(), lambda _count: None)

    def backup_soon(self, who: Principal) -> Task:
        """An automatic one, as a task."""
        return self._tasks.submit(
            who, Verb.APPLICATION_BACKUP, BACKUP, subject="application backup", priority=10
        )

    def make(self, name: str, watch: Callable[[int], None]) -> Backup:
        """The work of it, for who is busy with it."""
        arriving = self._backups.receive(SERVER, self._target(), name, exclusive=True)
        self._creating.add(name)
        try:
            app_archive.write(self._ground, arriving.write, watch)
            return arriving.finish().result()
        except BaseException:
            arriving.abandon()
            raise
        finally:
            self._creating.discard(name)

    def receive(self, who: Principal, name: str, *, size: int | None = None) -> Arriving:
        """An uploaded one. Raises RecordExistsError."""
        with self._ground.act(
            who, Verb.APPLICATION_BACKUP, f"application backup {name}", detail={"act": "upload"}
        ):
            pass
        return self._backups.receive(SERVER, self._target(), name, size=size, exclusive=True)

    def automatic_name(self, prefix: str = "pb_backup_") -> str:
        """With the time to the second; and where that is taken, with more."""
        words = re.findall(
            r"[A-Z]?[a-z0-9]+|[A-Z]+(?![a-z])", self._ground.configuration.application.name
        )
        app = "_".join(words).lower()[:50]
        moment = datetime.fromtimestamp(self._ground.now() // 1_000_000_000, UTC)
        base = f"{prefix}{app}_{moment:%Y%m%d%H%M%S}" if app else f"{prefix}{moment:%Y%m%d%H%M%S}"
        if self._backups.find(SERVER, self._target(), f"{base}.zip") is None:
            return f"{base}.zip"
        return f"{base}_{secrets.token_hex(3)}.zip"

    def delete(self, who: Principal, key: str) -> None:
        """For good.

        Raises:
            RecordNotFoundError
            HeldError: it is being made or restored.
        """
        found = self.find(who, key)
        if key in self._creating or (self.is_busy and self._restoring() == key):
            raise HeldError("the backup is being used")
        self._backups.delete(who, found)

    def expire_automatic(self, keep: int) -> Sequence[Backup]:
        """Of those that the schedule made, the newest `keep` stay; 0 keeps all."""
        found = [
            each
            for each in self._backups.list(SERVER, self._target(), states=_KEPT)
            if each.name.startswith(AUTOMATIC)
        ]
        going = found[keep:] if keep > 0 else []
        self._backups.delete_all(SERVER, going)
        return going

    # --- bringing back ----------------------------------------------------------------------------

    def restore(self, who: Principal, key: str) -> Task:
        """Looks at the backup as far as can be seen at once, and leaves the rest to a task.

        Raises:
            ApplicationBusyError, RecordNotFoundError
            DamagedError, ArchiveRefusedError, UnknownVersionError: it cannot be restored.
        """
        self._ground.allow(who, Verb.APPLICATION_RESTORE, f"application backup {key}")
        if self.is_busy:
            raise ApplicationBusyError("another backup or restore is under way")
        found = self._find(key)
        app_archive.validate(self._ground, self._backups.open(SERVER, found))
        return self._tasks.submit(
            who, Verb.APPLICATION_RESTORE, RESTORE, subject=f"application backup {key}",
            spec={"key": key}, backup_id=found.id, priority=1,
        )  # fmt: skip

    def _restoring(self) -> str | None:
        with self._ground.catalog.read() as tx:
            waiting = (str(TaskState.QUEUED), str(TaskState.RUNNING))
            found = tx.tasks.all(tables.task.c.state.in_(waiting), kind=RESTORE)
        return found[0].spec.get("key") if found else None

    # --- one at a time ----------------------------------------------------------------------------

    @contextmanager
    def busy(self, *, restoring: bool = False) -> Iterator[None]:
        """For one backup or restore, whichever process does it.

        Raises:
            ApplicationBusyError
        """
        if not restoring and self._restoring() is not None:
            raise ApplicationBusyError("another backup or restore is under way")
        with turns.turn(self._ground.catalog, _TURN) as ours:
            if not ours:
                raise ApplicationBusyError("another backup or restore is under way")
            yield

    # --- where they are ---------------------------------------------------------------------------

    def _target(self) -> Target:
        with self._ground.catalog.read() as tx:
            found = tx.targets.find(face=Face.APPLICATION)
        if found is not None:
            return found
        pool = self._configured_pool()
        with self._ground.catalog.write() as tx:
            return tx.targets.find(face=Face.APPLICATION) or tx.targets.add(
                Target(
                    uid=new_uid(),
                    name=self._ground.configuration.application.name,
                    face=Face.APPLICATION,
                    shape=Shape.SINGLE,
                    pool_id=pool.id,
                    created=self._ground.now(),
                )
            )

    def _configured_pool(self) -> Pool:
        name = self._ground.configuration.application.pool
        return self._pools.named(name) if name else self._pools.default()

    def keep_in(self, who: Principal, pool: str) -> None:
        """From now on new ones go into that pool, or where none is named into the configured one;
        those that are there stay where they are.
        """
        target = self._target()
        chosen = self._pools.named(pool) if pool else self._configured_pool()
        with self._ground.act(
            who, Verb.SETTING_CHANGE, "application backups", detail={"pool": chosen.name}
        ) as tx:
            tx.targets.change(target.id, pool_id=chosen.id)
