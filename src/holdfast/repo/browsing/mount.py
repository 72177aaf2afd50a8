"""Snapshots as a read-only file system, through FUSE."""

from __future__ import annotations

import errno
import os
import stat
from bisect import bisect_right
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from typing import TYPE_CHECKING

from holdfast.core.entries import Kind
from holdfast.core.errors import DamagedError, HoldfastError, MountError
from holdfast.repo.browsing.mount_layout import Folder, lay_out
from holdfast.repo.browsing.names import named
from holdfast.repo.browsing.reading import BlobReader
from holdfast.repo.browsing.walk import subtree_of
from holdfast.repo.format.snapshot import Snapshot
from holdfast.repo.format.tree import Node

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from holdfast.core.entries import Entry
    from holdfast.core.ids import BlobId
    from holdfast.repo.repository import Repository

REFRESH = 60.0
"""Seconds after which new snapshots are looked for."""
_LOOP_LEFT = 8
"""What FUSE's main function gives where its loop ended at a signal: libfuse 3.14 and newer."""
_TREES = 1024
_BLOBS = 8
_BLOCK = 512

Found = Folder | Snapshot | Node | bytes
"""What a path leads to; bytes are the target of a link above the snapshots."""


def mount(
    repository: Repository,
    mountpoint: Path,
    *,
    wanted: Callable[[], list[Snapshot]],
    allow_other: bool = False,
    owner_root: bool = False,
    ready: Callable[[], None] | None = None,
) -> None:
    """Shows snapshots below `mountpoint` until it is unmounted or the process is interrupted.

    `wanted` gives the snapshots to show, now and again every minute. `owner_root` shows everything
    as root's. `ready` is called when it can be looked at.

    Raises:
        MountError: FUSE is not there or refuses.
        ModuleNotFoundError: the library for it is not installed.
    """
    if not mountpoint.is_dir():
        raise MountError(f"{mountpoint} is not a directory", remedy="Make it first.")
    try:
        import mfusepy
    except OSError as error:
        raise MountError(f"this machine has no FUSE library: {error}") from error
    view = View(repository, wanted, owner_root=owner_root)
    served = False

    def up() -> None:
        nonlocal served
        served = True
        if ready is not None:
            ready()

    try:
        mfusepy.FUSE(
            _Operations(view, up),
            str(mountpoint),
            foreground=True,
            nothreads=True,
            ro=True,
            fsname="holdfast",
            allow_other=allow_other,
            default_permissions=allow_other,
        )
    except RuntimeError as error:
        if served and error.args == (_LOOP_LEFT,):
            return
        raise MountError(
            f"FUSE does not mount {mountpoint}: see the message above",
            remedy="Check that /dev/fuse and fusermount3 are there and may be used.",
        ) from error
    finally:
        view.close()


@dataclass(frozen=True, slots=True)
class OpenFile:
    """A file that is being read. `ends`: where each blob ends."""

    blobs: list[BlobId]
    ends: list[int]


