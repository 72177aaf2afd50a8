"""How a piece of work ended. One word per ending, the same in every face."""

from __future__ import annotations

from enum import StrEnum


class Outcome(StrEnum):
    SUCCEEDED = "succeeded"
    PARTIAL = "partial"
    FAILED = "failed"
    CANCELLED = "cancelled"
    MISSING = "missing"
    """A plan was due and nothing ran."""


EXIT_CODES = {
    Outcome.SUCCEEDED: 0,
    Outcome.FAILED: 1,
    Outcome.PARTIAL: 3,
    Outcome.CANCELLED: 130,
}
