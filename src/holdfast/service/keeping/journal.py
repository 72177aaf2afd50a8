"""The journal of a plain pool: what lies in it, where, and what it must be, one JSON line each.

`.holdfast/journal.jsonl` is only ever appended to, and synced before anything is acknowledged. Each
line ends with `"check"`: the first 16 hexadecimal digits of the SHA-256 of the line without it.

    begin    the first line: which pool this is
    keep     a backup with all its facts: `path` is where it lies
    rename   `path` is where it lies now
    recycle  it lies in `.holdfast/recycle/<uid>`
    restore  it lies at its path again
    settle   it has come there (not synced: a crash has it looked after once more)
    delete   it is gone

A last line without its end was cut short by a crash, was never acknowledged, and is cut off. Any
other line whose check is wrong is passed over and told (`damaged`).

Several processes may work on one pool: each step that changes it holds the lock of
`.holdfast/lock`, and reads what the others have appended first.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import msgspec

from holdfast.core.errors import DamagedError, NoRepositoryError
from holdfast.service.keeping.disk import write_all
from holdfast.service.keeping.naming import HOUSE

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from holdfast.service.keeping.disk import Root

FILE: Final = "journal.jsonl"
RECYCLE: Final = "recycle"
VERSION: Final = 1
_CHECK: Final = b',"check":"'
_DIGITS: Final = 16
_READ: Final = 1 << 20
_COMPACT_FROM: Final = 1000
"""Lines below which it is not worth it."""

Record = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a backup is, after the newest line about it."""

    path: str
    """its own; where it lies unless it is recycled"""
    recycled: bool = False
    before: tuple[str, ...] | None = None
    """where it lay before the newest line: a crash may have left it there"""

    def lies(self, uid: str) -> tuple[str, ...]:
        return (HOUSE, RECYCLE, uid) if self.recycled else tuple(self.path.split("/"))


