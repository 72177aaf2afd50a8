"""A repository in a directory: plain files in restic's local layout, written whole and synced."""

from __future__ import annotations

import errno
import os
import re
import stat
from contextlib import ExitStack, contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Final

from holdfast.core.clock import SystemClock
from holdfast.core.errors import (
    ObjectExistsError,
    ObjectNotFoundError,
    StorageFullError,
    StoreDeniedError,
    StoreError,
)
from holdfast.store.contract import FileKind, Properties, Stat
from holdfast.store.files import SystemFiles
from holdfast.store.layout import (
    FOLDERS,
    PACK_FOLDERS,
    describe,
    is_name,
    is_pack_folder,
    relative_path,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from holdfast.core.clock import Clock
    from holdfast.store.files import Files

OPEN_PACKS: Final = 64
"""Descriptors kept for range reads."""
_TOGETHER: Final = 64
"""Files that are open at once while many are written together."""
_FEW, _SYNCING = 4, 8
"""Fewer files are synced one after the other; more of them by so many threads."""

RESERVE: Final = ".holdfast-reserve"
"""The file that keeps room aside; no name that any program looks for in a repository."""

_TEMPORARY = re.compile(r"\.holdfast-[0-9a-f]{16}\.tmp")
_FULL: Final = {errno.ENOSPC, errno.EDQUOT}
_DENIED: Final = {errno.EACCES, errno.EPERM, errno.EROFS}
_NO_LINKS: Final = {errno.EPERM, errno.ENOTSUP, errno.ENOSYS}
_UNMOUNTED: Final = "The folder is gone. If it lies on a disk of its own: is that mounted?"
_NANOSECONDS: Final = 1_000_000_000

_unfinished: set[str] = set()
"""Temporary files that this process is writing."""
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_unfinished.clear)


def drop_unfinished() -> None:
    """Removes the temporary files of puts under way, for a process that is about to end without
    waiting for them.
    """
    for path in tuple(_unfinished):
        with suppress(OSError):
            os.unlink(path)


class _OpenFile:
    """Closes with its last user: no reader ever finds its descriptor taken by another file."""

    __slots__ = ("descriptor", "size")

    def __init__(self, path: str) -> None:
        self.descriptor = -1
        self.descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self.size = os.fstat(self.descriptor).st_size

    def read(self, offset: int, length: int) -> bytes:
        """Up to `length` bytes; fewer only where the file ends."""
        first = os.pread(self.descriptor, length, offset)
        if len(first) == length:
            return first
        parts = [first]  # the kernel gives at most 2 GiB at a time
        got = len(first)
        while parts[-1] and got < length:
            parts.append(os.pread(self.descriptor, length - got, offset + got))
            got += len(parts[-1])
        return b"".join(parts)

    def __del__(self, _close: Callable[[int], None] = os.close) -> None:
        if self.descriptor >= 0:
            _close(self.descriptor)


