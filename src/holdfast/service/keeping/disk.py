"""Changing files below the root of a plain pool, by descriptor and never through a symbolic link.

Every step before which power may fail is a method of `Disk`, so that tests can fail each of them or
stop the process right before it.
"""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
import stat
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final

from holdfast.core.errors import (
    ObjectExistsError,
    ObjectNotFoundError,
    StorageFullError,
    StoreDeniedError,
    StoreError,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE: Final = os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_NO_LINKS: Final = {errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK}
_FULL: Final = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_DENIED: Final = {errno.EACCES, errno.EPERM, errno.EROFS}
_LED_AWAY: Final = {errno.ELOOP, errno.ENOTDIR}


class Disk:
    """The system calls by which a pool changes. They raise `OSError` only."""

    def make_folder(self, folder: int, name: str | bytes) -> None:
        os.mkdir(name, 0o700, dir_fd=folder)

    def create(self, folder: int, name: str | bytes) -> int:
        """A new empty file for reading and writing; never one that was there."""
        return os.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL | _FILE, 0o600, dir_fd=folder)

    def symlink(self, folder: int, name: bytes, target: bytes) -> None:
        os.symlink(target, name, dir_fd=folder)

    def write(self, descriptor: int, data: memoryview) -> int:
        """How many of the bytes were taken; maybe not all."""
        return os.write(descriptor, data)

    def sync(self, descriptor: int) -> None:
        """A file's content, or a folder's names, are on the disk when this returns."""
        try:
            os.fsync(descriptor)
        except OSError as error:
            # Some file systems cannot sync a folder; there is nothing better to be had there.
            folder = stat.S_ISDIR(os.fstat(descriptor).st_mode)
            if not folder or error.errno not in {errno.EINVAL, errno.ENOTSUP}:
                raise

    def link(self, folder: int, name: str | bytes, into: int, other: str | bytes) -> None:
        """A second name for a file. Atomic: FileExistsError where it is taken."""
        os.link(name, other, src_dir_fd=folder, dst_dir_fd=into, follow_symlinks=False)

    def rename(self, folder: int, name: str | bytes, into: int, other: str | bytes) -> None:
        os.rename(name, other, src_dir_fd=folder, dst_dir_fd=into)

    def unlink(self, folder: int, name: str | bytes) -> None:
        os.unlink(name, dir_fd=folder)

    def remove_folder(self, folder: int, name: str | bytes) -> None:
        os.rmdir(name, dir_fd=folder)

    def cut(self, descriptor: int, size: int) -> None:
        os.ftruncate(descriptor, size)


def write_all(disk: Disk, descriptor: int, data: bytes | bytearray | memoryview) -> None:
    view = memoryview(data)
    while view:
        view = view[disk.write(descriptor, view) :]