class Journal:
    """Safe for threads. `standing` and `owners` are right while `locked`."""

    def __init__(self, root: Root) -> None:
        self._root = root
        self._guard = threading.RLock()
        self.standing: dict[str, Standing] = {}
        """by uid"""
        self.owners: dict[str, str] = {}
        """uids by path, of what is not recycled"""
        self.damaged: list[int] = []
        """numbers of lines, from 1"""
        self.pool = ""
        self._file: tuple[int, int] | None = None
        self._end = 0
        self._lines = 0

    # --- making and opening -----------------------------------------------------------------------

    def exists(self) -> bool:
        return self._root.look((HOUSE, FILE)) is not None

    def create(self, pool: str) -> None:
        """Makes the folders and an empty journal, where there is none."""
        with self._root.folder((HOUSE, RECYCLE), create=True):
            pass
        with self._root.folder((HOUSE,)) as house, self._flocked(house):
            if not self.exists():
                begin = {"do": "begin", "version": VERSION, "pool": pool}
                self._write_whole(house, [line_of(begin)])

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Nobody else changes the pool meanwhile.

        Raises:
            NoRepositoryError: there is no journal.
            OSError
        """
        if not self.exists():
            raise self._absent()
        with self._guard, self._root.folder((HOUSE,)) as house, self._flocked(house):
            self.refresh()
            yield

    @contextmanager
    def _flocked(self, house: int) -> Iterator[None]:
        descriptor = os.open(
            "lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=house
        )
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    # --- reading ----------------------------------------------------------------------------------

    def refresh(self) -> None:
        """Reads what was appended since. Raises NoRepositoryError."""
        with self._guard:
            descriptor = self._open()
            try:
                found = os.fstat(descriptor)
                if (found.st_dev, found.st_ino) != self._file or found.st_size < self._end:
                    self._forget_all()
                    self._file = found.st_dev, found.st_ino
                for line in self._new_lines(descriptor):
                    self._lines += 1
                    record = record_of(line)
                    if record is None:
                        self.damaged.append(self._lines)
                    else:
                        self._apply(record)
            finally:
                os.close(descriptor)

    def _open(self) -> int:
        try:
            return self._root.open_file((HOUSE, FILE))
        except FileNotFoundError as error:
            raise self._absent() from error

    def _absent(self) -> NoRepositoryError:
        return NoRepositoryError(
            f"there is no pool in {self._root.path}",
            remedy="If it lies on a disk of its own: is that mounted?",
        )

    def _forget_all(self) -> None:
        self.standing.clear()
        self.owners.clear()
        self.damaged.clear()
        self._end = self._lines = 0

    def _new_lines(self, descriptor: int) -> Iterator[bytes]:
        """Whole ones only."""
        rest = b""
        while piece := os.pread(descriptor, _READ, self._end + len(rest)):
            *lines, rest = (rest + piece).split(b"\n")
            for line in lines:
                self._end += len(line) + 1
                yield line

    def _apply(self, record: Record) -> None:
        do, uid = record["do"], record.get("uid", "")
        was = self.standing.get(uid)
        if do == "begin":
            self.pool = record["pool"]
        elif do == "keep":
            self._stand(uid, Standing(record["path"], bool(record.get("recycled"))))
        elif was is None:
            pass  # its first line is damaged
        elif do == "delete":
            self._stand(uid, None)
        elif do == "rename":
            self._stand(uid, Standing(record["path"], was.recycled, was.lies(uid)))
        elif do == "settle":
            self._stand(uid, Standing(was.path, was.recycled))
        elif do in {"recycle", "restore"}:
            self._stand(uid, Standing(was.path, do == "recycle", was.lies(uid)))

    def _stand(self, uid: str, now: Standing | None) -> None:
        was = self.standing.pop(uid, None)
        if was is not None and self.owners.get(was.path) == uid:
            del self.owners[was.path]
        if now is not None:
            self.standing[uid] = now
            if not now.recycled:
                self.owners[now.path] = uid

    def records(self) -> Iterator[Record]:
        """The first line of each backup that is not gone, brought up to date."""
        self.refresh()
        standing = dict(self.standing)
        descriptor = self._open()
        with os.fdopen(descriptor, "rb") as lines:
            for line in lines:
                record = record_of(line.rstrip(b"\n"))
                if record is None or record["do"] != "keep":
                    continue
                now = standing.get(record["uid"])
                if now is not None:
                    yield record | {"path": now.path, "recycled": now.recycled}

    # --- writing ----------------------------------------------------------------------------------

    def append(self, records: Sequence[Record], *, sync: bool = True) -> None:
        """Durable when it returns; where it raises, none of them is in it. Only while `locked`.

        Raises:
            OSError
        """
        content = b"".join(map(line_of, records))
        with self._root.folder((HOUSE,)) as house:
            descriptor = os.open(
                FILE, os.O_RDWR | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=house
            )
        try:
            if os.fstat(descriptor).st_size != self._end:
                self._root.disk.cut(descriptor, self._end)  # a line that a crash cut short
            try:
                write_all(self._root.disk, descriptor, content)
                if sync:
                    self._root.disk.sync(descriptor)
            except OSError:
                os.ftruncate(descriptor, self._end)
                raise
        finally:
            os.close(descriptor)
        self.refresh()

    def compact(self) -> bool:
        """Writes it anew without what no longer counts, where that is half of it or more. Only
        while `locked`. Whether it did.
        """
        dead = self._lines - 1 - len(self.standing)
        if self.damaged or dead < max(_COMPACT_FROM, len(self.standing)):
            return False
        begin = {"do": "begin", "version": VERSION, "pool": self.pool}
        with self._root.folder((HOUSE,)) as house:
            self._write_whole(house, _chain(line_of(begin), map(line_of, self.records())))
        self.refresh()
        return True

    def _write_whole(self, house: int, lines: Iterable[bytes]) -> None:
        disk, temporary = self._root.disk, f"{FILE}.new"
        try:
            os.unlink(temporary, dir_fd=house)
        except FileNotFoundError:
            pass
        descriptor = disk.create(house, temporary)
        try:
            for line in lines:
                write_all(disk, descriptor, line)
            disk.sync(descriptor)
        finally:
            os.close(descriptor)
        disk.rename(house, temporary, house, FILE)
        disk.sync(house)


def _chain(first: bytes, rest: Iterable[bytes]) -> Iterator[bytes]:
    yield first
    yield from rest


def line_of(record: Record) -> bytes:
    """A line with its check."""
    body = msgspec.json.encode({k: v for k, v in record.items() if k != "check"})
    return body[:-1] + _CHECK + _digest(body) + b'"}\n'


def _digest(body: bytes) -> bytes:
    return hashlib.sha256(body).hexdigest()[:_DIGITS].encode()


def record_of(line: bytes) -> Record | None:
    """What a line without its end says; None where it is damaged."""
    body, found, check = line.rpartition(_CHECK)
    body += b"}"
    if not found or check != _digest(body) + b'"}':
        return None
    try:
        record = msgspec.json.decode(body)
    except msgspec.DecodeError as error:
        raise DamagedError("a journal's line has the right check and is no JSON") from error
    return record if isinstance(record, dict) else None