class View:
    """What a mounted repository shows, by path. Belongs to one thread. Errors are OSError, as FUSE
    wants them.
    """

    def __init__(
        self,
        repository: Repository,
        wanted: Callable[[], list[Snapshot]],
        *,
        owner_root: bool = False,
    ) -> None:
        self._repository = repository
        self._wanted = wanted
        self._owner_root = owner_root
        self._clock = repository.clock
        self._reader = BlobReader(repository)
        self._top = lay_out(wanted())
        self._fresh_until = self._clock.monotonic() + REFRESH
        self._names = lru_cache(_TREES)(self._load_names)
        self._blob = lru_cache(_BLOBS)(lambda blob: bytes(self._reader.read(blob)))
        self._open: dict[int, OpenFile] = {}
        self._last_handle = 0

    def close(self) -> None:
        self._reader.close()

    def _load_names(self, tree: BlobId) -> dict[bytes, Node]:
        nodes = named(self._repository.load_tree(tree))
        return {name: node for name, node, refusal in nodes if not refusal}

    def _refresh(self) -> None:
        if self._clock.monotonic() >= self._fresh_until:
            self._top = lay_out(self._wanted())
            self._repository.load_index()
            self._reader.close()
            self._reader = BlobReader(self._repository)
            self._fresh_until = self._clock.monotonic() + REFRESH

    # --- paths ------------------------------------------------------------------------------------

    def find(self, path: bytes) -> Found:
        """Raises OSError: there is nothing, or it cannot be read."""
        found: Found = self._top
        for name in path.split(b"/"):
            if name:
                try:
                    below = self._below(found).get(name)
                except HoldfastError as error:
                    raise OSError(errno.EIO, error.message) from error
                if below is None:
                    raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
                found = below
        return found

    def _below(self, found: Found) -> dict[bytes, Folder | Snapshot | bytes] | dict[bytes, Node]:
        if isinstance(found, Folder):
            return found.names
        if isinstance(found, Snapshot):
            return self._names(found.tree)
        if isinstance(found, Node) and found.type == "dir":
            return self._names(subtree_of(found))
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))

    def names(self, path: bytes) -> list[bytes]:
        if path in {b"", b"/"}:
            self._refresh()
        try:
            return list(self._below(self.find(path)))
        except HoldfastError as error:
            raise OSError(errno.EIO, error.message) from error

    # --- what stat says ---------------------------------------------------------------------------

    def stat(self, path: bytes) -> dict[str, int]:
        found = self.find(path)
        if isinstance(found, Node):
            said = self._stat_of(_entry(found))
        elif isinstance(found, bytes):
            said = _made_up(stat.S_IFLNK | 0o777, size=len(found))
        else:
            said = _made_up(stat.S_IFDIR | 0o555, time=found.time)
        if self._owner_root:
            said["st_uid"] = said["st_gid"] = 0
        return said

    def _stat_of(self, entry: Entry) -> dict[str, int]:
        size = len(entry.linktarget or b"") if entry.kind is Kind.SYMLINK else entry.size
        return {
            "st_mode": entry.mode,
            "st_uid": entry.uid,
            "st_gid": entry.gid,
            "st_size": size,
            "st_blocks": -(-size // _BLOCK),
            "st_nlink": max(entry.links, 1),
            "st_rdev": entry.rdev,
            "st_mtime": entry.mtime,
            "st_atime": entry.atime,
            "st_ctime": entry.ctime,
        }

    def link_target(self, path: bytes) -> bytes:
        found = self.find(path)
        if isinstance(found, bytes):
            return found
        if isinstance(found, Node) and found.type == "symlink":
            return _entry(found).linktarget or b""
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    def attributes(self, path: bytes) -> dict[bytes, bytes]:
        found = self.find(path)
        return dict(_entry(found).xattrs) if isinstance(found, Node) else {}

    # --- content ----------------------------------------------------------------------------------

    def open(self, path: bytes) -> int:
        found = self.find(path)
        if not isinstance(found, Node) or found.type != "file":
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        try:
            blobs = list(found.blobs())
            ends = list(accumulate(map(self._reader.length, blobs)))
        except HoldfastError as error:
            raise OSError(errno.EIO, error.message) from error
        self._last_handle += 1
        self._open[self._last_handle] = OpenFile(blobs, ends)
        return self._last_handle

    def read(self, handle: int, offset: int, size: int) -> bytes:
        file = self._open[handle]
        parts: list[bytes] = []
        number = bisect_right(file.ends, offset)
        while size > 0 and number < len(file.blobs):
            start = file.ends[number - 1] if number else 0
            try:
                part = self._blob(file.blobs[number])[offset - start : offset - start + size]
            except HoldfastError as error:
                raise OSError(errno.EIO, error.message) from error
            parts.append(part)
            offset += len(part)
            size -= len(part)
            number += 1
        return b"".join(parts)

    def release(self, handle: int) -> None:
        self._open.pop(handle, None)


def _entry(node: Node) -> Entry:
    try:
        return node.entry()
    except DamagedError as error:
        raise OSError(errno.EIO, error.message) from error


def _made_up(mode: int, *, size: int = 0, time: int = 0) -> dict[str, int]:
    return {
        "st_mode": mode,
        "st_uid": os.getuid(),
        "st_gid": os.getgid(),
        "st_size": size,
        "st_nlink": 2 if stat.S_ISDIR(mode) else 1,
        "st_mtime": time,
        "st_atime": time,
        "st_ctime": time,
    }


class _Operations:
    """Calls from FUSE, whose names these are, handed to the view."""

    use_ns = True

    def __init__(self, view: View, ready: Callable[[], None] | None) -> None:
        self._view = view
        self._ready = ready

    def init(self, _path: str) -> None:
        if self._ready:
            self._ready()

    def getattr(self, path: str, _handle: int | None = None) -> dict[str, int]:
        return self._view.stat(os.fsencode(path))

    def readdir(self, path: str, _handle: int) -> list[str]:
        return [".", "..", *map(os.fsdecode, self._view.names(os.fsencode(path)))]

    def readlink(self, path: str) -> str:
        return os.fsdecode(self._view.link_target(os.fsencode(path)))

    def open(self, path: str, _flags: int) -> int:
        return self._view.open(os.fsencode(path))

    def read(self, _path: str, size: int, offset: int, handle: int) -> bytes:
        return self._view.read(handle, offset, size)

    def release(self, _path: str, handle: int) -> int:
        self._view.release(handle)
        return 0

    def listxattr(self, path: str) -> list[str]:
        return [os.fsdecode(name) for name in self._view.attributes(os.fsencode(path))]

    def getxattr(self, path: str, name: str, _position: int = 0) -> bytes:
        value = self._view.attributes(os.fsencode(path)).get(os.fsencode(name))
        if value is None:
            raise OSError(errno.ENODATA, os.strerror(errno.ENODATA))
        return value
