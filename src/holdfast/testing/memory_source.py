"""A file tree in memory, for backing up without a file system: it can change and fail exactly when
a test wants it to.
"""

from __future__ import annotations

import errno
import os
import stat
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from holdfast.core.entries import Entry, Kind
from holdfast.core.source import UP, Found, Problem

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from holdfast.core.source import Step

Tree = dict[bytes, "Tree | bytes | File"]
"""Names of one directory: a dictionary is a directory, bytes are a file's content."""

_TIME = 1_600_000_000 * 10**9


@dataclass(slots=True)
class File:
    """A file that says more than its content."""

    content: bytes = b""
    mtime: int = _TIME
    xattrs: list[tuple[bytes, bytes]] = field(default_factory=list)
    on_read: Callable[[File], None] = lambda _: None
    """Called after each piece that is read; may change the file, or raise OSError."""
    holes: tuple[tuple[int, int], ...] = ()
    """(offset, length) of what reads as zeros and takes no room; `content` holds the zeros too."""


class MemorySource:
    """A `Source` over one tree below `/`. Each of its roots is a path into that tree."""

    def __init__(self, tree: Tree, roots: Sequence[bytes] = (b"/data",)) -> None:
        self.tree = tree
        self.roots = list(roots)
        self._inodes: dict[bytes, int] = {}

    def walk(self) -> Iterator[Step]:
        missing = [root for root in self.roots if self._at(root) is None]
        for root in missing:
            yield Problem(root, "scan", os.strerror(errno.ENOENT), root=True)
        yield from self._walk(b"", self.tree, [r for r in self.roots if r not in missing])

    def _walk(self, above: bytes, names: Tree, roots: Sequence[bytes]) -> Iterator[Step]:
        for name in sorted(names):
            path = above + b"/" + name
            inside = any(path == root or path.startswith(root + b"/") for root in roots)
            if not inside and not any(root.startswith(path + b"/") for root in roots):
                continue
            node = names[name]
            yield Found(path, self._entry(path, name, node))
            if isinstance(node, dict):
                yield from self._walk(path, node, roots)
                yield UP

    def _at(self, path: bytes) -> Tree | bytes | File | None:
        node: Tree | bytes | File | None = self.tree
        for name in path.strip(b"/").split(b"/"):
            node = node.get(name) if isinstance(node, dict) else None
        return node

    def _entry(self, path: bytes, name: bytes, node: Tree | bytes | File) -> Entry:
        inode = self._inodes.setdefault(path, len(self._inodes) + 1)
        if isinstance(node, dict):
            mode = stat.S_IFDIR | 0o755
            return Entry(name, Kind.DIR, mode=mode, mtime=_TIME, ctime=_TIME, inode=inode, device=1)
        file = _as_file(node)
        return Entry(
            name,
            Kind.FILE,
            mode=stat.S_IFREG | 0o644,
            size=len(file.content),
            mtime=file.mtime,
            ctime=file.mtime,
            inode=inode,
            device=1,
            links=1,
        )

    def open(self, path: bytes, entry: Entry) -> MemoryContent:
        node = self._at(path)
        if node is None or isinstance(node, dict):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        fresh = self._entry(path, b"", node)
        return MemoryContent(replace(fresh, inode=entry.inode), _as_file(node))

    def xattrs(self, path: bytes, entry: Entry) -> list[tuple[bytes, bytes]]:  # noqa: ARG002
        return []


class MemoryContent:
    """An opened `File`."""

    def __init__(self, entry: Entry, file: File) -> None:
        self.entry = entry
        self._file = file
        self._position = 0
        self._opened = (len(file.content), file.mtime)

    def readinto(self, buffer: memoryview, /) -> int:
        piece = self._file.content[self._position : self._position + len(buffer)]
        buffer[: len(piece)] = piece
        self._position += len(piece)
        self._file.on_read(self._file)
        return len(piece)

    def skip_hole(self) -> int:
        for offset, length in self._file.holes:
            if offset <= self._position < offset + length:
                return offset + length - self._position
        return 0

    def seek(self, offset: int, /) -> None:
        self._position = offset

    def unchanged(self) -> bool:
        return (len(self._file.content), self._file.mtime) == self._opened

    def xattrs(self) -> list[tuple[bytes, bytes]]:
        return self._file.xattrs

    def close(self) -> None:
        pass


def _as_file(node: bytes | File) -> File:
    return File(node) if isinstance(node, bytes) else node
