"""What the kernel says of a name, as an entry."""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING

from holdfast.core.entries import Entry, Kind

if TYPE_CHECKING:
    from collections.abc import Callable

try:
    import grp
    import pwd
except ImportError:  # not a Unix system: owners have no names there
    grp = pwd = None  # type: ignore[assignment]  # None stands for the missing modules

KINDS = {
    stat.S_IFREG: Kind.FILE,
    stat.S_IFDIR: Kind.DIR,
    stat.S_IFLNK: Kind.SYMLINK,
    stat.S_IFBLK: Kind.DEV,
    stat.S_IFCHR: Kind.CHARDEV,
    stat.S_IFIFO: Kind.FIFO,
    stat.S_IFSOCK: Kind.SOCKET,
}
KIND_BITS = 0o170000
"""The part of st_mode that says what something is."""


class Owners:
    """Names of users and groups, each looked up once. Who has none is called ""; so is everybody
    where `named` is False.
    """

    def __init__(self, *, named: bool = True) -> None:
        self.users = _Names(_user_name if named else _no_name)
        self.groups = _Names(_group_name if named else _no_name)


class _Names(dict[int, str]):
    def __init__(self, look_up: Callable[[int], str]) -> None:
        super().__init__()
        self._look_up = look_up

    def __missing__(self, number: int) -> str:
        try:
            name = self._look_up(number)
        except (KeyError, OSError):  # unknown, or a directory service that does not answer
            name = ""
        self[number] = name
        return name


def _no_name(number: int) -> str:  # noqa: ARG001  nobody has one
    return ""


def _user_name(number: int) -> str:
    return pwd.getpwuid(number).pw_name if pwd else ""


def _group_name(number: int) -> str:
    return grp.getgrgid(number).gr_name if grp else ""


def describe(
    name: bytes, facts: os.stat_result, owners: Owners, linktarget: bytes | None = None
) -> Entry:
    """An entry of what `stat` says; extended attributes are left out. Only files have a size.

    Raises:
        KeyError: it is of no known kind.
    """
    mode = facts.st_mode
    kind = KINDS[mode & KIND_BITS]
    # Positional: a million entries are made, and names cost a quarter more.
    return Entry(
        name,
        kind,
        mode,
        facts.st_size if kind is Kind.FILE else 0,
        facts.st_mtime_ns,
        facts.st_ctime_ns,
        facts.st_atime_ns,
        facts.st_uid,
        facts.st_gid,
        owners.users[facts.st_uid],
        owners.groups[facts.st_gid],
        facts.st_ino,
        facts.st_dev,
        facts.st_rdev,
        facts.st_nlink,
        linktarget,
    )


_NO_ATTRIBUTES = {errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS}


def read_xattrs(place: int | bytes, *, follow: bool = True) -> list[tuple[bytes, bytes]]:
    """The extended attributes of a descriptor or path, in the order of the file system, as restic.

    None where the file system has no such thing.

    Raises:
        OSError: they cannot be read.
    """
    try:
        names = os.listxattr(place, follow_symlinks=follow)
    except OSError as error:
        if error.errno in _NO_ATTRIBUTES:
            return []
        raise
    found = []
    for name in names:
        try:
            found.append((os.fsencode(name), os.getxattr(place, name, follow_symlinks=follow)))
        except OSError as error:
            if error.errno != errno.ENODATA:  # removed since it was listed
                raise
    return found
