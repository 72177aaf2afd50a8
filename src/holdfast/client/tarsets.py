"""Sets of full and incremental tar archives in an account, as RestBackup's programs make them.

`NAME-YYYYMMDDThhmmssZ-full.tar.gz` is followed by `-inc1.tar.gz`, `-inc2.tar.gz` and so on, each
with what changed since the one before. Either can be encrypted.
"""

from __future__ import annotations

import os
import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from holdfast.client.access import check_name
from holdfast.client.account import Counted, spooled
from holdfast.client.arrival import explained
from holdfast.client.errors import (
    RestBackup404NotFoundException,
    RestBackup405MethodNotAllowed,
)
from holdfast.client.gnutar import extract, making
from holdfast.client.tarstate import Pending, SetState
from holdfast.core.clock import SystemClock
from holdfast.core.errors import HoldfastError, PathNotFoundError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from holdfast.client.account import BackupAccount, OnProgress
    from holdfast.client.chlorocrypt import Passphrase
    from holdfast.client.streams import InputStream
    from holdfast.core.clock import Clock

_SUFFIX: Final = ".tar.gz"
_LEVEL: Final = re.compile(r"-(?:full|inc([1-9][0-9]*))$")
_NEW_FULL: Final = "Nothing was changed. Make a new full backup with --full."


@dataclass(frozen=True, slots=True)
class Archived:
    archive: str
    """Its name in the account."""
    level: int
    """0 is a full backup."""
    size: int
    """Bytes, as stored."""
    changed: bool
    """Whether files changed or went while they were read."""


@dataclass(frozen=True, slots=True)
class Restored:
    target: Path
    archives: tuple[str, ...]
    missing: tuple[str, ...]
    """Files that were asked for and are in none of them."""


