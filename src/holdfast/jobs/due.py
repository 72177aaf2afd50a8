"""When a plan is due next: one pure function.

A cron expression is read by the wall clock of the plan's zone. Where the clock jumps forward over a
time of day that it names, the plan is due that much after the jump (at 03:30 for 02:30); where an
hour comes twice, it is due the first time. An expression whose minute or hour begins with `*`
follows the hours that pass instead.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from holdfast.core.errors import InvalidError

if TYPE_CHECKING:
    from holdfast.core.records import Plan

_NS = 1_000_000_000
_MACROS = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
_FIELDS = 5
_SHIFT = timedelta(hours=3)
"""More than clocks are ever set forward or back for the summer."""


def next_due(plan: Plan, after: int) -> int | None:
    """The first moment (nanoseconds) after `after` at which the plan is due; None where it never
    is again, or only by hand: it has neither a cron expression nor an interval.

    Raises:
        InvalidError: its cron expression, interval or zone cannot be.
    """
    if plan.every < 0 or (plan.every and plan.cron):
        raise _invalid("every", "bad-interval", "give a cron expression or a number of seconds")
    if plan.every:
        every = plan.every * _NS
        return plan.created + (max(0, after - plan.created) // every + 1) * every
    if plan.cron:
        return _by_cron(plan.cron, _zone(plan.zone), after)
    return None


def _by_cron(expression: str, zone: ZoneInfo, after: int) -> int | None:
    fields = _MACROS.get(expression.strip().lower(), expression).split()
    if len(fields) != _FIELDS:
        raise _invalid("cron", "bad-cron", f"{expression!r} has not five fields")
    fixed = not any(field.startswith("*") for field in fields[:2])
    start = datetime.fromtimestamp(after // _NS, zone)
    # The simulator sees a clock on the wall that is never set: its own way with zones leads back in
    # time within an hour that comes twice.
    wall = start.replace(tzinfo=None)
    try:
        times = CronSim(" ".join(fields), wall - _SHIFT if _is_set_near(wall, zone) else wall)
    except CronSimError as error:
        raise _invalid("cron", "bad-cron", f"{expression!r} cannot be: {error}") from error
    found: list[int] = []
    until: datetime | None = None
    for wall in times:
        if until is not None and wall > until:
            break
        moments = [round(moment.timestamp()) * _NS for moment in _moments(wall, zone, fixed=fixed)]
        found += [moment for moment in moments if moment > after]
        if found and until is None:
            # Where the clock is set, a later time on the wall may come earlier.
            until = wall + _SHIFT if _is_set_near(wall, zone) else wall
    return min(found, default=None)


def _is_set_near(wall: datetime, zone: ZoneInfo) -> bool:
    earlier, later = ((wall + shift).replace(tzinfo=zone) for shift in (-_SHIFT, _SHIFT))
    return earlier.utcoffset() != later.utcoffset()


def _moments(wall: datetime, zone: ZoneInfo, *, fixed: bool) -> list[datetime]:
    """When the clock on the wall shows that time."""
    first = wall.replace(tzinfo=zone, fold=0)
    second = first.replace(fold=1)
    offset, other = first.utcoffset(), second.utcoffset()
    if offset == other or fixed:
        return [first]  # of a time that is skipped: that much after the jump
    assert offset is not None
    assert other is not None
    return [first, second] if offset > other else []


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError) as error:
        raise _invalid("zone", "bad-zone", f"there is no time zone {name!r}") from error


def _invalid(field: str, code: str, text: str) -> InvalidError:
    return InvalidError(f"the plan's times cannot be: {text}", fields={field: (code, text)})
