"""Copies of the catalog, taken while the server works and looked through before they count.

They hold everything but the tasks' own engine: users, tokens and accounts, too, which `rebuilding`
cannot find in the pools. Secrets in them are sealed by the master key, which is not among them.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from holdfast.catalog.database import problems_in
from holdfast.core.access import Verb
from holdfast.core.errors import CatalogError, RecordExistsError, StorageFullError
from holdfast.service import state
from holdfast.service.whole_files import open_new, put_in_place

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy.engine import URL

    from holdfast.core.access import Principal
    from holdfast.service.ground import Ground

FOLDER: Final = "copies"
"""In the data folder: those that the server makes by itself."""
_NEWEST: Final = 3
_DAYS: Final = 3
"""Copies that stay: so many, and the newest of each of so many days."""
_DAY: Final = len("catalog-20260131")
"""Characters of a name that say the day."""
_NAME: Final = "catalog-%Y%m%dT%H%M%SZ"
_DUMP_SECONDS: Final = 3600.0


class Form(StrEnum):
    """What a copy is; by the end of its name, too."""

    DATABASE = "db"
    """a whole SQLite database"""
    DUMP = "dump"
    """of `pg_dump`, for `pg_restore`"""
    STATE = "json"
    """settings, users, plans, targets and pools only: backups are found in the pools"""


@dataclass(frozen=True, slots=True)
class CatalogCopy:
    path: Path
    form: Form
    size: int
    """bytes"""
    note: str = ""
    """why it is not the best form"""


def copy_catalog(ground: Ground, who: Principal, to: Path | None = None) -> CatalogCopy:
    """A new copy, checked and durable when this returns. Without `to` it lies in the data folder,
    and of those that lie there some go.

    Raises:
        RecordExistsError: there is such a file.
        CatalogError, StorageFullError: nothing was kept of it.
    """
    with ground.act(who, Verb.CATALOG_BACKUP, "catalog", detail={"to": str(to or FOLDER)}):
        pass
    if to is not None:
        return _copied(ground, to)
    folder = ground.folder / FOLDER
    folder.mkdir(mode=0o700, exist_ok=True)
    moment = datetime.fromtimestamp(ground.now() // 1_000_000_000, UTC)
    made = _copied(ground, folder / moment.strftime(_NAME))
    _remove_old(list(copies(ground.folder)))
    return made


def _remove_old(newest_first: list[Path]) -> None:
    of_each_day: dict[str, Path] = {}
    for path in newest_first:
        of_each_day.setdefault(path.name[:_DAY], path)
    kept = {*newest_first[:_NEWEST], *list(of_each_day.values())[:_DAYS]}
    for path in newest_first:
        if path not in kept:
            path.unlink(missing_ok=True)


def copies(folder: Path) -> Iterator[Path]:
    """Those in a data folder, newest first."""
    found = [each for each in (folder / FOLDER).glob("catalog-*") if each.suffix[1:] in set(Form)]
    yield from sorted(found, reverse=True)


def _copied(ground: Ground, to: Path) -> CatalogCopy:
    """`to`: its name; the end that says its form is added where it has none."""
    form, note = Form.DATABASE, ""
    if not ground.catalog.embedded:
        dump = shutil.which("pg_dump")
        form = Form.DUMP if dump else Form.STATE
        note = "" if dump else "there is no pg_dump here"
    path = to if to.suffix else to.with_name(f"{to.name}.{form}")
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.unlink(missing_ok=True)
    try:
        open_new(temporary).close()
        if form is Form.DATABASE:
            _copy_database(Path(ground.catalog.url.database or ""), temporary)
        elif form is Form.DUMP:
            _dump(ground.catalog.url, temporary)
        else:
            _write_state(ground, temporary)
        _sync(temporary)
        put_in_place(temporary, path, replace=False)
    except FileExistsError as error:
        raise RecordExistsError(f"there is a file {path} already") from error
    except OSError as error:
        raise _failed(f"{path} cannot be written: {error.strerror}") from error
    finally:
        for end in ("", "-journal", "-wal", "-shm"):
            temporary.with_name(temporary.name + end).unlink(missing_ok=True)
    return CatalogCopy(path, form, path.stat().st_size, note)


# --- SQLite ---------------------------------------------------------------------------------------


def _copy_database(live: Path, copy: Path) -> None:
    """By SQLite's own online copying: writers go on, and it is of one moment."""
    try:
        with closing(sqlite3.connect(live)) as source, closing(sqlite3.connect(copy)) as into:
            source.backup(into)
            problems = problems_in(into.execute, thorough=True)
            into.execute("PRAGMA journal_mode=DELETE")  # so that it is one file
    except sqlite3.DatabaseError as error:
        if "full" in str(error):
            raise StorageFullError(f"there is no room for a copy in {copy.parent}") from error
        raise _failed(f"the catalog cannot be copied: {error}") from error
    if problems:
        raise CatalogError(f"the catalog is damaged: {problems[0]}")


# --- PostgreSQL -----------------------------------------------------------------------------------


def _dump(url: URL, copy: Path) -> None:
    _run(["pg_dump", "--format=custom", "--no-owner", "--exclude-schema=holdfast_tasks"], url, copy)
    _run(["pg_restore", "--list", str(copy)], url, None)  # the list stands behind the data


def _run(command: list[str], url: URL, output: Path | None) -> None:
    try:
        with output.open("wb") if output else open(os.devnull, "wb") as into:  # noqa: PTH123
            ended = subprocess.run(
                command,
                env=os.environ | _environment(url),
                stdin=subprocess.DEVNULL,
                stdout=into,
                stderr=subprocess.PIPE,
                timeout=_DUMP_SECONDS,
                check=False,
            )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise _failed(f"{command[0]} failed: {error}") from error
    if ended.returncode:
        said = ended.stderr.decode("utf-8", "replace").strip().splitlines()
        raise _failed(f"{command[0]} failed: {said[-1] if said else ended.returncode}")


def _environment(url: URL) -> dict[str, str]:
    """How PostgreSQL's programs find the database; no password stands on a command line."""
    host = url.query.get("host", url.host)
    values = {
        "PGHOST": host[0] if isinstance(host, tuple) else host,
        "PGPORT": str(url.port) if url.port else None,
        "PGUSER": url.username,
        "PGPASSWORD": url.password,
        "PGDATABASE": url.database,
    }
    return {name: str(value) for name, value in values.items() if value}


def _write_state(ground: Ground, copy: Path) -> None:
    with ground.catalog.read() as tx:
        document = state.exported(tx)
    copy.write_bytes(msgspec.json.encode(document))
    state.check(msgspec.json.decode(copy.read_bytes()))


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _failed(message: str) -> CatalogError:
    return CatalogError(message, remedy="Nothing was kept of it. The catalog itself is as it was.")
