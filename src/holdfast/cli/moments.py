"""Moments as people write them."""

import time
from datetime import UTC, datetime

from holdfast.core.errors import UsageError

_LOCAL = (
    "%Y-%m-%d %H:%M:%S",
    "%Y-%m-%d %H:%M",
    "%Y-%m-%d",
    "%d.%m.%Y %H:%M:%S",
    "%d.%m.%Y %H:%M",
    "%d.%m.%Y",
)


def parse_moment(text: str) -> int:
    """Nanoseconds since 1970 of "2026-11-01 22:08:41" (local time, or less of it) or of RFC 3339.

    Raises:
        UsageError: neither.
    """
    from holdfast.repo.format.gotext import parse_time

    for form in _LOCAL:
        try:
            return int(time.mktime(time.strptime(text, form))) * 1_000_000_000
        except (ValueError, OverflowError):
            continue
    try:
        return parse_time(text)
    except ValueError as error:
        raise UsageError(
            f"{text!r} is not a time", remedy="Write it like '2026-11-01 22:08:41', local time."
        ) from error


def shown(moment: int) -> str:
    """Nanoseconds since 1970 in RFC 3339, to the second, in UTC."""
    return datetime.fromtimestamp(moment // 1_000_000_000, UTC).isoformat(timespec="seconds")
