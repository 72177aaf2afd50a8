"""The only code that writes restored names into a file system, and only below one directory (I10).

Everything is reached from the root's descriptor, one component after the other, each opened as a
directory and never through a symbolic link: neither a hostile tree nor somebody who plants links
meanwhile can lead a write elsewhere. A name is made new or not at all; nothing that was there is
opened for writing unless it is a file without another name.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from holdfast.core.entries import Kind
from holdfast.core.errors import HoldfastError, RestoreError
from holdfast.repo.browsing.names import check_name
from holdfast.repo.restoring.metadata import Handle

if TYPE_CHECKING:
    from collections.abc import Iterator

    from holdfast.core.entries import Entry

KEPT_OPEN = 128
"""Directories above the present one whose descriptors are kept."""
_AS_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_AS_FILE = os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_TYPES = {
    Kind.FILE: stat.S_IFREG,
    Kind.DIR: stat.S_IFDIR,
    Kind.SYMLINK: stat.S_IFLNK,
    Kind.DEV: stat.S_IFBLK,
    Kind.CHARDEV: stat.S_IFCHR,
    Kind.FIFO: stat.S_IFIFO,
    Kind.SOCKET: stat.S_IFSOCK,
}

Identity = tuple[int, int]
"""Device and inode."""


def temporary_name(name: bytes) -> bytes:
    """Where a file is made that will take the place of another. The same each time, so that a new
    run clears it.
    """
    return b".holdfast-%s.part" % hashlib.sha256(name).hexdigest()[:24].encode()


def identity(found: os.stat_result) -> Identity:
    return found.st_dev, found.st_ino


def is_kind(found: os.stat_result, kind: Kind) -> bool:
    return stat.S_IFMT(found.st_mode) == _TYPES[kind]


class Destination:
    """The directory that is restored into. Belongs to one thread.

    `owned_folders_open_up`: directories of an ordinary user that forbid their owner to write are
    made writable when entered; their mode is set last anyway.
    """

    def __init__(self, root: int | None, *, owned_folders_open_up: bool = False) -> None:
        self._root = root
        self._open_up = owned_folders_open_up and os.geteuid() != 0
        self._parts: list[bytes] = []
        self._levels: list[tuple[int, int]] = []
        """Depth and descriptor of the directories that are open, from the top."""
        self._present: bytes | None = None
        """The directory that `folder` gave last."""

    @classmethod
    def at(cls, path: bytes, *, create: bool, owned_folders_open_up: bool = False) -> Destination:
        """Opens the directory a person named, by a path that may lead through links; None of it
        where it is not there.

        Raises:
            RestoreError: it cannot be made or opened.
        """
        try:
            if create:
                Path(os.fsdecode(path)).mkdir(0o700, parents=True, exist_ok=True)
            root = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:
            return cls(None)
        except OSError as error:
            shown = path.decode("utf-8", "backslashreplace")
            raise RestoreError(f"cannot restore into {shown}: {error.strerror}") from error
        return cls(root, owned_folders_open_up=owned_folders_open_up)

    def another(self) -> Destination:
        """The same directory, for another worker."""
        root = None if self._root is None else os.dup(self._root)
        return Destination(root, owned_folders_open_up=self._open_up)

    @property
    def exists(self) -> bool:
        return self._root is not None

    def folder(self, path: bytes) -> int:
        """Descriptor of a directory below the root, valid until the next call.

        Raises:
            OSError: it is not there, or not a directory (a symbolic link is none).
            RestoreError: the path holds what no name may be.
        """
        if self._root is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        if path != self._present:
            self._present = None
            self._go_to(path, self._root)
            self._present = path
        return self._levels[-1][1] if self._levels else self._root

    def _go_to(self, path: bytes, root: int) -> None:
        parts = path.split(b"/")[1:] if path != b"/" else []
        self._close_below(_shared(self._parts, parts))
        self._parts = parts[: self._levels[-1][0] if self._levels else 0]
        for depth in range(len(self._parts), len(parts)):
            check_name(parts[depth])
            above = self._levels[-1][1] if self._levels else root
            opened = self._open(parts[depth], above)
            if self._levels and self._levels[-1][0] > KEPT_OPEN:
                os.close(self._levels.pop()[1])
            self._levels.append((depth + 1, opened))
            self._parts = parts[: depth + 1]

    def _open(self, name: bytes, above: int) -> int:
        try:
            opened = os.open(name, _AS_FOLDER, dir_fd=above)
        except PermissionError:
            if not self._open_up:
                raise
            with handle_of(above, name, Kind.DIR) as handle:
                os.chmod(handle.target, 0o700)  # noqa: PTH101  a descriptor
            return os.open(name, _AS_FOLDER, dir_fd=above)
        if self._open_up:
            found = os.fstat(opened)
            if found.st_uid == os.geteuid() and found.st_mode & 0o700 != 0o700:  # noqa: PLR2004
                os.fchmod(opened, stat.S_IMODE(found.st_mode) | 0o700)
        return opened

    def _close_below(self, depth: int) -> None:
        while self._levels and self._levels[-1][0] > depth:
            os.close(self._levels.pop()[1])

    def close(self) -> None:
        self._present = None
        self._close_below(-1)
        if self._root is not None:
            os.close(self._root)
            self._root = None


def _shared(one: list[bytes], other: list[bytes]) -> int:
    count = 0
    for mine, theirs in zip(one, other, strict=False):
        if mine != theirs:
            break
        count += 1
    return count


def look(folder: int, name: bytes) -> os.stat_result | None:
    """What a name is, not following it; None where there is nothing."""
    try:
        return os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return None


def names(folder: int) -> list[bytes]:
    return [os.fsencode(name) for name in os.listdir(folder)]


def make_folder(folder: int, name: bytes) -> None:
    """For nobody else until its own metadata is set, last of all."""
    os.mkdir(name, 0o700, dir_fd=folder)


def create(folder: int, name: bytes, mode: int) -> int:
    """A new file, open for reading and writing. Raises FileExistsError where there is anything of
    the name.
    """
    return os.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL | _AS_FILE, mode, dir_fd=folder)


def open_file(
    folder: int, name: bytes, *, write: bool = False, expected: Identity | None = None
) -> int:
    """An existing regular file; for writing only if this is its only name.

    Raises:
        OSError: it cannot be opened.
        RestoreError: it is something else than was expected.
    """
    descriptor = os.open(name, (os.O_RDWR if write else os.O_RDONLY) | _AS_FILE, dir_fd=folder)
    found = os.fstat(descriptor)
    wrong = expected is not None and identity(found) != expected
    if wrong or not stat.S_ISREG(found.st_mode) or (write and found.st_nlink != 1):
        os.close(descriptor)
        raise RestoreError("somebody changed the directory while it was restored into")
    return descriptor


def make_node(folder: int, name: bytes, entry: Entry) -> None:
    """A symbolic link, fifo, socket or device; nobody else's until its metadata is set."""
    try:
        if entry.kind is Kind.SYMLINK:
            os.symlink(entry.linktarget or b"", name, dir_fd=folder)
        else:
            os.mknod(name, _TYPES[entry.kind] | 0o600, entry.rdev, dir_fd=folder)
    except (ValueError, OverflowError) as error:
        raise RestoreError(f"its tree says what cannot be: {error}") from error


