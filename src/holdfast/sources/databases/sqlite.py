"""SQLite: a database in a file that others write to meanwhile, as it was at one moment.

<path of the file>/about.json    what is here
<path of the file>/<its name>    a database, whole by itself: without a journal or a WAL beside it

The copy is made by SQLite's own backup interface, page by page, so that unchanged pages are stored
once. It is checked before it is kept.
"""

from __future__ import annotations

import os
import secrets
import shutil
import sqlite3
import stat
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from holdfast.core import stopping
from holdfast.core.errors import (
    InterruptedByUserError,
    InvalidError,
    RestoreError,
    SourceError,
    SourceMissingError,
)
from holdfast.sources.files.content import FileContent
from holdfast.sources.files.facts import Owners
from holdfast.sources.modules import Resource
from holdfast.sources.parameters import described, parameters_of, read_settings
from holdfast.sources.streams import StreamFile, StreamTree, about_file, read_about

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import BinaryIO

    from holdfast.core.entries import Entry
    from holdfast.core.source import Kept, Source
    from holdfast.sources.modules import Asked

NAME = "sqlite"
_PAGES = 2048
"""Pages between two looks at whether we are to stop."""
_BESIDE = ("-wal", "-shm", "-journal")
_MAGIC = b"SQLite format 3\0"
_SHOWN = 5
_CHECKS = {"full": "integrity_check", "quick": "quick_check"}