class DirectoryStore:
    """Keeps every promise of `Store` on any file system with hard links and an honest fsync.

    Where the file system has no hard links, a put checks and then renames, and
    `properties.put_if_absent` turns False with the first such put.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        files: Files | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.address = os.path.abspath(path)
        self.properties = Properties(put_if_absent=True, local=True, connections=2)
        self._files = files or SystemFiles()
        self._clock = clock or SystemClock()
        self._open_pack = lru_cache(OPEN_PACKS)(self._open)

    def path_of(self, kind: FileKind, name: str) -> Path:
        """Where the object lies or would lie, for callers that map files into memory."""
        return Path(self._path(kind, name))

    def create(self) -> None:
        packs = f"{self.address}/{FileKind.PACK}"
        with _explained("make", self.address):
            self._make_way(self.address)
            for folder in FOLDERS:
                self._make_folder(f"{self.address}/{folder}")
            for folder in PACK_FOLDERS:
                self._make_folder(f"{packs}/{folder}")
            # Also where all were there: who made them may have died before this.
            self._files.sync_folder(packs)
            self._files.sync_folder(self.address)

    def put(self, kind: FileKind, name: str, data: bytes | memoryview) -> None:
        path = self._path(kind, name)
        folder = os.path.dirname(path)
        with _explained("write", path):
            if os.path.lexists(path):
                taken = True
            else:
                with self._unnamed(folder, data) as temporary:
                    taken = not self._give_name(temporary, path)
            # Also where the name is taken: its finder relies on it as on a put of their own.
            self._files.sync_folder(folder)
        if taken:
            raise ObjectExistsError(f"{describe(kind, name)} is there already")

    def put_all(self, kind: FileKind, objects: Sequence[tuple[str, bytes]]) -> None:
        """As `put` for each of many small objects, with the waiting of a few: all are written
        before the first is synced, they are synced at once, and their folders once. A name that is
        taken is passed over. Where it raises, any of them may be there.
        """
        folders = set()
        with _explained("write", f"{self.address}/{kind}"):
            for at in range(0, len(objects), _TOGETHER):
                with ExitStack() as written:
                    fresh = []
                    for name, data in objects[at : at + _TOGETHER]:
                        path = self._path(kind, name)
                        folder = os.path.dirname(path)
                        folders.add(folder)
                        if not os.path.lexists(path):
                            unsynced = self._unsynced(folder, data)
                            fresh.append((path, *written.enter_context(unsynced)))
                    self._sync_all([descriptor for _, _, descriptor in fresh])
                    for path, temporary, _ in fresh:
                        self._give_name(temporary, path)
            for folder in folders:
                self._files.sync_folder(folder)

    def get(self, kind: FileKind, name: str) -> bytes:
        path = self._path(kind, name)
        with _explained("read", path, absent=ObjectNotFoundError):
            opened = _OpenFile(path)
            data = opened.read(0, opened.size)
        if len(data) < opened.size:
            raise StoreError(f"{path} became shorter while it was read")
        return data

    def get_range(self, kind: FileKind, name: str, offset: int, length: int) -> bytes:
        # Packs are what is read in ranges; the rest is read once, and `config` may be replaced.
        opened = self._open_pack(kind, name) if kind is FileKind.PACK else self._open(kind, name)
        start = offset if offset >= 0 else opened.size + offset
        if start >= 0 and start + length <= opened.size:
            try:
                data = opened.read(start, length)
            except OSError as error:
                raise _explain(error, "read", self._path(kind, name)) from error
            if len(data) == length:
                return data
        raise StoreError(
            f"{self._path(kind, name)} has {opened.size} bytes: too few for {length} from {offset}"
        )

    def stat(self, kind: FileKind, name: str) -> Stat:
        path = self._path(kind, name)
        with _explained("find", path, absent=ObjectNotFoundError):
            found = os.stat(path)
        return Stat(name, found.st_size, found.st_mtime_ns)

    def list(self, kind: FileKind) -> Iterator[Stat]:
        for folder in self._folders(kind):
            for entry in self._entries(folder):
                if not is_name(kind, entry.name):
                    continue
                if kind is FileKind.PACK and not folder.endswith(entry.name[:2]):
                    continue  # no reader would look for it there
                try:
                    found = entry.stat()
                except FileNotFoundError:
                    continue  # removed since
                except OSError as error:
                    raise _explain(error, "find", entry.path) from error
                if stat.S_ISREG(found.st_mode):
                    yield Stat(entry.name, found.st_size, found.st_mtime_ns)

    def remove(self, kind: FileKind, name: str) -> None:
        path = self._path(kind, name)
        with _explained("remove", path, absent=ObjectNotFoundError):
            self._files.unlink(path)
            self._files.sync_folder(os.path.dirname(path))
        if kind is FileKind.PACK:
            self._open_pack.cache_clear()  # an open descriptor would keep the space taken

    def sweep(self, older_than: float) -> int:
        latest = self._clock.now() - int(older_than * _NANOSECONDS)
        swept = 0
        for kind in FileKind:
            for folder in self._folders(kind):
                for entry in self._entries(folder):
                    if not _TEMPORARY.fullmatch(entry.name):
                        continue
                    with suppress(FileNotFoundError), _explained("sweep", entry.path):
                        if os.lstat(entry.path).st_mtime_ns <= latest:
                            self._files.unlink(entry.path)
                            swept += 1
        return swept

    def reserve(self, size: int) -> int:
        path = f"{self.address}/{RESERVE}"
        with _explained("keep room aside in", self.address):
            try:
                kept = os.stat(path).st_size
            except FileNotFoundError:
                kept = 0
            if kept and not size:
                self._files.unlink(path)
                self._files.sync_folder(self.address)
            elif kept < size:
                # Nothing that a file system could store in fewer bytes.
                with self._unnamed(self.address, os.urandom(size)) as temporary:
                    self._files.rename(temporary, path)
                self._files.sync_folder(self.address)
        return max(kept, size) if size else 0

    def close(self) -> None:
        self._open_pack.cache_clear()

    def _path(self, kind: FileKind, name: str) -> str:
        return f"{self.address}/{relative_path(kind, name)}"

    def _open(self, kind: FileKind, name: str) -> _OpenFile:
        path = self._path(kind, name)
        with _explained("open", path, absent=ObjectNotFoundError):
            return _OpenFile(path)

    def _folders(self, kind: FileKind) -> Sequence[str]:
        if kind is FileKind.CONFIG:
            return [self.address]
        folder = f"{self.address}/{kind}"
        if kind is not FileKind.PACK:
            return [folder]
        return [entry.path for entry in self._entries(folder) if is_pack_folder(entry.name)]

    def _entries(self, folder: str) -> Sequence[os.DirEntry[str]]:
        """What lies in a folder; nothing where there is none, as in a bucket."""
        try:
            with os.scandir(folder) as entries:
                return list(entries)
        except FileNotFoundError:
            return []
        except OSError as error:
            raise _explain(error, "list", folder) from error

    def _make_way(self, path: str) -> None:
        """Makes a folder with those above it, each name durable."""
        parent = os.path.dirname(path)
        if not os.path.isdir(parent):
            self._make_way(parent)
        self._make_folder(path)
        self._files.sync_folder(parent)

    def _make_folder(self, path: str) -> None:
        if not os.path.isdir(path):
            with suppress(FileExistsError):  # by somebody else since; a file there fails later on
                self._files.make_folder(path)

    @contextmanager
    def _unnamed(self, folder: str, data: bytes | memoryview) -> Iterator[str]:
        """A temporary file that holds the data, durable; it is gone at the end."""
        with self._unsynced(folder, data) as (temporary, descriptor):
            self._files.sync(descriptor)
            yield temporary

    @contextmanager
    def _unsynced(self, folder: str, data: bytes | memoryview) -> Iterator[tuple[str, int]]:
        """The same, not durable yet, with its open descriptor."""
        temporary = f"{folder}/.holdfast-{os.urandom(8).hex()}.tmp"
        _unfinished.add(temporary)
        try:
            descriptor = self._create(temporary)
            try:
                rest = memoryview(data).cast("B")
                while rest:
                    rest = rest[self._files.write(descriptor, rest) :]
                yield temporary, descriptor
            finally:
                self._files.close(descriptor)
        finally:
            with suppress(OSError):  # it has another name; or else `sweep` takes what stays
                self._files.unlink(temporary)
            _unfinished.discard(temporary)

    def _sync_all(self, descriptors: Sequence[int]) -> None:
        """A disk does for several at once what it does for one."""
        if len(descriptors) < _FEW:
            for descriptor in descriptors:
                self._files.sync(descriptor)
            return
        from concurrent.futures import ThreadPoolExecutor

        with ThreadPoolExecutor(_SYNCING, "store-sync") as threads:
            for _ in threads.map(self._files.sync, descriptors):
                pass

    def _create(self, path: str) -> int:
        try:
            return self._files.create(path)
        except FileNotFoundError:
            # The last folder only: more would fill the mount point of a disk that is not there.
            folder = os.path.dirname(path)
            self._make_folder(folder)
            self._files.sync_folder(os.path.dirname(folder))
            return self._files.create(path)

    def _give_name(self, temporary: str, path: str) -> bool:
        """False where the name is taken."""
        try:
            self._files.link(temporary, path)
        except FileExistsError:
            return False
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            self.properties = Properties(put_if_absent=False, local=True, connections=2)
            if os.path.lexists(path):
                return False
            self._files.rename(temporary, path)
        return True


@contextmanager
def _explained(verb: str, path: str, *, absent: type[StoreError] = StoreError) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise _explain(error, verb, path, absent=absent) from error


def _explain(
    error: OSError, verb: str, path: str, *, absent: type[StoreError] = StoreError
) -> StoreError:
    sentence = f"cannot {verb} {path}: {error.strerror or error}"
    if error.errno == errno.ENOTDIR:
        return StoreError(
            f"{sentence}, for a part of this path is a file",
            remedy="Nothing was changed. Check how the path is written.",
        )
    if error.errno == errno.ENOENT and verb == "make":
        return StoreError(sentence, remedy="Nothing was changed. Folders cannot be made there.")
    if error.errno == errno.ENOENT:
        return absent(sentence, remedy=None if absent is ObjectNotFoundError else _UNMOUNTED)
    if error.errno in _FULL:
        return StorageFullError(sentence)
    if error.errno in _DENIED:
        return StoreDeniedError(sentence)
    return StoreError(sentence)
