"""Which snapshots to keep: restic's rules, with the reason of every decision.

The decisions are those of restic 0.14 to the letter, with two differences that only keep more:

- the newest snapshot of a group always survives (rules made of tags alone could take it);
- a count of -1 means without limit, as in newer restic.

Hours, days, weeks (ISO), months and years are those of the time zone that a snapshot's own time
is written in. `--keep-within` reaches back from the newest snapshot that is not in the future,
not from now: a machine that was off for a year loses nothing.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from holdfast.core.ids import ObjectId

UNLIMITED = -1
NEWEST = "newest snapshot of its group"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SECOND = 1_000_000_000
_PERIOD = re.compile(r"(-?\d+)([ymdh])")


@dataclass(frozen=True, slots=True)
class Period:
    """A span on the calendar, restic's "1y5m7d2h".

    A month back from the 31st of March is the 3rd of March.
    """

    years: int = 0
    months: int = 0
    days: int = 0
    hours: int = 0

    def __bool__(self) -> bool:
        return any((self.years, self.months, self.days, self.hours))

    def __str__(self) -> str:
        counts = ((self.years, "y"), (self.months, "m"), (self.days, "d"), (self.hours, "h"))
        return "".join(f"{count}{unit}" for count, unit in counts if count)

    @classmethod
    def parse(cls, text: str) -> Period:
        """Raises ValueError where the text is no period."""
        if _PERIOD.sub("", text.strip()):
            raise ValueError(f"{text!r} is not a period; write for example 1y5m7d2h")
        counts = {unit: int(number) for number, unit in _PERIOD.findall(text)}
        return cls(*(counts.get(unit, 0) for unit in "ymdh"))


@dataclass(frozen=True, slots=True)
class Dated:
    """What rules look at.

    `time`: nanoseconds since 1970; `offset`: seconds east of UTC of the zone it is written in.
    """

    id: ObjectId
    time: int
    offset: int = 0
    host: str = ""
    paths: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()

    def wall(self) -> datetime:
        """The time in its own zone, to the second."""
        zone = timezone(timedelta(seconds=self.offset))
        return (_EPOCH + timedelta(seconds=self.time // _SECOND)).astimezone(zone)


@dataclass(frozen=True, slots=True)
class Rules:
    """What to keep. Counts: one snapshot of each of the newest so many hours, days, ... that have
    any; 0 is no rule, -1 without limit.

    `tags`: a snapshot with all tags of any one list is kept; an empty list is for those without.

    Raises:
        ValueError: a count below -1.
    """

    last: int = 0
    hourly: int = 0
    daily: int = 0
    weekly: int = 0
    monthly: int = 0
    yearly: int = 0
    within: Period = Period()
    within_hourly: Period = Period()
    within_daily: Period = Period()
    within_weekly: Period = Period()
    within_monthly: Period = Period()
    within_yearly: Period = Period()
    tags: tuple[tuple[str, ...], ...] = ()

    def __post_init__(self) -> None:
        for name, _ in _SLOTS:
            if getattr(self, name) < UNLIMITED:
                raise ValueError(
                    f"--keep-{name} {getattr(self, name)}: write a number, or -1 for all"
                )

    def __bool__(self) -> bool:
        return self != Rules()


def _hour(at: datetime) -> Any:
    return at.year, at.month, at.day, at.hour


def _week(at: datetime) -> Any:
    return at.isocalendar()[:2]


_SLOTS: tuple[tuple[str, Callable[[datetime], Any]], ...] = (
    ("last", lambda _: None),
    ("hourly", _hour),
    ("daily", datetime.date),
    ("weekly", _week),
    ("monthly", lambda at: (at.year, at.month)),
    ("yearly", lambda at: at.year),
)


@dataclass(frozen=True, slots=True)
class Decision:
    """`reasons` in restic's words, none where the snapshot goes; `counters`: what is then left."""

    snapshot: Dated
    keep: bool
    reasons: tuple[str, ...] = ()
    counters: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Group:
    """Snapshots that rules count together. A part of the key that is not grouped by is None."""

    host: str | None
    paths: tuple[str, ...] | None
    tags: tuple[str, ...] | None
    decisions: tuple[Decision, ...]
    """newest first"""


def parse_group_by(text: str) -> frozenset[str]:
    """The words of `--group-by` (host, paths, tags, with commas); "" makes one single group.

    Raises:
        ValueError: another word.
    """
    words = {"host": "host", "path": "paths", "tag": "tags"}
    keys = set()
    for option in text.split(","):
        if option and option.removesuffix("s") not in words:
            raise ValueError(f"{option!r} is nothing to group by; write host, paths, tags")
        if option:
            keys.add(words[option.removesuffix("s")])
    return frozenset(keys)


