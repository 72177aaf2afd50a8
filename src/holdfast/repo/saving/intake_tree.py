"""Uploads of many files that become one snapshot: what was given is noted in a few bytes for each
entry, and trees are made of the notes at the end, when nothing can come in between any more.
"""

from __future__ import annotations

import hashlib
import stat
import struct
from bisect import bisect_left
from dataclasses import dataclass, field
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING, NamedTuple

from holdfast.core.entries import Kind
from holdfast.core.errors import NameRefusedError, VerificationError
from holdfast.core.ids import ID_SIZE, BlobId
from holdfast.repo.format.tree import node_text, tree_text
from holdfast.repo.saving.intake_commit import entry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MAX_NAME = 255
MAX_PATH = 4096
MAX_DEPTH = 256
"""Names in a path. Nobody's folders lie so deep, and what is made of each costs its depth."""
PLAIN_MODE = 0o755
_RECORD = struct.Struct("<BIqQIH")
_FILE, _SYMLINK, _COPY = range(3)
_ATTEND_EVERY = 200
_FIRST, _LAST = -(1 << 63), (1 << 63) - 1


def check_path(path: bytes) -> tuple[bytes, ...]:
    """The components of a relative path.

    Raises:
        NameRefusedError: one of them is not what a file can be called, or they are too many, or all
            together too long.
    """
    names = tuple(path.split(b"/"))
    for name in names:
        if name in {b"", b".", b".."} or b"\0" in name or len(name) > MAX_NAME:
            raise NameRefusedError(f"{_shown(path)} is not a name that a file can have")
    if len(path) > MAX_PATH or len(names) > MAX_DEPTH:
        raise NameRefusedError(f"{_shown(path[:80])}... is too long a path, or too deep")
    return names


def _shown(path: bytes) -> str:
    return repr(path.decode("utf-8", "backslashreplace"))


class _Note(NamedTuple):
    """One name. `payload`: blobs of a file, target of a link, or path of what is copied."""

    what: int
    mode: int
    mtime: int
    size: int
    number: int
    """how many were given before it"""
    name: bytes
    payload: bytes

    def packed(self) -> bytes:
        return (
            _RECORD.pack(self.what, self.mode, self.mtime, self.size, self.number, len(self.name))
            + self.name
            + self.payload
        )

    @classmethod
    def read(cls, record: bytes) -> _Note:
        what, mode, mtime, size, number, length = _RECORD.unpack_from(record)
        end = _RECORD.size + length
        return cls(what, mode, mtime, size, number, record[_RECORD.size : end], record[end:])


def _number_of(record: bytes) -> int:
    number: int = _RECORD.unpack_from(record)[4]
    return number


def _name_of(record: bytes) -> bytes:
    length = int.from_bytes(record[_RECORD.size - 2 : _RECORD.size], "little")
    return record[_RECORD.size : _RECORD.size + length]


@dataclass(slots=True)
class Folder:
    """A directory that is being received."""

    mode: int = PLAIN_MODE
    mtime: int | None = None
    records: list[bytes | None] = field(default_factory=list)
    folders: dict[bytes, Folder] = field(default_factory=dict)

    def below(self, names: tuple[bytes, ...]) -> Folder:
        """A folder below this one, made with all above it where there is none."""
        here = self
        for name in names:
            here = here.folders.setdefault(name, Folder())
        return here

    def notes(self) -> Iterator[bytes]:
        """The records of this folder and all below."""
        waiting = [self]
        while waiting:
            here = waiting.pop()
            yield from (record for record in here.records if record is not None)
            waiting += here.folders.values()


class Notes:
    """What was given so far. Not safe for threads, but for the function that `file` returns."""

    def __init__(self) -> None:
        self.top = Folder()
        self._count = 0

    def file(self, path: bytes, mode: int, mtime: int) -> Callable[[bytes, int], None]:
        """Takes note of a file; what is returned must be told its blobs and its size later."""
        *above, name = check_path(path)
        folder = self.top.below(tuple(above))
        number = self._next()
        place = len(folder.records)
        folder.records.append(None)

        def done(blobs: bytes, size: int) -> None:
            note = _Note(_FILE, mode & 0o7777, mtime, size, number, name, blobs)
            folder.records[place] = note.packed()

        return done

    def directory(self, path: bytes, mode: int, mtime: int) -> None:
        folder = self.top.below(check_path(path))
        folder.mode, folder.mtime = mode & 0o7777, mtime

    def symlink(self, path: bytes, target: bytes, mtime: int) -> None:
        self._add(path, _SYMLINK, mtime, target)

    def copy(self, path: bytes, earlier: bytes) -> None:
        check_path(earlier)
        self._add(path, _COPY, 0, earlier)

    def _add(self, path: bytes, what: int, mtime: int, payload: bytes) -> None:
        *above, name = check_path(path)
        note = _Note(what, 0o777, mtime, 0, self._next(), name, payload)
        self.top.below(tuple(above)).records.append(note.packed())

    def _next(self) -> int:
        self._count += 1
        return self._count

    def blobs(self) -> Iterator[bytes]:
        """The blobs of each file, concatenated, as far as they are known."""
        for record in self.top.notes():
            note = _Note.read(record)
            if note.what == _FILE:
                yield note.payload


@dataclass(slots=True)
class Grown:
    """What has become of the notes."""

    tree: BlobId
    files: int
    folders: int
    size: int
    """bytes of the content of all files"""
    digest: bytes


