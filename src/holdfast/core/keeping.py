"""The keep rule of a target: which of its backups go, decided without any I/O.

Retention looks at the server's own receive time only, never at a time that a client claims.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

DAY = 86_400 * 1_000_000_000


class Criteria(StrEnum):
    COUNT = "count"
    """the newest `value` stay; `min_backups` says nothing here"""
    AGE = "age"
    """what is older than `value` whole days goes, while more than `min_backups` are left"""
    NONE = "none"


class Action(StrEnum):
    RECYCLE = "recycle"
    DELETE = "delete"


@dataclass(frozen=True, slots=True)
class KeepRule:
    """`value` None keeps everything, as NONE does."""

    criteria: Criteria = Criteria.NONE
    value: int | None = None
    action: Action = Action.RECYCLE
    min_backups: int = 0

    def plain(self) -> dict[str, Any]:
        """As the catalog keeps it."""
        return {
            "criteria": str(self.criteria),
            "value": self.value,
            "action": str(self.action),
            "min_backups": self.min_backups,
        }

    @classmethod
    def of(cls, plain: dict[str, Any]) -> KeepRule:
        return cls(
            Criteria(plain.get("criteria", Criteria.NONE)),
            plain.get("value"),
            Action(plain.get("action", Action.RECYCLE)),
            plain.get("min_backups") or 0,
        )


@dataclass(frozen=True, slots=True)
class Aged:
    """A kept backup, as the rule sees it. `received`: nanoseconds since 1970."""

    id: int
    received: int


def to_go(backups: Iterable[Aged], rule: KeepRule, now: int) -> Sequence[int]:
    """The ids of those that the rule does not keep, oldest first."""
    newest_first = sorted(backups, key=lambda each: (each.received, each.id), reverse=True)
    if rule.value is None or rule.criteria is Criteria.NONE:
        return []
    if rule.criteria is Criteria.COUNT:
        going = newest_first[max(rule.value, 0) :]
    else:
        old = [each for each in newest_first if (now - each.received) // DAY > rule.value]
        young = len(newest_first) - len(old)
        going = old[max(rule.min_backups - young, 0) :]
    return [each.id for each in reversed(going)]
