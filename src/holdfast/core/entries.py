"""What a source holds: one entry for each name in a file tree."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum


class Kind(StrEnum):
    """The words of restic's `type` field."""

    FILE = "file"
    DIR = "dir"
    SYMLINK = "symlink"
    DEV = "dev"
    CHARDEV = "chardev"
    FIFO = "fifo"
    SOCKET = "socket"


@dataclass(slots=True)
class Entry:
    """One name with its metadata. Not frozen: frozen dataclasses cost three times as much to make,
    and millions are made.

    `mode` is st_mode as the kernel gives it; times are nanoseconds since 1970; `device` is st_dev;
    `rdev` the number of a device node; `links` st_nlink. `xattrs` keeps ACLs and capabilities too
    (`system.posix_acl_access`, ...).
    """

    name: bytes
    kind: Kind
    mode: int = 0
    size: int = 0
    mtime: int = 0
    ctime: int = 0
    atime: int = 0
    uid: int = 0
    gid: int = 0
    user: str = ""
    group: str = ""
    inode: int = 0
    device: int = 0
    rdev: int = 0
    links: int = 0
    linktarget: bytes | None = None
    xattrs: list[tuple[bytes, bytes]] = field(default_factory=list)
