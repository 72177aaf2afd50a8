"""Reaching paths without trusting them: of any length, and only the very thing that was seen.

A path is only a way; between two looks anybody may have turned it elsewhere. What counts is the
device and inode of what a descriptor holds. On Linux a descriptor can hold a thing without opening
it (O_PATH): no device is touched and no pipe waited for until it is known to be the right one.
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from holdfast.core.entries import Entry

PATH_LIMIT = 4095
"""Bytes the kernel takes in one path, without the closing zero."""

HOLD = getattr(os, "O_PATH", 0)
CLOEXEC = getattr(os, "O_CLOEXEC", 0)
NOFOLLOW = getattr(os, "O_NOFOLLOW", 0)
DIRECTORY = getattr(os, "O_DIRECTORY", 0)
NONBLOCK = getattr(os, "O_NONBLOCK", 0)
NOATIME = getattr(os, "O_NOATIME", 0)


def reach(path: bytes, flags: int, folder: int | None = None) -> int:
    """Opens an absolute path of any length, in pieces where the kernel would not take it whole; or
    a name in a folder.

    Raises:
        OSError: as `os.open`.
    """
    if len(path) <= PATH_LIMIT:
        return os.open(path, flags | CLOEXEC, dir_fd=folder)
    above: int | None = None
    rest = path
    try:
        while len(rest) > PATH_LIMIT:
            end = rest.rindex(b"/", 0, PATH_LIMIT)
            below = os.open(rest[:end], HOLD | DIRECTORY | CLOEXEC, dir_fd=above)
            if above is not None:
                os.close(above)
            above = below
            rest = rest[end + 1 :]
        return os.open(rest, flags | CLOEXEC, dir_fd=above)
    finally:
        if above is not None:
            os.close(above)


def verify(descriptor: int, entry: Entry) -> os.stat_result:
    """The facts of a descriptor that holds what `entry` describes.

    Raises:
        OSError: ESTALE, it holds something else.
    """
    facts = os.fstat(descriptor)
    if (
        facts.st_ino != entry.inode
        or facts.st_dev != entry.device
        or stat.S_IFMT(facts.st_mode) != stat.S_IFMT(entry.mode)
    ):
        raise _exchanged()
    return facts


def _exchanged() -> OSError:
    return OSError(errno.ESTALE, "it was exchanged for something else after it was seen")


@contextmanager
def held(path: bytes, entry: Entry, *, follow: bool = False) -> Iterator[int]:
    """A descriptor that holds what `entry` describes, without having opened it.

    Raises:
        OSError: it cannot be reached, or is something else by now.
    """
    descriptor = reach(path, HOLD | (0 if follow else NOFOLLOW))
    try:
        verify(descriptor, entry)
        yield descriptor
    finally:
        os.close(descriptor)


def name_of(descriptor: int) -> bytes:
    """A path that leads to what a descriptor holds, whatever its own path leads to by now."""
    return b"/proc/self/fd/%d" % descriptor


Opened = tuple[int, os.stat_result]
"""A descriptor that is open for reading, and what it says of its file."""


def open_seen(path: bytes, entry: Entry) -> Opened:
    """Opens a regular file for reading, and never anything else than the one `entry` describes.

    Raises:
        OSError: it is gone, cannot be read, or is something else by now (ESTALE).
    """
    if not stat.S_ISREG(entry.mode):
        raise OSError(errno.EINVAL, "it is not a regular file")
    return _open_checked(path, lambda descriptor: verify(descriptor, entry))


def open_successor(path: bytes, root: bytes) -> Opened:
    """Opens the regular file that a path below `root` leads to by now, whichever it is.

    Links are followed above the root only, as in a walk: from there on each folder is opened
    relative to the one above it.

    Raises:
        OSError: it is gone, cannot be read, or there is no regular file in its place, or a link on
            the way (ESTALE).
    """
    start = root.rpartition(b"/")[0]
    *names, last = path[len(start) + 1 :].split(b"/")
    folder = reach(start or b"/", HOLD | DIRECTORY)
    try:
        for name in names:
            below = os.open(name, HOLD | DIRECTORY | NOFOLLOW | CLOEXEC, dir_fd=folder)
            os.close(folder)
            folder = below
        return _open_checked(last, _regular, folder)
    except OSError as error:
        if error.errno in {errno.ENOTDIR, errno.ELOOP}:
            raise _exchanged() from error
        raise
    finally:
        os.close(folder)


def _regular(descriptor: int) -> os.stat_result:
    facts = os.fstat(descriptor)
    if not stat.S_ISREG(facts.st_mode):
        raise _exchanged()
    return facts


def _open_checked(
    path: bytes, check: Callable[[int], os.stat_result], folder: int | None = None
) -> Opened:
    """Opens what passes the check, which looks at it before it is opened where the system can."""
    if HOLD:
        holder = reach(path, HOLD | NOFOLLOW, folder)
        try:
            check(holder)
            descriptor = _open_quietly(name_of(holder), 0)
            return descriptor, os.fstat(descriptor)
        except FileNotFoundError:
            pass  # no /proc here: opened directly, and checked once open
        finally:
            os.close(holder)
    descriptor = _open_quietly(path, NOFOLLOW | NONBLOCK, folder)
    try:
        return descriptor, check(descriptor)
    except OSError:
        os.close(descriptor)
        raise


def _open_quietly(path: bytes, flags: int, folder: int | None = None) -> int:
    """Opens without marking the file as read, where we may: only its owner and root do."""
    try:
        return reach(path, os.O_RDONLY | NOATIME | flags, folder)
    except PermissionError:
        return reach(path, os.O_RDONLY | flags, folder)