class TarSet:
    """One named set: what it has in the account, and what this machine remembers of it."""

    def __init__(
        self,
        account: BackupAccount,
        state: SetState,
        *,
        name: str = "backup",
        passphrase: Passphrase | None = None,
        clock: Clock | None = None,
        on_note: Callable[[str], None] | None = None,
        on_progress: OnProgress | None = None,
    ) -> None:
        self._account = account
        self._state = state
        self._name = name
        self._passphrase = passphrase
        self._clock = clock or SystemClock()
        self._on_note = on_note or (lambda _: None)
        self._on_progress = on_progress

    def back_up(
        self,
        files: Sequence[str],
        *,
        full: bool,
        folder: str | None = None,
        exclude: Sequence[str] = (),
    ) -> Archived:
        """Stores an archive of `files`, and then remembers it. Whatever goes wrong, the set stays
        as it was.

        The archive is written to a temporary file first, encrypted where it is stored so.

        Raises:
            UsageError: there is no full backup to build on.
            RestBackup404NotFoundException: an archive that it would build on is gone.
            SourceError: tar failed.
            RestBackupException: it was not stored, or, after a broken connection, may have been;
                the next run finds out.
            LockedError: another run works on this set.
        """
        with self._state.locked():
            self._settle()
            backup_name, level = self._new() if full else self._next()
            archive = check_name(_chain(backup_name, level)[-1])
            self._on_note(f"writing {archive[1:]} to a temporary file")
            self._state.begin(full=full)
            with (
                making(files, self._state.next, folder=folder, exclude=exclude) as tar,
                spooled(self._sealed(tar.stream)) as content,
            ):
                tar.finish()
                self._state.announce(Pending(archive, backup_name, level, len(content)))
                self._store(archive, Counted(content, self._on_progress))
                self._state.commit()
                return Archived(archive, level, len(content), tar.changed)

    def _store(self, archive: str, content: Counted) -> None:
        self._on_note(f"uploading {len(content)} bytes to {archive[1:]}")
        try:
            self._account.api.store(archive, content, encrypted=self._passphrase is not None)
        except RestBackup405MethodNotAllowed as refused:
            self._state.discard()
            refused.add("", remedy=_NEW_FULL)
            raise

    def _settle(self) -> None:
        if self._state.pending() is not None:
            self._on_note(self._state.settle(_sizes(self._account)))

    def _new(self) -> tuple[str, int]:
        moment = time.gmtime(self._clock.now() // 1_000_000_000)
        return f"{self._name}-{time.strftime('%Y%m%dT%H%M%SZ', moment)}", 0

    def _next(self) -> tuple[str, int]:
        """What comes after the last backup, whose archives must all be there."""
        backup_name, level = self._state.last()
        stored = _sizes(self._account)
        *before, new = _chain(backup_name, level + 1)
        for name in before:
            if name not in stored:
                raise RestBackup404NotFoundException(
                    f"an incremental backup would be of no use: {name} is not in the account",
                    remedy=_NEW_FULL,
                )
        if new in stored:
            raise RestBackup405MethodNotAllowed(
                f"{new} is in the account already, and this machine knows nothing of it",
                remedy=_NEW_FULL,
            )
        return backup_name, level + 1

    def _sealed(self, stream: InputStream) -> InputStream:
        if self._passphrase is None:
            return stream
        from holdfast.client.chlorocrypt import EncryptingReader

        return EncryptingReader(stream, self._passphrase)


def restore(
    account: BackupAccount,
    archive: str,
    *,
    target: Path | None = None,
    files: Sequence[str] = (),
    passphrase: Passphrase | None = None,
    force: bool = False,
    on_note: Callable[[str], None] | None = None,
    on_line: Callable[[str], None] | None = None,
    on_progress: OnProgress | None = None,
) -> Restored:
    """Brings back what `archive` names: a full backup, the state at an incremental one, or without
    either at its end the latest state. Only `files`, where some are named.

    `target` is a new folder, by default named after the backup. It appears when everything is
    there; until then all lies in a folder beside it. With `force` it may be one that has something
    in it: what the backup's folders do not have goes from them.

    Raises:
        RestBackup404NotFoundException: an archive of the chain is not in the account.
        DataDamagedException, RestBackupException, RestoreError: what was restored so far stays in
            the folder that the error names.
        PathNotFoundError: none of `files` is in the backup.
    """
    note = on_note or (lambda _: None)
    sizes = _sizes(account)
    chain = _present(sizes, *_parse(archive))
    target = target or Path(_parse(archive)[0].replace("/", "#"))
    work = _work_folder(target, force=force)
    missing = set(files)
    along = _Along(sum(sizes[name] for name in chain), on_progress)
    try:
        for name in chain:
            note(f"restoring {name[1:]}")
            with account.open(
                name, passphrase=passphrase, size=sizes[name], on_progress=along.tell
            ) as stream:
                said = extract(stream, work, files, on_line=on_line or (lambda _: None))
            missing &= said.missing
            along.before += sizes[name]
        if files and missing == set(files):
            raise PathNotFoundError(
                f"none of the files is in {archive}",
                remedy="Name them as tar lists them, without a slash at the beginning.",
            )
    except HoldfastError as error:
        error.advice += f" {_remains(work)}"
        raise
    if work != target:
        with explained(target):
            work.rename(target)
    return Restored(target, tuple(chain), tuple(sorted(missing)))


def _remains(work: Path) -> str:
    try:
        work.rmdir()
    except OSError:
        return f"What was restored so far is in {work}."
    return "Nothing was restored."


@dataclass(slots=True)
class _Along:
    """Progress over several archives."""

    whole: int
    on_progress: OnProgress | None
    before: int = 0

    def tell(self, done: int, _all: int | None) -> None:
        if self.on_progress is not None:
            self.on_progress(self.before + done, self.whole)


def _parse(archive: str) -> tuple[str, int | None]:
    """Name of the full backup, and level; no level for the latest state."""
    name = archive.removeprefix("/").removesuffix(_SUFFIX)
    found = _LEVEL.search(name)
    if not name or found is None:
        return name, None
    return name[: found.start()], int(found[1] or 0)


def _chain(backup_name: str, level: int) -> list[str]:
    """Names of the archives that the state at a level is made of."""
    numbers = [f"inc{number}" for number in range(1, level + 1)]
    return [f"/{backup_name}-{each}{_SUFFIX}" for each in ("full", *numbers)]


def _present(sizes: Mapping[str, int], backup_name: str, level: int | None) -> list[str]:
    """The archives to restore, all of which are in the account.

    Raises:
        RestBackup404NotFoundException: one is not.
    """
    last = _last_level(sizes, backup_name) if level is None else level
    chain = _chain(backup_name, last)
    for number, name in enumerate(chain):
        if name not in sizes:
            older = f" Restore {chain[number - 1][1:]} for the state before it." if number else ""
            raise RestBackup404NotFoundException(
                f"{name} is not in the account", remedy=f"Nothing was restored.{older}"
            )
    return chain


def _last_level(sizes: Mapping[str, int], backup_name: str) -> int:
    """Of the highest archive there, so that one that is missing below it shows."""
    pattern = re.compile(re.escape(f"/{backup_name}-inc") + r"([1-9][0-9]*)" + re.escape(_SUFFIX))
    found = filter(None, map(pattern.fullmatch, sizes))
    return max((int(each[1]) for each in found), default=0)


def _sizes(account: BackupAccount) -> dict[str, int]:
    return {each.name: each.size for each in account.api.files()}


def _work_folder(target: Path, *, force: bool) -> Path:
    """Where to unpack: beside the target, or in it where that may have something in it.

    Raises:
        UsageError: it has, and may not.
    """
    there = target.is_dir() and any(target.iterdir())
    if (there and not force) or (target.exists() and not target.is_dir()):
        raise UsageError(
            f"{target} is there already",
            remedy="Nothing was changed. Name another folder with --target; with -f files are "
            "restored into it, and what the backup's folders do not have is deleted from them.",
        )
    work = target if there else target.with_name(f"{target.name}.partial-{os.urandom(3).hex()}")
    with explained(work):
        work.mkdir(parents=True, exist_ok=there)
    return work
