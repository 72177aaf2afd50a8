"""A project's archive as a tree of files, for keeping each run in a repository like any backup.

/<project>/run.json         what the newest run was
/<project>/records.jsonl    the latest state, a record a line
/<project>/evidence.jsonl   address, status, headers, time and digest of every stored response
/<project>/storage/...      the stored pages; details/..., files/... and so on beside them
"""

from __future__ import annotations

import errno
import json
import os
import sqlite3
import stat
import tempfile
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

from holdfast.core.entries import Entry, Kind
from holdfast.core.source import UP, Found
from holdfast.sources.files.facts import Owners
from holdfast.sources.restapi.kept import zipformat
from holdfast.sources.restapi.kept.archive import open_archive
from holdfast.sources.restapi.kept.keepers import ZipKeeper, open_keeper
from holdfast.sources.restapi.kept.latest import state
from holdfast.sources.restapi.kept.ledger import State, open_to_read
from holdfast.sources.restapi.kept.members import FILES, details_label
from holdfast.sources.restapi.kept.shelf import files_folder
from holdfast.sources.restapi.project.place import PAGES
from holdfast.sources.restapi.records.naming import safe_name
from holdfast.sources.restapi.records.writers import encode
from holdfast.sources.streams import UNKNOWN_SIZE, StreamedContent

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from holdfast.core.source import Step
    from holdfast.sources.restapi.kept.keepers import Keeper
    from holdfast.sources.restapi.project.project import Project

_MADE: Final = ""
"""Label of what no archive holds but is made when it is read."""
_SCHEMA = """
CREATE TABLE member(
    key BLOB PRIMARY KEY, label TEXT, name TEXT, size INTEGER, time INTEGER,
    method INTEGER, crc INTEGER, packed INTEGER, place INTEGER
) WITHOUT ROWID
"""


