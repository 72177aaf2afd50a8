"""What is left out of a walk."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING

from holdfast.core.errors import UsageError
from holdfast.core.patterns import Patterns
from holdfast.sources.files.descriptors import CLOEXEC, NOFOLLOW, NONBLOCK

if TYPE_CHECKING:
    from collections.abc import Container

CACHE_TAG = "CACHEDIR.TAG:Signature: 8a477f597d28d172789f06886806bc55"
"""What `exclude_caches` means, as `exclude_if_present` says it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Filters:
    """What to leave out, as restic's options of the same names say it.

    A root is never left out itself, and neither is a folder on the way to one.
    """

    excludes: tuple[str, ...] = ()
    """Patterns in restic's language, compared with absolute paths."""
    iexcludes: tuple[str, ...] = ()
    """The same without regard to case."""
    exclude_caches: bool = False
    """Of folders that are marked as caches (CACHEDIR.TAG), keep only the mark."""
    exclude_if_present: tuple[str, ...] = ()
    """NAME or NAME:HEADER: of a folder with such a file (which begins so), keep only that file."""
    exclude_larger_than: int | None = None
    """Bytes; anything but a folder that is larger is left out."""
    one_file_system: bool = False
    """Stay on the file system of each root; mount points are kept as empty folders."""
    skip: tuple[bytes, ...] = ()
    """Folders that are left out whichever path leads to them: the repository itself, its cache."""


class Exclusion:
    """The patterns of a walk. Left out is what any of the lists matches.

    Raises:
        UsageError: a pattern is malformed.
    """

    def __init__(self, filters: Filters) -> None:
        lists = (Patterns(filters.excludes), Patterns(filters.iexcludes, ignore_case=True))
        self._lists = [patterns for patterns in lists if patterns]

    def __bool__(self) -> bool:
        return bool(self._lists)

    def leaves_out(self, path: bytes, name: bytes) -> bool:
        """Whether a path is left out whose parent is not; `name` is its last component."""
        for patterns in self._lists:  # noqa: SIM110  a generator costs more than the match
            if patterns.matches_last(path, name):
                return True
        return False

    def covers(self, path: bytes) -> bool:
        """Whether all that is below a path is left out."""
        return any(patterns.covers(path) for patterns in self._lists)


@dataclass(frozen=True, slots=True)
class Tag:
    """A file that marks the folder it lies in as not worth keeping."""

    name: bytes
    header: bytes

    def marks(self, folder: int, names: Container[bytes]) -> bool:
        """Whether the folder behind a descriptor, which holds `names`, is marked.

        A mark that cannot be read marks nothing: then too much is kept rather than too little.
        """
        if self.name not in names:
            return False
        if not self.header:
            return True
        try:
            if not stat.S_ISREG(os.lstat(self.name, dir_fd=folder).st_mode):
                return False
            flags = os.O_RDONLY | NOFOLLOW | NONBLOCK | CLOEXEC
            descriptor = os.open(self.name, flags, dir_fd=folder)
        except OSError:
            return False
        try:
            return os.read(descriptor, len(self.header)) == self.header
        except OSError:
            return False
        finally:
            os.close(descriptor)


def tags(filters: Filters) -> tuple[Tag, ...]:
    """Raises UsageError where a tag has no name."""
    specs = filters.exclude_if_present + ((CACHE_TAG,) if filters.exclude_caches else ())
    found = []
    for spec in specs:
        name, _, header = spec.partition(":")
        if not name:
            raise UsageError(f"{spec!r} names no file that marks a folder")
        found.append(Tag(os.fsencode(name), os.fsencode(header)))
    return tuple(found)


def identities(folders: tuple[bytes, ...]) -> frozenset[tuple[int, int]]:
    """Device and inode of those folders that are there."""
    found = set()
    for folder in folders:
        try:
            facts = os.stat(folder)
        except OSError:
            continue  # not made yet: a walk cannot meet it
        found.add((facts.st_dev, facts.st_ino))
    return frozenset(found)
