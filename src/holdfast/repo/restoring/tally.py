"""What was done to single names, counted and listed; travels between workers and the process that
began them.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from holdfast.core.errors import HoldfastError, RestoreError

if TYPE_CHECKING:
    from holdfast.repo.processes import Message

_FATAL = frozenset({errno.ENOSPC, errno.EDQUOT})


class Action(StrEnum):
    """What was done to a name; restic's words."""

    RESTORED = "restored"
    UPDATED = "updated"
    UNCHANGED = "unchanged"
    SKIPPED = "skipped"
    """Kept as it was found, whatever it holds."""
    DELETED = "deleted"


@dataclass(slots=True)
class Tally:
    """What a task came to; travels back as plain values."""

    restored: int = 0
    unchanged: int = 0
    deleted: int = 0
    bytes_restored: int = 0
    bytes_unchanged: int = 0
    foreign: int = 0
    """Entries whose owner could not be given, for lack of rights."""
    failures: list[tuple[bytes, str]] = field(default_factory=list)
    changes: list[tuple[str, bytes, int]] = field(default_factory=list)
    listing: bool = True
    """Whether anybody wants `changes`."""

    def note(self, action: Action, path: bytes, size: int = 0) -> None:
        if action in {Action.UNCHANGED, Action.SKIPPED}:
            self.unchanged += 1
            self.bytes_unchanged += size
        elif action is Action.DELETED:
            self.deleted += 1
        else:
            self.restored += 1
            self.bytes_restored += size
        if self.listing:
            self.changes.append((action.value, path, size))

    def fail(self, path: bytes, error: OSError | HoldfastError | str) -> None:
        self.failures.append((path, explain(error)))

    def add(self, message: Message) -> Tally:
        """Takes in what `as_message` gave; that alone, as it was."""
        _, *values = message
        other = Tally(*values)
        self.restored += other.restored
        self.unchanged += other.unchanged
        self.deleted += other.deleted
        self.bytes_restored += other.bytes_restored
        self.bytes_unchanged += other.bytes_unchanged
        self.foreign += other.foreign
        self.failures += other.failures
        return other

    def as_message(self) -> Message:
        return (
            "tally", self.restored, self.unchanged, self.deleted, self.bytes_restored,
            self.bytes_unchanged, self.foreign, self.failures, self.changes,
        )  # fmt: skip


def explain(error: OSError | HoldfastError | str) -> str:
    """Raises RestoreError where going on makes no sense: the disk is full."""
    if isinstance(error, OSError):
        if error.errno in _FATAL:
            raise RestoreError(
                f"the destination is full: {error.strerror}",
                remedy="Make room and run the same command again; finished files are kept.",
            ) from error
        return error.strerror or str(error)
    return error.message if isinstance(error, HoldfastError) else error
