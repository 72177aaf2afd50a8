"""Files of the data folder that are there whole or not at all, for their owner's eyes only."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from pathlib import Path


def write_whole(path: Path, content: bytes, *, replace: bool = True) -> None:
    """Durable when it returns; whatever interrupts it leaves what was there before.

    Raises:
        FileExistsError: there is such a file, and it is not to be replaced.
        OSError
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.unlink(missing_ok=True)
    try:
        with open_new(temporary) as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        put_in_place(temporary, path, replace=replace)
    finally:
        temporary.unlink(missing_ok=True)


def open_new(path: Path) -> BinaryIO:
    """Raises OSError."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    return os.fdopen(os.open(path, flags, 0o600), "wb")


def put_in_place(temporary: Path, path: Path, *, replace: bool = True) -> None:
    """Gives a synced file its name."""
    if replace:
        temporary.replace(path)
    else:
        path.hardlink_to(temporary)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
