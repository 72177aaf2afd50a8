"""Files that appear under their name whole and synced, or not at all."""

from __future__ import annotations

import errno
import os
import stat
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from holdfast.core.errors import HoldfastError, RestoreError, StorageFullError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import BinaryIO

_FULL: Final = {errno.ENOSPC, errno.EDQUOT}
_NO_LINKS: Final = {errno.EPERM, errno.ENOTSUP, errno.ENOSYS}


@contextmanager
def arriving(path: str | os.PathLike[str], *, replace: bool) -> Iterator[BinaryIO]:
    """A file to write, which gets its name at the end of the block, unless that raises.

    What is no regular file (a device, a pipe) is written to directly.

    Raises:
        UsageError: there is such a file, and it may not be replaced.
        RestoreError, StorageFullError: it cannot be written.
    """
    target = Path(path)
    with explained(target):
        if _is_special(target):
            with target.open("wb") as special:
                yield special
            return
        if not replace:
            _refuse_taken(target)
        temporary = target.with_name(f".holdfast-{os.urandom(8).hex()}.tmp")
        try:
            with temporary.open("xb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            _give_name(temporary, target, replace=replace)
        finally:
            with suppress(FileNotFoundError):
                temporary.unlink()
        sync_folder(target.parent)


def write_whole(path: Path, content: bytes) -> None:
    """Replaces a small file: a reader finds the old or the new one, also after a crash."""
    with arriving(path, replace=True) as file:
        file.write(content)


def sync_folder(folder: Path) -> None:
    """The folder's names are on the disk when this returns, where its file system can do that."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in {errno.EINVAL, errno.ENOTSUP}:
            raise
    finally:
        os.close(descriptor)


@contextmanager
def explained(path: object) -> Iterator[None]:
    """Says of what the system refuses to write what it is, and what is safe."""
    try:
        yield
    except (HoldfastError, BrokenPipeError):
        raise
    except OSError as error:
        message = f"{path} cannot be written: {error.strerror or error}"
        if error.errno in _FULL:
            raise StorageFullError(
                message, remedy="No file was left half written. Free space and run again."
            ) from error
        raise RestoreError(
            message, remedy="No file was left half written. Choose another place and run again."
        ) from error


def _is_special(target: Path) -> bool:
    try:
        mode = target.stat().st_mode
    except OSError:
        return False
    return not stat.S_ISREG(mode) and not stat.S_ISDIR(mode)


def _refuse_taken(target: Path) -> None:
    if os.path.lexists(target):
        raise UsageError(
            f"there is a {target} already",
            remedy="Nothing was changed. Choose another name, or give -f to replace it.",
        )


def _give_name(temporary: Path, target: Path, *, replace: bool) -> None:
    if replace:
        temporary.replace(target)
        return
    try:
        target.hardlink_to(temporary)
    except FileExistsError:
        _refuse_taken(target)
        raise
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        _refuse_taken(target)
        temporary.rename(target)
