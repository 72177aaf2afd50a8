"""Gives a restored name its owner, mode, extended attributes and times, in the order that lets none
undo another.

A change of owner clears setuid bits and capabilities, a change of mode rewrites the mask of an ACL,
and an attribute of a read-only file can only be set before it is read-only: owner, `user.*`, mode,
other attributes, times.
"""

from __future__ import annotations

import errno
import os
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING

from holdfast.core.entries import Kind

if TYPE_CHECKING:
    from collections.abc import Callable

    from holdfast.core.entries import Entry

_SET_ID = stat.S_ISUID | stat.S_ISGID
_ACLS = frozenset({b"system.posix_acl_access", b"system.posix_acl_default"})


@dataclass(frozen=True, slots=True)
class Rights:
    """What this process may give away."""

    uid: int
    gid: int
    groups: frozenset[int]

    @classmethod
    def current(cls) -> Rights:
        return cls(os.geteuid(), os.getegid(), frozenset(os.getgroups()))

    @property
    def privileged(self) -> bool:
        return self.uid == 0

    def owner_for(self, entry: Entry, found: os.stat_result) -> tuple[int, int]:
        """Owner and group to give, as far as that is permitted."""
        if self.privileged:
            return entry.uid, entry.gid
        may = entry.gid == self.gid or entry.gid in self.groups
        return found.st_uid, entry.gid if may else found.st_gid

    def creation_mode(self, entry: Entry) -> int:
        """The final mode where nothing else has to be set, else one that keeps everybody out."""
        mode = stat.S_IMODE(entry.mode)
        ours = (entry.uid, entry.gid) == (self.uid, self.gid)
        return mode if ours and not entry.xattrs and not mode & ~0o777 else 0o600


@dataclass(slots=True)
class Handle:
    """One file of any kind, held by a descriptor, whatever its name leads to meanwhile.

    `target` is a descriptor that is open, or the path in /proc of one that only holds.
    """

    target: int | bytes

    def stat(self) -> os.stat_result:
        return os.stat(self.target)  # noqa: PTH116  a descriptor

    def xattrs(self) -> dict[bytes, bytes]:
        """Raises OSError; nothing where the file system has none."""
        try:
            found = os.listxattr(self.target)
        except OSError as error:
            if error.errno in {errno.ENOTSUP, errno.EPERM}:
                return {}
            raise
        return {os.fsencode(name): os.getxattr(self.target, name) for name in found}


def settle(
    handle: Handle, found: os.stat_result, entry: Entry, rights: Rights, *, fresh: bool
) -> list[str]:
    """Makes the metadata of a name that of `entry`; what could not be, in words.

    `found` is what it has now. `fresh`: it was made by this run, so that attributes it should not
    have need not be looked for.
    """
    troubles: list[str] = []
    target = handle.target
    changed = False
    uid, gid = rights.owner_for(entry, found)
    if found.st_uid != uid or found.st_gid != gid:
        changed = _attempt(troubles, "owner", os.chown, target, uid, gid)
    superfluous, missing = _attributes(handle, entry, fresh=fresh)
    for name in superfluous:
        changed |= _attempt(troubles, _shown(name), os.removexattr, target, name)
    for name, value in missing:
        if name.startswith(b"user."):
            changed |= _attempt(troubles, _shown(name), os.setxattr, target, name, value)
    if entry.kind is not Kind.SYMLINK:
        if changed:
            found = handle.stat()  # a new owner clears bits of the mode
        mode = _mode_for(entry, found)
        if stat.S_IMODE(found.st_mode) != mode:
            _attempt(troubles, "mode", os.chmod, target, mode)
    for name, value in missing:
        if not name.startswith(b"user."):
            _attempt(troubles, _shown(name), os.setxattr, target, name, value)
    if fresh or found.st_mtime_ns != entry.mtime:
        _attempt(troubles, "times", _set_times, target, entry)
    return troubles


def _attempt(troubles: list[str], what: str, change: Callable[..., None], *values: object) -> bool:
    """Whether the change could be made; if not, that is put among the troubles."""
    try:
        change(*values)
    except OSError as error:
        troubles.append(f"cannot set {what}: {error.strerror}")
    except OverflowError:
        troubles.append(f"cannot set {what}: out of range")
    else:
        return True
    return False


def _set_times(target: int | bytes, entry: Entry) -> None:
    os.utime(target, ns=(entry.atime, entry.mtime))


def differs(handle: Handle, entry: Entry, rights: Rights) -> bool:
    """Whether `settle` would change anything."""
    found = handle.stat()
    owner = rights.owner_for(entry, found)
    if (found.st_uid, found.st_gid) != owner or found.st_mtime_ns != entry.mtime:
        return True
    if entry.kind is not Kind.SYMLINK and stat.S_IMODE(found.st_mode) != _mode_for(entry, found):
        return True
    return any(_attributes(handle, entry, fresh=False))


def _mode_for(entry: Entry, found: os.stat_result) -> int:
    """A program that ran with its owner's rights must not run with another's."""
    mode = stat.S_IMODE(entry.mode)
    owned = (found.st_uid, found.st_gid) == (entry.uid, entry.gid)
    return mode if owned or entry.kind is Kind.DIR else mode & ~_SET_ID


def _attributes(
    handle: Handle, entry: Entry, *, fresh: bool
) -> tuple[list[bytes], list[tuple[bytes, bytes]]]:
    """Attributes that must go, and those that must be set. Only those that people set go, not what
    the system added.
    """
    if fresh:
        return [], entry.xattrs
    present = handle.xattrs()
    wanted = {name for name, _ in entry.xattrs}
    superfluous = [
        name
        for name in present
        if name not in wanted and (name.startswith(b"user.") or name in _ACLS)
    ]
    return superfluous, [
        (name, value) for name, value in entry.xattrs if present.get(name) != value
    ]


def _shown(name: bytes) -> str:
    return name.decode("utf-8", "backslashreplace")