class Root:
    """The directory of a plain pool. Opened anew for every step: a disk that is taken out and comes
    back is the same pool again, and nothing here keeps it from being taken out.
    """

    def __init__(self, path: Path, disk: Disk, *, above: Path | None = None) -> None:
        """`above`: a folder that the root lies below without any link on the way. The path to it
        may lead through links: an administrator named it.
        """
        self.path = path
        self.disk = disk
        self._start = above or path
        self._way = path.relative_to(self._start).parts

    def make(self) -> None:
        """Makes the root where there is none, with the folders above it, each name durable."""
        _make_way(self._start)
        with self.folder((), make_root=True):
            pass

    @contextmanager
    def folder(
        self, parts: Sequence[str | bytes], *, create: bool = False, make_root: bool = False
    ) -> Iterator[int]:
        """The descriptor of a folder below the root. `create`: made where it is not there.

        Raises:
            OSError: it is not there, or something on the way is no directory (a link is none).
        """
        here = os.open(self._start, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        steps = [*((name, make_root) for name in self._way), *((name, create) for name in parts)]
        try:
            for name, made in steps:
                below = self._step(here, name, create=made)
                os.close(here)
                here = below
            yield here
        finally:
            os.close(here)

    def _step(self, here: int, name: str | bytes, *, create: bool) -> int:
        try:
            return os.open(name, _FOLDER, dir_fd=here)
        except FileNotFoundError:
            if not create:
                raise
        with suppress(FileExistsError):  # by somebody else since
            self.disk.make_folder(here, name)
        self.disk.sync(here)
        return os.open(name, _FOLDER, dir_fd=here)

    def look(self, parts: Sequence[str | bytes]) -> os.stat_result | None:
        """What lies there, not following it; None where nothing does."""
        try:
            with self.folder(parts[:-1]) as folder:
                return os.stat(parts[-1], dir_fd=folder, follow_symlinks=False)
        except (FileNotFoundError, NotADirectoryError):
            return None

    def open_file(self, parts: Sequence[str | bytes]) -> int:
        """A regular file, for reading.

        Raises:
            OSError: it is not there.
            StoreError: it is something else.
        """
        with self.folder(parts[:-1]) as folder:
            descriptor = os.open(parts[-1], os.O_RDONLY | _FILE, dir_fd=folder)
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise StoreError(f"{shown(parts)} is no file any more")
        return descriptor

    def move(self, source: Sequence[str], target: Sequence[str]) -> None:
        """A file or folder to where nothing is, durable; folders on the way are made.

        Raises:
            FileExistsError: something is there; nothing was moved.
        """
        with self.folder(source[:-1]) as here, self.folder(target[:-1], create=True) as there:
            if is_folder(here, source[-1]):
                # Replaces an empty folder at most; anything else makes it fail.
                try:
                    self.disk.rename(here, source[-1], there, target[-1])
                except OSError as error:
                    if error.errno in {errno.ENOTEMPTY, errno.ENOTDIR}:
                        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST)) from error
                    raise
            else:
                self._move_file(here, source[-1], there, target[-1])
            self.disk.sync(there)
            self.disk.sync(here)

    def _move_file(self, here: int, name: str, there: int, other: str) -> None:
        try:
            self.disk.link(here, name, there, other)
        except OSError as error:
            if error.errno not in _NO_LINKS:
                if not _same(here, name, there, other):
                    raise
                # A crash came between the two steps below.
            elif look(there, other) is not None:
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST)) from error
            else:
                self.disk.rename(here, name, there, other)
                return
        self.disk.sync(there)  # the new name stands before the old one goes
        self.disk.unlink(here, name)

    def remove(self, parts: Sequence[str]) -> None:
        """A file or a folder with all that is in it, however deep; nothing there is well. Durable.

        What was in a folder lies beside it for a moment, as `NAME.` and letters: call it for what
        lies where left-overs are removed at a start.
        """
        try:
            with self.folder(parts[:-1]) as folder:
                self._remove(folder, parts[-1])
                self.disk.sync(folder)
        except FileNotFoundError:
            pass

    def _remove(self, folder: int, name: str) -> None:
        """Without calls or descriptors within each other: nobody knows how deep it is."""
        if not is_folder(folder, name):
            with suppress(FileNotFoundError):
                self.disk.unlink(folder, name)
            return
        left = [name]
        while left:
            each = left.pop()
            with suppress(FileNotFoundError):  # at a start, another process may remove it, too
                left += self._empty(folder, each, beside=name)
                self.disk.remove_folder(folder, each)

    def _empty(self, folder: int, name: str, *, beside: str) -> list[str]:
        """What the folders in it are called now."""
        moved = []
        inside = os.open(name, _FOLDER, dir_fd=folder)
        try:
            for entry in os.listdir(inside):  # noqa: PTH208  a descriptor
                if is_folder(inside, entry):
                    moved.append(f"{beside}.{secrets.token_hex(8)}")
                    self.disk.rename(inside, entry, folder, moved[-1])
                else:
                    with suppress(FileNotFoundError):
                        self.disk.unlink(inside, entry)
        finally:
            os.close(inside)
        return moved

    def remove_empty(self, parts: Sequence[str]) -> None:
        """A folder and those above it as long as they are empty."""
        for end in range(len(parts), 0, -1):
            try:
                with self.folder(parts[: end - 1]) as folder:
                    self.disk.remove_folder(folder, parts[end - 1])
            except OSError:
                return


def _make_way(path: Path) -> None:
    if path.is_dir():
        return
    _make_way(path.parent)
    with suppress(FileExistsError):
        path.mkdir(0o700)
    above = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(above)
    finally:
        os.close(above)


def look(folder: int, name: str | bytes) -> os.stat_result | None:
    try:
        return os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return None


def _same(here: int, name: str | bytes, there: int, other: str | bytes) -> bool:
    one, two = look(here, name), look(there, other)
    return one is not None and two is not None and os.path.samestat(one, two)


def is_folder(folder: int, name: str | bytes) -> bool:
    found = look(folder, name)
    return found is not None and stat.S_ISDIR(found.st_mode)


def claim(descriptor: int) -> bool:
    """Marks what is open as in use until it is closed or this process ends; False where another
    has.
    """
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def shown(parts: Sequence[str | bytes]) -> str:
    return "/".join(os.fsdecode(part) for part in parts)


@contextmanager
def told(doing: str) -> Iterator[None]:
    """The system's errors in our words: `doing` follows "cannot".

    Raises:
        ObjectNotFoundError, ObjectExistsError, StorageFullError, StoreDeniedError, StoreError
    """
    try:
        yield
    except OSError as error:
        raise explained(error, doing) from error


def explained(error: OSError, doing: str) -> StoreError:
    sentence = f"cannot {doing}: {error.strerror or error}"
    if isinstance(error, FileNotFoundError):
        return ObjectNotFoundError(sentence, remedy="If it lies on a disk of its own: is that in?")
    if isinstance(error, FileExistsError):
        return ObjectExistsError(sentence)
    if error.errno in _FULL:
        return StorageFullError(
            sentence, remedy="Earlier backups are untouched. Free space there, and try again."
        )
    if error.errno in _DENIED:
        return StoreDeniedError(sentence)
    if error.errno in _LED_AWAY:
        return StoreError(f"{sentence}; a link or file stands where a folder is needed")
    return StoreError(sentence)
