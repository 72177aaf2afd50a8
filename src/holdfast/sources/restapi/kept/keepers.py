"""The published archives: a ZIP, plain files, or SQLite, all with the member names of apibackuper.

Publishing is atomic for readers of a ZIP or a database (one rename) and can be repeated after a
crash for all of them.
"""

from __future__ import annotations

import os
import re
import shutil
import sqlite3
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, Protocol

from holdfast.core.errors import DamagedError, ObjectNotFoundError
from holdfast.sources.restapi.kept import zipformat
from holdfast.sources.restapi.project.place import (
    DAMAGE_REMEDY,
    PAGES,
    Place,
    StorageKind,
    damaged,
    sync_folder,
    writing,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from holdfast.sources.restapi.kept.ledger import Response

PAGE_NAME = re.compile(r"(?:runs/(?P<run>[^/]+)/)?page_(?P<number>\d+)\.json")


@dataclass(frozen=True, slots=True)
class Partial:
    """What a run has collected, lying in a ZIP without a directory."""

    path: Path
    end: int
    responses: Callable[[], Iterator[Response]]
    """Those with bytes of their own."""
    holds: Callable[[str], bool]

    def bodies(self) -> Iterator[tuple[Response, bytes]]:
        with self.path.open("rb") as archive:
            for response in self.responses():
                yield response, zipformat.read_member(archive, member_of(response))


class Keeper(Protocol):
    """A published archive. Reading may be repeated; `publish` is for the holder of its lock."""

    path: Path

    def exists(self) -> bool: ...

    def names(self) -> Iterator[str]:
        """All members in the archive's order, in flat memory.

        Raises:
            DamagedError: the archive cannot be read.
        """
        ...

    def has(self, name: str) -> bool: ...

    def read(self, name: str) -> bytes:
        """A member's bytes, checked.

        Raises:
            ObjectNotFoundError: there is none.
            DamagedError: it is not what was stored.
        """
        ...

    def publish(self, partial: Partial, *, keep: bool) -> None:
        """Makes what was collected the archive's content, added to what is there when `keep`.

        Raises:
            StorageFullError: no room; the archive is as before.
        """
        ...

    def set_aside(self, target: Path) -> None:
        """Keeps the present state as `target` too; nothing where that exists already."""
        ...

    def close(self) -> None: ...


def open_keeper(place: Place, label: str = PAGES) -> Keeper:
    """The published archive of that label: pages in the project's own form, everything else in a
    ZIP.
    """
    if label != PAGES or place.kind is StorageKind.ZIP:
        path = place.pages if label == PAGES else place.folder / f"{label}.zip"
        return ZipKeeper(path)
    return open_keeper_at(place.kind, place.pages)


def open_keeper_at(kind: StorageKind, path: Path) -> Keeper:
    match kind:
        case StorageKind.ZIP:
            return ZipKeeper(path)
        case StorageKind.FILESYSTEM:
            return FolderKeeper(path)
        case StorageKind.SQLITE:
            return SqliteKeeper(path)


def member_of(response: Response) -> zipformat.Member:
    return zipformat.Member(
        response.member, response.method, response.crc, response.packed, response.size,
        response.offset, response.time,
    )  # fmt: skip


class ZipKeeper:
    """Members are found through an index in a temporary database, so that a million of them cost
    no memory.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: BinaryIO | None = None
        self._index: sqlite3.Connection | None = None

    def exists(self) -> bool:
        return self.path.exists()

    def names(self) -> Iterator[str]:
        if self.exists():
            for member in self.members():
                yield member.name

    def has(self, name: str) -> bool:
        return self._find(name) is not None

    def read(self, name: str) -> bytes:
        member = self._find(name)
        if member is None or self._file is None:
            raise ObjectNotFoundError(f"{self.path.name} has no {name}", remedy=DAMAGE_REMEDY)
        return zipformat.read_member(self._file, member)

    def members(self) -> Iterator[zipformat.Member]:
        """As the archive's directory lists them, in flat memory.

        Raises:
            DamagedError: the archive cannot be read.
        """
        with self.path.open("rb") as archive:
            for member, _ in zipformat.read_directory(archive, self._directory(archive)):
                yield member

    def measure(self) -> tuple[int, int]:
        """How many members, and their bytes when unpacked.

        Raises:
            DamagedError: the archive cannot be read.
        """
        count = size = 0
        for member in self.members():
            count += 1
            size += member.size
        return count, size

    def stream(self, name: str) -> Iterator[bytes]:
        """A member's bytes in pieces, checked at the end.

        Raises:
            ObjectNotFoundError: there is none.
            DamagedError: it is not what was stored.
        """
        member = self._find(name)
        if member is None or self._file is None:
            raise ObjectNotFoundError(f"{self.path.name} has no {name}", remedy=DAMAGE_REMEDY)
        return zipformat.open_member(self._file, member)

    def publish(self, partial: Partial, *, keep: bool) -> None:
        self.close()
        with writing(self.path):
            if keep and self.exists():
                fresh = self._extended(partial)
            else:
                fresh = partial.path
                with fresh.open("r+b") as out:
                    records = (
                        zipformat.central_record(member_of(response))
                        for response in partial.responses()
                    )
                    zipformat.write_directory(out, records, start=partial.end)
                    _sync(out)
            fresh.replace(self.path)
            sync_folder(self.path.parent)

    def set_aside(self, target: Path) -> None:
        if self.exists() and not target.exists():
            _link(self.path, target)

    def mend(self) -> int | None:
        """Gives an archive that was cut off while it was written a directory of its whole members.

        The damaged file stays beside it. How many members were saved; None where nothing is wrong.
        """
        if not self.exists():
            return None
        with self.path.open("rb") as archive:
            try:
                zipformat.find_directory(archive)
            except DamagedError:
                pass
            else:
                return None
            members = list(zipformat.scan_members(archive))
        fresh = self.path.with_name(self.path.name + ".new")
        with writing(self.path):
            shutil.copyfile(self.path, fresh)
            with fresh.open("r+b") as out:
                end = zipformat.end_of_last(out, members)
                zipformat.write_directory(out, map(zipformat.central_record, members), start=end)
                _sync(out)
            self.path.replace(self.path.with_name(self.path.name + ".damaged"))
            fresh.replace(self.path)
        return len(members)

    def close(self) -> None:
        if self._file:
            self._file.close()
        if self._index:
            self._index.close()
        self._file = self._index = None

    def _extended(self, partial: Partial) -> Path:
        """A new archive beside the old one: its bytes, then the new ones, then one directory for
        both.
        """
        fresh = partial.path.with_suffix(".new")
        with self.path.open("rb") as old, partial.path.open("rb") as added, _private(fresh) as out:
            directory = self._directory(old)
            zipformat.copy_range(old, out, start=0, end=directory.start)
            zipformat.copy_range(added, out, start=0, end=partial.end)

            def records() -> Iterator[bytes]:
                for member, record in zipformat.read_directory(old, directory):
                    if not partial.holds(member.name):
                        yield record
                for response in partial.responses():
                    yield zipformat.central_record(member_of(response), shift=directory.start)

            zipformat.write_directory(out, records(), start=directory.start + partial.end)
            _sync(out)
        return fresh

    def _directory(self, archive: BinaryIO) -> zipformat.Directory:
        try:
            return zipformat.find_directory(archive)
        except DamagedError as error:
            raise DamagedError(
                f"{self.path} cannot be read: {error.message}",
                remedy="`holdfast api run` saves what is whole in it; the file itself is kept.",
            ) from None

    def _find(self, name: str) -> zipformat.Member | None:
        if self._index is None:
            if not self.exists():
                return None
            self._file = self.path.open("rb")
            self._index = _indexed(self._file, self._directory(self._file))
        row = self._index.execute("SELECT * FROM member WHERE name=?", (name,)).fetchone()
        return zipformat.Member(*row) if row else None


class FolderKeeper:
    """Each page a file of its own."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def exists(self) -> bool:
        return any(self.names())

    def names(self) -> Iterator[str]:
        for folder in (self.path, *sorted(self.path.glob("runs/*"))):
            if not folder.is_dir():
                continue
            with os.scandir(folder) as listing:
                for found in listing:
                    name = (folder / found.name).relative_to(self.path).as_posix()
                    if PAGE_NAME.fullmatch(name):
                        yield name

    def has(self, name: str) -> bool:
        return (self.path / name).is_file()

    def read(self, name: str) -> bytes:
        try:
            return (self.path / name).read_bytes()
        except FileNotFoundError:
            raise ObjectNotFoundError(f"{self.path} has no {name}", remedy=DAMAGE_REMEDY) from None

    def publish(self, partial: Partial, *, keep: bool) -> None:
        with writing(self.path):
            for response, body in partial.bodies():
                target = self.path / response.member
                target.parent.mkdir(parents=True, exist_ok=True)
                draft = target.with_suffix(".new")
                with _private(draft) as out:
                    out.write(body)
                    _sync(out)
                draft.replace(target)
            if not keep:
                for name in list(self.names()):
                    if not partial.holds(name):
                        (self.path / name).unlink()
            sync_folder(self.path)
            partial.path.unlink(missing_ok=True)

    def set_aside(self, target: Path) -> None:
        if not self.exists() or target.exists():
            return
        draft = target.with_suffix(".new")
        shutil.rmtree(draft, ignore_errors=True)
        for name in self.names():
            copy = draft / name
            copy.parent.mkdir(parents=True, exist_ok=True)
            _link(self.path / name, copy)
        draft.replace(target)

    def close(self) -> None:
        """Holds nothing open."""


class SqliteKeeper:
    """Table `pages` (name, content, created_at), beside an empty `objects` for other readers of
    the form.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def exists(self) -> bool:
        return self.path.is_file()

    def names(self) -> Iterator[str]:
        if not self.exists():
            return
        with self._open() as database:
            for (name,) in database.execute("SELECT name FROM pages"):
                yield name

    def has(self, name: str) -> bool:
        if not self.exists():
            return False
        with self._open() as database:
            row = database.execute("SELECT 1 FROM pages WHERE name=?", (name,)).fetchone()
        return row is not None

    def read(self, name: str) -> bytes:
        with self._open() as database:
            row = database.execute("SELECT content FROM pages WHERE name=?", (name,)).fetchone()
        if row is None:
            raise ObjectNotFoundError(f"{self.path.name} has no {name}", remedy=DAMAGE_REMEDY)
        return row[0] if isinstance(row[0], bytes) else str(row[0]).encode()

    def publish(self, partial: Partial, *, keep: bool) -> None:
        fresh = partial.path.with_suffix(".new")
        with writing(self.path):
            fresh.unlink(missing_ok=True)
            if keep and self.exists():
                shutil.copyfile(self.path, fresh)
            with closing(sqlite3.connect(fresh)) as database, database:
                for table in ("pages", "objects"):
                    database.execute(
                        f"CREATE TABLE IF NOT EXISTS {table}"
                        "(name TEXT PRIMARY KEY, content BLOB, created_at TEXT)"
                    )
                database.executemany(
                    "INSERT OR REPLACE INTO pages VALUES(?, ?, datetime(?, 'unixepoch'))",
                    (
                        (response.member, body, response.time // 10**9)
                        for response, body in partial.bodies()
                    ),
                )
            fresh.chmod(0o600)
            fresh.replace(self.path)
            sync_folder(self.path.parent)
            partial.path.unlink(missing_ok=True)

    def set_aside(self, target: Path) -> None:
        if self.exists() and not target.exists():
            _link(self.path, target)

    def close(self) -> None:
        """Holds nothing open."""

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        with closing(
            sqlite3.connect(f"{self.path.resolve().as_uri()}?mode=ro", uri=True)
        ) as database:
            try:
                yield database
            except sqlite3.DatabaseError as error:
                raise damaged(f"{self.path} cannot be read: {error}") from None


def _indexed(archive: BinaryIO, directory: zipformat.Directory) -> sqlite3.Connection:
    index = sqlite3.connect("", check_same_thread=False)
    index.execute("PRAGMA journal_mode=OFF")
    index.execute(
        "CREATE TABLE member(name TEXT PRIMARY KEY, method INT, crc INT, packed INT, size INT,"
        " place INT, time INT) WITHOUT ROWID"
    )
    index.executemany(
        "INSERT OR REPLACE INTO member VALUES(?,?,?,?,?,?,?)",
        (
            (item.name, item.method, item.crc, item.packed, item.size, item.offset, item.time)
            for item, _ in zipformat.read_directory(archive, directory)
        ),
    )
    return index


def _private(path: Path) -> BinaryIO:
    descriptor = os.open(
        path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | getattr(os, "O_BINARY", 0), 0o600
    )
    return os.fdopen(descriptor, "w+b")


def _sync(out: BinaryIO) -> None:
    out.flush()
    os.fsync(out.fileno())


def _link(source: Path, target: Path) -> None:
    """A second name for the same file, or a copy where the file system knows no links."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except OSError:
        draft = target.with_name(target.name + ".new")
        with writing(target):
            shutil.copyfile(source, draft)
            draft.replace(target)