@dataclass(slots=True)
class _Level:
    """A folder whose tree is being made."""

    folder: Folder
    path: bytes
    name: bytes
    rest: Iterator[_Note | bytes]
    """notes, and names of folders, in order"""
    nodes: list[bytes] = field(default_factory=list)


class Growing:
    """Makes the trees, the deepest first. `seal` stores each; `attend` is called now and then.

    The digest is the SHA-256 over all entries in the order of the trees (each directory before what
    is in it): a letter (f, d, l), the length of the path in four bytes, the path, the length of
    what follows in eight bytes, and that: names of the blobs of a file, target of a link, nothing
    for a directory. Numbers are little-endian.
    """

    def __init__(
        self,
        notes: Notes,
        time: int,
        seal: Callable[[BlobId, bytes], None],
        attend: Callable[[], None],
    ) -> None:
        self._attend = attend
        self._notes = notes
        self._time = time
        self._seal = seal
        self._digest = hashlib.sha256()
        self._files = self._folders = self._size = 0
        self._copied: dict[bytes, dict[bytes, list[bytes]]] = {}

    def grow(self) -> Grown:
        """Raises NameRefusedError where two entries of one name cannot both be, or a copy is one of
        nothing; VerificationError where the content of a file is not known: never is one left out.
        """
        levels = [self._enter(self._notes.top, b"", b"")]
        while True:
            level = levels[-1]
            child = self._next_folder(level)
            if child is not None:
                levels.append(child)
                continue
            document = tree_text(level.nodes)
            tree = BlobId(hashlib.sha256(document).digest())
            self._seal(tree, document)
            levels.pop()
            if not levels:
                digest = self._digest.digest()
                return Grown(tree, self._files, self._folders, self._size, digest)
            levels[-1].nodes.append(self._folder_node(level, tree))

    def _enter(self, folder: Folder, path: bytes, name: bytes) -> _Level:
        records = [record for record in folder.records if record is not None]
        if len(records) < len(folder.records):
            raise VerificationError(f"a file in {_shown(path or b'.')} is not sealed yet")
        records.sort(key=_name_of)  # stable: of one name, the last given is the last
        latest = [list(same)[-1] for _, same in groupby(records, key=_name_of)]
        for record in latest:
            if _name_of(record) in folder.folders:
                shown = _shown(_join(path, _name_of(record)))
                raise NameRefusedError(f"{shown} is a directory and something else as well")
        names = [(_name_of(record), record) for record in latest]
        merged = sorted([*names, *((n, b"") for n in folder.folders)], key=itemgetter(0))
        rest = (_Note.read(record) if record else name for name, record in merged)
        return _Level(folder, path, name, rest)

    def _next_folder(self, level: _Level) -> _Level | None:
        """Goes on to the next folder in a level; None where there is none left."""
        for item in level.rest:
            if isinstance(item, bytes):
                path = _join(level.path, item)
                self._count("d", path, b"")
                self._folders += 1
                return self._enter(level.folder.folders[item], path, item)
            level.nodes.append(self._node(_join(level.path, item.name), item))
            if not len(level.nodes) % _ATTEND_EVERY:
                self._attend()
        return None

    def _node(self, path: bytes, note: _Note) -> bytes:
        name = note.name
        if note.what == _COPY:
            note = self._original(path, note)
        if note.what == _SYMLINK:
            link = entry(name, Kind.SYMLINK, stat.S_IFLNK | 0o777, note.mtime)
            link.linktarget, link.links = note.payload, 1
            self._count("l", path, note.payload)
            return node_text(link)
        file = entry(name, Kind.FILE, stat.S_IFREG | note.mode, note.mtime)
        file.size, file.links = note.size, 1
        self._count("f", path, note.payload)
        self._files += 1
        self._size += note.size
        ids = note.payload
        content = [BlobId(ids[at : at + ID_SIZE]) for at in range(0, len(ids), ID_SIZE)]
        return node_text(file, content=content)

    def _original(self, path: bytes, copy: _Note) -> _Note:
        """What was given under the name of the original before the copy was."""
        note = copy
        while note.what == _COPY:
            above, _, name = note.payload.rpartition(b"/")
            given = self._records_of(above).get(name, [])
            at = bisect_left(given, note.number, key=_number_of)
            if not at:
                raise NameRefusedError(
                    f"{_shown(path)} is said to be the same file as {_shown(note.payload)}, "
                    "which was not given before"
                )
            note = _Note.read(given[at - 1])
        return note

    def _records_of(self, path: bytes) -> dict[bytes, list[bytes]]:
        """All that was given in a folder, by name, in its order."""
        found = self._copied.get(path)
        if found is None:
            folder: Folder | None = self._notes.top
            for name in path.split(b"/") if path else ():
                folder = folder and folder.folders.get(name)
            found = self._copied[path] = {}
            for record in folder.records if folder else ():
                if record is not None:
                    found.setdefault(_name_of(record), []).append(record)
        return found

    def _folder_node(self, level: _Level, tree: BlobId) -> bytes:
        mtime = self._time if level.folder.mtime is None else level.folder.mtime
        folder = entry(level.name, Kind.DIR, stat.S_IFDIR | level.folder.mode, mtime)
        return node_text(folder, subtree=tree)

    def _count(self, letter: str, path: bytes, payload: bytes) -> None:
        head = letter.encode() + len(path).to_bytes(4, "little") + path
        self._digest.update(head + len(payload).to_bytes(8, "little") + payload)


def _join(path: bytes, name: bytes) -> bytes:
    return path + b"/" + name if path else name
