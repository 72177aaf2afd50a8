"""The system calls by which a directory store changes its disk.

They stand apart so that tests can record each one, fail it, or stop the machine right before it.
"""

from __future__ import annotations

import errno
import os
from typing import Final, Protocol

# Some network and FUSE file systems cannot sync a folder; there is nothing better to be had there.
_CANNOT_SYNC_FOLDERS: Final = {errno.EINVAL, errno.ENOTSUP}


class Files(Protocol):
    """Each method is one step before which power may fail. They raise `OSError` only."""

    def make_folder(self, path: str) -> None: ...

    def create(self, path: str) -> int:
        """A new empty file, open for writing; never one that was there."""
        ...

    def write(self, descriptor: int, data: memoryview) -> int:
        """How many of the bytes were taken; maybe not all."""
        ...

    def sync(self, descriptor: int) -> None:
        """What was written is on the disk when this returns."""
        ...

    def close(self, descriptor: int) -> None: ...

    def link(self, path: str, other: str) -> None:
        """A second name for a file. Atomic: FileExistsError where the name is taken."""
        ...

    def rename(self, path: str, other: str) -> None: ...

    def unlink(self, path: str) -> None: ...

    def sync_folder(self, path: str) -> None:
        """The folder's names are on the disk when this returns."""
        ...


class SystemFiles:
    """The real ones. Only the owner can read a file: a repository is nobody else's business."""

    def make_folder(self, path: str) -> None:
        os.mkdir(path, 0o700)

    def create(self, path: str) -> int:
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)

    def write(self, descriptor: int, data: memoryview) -> int:
        return os.write(descriptor, data)

    def sync(self, descriptor: int) -> None:
        os.fsync(descriptor)

    def close(self, descriptor: int) -> None:
        os.close(descriptor)

    def link(self, path: str, other: str) -> None:
        os.link(path, other)

    def rename(self, path: str, other: str) -> None:
        os.rename(path, other)

    def unlink(self, path: str) -> None:
        os.unlink(path)

    def sync_folder(self, path: str) -> None:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        except OSError as error:
            if error.errno not in _CANNOT_SYNC_FOLDERS:
                raise
        finally:
            os.close(descriptor)
