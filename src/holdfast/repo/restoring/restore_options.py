"""What a restore is asked for."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import os

    from holdfast.core.entries import Entry
    from holdfast.core.patterns import Patterns


class Overwrite(StrEnum):
    """restic's words for what becomes of names that are there already."""

    ALWAYS = "always"
    """Content is compared blob by blob; what differs is written."""
    IF_CHANGED = "if-changed"
    """As `always`, but a file of the same size and time is taken for the same."""
    IF_NEWER = "if-newer"
    NEVER = "never"


@dataclass(frozen=True, slots=True)
class Selection:
    """Which paths of a snapshot are wanted: all, or what `includes` match, without what `excludes`
    match.
    """

    includes: tuple[Patterns, ...] = ()
    excludes: tuple[Patterns, ...] = ()

    def __bool__(self) -> bool:
        return any(self.includes) or any(self.excludes)

    def selects(self, path: bytes) -> bool:
        if any(patterns.matches(path) for patterns in self.excludes):
            return False
        return not any(self.includes) or any(each.matches(path) for each in self.includes)

    def may_select_below(self, path: bytes) -> bool:
        """Of a directory that is not selected itself."""
        if any(patterns.matches(path) for patterns in self.excludes):
            return False
        return any(patterns.may_match_below(path) for patterns in self.includes)


@dataclass(frozen=True, slots=True)
class RestoreOptions:
    """`dry_run` changes nothing and reports the same."""

    selection: Selection = field(default_factory=Selection)
    overwrite: Overwrite = Overwrite.ALWAYS
    delete: bool = False
    """Removes what the snapshot does not have, in the directories it has."""
    sparse: bool = False
    """Makes holes of all zeros; without it of blobs that are nothing else."""
    dry_run: bool = False
    verify: bool = False
    """Reads everything that was restored again and compares it with the snapshot."""
    workers: int | None = None
    """None for as many as pay, 0 for the calling thread alone."""


def keeps(found: os.stat_result, entry: Entry, overwrite: Overwrite) -> bool:
    """Whether what is there stays untouched."""
    if overwrite is Overwrite.NEVER:
        return True
    return overwrite is Overwrite.IF_NEWER and entry.mtime <= found.st_mtime_ns