@contextmanager
def handle_of(
    folder: int, name: bytes, kind: Kind, *, expected: Identity | None = None
) -> Iterator[Handle]:
    """How to set the metadata of what has a name, without opening it: of `expected`, or of what was
    just made.

    Raises:
        RestoreError: it is something else by now, or has another name that may lie outside.
    """
    with _pinned(folder, name) as pinned:
        found = os.fstat(pinned)
        right = found.st_nlink == 1 if expected is None else identity(found) == expected
        if not is_kind(found, kind) or not (right or kind is Kind.DIR):
            raise RestoreError("somebody changed the directory while it was restored into")
        yield Handle(_through(pinned))


@contextmanager
def _pinned(folder: int, name: bytes) -> Iterator[int]:
    """A descriptor of whatever a name is, without opening it."""
    pinned = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
    try:
        yield pinned
    finally:
        os.close(pinned)


def _through(descriptor: int) -> bytes:
    return b"/proc/self/fd/%d" % descriptor


@contextmanager
def link_source(folder: int, name: bytes, expected: Identity) -> Iterator[bytes]:
    """A path from which `link` makes further names of the very file that this restore made.

    Raises:
        RestoreError: the name means another file by now.
    """
    with _pinned(folder, name) as pinned:
        if identity(os.fstat(pinned)) != expected:
            raise RestoreError("somebody changed the directory while it was restored into")
        yield _through(pinned)


def link(source: bytes, folder: int, name: bytes) -> None:
    """Raises FileExistsError where there is anything of the name."""
    os.link(source, name, dst_dir_fd=folder, follow_symlinks=True)


@contextmanager
def replacing(folder: int, name: bytes, found: os.stat_result) -> Iterator[bytes]:
    """A name under which to make what then takes the place of `found` at once; a directory must be
    empty for that.
    """
    temporary = temporary_name(name)
    remove_if_there(folder, temporary)
    try:
        yield temporary
        if is_kind(found, Kind.DIR):
            remove_folder_if_there(folder, name)
        move_into_place(folder, temporary, name)
    except (OSError, HoldfastError):
        remove_if_there(folder, temporary)
        raise


def move_into_place(folder: int, temporary: bytes, name: bytes) -> None:
    """Replaces whatever is no directory."""
    os.rename(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)


def remove(folder: int, name: bytes) -> None:
    """Removes anything but a directory."""
    os.unlink(name, dir_fd=folder)


def remove_if_there(folder: int, name: bytes) -> None:
    try:
        os.unlink(name, dir_fd=folder)
    except FileNotFoundError:
        pass


def remove_folder(folder: int, name: bytes) -> None:
    """Removes an empty directory."""
    os.rmdir(name, dir_fd=folder)


def remove_folder_if_there(folder: int, name: bytes) -> None:
    try:
        os.rmdir(name, dir_fd=folder)
    except FileNotFoundError:
        pass


def refuse_full(folder: int) -> None:
    """Raises the OSError that `remove_folder` would."""
    if os.listdir(folder):
        raise OSError(errno.ENOTEMPTY, os.strerror(errno.ENOTEMPTY))


def read_link(folder: int, name: bytes) -> bytes:
    return os.readlink(name, dir_fd=folder)