def decide(
    snapshots: Iterable[Dated],
    rules: Rules,
    *,
    now: int,
    group_by: frozenset[str] = frozenset({"host", "paths"}),
) -> list[Group]:
    """Applies the rules to each group; without any rule, everything is kept.

    `now`: nanoseconds since 1970, to tell which snapshots claim to be from the future.
    """
    groups: dict[str, list[Dated]] = {}
    for snapshot in snapshots:
        key = {
            "host": snapshot.host if "host" in group_by else None,
            "paths": sorted(snapshot.paths) if "paths" in group_by else None,
            "tags": sorted(snapshot.tags) if "tags" in group_by else None,
        }
        groups.setdefault(json.dumps(key), []).append(snapshot)
    return [
        Group(
            host=key["host"],
            paths=None if key["paths"] is None else tuple(key["paths"]),
            tags=None if key["tags"] is None else tuple(key["tags"]),
            decisions=tuple(_decide_group(groups[text], rules, now)),
        )
        for text, key in ((text, json.loads(text)) for text in sorted(groups))
    ]


@dataclass(slots=True)
class _Slot:
    """A rule at work: takes the first snapshot of each hour, day, ... while it has any left."""

    name: str
    reason: str
    period_of: Callable[[datetime], Any]
    left: int
    younger_than: int | None = None
    taken: Any = None

    def take(self, snapshot: Dated, number: int) -> bool:
        if not self.left or (self.younger_than is not None and snapshot.time <= self.younger_than):
            return False
        period = number if self.name == "last" else self.period_of(snapshot.wall())
        if period == self.taken:
            return False
        self.taken = period
        if self.left > 0:
            self.left -= 1
        return True


def _decide_group(snapshots: Sequence[Dated], rules: Rules, now: int) -> list[Decision]:
    newest_first = sorted(snapshots, key=lambda s: (-s.time, s.id))
    if not rules:
        return [
            Decision(snapshot, keep=True, reasons=("policy is empty",)) for snapshot in newest_first
        ]
    past = [snapshot for snapshot in newest_first if snapshot.time < now]
    counted = [_Slot(name, f"{name} snapshot", of, getattr(rules, name)) for name, of in _SLOTS]
    spans = _spans(rules, past[0] if past else None)
    decisions = []
    for number, snapshot in enumerate(newest_first):
        reasons = [
            f"has tags [{', '.join(tags)}]" for tags in rules.tags if _has_tags(snapshot, tags)
        ]
        if rules.within and snapshot.time > _back(past[0] if past else None, rules.within):
            reasons.append(f"within {rules.within}")
        reasons += [slot.reason for slot in (*counted, *spans) if slot.take(snapshot, number)]
        if not number and not reasons:
            reasons = [NEWEST]
        counters = {slot.name: slot.left for slot in counted if slot.left} if reasons else {}
        decisions.append(Decision(snapshot, bool(reasons), tuple(reasons), counters))
    return decisions


def _spans(rules: Rules, newest: Dated | None) -> list[_Slot]:
    slots = []
    for name, period_of in _SLOTS[1:]:
        period: Period = getattr(rules, f"within_{name}")
        if period:
            limit = _back(newest, period)
            slots.append(_Slot(name, f"{name} within {period}", period_of, UNLIMITED, limit))
    return slots


def _has_tags(snapshot: Dated, tags: Sequence[str]) -> bool:
    return set(tags) <= set(snapshot.tags) if tags else not snapshot.tags


def _back(newest: Dated | None, period: Period) -> int:
    """So long before a snapshot, by its own calendar; the beginning of time where that ends."""
    if newest is None:
        return -(1 << 63)
    at = newest.wall()
    months = at.year * 12 + at.month - 1 - period.years * 12 - period.months
    try:
        first = date(months // 12, months % 12 + 1, 1)
        day = first + timedelta(days=at.day - 1 - period.days)
        moved = _at_clock(newest, datetime.combine(day, at.timetz()))
        moved -= timedelta(hours=period.hours)
    except (ValueError, OverflowError):
        return -(1 << 63)
    return (moved - _EPOCH) // timedelta(seconds=1) * _SECOND + newest.time % _SECOND


def _at_clock(origin: Dated, moved: datetime) -> datetime:
    """In this machine's own zone the clock on the wall counts, across changes of summer time."""
    local = origin.wall().astimezone()
    if local.utcoffset() != timedelta(seconds=origin.offset):
        return moved
    return moved.replace(tzinfo=None).astimezone()
