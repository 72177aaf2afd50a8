"""A source of files that are made while they are read: dumps, copies, images, facts about them."""

from __future__ import annotations

import errno
import json
import os
import stat
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from holdfast.core.entries import Entry, Kind
from holdfast.core.errors import DamagedError, HoldfastError, RestoreError, SourceError
from holdfast.core.source import UP, Found, Problem
from holdfast.sources.files.facts import Owners

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from holdfast.core.source import Content, Kept, Step

UNKNOWN_SIZE = 1 << 62
"""The size of such a file in the walk: whoever keeps it must not take it for a small or empty one,
nor for one that is as it was.

Once opened, its entry has the size it has, or 0: it is as long as it is.
"""
ABOUT = "about.json"
"""The file beside the others that says what they are."""


def made_entry(name: bytes, kind: Kind, mode: int, time: int, *, size: int = 0) -> Entry:
    """An entry for what is on no disk. It belongs to who runs this."""
    uid, gid = os.getuid(), os.getgid()
    owners = Owners()
    return Entry(
        name, kind, mode, size=size, mtime=time, ctime=time, atime=time, uid=uid, gid=gid,
        user=owners.users[uid], group=owners.groups[gid], links=1,
    )  # fmt: skip


def file_name(name: str) -> str:
    """The name of a database as one that a file can have; no two become the same."""
    quoted = name.replace("%", "%25").replace("/", "%2F").replace("\0", "%00")
    return f"%2E{quoted[1:]}" if quoted.startswith(".") else quoted


@dataclass(frozen=True, slots=True)
class StreamFile:
    """A file of a stream tree. `begin` opens it; its entry has the size 0."""

    name: str
    """Below the root."""
    begin: Callable[[Entry], Content]
    required: bool = True
    """Without it there is no backup; else it is a problem among others."""
    problem: str = ""
    """Why it is not what it should be, though it is kept."""


class StreamTree:
    """See `core.source.Source`: one root, and below it files that are opened once each.

    `ended` is called when all files were read, and may raise.
    """

    def __init__(
        self,
        root: str,
        files: Sequence[StreamFile],
        *,
        now: int,
        ended: Callable[[], None] = lambda: None,
    ) -> None:
        self._root = b"/" + os.fsencode(root.strip("/"))
        self.roots: Sequence[bytes] = (self._root,)
        self._files = {
            self._root + b"/" + os.fsencode(each.name): each
            for each in sorted(files, key=lambda each: os.fsencode(each.name).split(b"/"))
        }
        self._now = now
        self._ended = ended

    def walk(self) -> Iterator[Step]:
        folders: list[bytes] = []
        for path, file in self._files.items():
            *parents, name = path.split(b"/")[1:]
            shared = _shared(folders, parents)
            yield from [UP] * (len(folders) - shared)
            folders = folders[:shared]
            for folder in parents[shared:]:
                folders.append(folder)
                entry = made_entry(folder, Kind.DIR, stat.S_IFDIR | 0o700, self._now)
                yield Found(b"/" + b"/".join(folders), entry)
            entry = made_entry(name, Kind.FILE, stat.S_IFREG | 0o600, self._now, size=UNKNOWN_SIZE)
            problem = Problem(path, "read", file.problem) if file.problem else None
            yield Found(path, entry, problem)
        self._ended()
        yield from [UP] * len(folders)

    def open(self, path: bytes, entry: Entry) -> Content:
        """Raises SourceError where a required file cannot be made, OSError where another cannot."""
        file = self._files.get(path)
        if file is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), os.fsdecode(path))
        entry = replace(entry, size=0)
        if not file.required:
            return file.begin(entry)
        try:
            return _Required(file.begin(entry))
        except OSError as error:
            raise SourceError(error.strerror or str(error)) from error

    def xattrs(self, path: bytes, entry: Entry) -> list[tuple[bytes, bytes]]:  # noqa: ARG002  there are none
        return []


class _Required:
    """A content whose failure is one of the whole; see `core.source.Content`."""

    def __init__(self, content: Content) -> None:
        self.entry = content.entry
        self.skip_hole = content.skip_hole
        self.seek = content.seek
        self.unchanged = content.unchanged
        self.xattrs = content.xattrs
        self.close = content.close
        self._content = content

    def readinto(self, buffer: memoryview, /) -> int:
        """Raises SourceError where it cannot be read."""
        try:
            return self._content.readinto(buffer)
        except OSError as error:
            raise SourceError(error.strerror or str(error)) from error


def _shared(left: Sequence[bytes], right: Sequence[bytes]) -> int:
    """How many names are the same at the beginning."""
    count = 0
    for one, other in zip(left, right, strict=False):
        if one != other:
            break
        count += 1
    return count


class StreamedContent:
    """See `core.source.Content`; what is stored does not change."""

    def __init__(self, entry: Entry, begin: Callable[[], Iterator[bytes]]) -> None:
        self.entry = entry
        self._begin = begin
        self._pieces = begin()
        self._rest = memoryview(b"")

    def readinto(self, buffer: memoryview, /) -> int:
        try:
            while not self._rest:
                piece = next(self._pieces, None)
                if piece is None:
                    return 0
                self._rest = memoryview(piece)
        except HoldfastError as error:
            raise OSError(errno.EIO, error.message) from error
        count = min(len(buffer), len(self._rest))
        buffer[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count

    def skip_hole(self) -> int:
        return 0

    def seek(self, offset: int, /) -> None:
        self.close()
        self._pieces, self._rest = self._begin(), memoryview(b"")
        waste = memoryview(bytearray(1 << 16))
        while offset and (count := self.readinto(waste[: min(offset, len(waste))])):
            offset -= count

    def unchanged(self) -> bool:
        return True

    def xattrs(self) -> list[tuple[bytes, bytes]]:
        return []

    def close(self) -> None:
        with suppress(AttributeError):
            self._pieces.close()  # type: ignore[attr-defined]  # generators have it, other iterators hold nothing


# --- what is said about the files beside them ----------------------------------------------------


def about_file(facts: dict[str, Any]) -> StreamFile:
    """The file that says what the others are. It has no times, so that it is stored once."""
    text = json.dumps(facts, ensure_ascii=False, indent=1, sort_keys=True).encode() + b"\n"
    return StreamFile(ABOUT, lambda entry: StreamedContent(entry, lambda: iter((text,))))


def read_about(kept: Kept, module: str) -> dict[str, Any]:
    """What a backup says it is.

    Raises:
        RestoreError: it is none of this module.
        DamagedError: it is not what was written.
    """
    with kept.open(ABOUT) as file:
        text = file.read()
    try:
        facts = json.loads(text)
        found = facts["module"]
    except (ValueError, KeyError, TypeError) as error:
        raise DamagedError(f"{ABOUT} of the backup is not what was written") from error
    if found != module:
        raise RestoreError(
            f"the backup is one of {found}, not of {module}",
            remedy="Nothing was changed. Name the module that made it.",
        )
    assert isinstance(facts, dict)
    return facts