class ApiSource:
    """See `core.source.Source`. A context manager: its index of names lies on disk until it is
    closed.

    What is read is what the archives hold when it is made; nobody may collect meanwhile.
    """

    def __init__(self, project: Project) -> None:
        """Raises NothingStoredError where the project has stored nothing yet."""
        self._project = project
        with open_archive(project.place) as archive:
            run = archive.runs()[-1]
        self._run = json.dumps(asdict(run), ensure_ascii=False, indent=1).encode() + b"\n"
        self._time = run.ended or run.started
        self._top = b"/" + os.fsencode(safe_name(project.name.replace("/", "_"), portable=True))
        self.roots: Sequence[bytes] = (self._top,)
        self._folder = tempfile.TemporaryDirectory(prefix="holdfast-api-")
        self._index = Path(self._folder.name) / "names.db"
        self._owner = _owner()
        self._fill()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._folder.cleanup()

    def walk(self) -> Iterator[Step]:
        yield Found(self._top, self._entry(self._top[1:], Kind.DIR, size=0, time=self._time))
        folders: list[bytes] = []
        with closing(sqlite3.connect(self._index)) as index:
            rows = index.execute("SELECT key, label, size, time FROM member ORDER BY key")
            for key, label, size, time in rows:
                *parents, name = bytes(key).split(b"\0")
                common = _common(folders, parents)
                yield from [UP] * (len(folders) - common)
                folders = folders[:common]
                for folder in parents[common:]:
                    folders.append(folder)
                    entry = self._entry(folder, Kind.DIR, size=0, time=self._time)
                    yield Found(b"/".join((self._top, *folders)), entry)
                made = label == _MADE and size is None
                entry = self._entry(name, Kind.FILE, size=UNKNOWN_SIZE if made else size, time=time)
                yield Found(b"/".join((self._top, *folders, name)), entry)
        yield from [UP] * (len(folders) + 1)

    def open(self, path: bytes, entry: Entry) -> StreamedContent:
        """Opens what `walk` has named, in any process.

        Raises:
            OSError: it has not.
        """
        key = path.removeprefix(self._top + b"/").replace(b"/", b"\0")
        with closing(sqlite3.connect(self._index)) as index:
            row = index.execute("SELECT * FROM member WHERE key = ?", (key,)).fetchone()
        if row is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), os.fsdecode(path))
        _, label, name, size, time, method, crc, packed, place = row
        if label == _MADE:
            made = {"run.json": self._run_facts, "records.jsonl": self._records}
            return StreamedContent(replace(entry, size=size or 0), made.get(name, self._evidence))
        if method is not None:
            member = zipformat.Member(name, method, crc, packed, size, place, time)
            return StreamedContent(entry, lambda: self._zipped(label, member))
        return StreamedContent(entry, lambda: self._plain(label, name))

    def xattrs(self, path: bytes, entry: Entry) -> list[tuple[bytes, bytes]]:  # noqa: ARG002 - an API has none
        return []

    # --- the index of names ---

    def _fill(self) -> None:
        with closing(sqlite3.connect(self._index, isolation_level=None)) as index:
            index.execute("PRAGMA journal_mode = OFF")
            index.execute(_SCHEMA)
            index.execute("BEGIN")
            index.executemany(
                "INSERT OR IGNORE INTO member VALUES (?,?,?,?,?,?,?,?,?)", self._rows()
            )
            # What is a file and a folder at once becomes "~" in that folder.
            index.execute(
                "UPDATE OR REPLACE member SET key = CAST(key || x'007e' AS BLOB)"
                " WHERE EXISTS (SELECT 1 FROM member AS below"
                " WHERE below.key > CAST(member.key || x'00' AS BLOB)"
                " AND below.key < CAST(member.key || x'01' AS BLOB))"
            )
            index.execute("COMMIT")

    def _rows(self) -> Iterator[tuple[Any, ...]]:
        yield (b"run.json", _MADE, "run.json", len(self._run), self._time, *[None] * 4)
        for name in ("records.jsonl", "evidence.jsonl"):
            yield (name.encode(), _MADE, name, None, self._time, *[None] * 4)
        for label in (PAGES, *map(details_label, self._project.follow), FILES):
            with closing(open_keeper(self._project.place, label)) as keeper:
                if isinstance(keeper, ZipKeeper) and keeper.exists():
                    yield from _zip_rows(label, keeper)
                elif keeper.exists():
                    yield from self._plain_rows(label, keeper)
        folder = files_folder(self._project.place)
        for path in folder.rglob("*") if folder.is_dir() else ():
            if path.is_file():
                name, facts = path.relative_to(folder).as_posix(), path.stat()
                yield (
                    _key(FILES, name),
                    FILES,
                    name,
                    facts.st_size,
                    facts.st_mtime_ns,
                    *[None] * 4,
                )

    def _plain_rows(self, label: str, keeper: Keeper) -> Iterator[tuple[Any, ...]]:
        for name in keeper.names():
            yield (_key(label, name), label, name, len(keeper.read(name)), self._time, *[None] * 4)

    # --- what files hold ---

    def _run_facts(self) -> Iterator[bytes]:
        yield self._run

    def _records(self) -> Iterator[bytes]:
        with open_archive(self._project.place) as archive:
            for batch in state(self._project, archive):
                yield b"".join(encode(record) + b"\n" for record in batch)

    def _evidence(self) -> Iterator[bytes]:
        ledger = open_to_read(self._project.place.ledger)
        if ledger is None:
            return
        with closing(ledger):
            for run in ledger.runs(state=State.PUBLISHED):
                for response in ledger.responses(run.id):
                    told = {"archive": response.archive, "run": run.id, **response.proof()}
                    yield encode(told) + b"\n"

    def _zipped(self, label: str, member: zipformat.Member) -> Iterator[bytes]:
        with (
            closing(open_keeper(self._project.place, label)) as keeper,
            keeper.path.open("rb") as archive,
        ):
            yield from _proved(zipformat.open_member(archive, member))

    def _plain(self, label: str, name: str) -> Iterator[bytes]:
        if label == FILES:
            with (files_folder(self._project.place) / name).open("rb") as file:
                while chunk := file.read(1 << 20):
                    yield chunk
            return
        with closing(open_keeper(self._project.place, label)) as keeper:
            yield keeper.read(name)

    def _entry(self, name: bytes, kind: Kind, *, size: int, time: int) -> Entry:
        mode = stat.S_IFDIR | 0o700 if kind is Kind.DIR else stat.S_IFREG | 0o600
        owner = self._owner
        return Entry(
            name, kind, mode, size=size, mtime=time, ctime=time, atime=time, uid=owner.uid,
            gid=owner.gid, user=owner.user, group=owner.group, links=1,
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Owner:
    uid: int
    gid: int
    user: str
    group: str


def _owner() -> _Owner:
    """Who collects; nobody where the system knows no numbers."""
    if not hasattr(os, "getuid"):
        return _Owner(0, 0, "", "")
    uid, gid = os.getuid(), os.getgid()
    owners = Owners()
    return _Owner(uid, gid, owners.users[uid], owners.groups[gid])


def _proved(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """One piece late, so that the last one is given out only once its checksum was right (I4)."""
    held = next(pieces, b"")
    for piece in pieces:
        yield held
        held = piece
    yield held


def _zip_rows(label: str, keeper: ZipKeeper) -> Iterator[tuple[Any, ...]]:
    with keeper.path.open("rb") as archive:
        directory = zipformat.find_directory(archive)
        for member, _ in zipformat.read_directory(archive, directory):
            yield (
                _key(label, member.name), label, member.name, member.size, member.time,
                member.method, member.crc, member.packed, member.offset,
            )  # fmt: skip


def _key(label: str, name: str) -> bytes:
    """Sorts as a tree does: within a folder by name, a folder's content right behind it."""
    return os.fsencode(f"{label}/{safe_name(name)}").replace(b"/", b"\0")


def _common(one: list[bytes], other: list[bytes]) -> int:
    """How many folders two paths share from the top."""
    shared = 0
    for left, right in zip(one, other, strict=False):
        if left != right:
            break
        shared += 1
    return shared
