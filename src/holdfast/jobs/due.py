"""When a plan is due next: one pure function."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from holdfast.core.records import Plan


def next_due(plan: Plan, after: int) -> int | None:
    """The first moment (nanoseconds) after `after` at which the plan is due; None where it never
    is again.

    Raises:
        InvalidError: its cron expression, interval or zone cannot be.
    """
    raise NotImplementedError