@dataclass(frozen=True, slots=True, kw_only=True)
class SqliteSettings:
    check: str = described(
        "full",
        "How the copy is checked: full, or quick, which does not compare indexes with tables.",
        choices=tuple(_CHECKS),
    )
    wait: int = described(60, "Seconds to wait for others who lock the database.")
    scratch: str = described(
        "", "Folder with room for a copy; the system's temporary one where empty."
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class SqliteDestination:
    replace: bool = described(
        default=False,
        meaning="Replace what an existing database holds, in one transaction: whoever has it open"
        " goes on with the new content.",
    )
    wait: int = described(60, "Seconds to wait for others who lock that database.")


class SqliteModule:
    """See `modules.Module`. A resource is the path of a database file."""

    name = NAME
    parameters = parameters_of(SqliteSettings)
    putting_back = parameters_of(SqliteDestination)

    def available(self) -> bool:
        return True

    def check(self, asked: Asked) -> None:
        read_settings(SqliteSettings, asked.parameters)
        if not asked.resource:
            text = "no file was named"
            raise InvalidError(text, fields={"resource": ("missing", text)})

    def resources(self, asked: Asked) -> Sequence[Resource]:
        """The databases among the files of a folder."""
        read_settings(SqliteSettings, asked.parameters)
        folder = Path(asked.resource or ".").absolute()
        try:
            paths = sorted(folder.iterdir())
        except OSError as error:
            raise SourceMissingError(f"{folder} cannot be listed: {error.strerror}") from error
        return [
            Resource(name=str(path), kind="database", size=path.stat().st_size)
            for path in paths
            if _is_database(path)
        ]

    @contextmanager
    def open(self, asked: Asked) -> Iterator[Source]:
        self.check(asked)
        settings = read_settings(SqliteSettings, asked.parameters)
        path = Path(asked.resource).absolute()
        if not path.is_file():
            raise SourceMissingError(f"there is no file {path}")
        folder = Path(settings.scratch) if settings.scratch else asked.scratch
        copy = folder / f"holdfast-{secrets.token_hex(6)}.sqlite"

        def begin(entry: Entry) -> FileContent:
            _copy(path, copy, settings)
            content = FileContent(_opened(copy), entry.name, Owners())
            content.entry.mode = path.stat().st_mode
            content.entry.size = copy.stat().st_size
            return content

        about = {"module": NAME, "path": str(path), "file": path.name}
        files = [about_file(about), StreamFile(path.name, begin)]
        try:
            yield StreamTree(f"sqlite{path}", files, now=asked.clock.now())
        finally:
            _remove(copy)

    def put_back(self, asked: Asked, kept: Kept) -> str:
        settings = read_settings(SqliteDestination, asked.parameters)
        about = read_about(kept, NAME)
        destination = Path(asked.resource or about["path"]).absolute()
        if destination.is_dir():
            destination /= about["file"]
        if destination.exists() and not settings.replace:
            raise RestoreError(
                f"there is a file {destination}",
                remedy="Nothing was changed. Say replace, or name another file.",
            )
        with kept.open(about["file"]) as source:
            _put(source, destination, settings.wait)
        return f"put back {destination}"


# --- backing up -----------------------------------------------------------------------------------


def _copy(path: Path, copy: Path, settings: SqliteSettings) -> None:
    """Raises SourceError where the database cannot be read, or is damaged."""
    size = path.stat().st_size
    free = shutil.disk_usage(copy.parent).free
    if free < size:
        raise SourceError(
            f"there is no room for a copy of {path} in {copy.parent}",
            remedy="No backup was made. Name another folder with `scratch`.",
        )
    try:
        os.close(os.open(copy, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        with (
            closing(_connected(path, settings.wait)) as reading,
            closing(sqlite3.connect(copy)) as writing,
        ):
            # One read transaction around all of it: writers cannot make the copy begin anew.
            reading.execute("BEGIN")
            reading.execute("SELECT count(*) FROM sqlite_master").fetchall()
            reading.backup(writing, pages=_PAGES, progress=_stop_if_told)
        _remove(copy, only_beside=True)
        complaints = _complaints(copy, settings.check)
    except sqlite3.Error as error:
        raise SourceError(f"{path} cannot be copied: {error}") from error
    if complaints:
        raise SourceError(
            f"{path} is damaged: {'; '.join(complaints[:_SHOWN])}",
            remedy="No backup was made; earlier ones are untouched. `sqlite3 FILE .recover` saves"
            " what can be read.",
        )


def _stop_if_told(status: int, remaining: int, total: int) -> None:
    del status, remaining, total
    if stopping.requested():
        raise InterruptedByUserError("interrupted")


def _connected(path: Path, wait: int, *, mode: str = "ro") -> sqlite3.Connection:
    address = f"{path.as_uri()}?mode={mode}"
    return sqlite3.connect(address, uri=True, timeout=wait, isolation_level=None)


def _complaints(copy: Path, check: str) -> list[str]:
    """What SQLite says of a database that nobody else has."""
    with closing(sqlite3.connect(f"{copy.as_uri()}?mode=ro&immutable=1", uri=True)) as looking:
        said = [str(row[0]) for row in looking.execute(f"PRAGMA {_CHECKS[check]}")]
    return [] if said == ["ok"] else said


def _opened(copy: Path) -> tuple[int, os.stat_result]:
    descriptor = os.open(copy, os.O_RDONLY)
    return descriptor, os.fstat(descriptor)


def _is_database(path: Path) -> bool:
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            return False
        with path.open("rb") as file:
            return file.read(len(_MAGIC)) == _MAGIC
    except OSError:
        return False


# --- putting back ---------------------------------------------------------------------------------


def _put(source: BinaryIO, destination: Path, wait: int) -> None:
    """The new content is checked before anything of the old is touched."""
    passing = destination.with_name(f".{destination.name}.{secrets.token_hex(6)}.part")
    try:
        destination.parent.mkdir(parents=True, exist_ok=True)
        with passing.open("xb") as file:
            shutil.copyfileobj(source, file, 1 << 20)
            file.flush()
            os.fsync(file.fileno())
        passing.chmod(0o600)
        if complaints := _complaints(passing, "full"):
            raise RestoreError(
                f"what was kept is damaged: {'; '.join(complaints[:_SHOWN])}",
                remedy="Nothing was changed.",
            )
        if destination.exists():
            _overwrite(passing, destination, wait)
        else:
            _move(passing, destination)
    except (OSError, sqlite3.Error) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise RestoreError(
            f"{destination} cannot be put back: {reason}",
            remedy="What was there is as it was. Mend the cause and run it again.",
        ) from error
    finally:
        _remove(passing)


def _move(passing: Path, destination: Path) -> None:
    left = [f"{destination}{end}" for end in _BESIDE if Path(f"{destination}{end}").exists()]
    if left:
        raise RestoreError(
            f"{', '.join(left)} would be taken for a part of the new database",
            remedy="Nothing was changed. Move it away.",
        )
    os.link(passing, destination)  # not over a file that came meanwhile
    passing.unlink()
    folder = os.open(destination.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _overwrite(passing: Path, destination: Path, wait: int) -> None:
    """In one transaction of SQLite's: a crash in the middle is rolled back by who opens it next."""
    with (
        closing(_connected(passing, wait)) as reading,
        closing(_connected(destination, wait, mode="rw")) as writing,
    ):
        writing.execute("SELECT count(*) FROM sqlite_master").fetchall()  # is it a database?
        [[before]], [[after]] = (
            each.execute("PRAGMA page_size").fetchall() for each in (writing, reading)
        )
        [[mode]] = writing.execute("PRAGMA journal_mode").fetchall()
        if mode == "wal" and before != after:
            raise RestoreError(
                f"{destination} has pages of {before} bytes and a WAL, the backup of {after}",
                remedy="Nothing was changed. Stop who uses it, move it away and run it again.",
            )
        reading.backup(writing, pages=-1, progress=_refuse_locked)


def _refuse_locked(status: int, remaining: int, total: int) -> None:
    """SQLite has waited as long as it was told; the interface would begin anew for ever."""
    del remaining, total
    if status in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
        raise sqlite3.OperationalError("the database is locked")


def _remove(copy: Path, *, only_beside: bool = False) -> None:
    if not only_beside:
        copy.unlink(missing_ok=True)
    for end in _BESIDE:
        Path(f"{copy}{end}").unlink(missing_ok=True)
