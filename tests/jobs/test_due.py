from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.core.errors import InvalidError
from holdfast.core.records import Plan
from holdfast.jobs.due import next_due

_NS = 1_000_000_000
_ZONES = ("UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu")


def _plan(**values):
    return Plan(uid="p", name="p", kind="k", **values)


def _moment(text, zone="Europe/Berlin"):
    """With a `*` after an hour that comes twice: the second time."""
    fold = int(text.endswith("*"))
    at = datetime.fromisoformat(text.rstrip("*")).replace(tzinfo=ZoneInfo(zone), fold=fold)
    return round(at.timestamp()) * _NS


def _shown(moment, zone="Europe/Berlin"):
    at = datetime.fromtimestamp(moment // _NS, ZoneInfo(zone))
    return f"{at:%Y-%m-%d %H:%M}{'*' * at.fold}"


def _from(plan, start, count, zone="Europe/Berlin"):
    moments, moment = [], _moment(start, zone)
    for _ in range(count):
        moment = next_due(plan, moment)
        moments.append(_shown(moment, zone))
    return moments


@pytest.mark.parametrize(
    ("cron", "after", "first"),
    [
        ("30 2 * * *", "2026-05-01 02:29", "2026-05-01 02:30"),
        ("30 2 * * *", "2026-05-01 02:30", "2026-05-02 02:30"),
        ("0 0 * * 0", "2026-05-01 00:00", "2026-05-03 00:00"),
        ("@weekly", "2026-05-01 00:00", "2026-05-03 00:00"),
        ("@yearly", "2026-05-01 00:00", "2027-01-01 00:00"),
        ("@Monthly", "2026-05-01 00:00", "2026-06-01 00:00"),
        ("@daily", "2026-05-01 12:00", "2026-05-02 00:00"),
        ("@midnight", "2026-05-01 12:00", "2026-05-02 00:00"),
        ("@hourly", "2026-05-01 12:00", "2026-05-01 13:00"),
        ("0 12 29 2 *", "2026-05-01 00:00", "2028-02-29 12:00"),
        ("0 12 * jan-mar sun", "2026-12-31 00:00", "2027-01-03 12:00"),
        ("*/15 9-17 * * 1-5", "2026-05-01 17:50", "2026-05-04 09:00"),
    ],
)
def test_cron_expressions_are_read_as_cron_reads_them(cron, after, first):
    """The first moment after another, by the clock of the plan's zone."""
    plan = _plan(cron=cron, zone="Europe/Berlin")
    assert _shown(next_due(plan, _moment(after))) == first


def test_part_of_a_second_is_enough():
    """A moment that has just passed is not due again, one that comes at once is."""
    plan = _plan(cron="* * * * *")
    at = _moment("2026-05-01 12:00", "UTC")
    assert next_due(plan, at - 1) == at
    assert next_due(plan, at + 1) == at + 60 * _NS


def test_time_that_is_skipped_is_made_up_after_the_jump():
    """02:30 does not exist on that night: the plan is due an hour later, once."""
    plan = _plan(cron="30 2 * * *", zone="Europe/Berlin")
    assert _from(plan, "2026-03-28 03:00", 3) == [
        "2026-03-29 03:30",
        "2026-03-30 02:30",
        "2026-03-31 02:30",
    ]


def test_time_that_comes_twice_is_due_once():
    """Whenever one asks: also within the hour that comes again."""
    plan = _plan(cron="30 2 * * *", zone="Europe/Berlin")
    assert _from(plan, "2026-10-24 03:00", 2) == ["2026-10-25 02:30", "2026-10-26 02:30"]
    assert _from(plan, "2026-10-25 02:10*", 1) == ["2026-10-26 02:30"]


def test_every_half_hour_follows_the_hours_that_pass():
    """Neither a gap of an hour in autumn nor a burst in spring."""
    plan = _plan(cron="*/30 * * * *", zone="Europe/Berlin")
    assert _from(plan, "2026-10-25 02:00", 4) == [
        "2026-10-25 02:30",
        "2026-10-25 02:00*",
        "2026-10-25 02:30*",
        "2026-10-25 03:00",
    ]
    assert _from(plan, "2026-03-29 01:30", 2) == ["2026-03-29 03:00", "2026-03-29 03:30"]


def test_a_clock_that_is_set_by_half_an_hour():
    """Lord Howe Island: no run is lost on the day of the change."""
    plan = _plan(cron="0 */6 * * *", zone="Australia/Lord_Howe")
    assert _from(plan, "2026-04-05 00:00", 3, "Australia/Lord_Howe") == [
        "2026-04-05 06:00",
        "2026-04-05 12:00",
        "2026-04-05 18:00",
    ]


def test_interval_counts_from_the_making_and_does_not_drift():
    """However late one asks; a plan from the future waits for its first interval."""
    plan = _plan(every=90, created=1000 * _NS)
    assert next_due(plan, 1000 * _NS) == 1090 * _NS
    assert next_due(plan, 1090 * _NS) == 1180 * _NS
    assert next_due(plan, 1_000_000 * _NS) == (1000 + 90 * 11101) * _NS
    assert next_due(plan, 5) == 1090 * _NS


def test_plan_without_times_is_run_by_hand():
    """It is never due."""
    assert next_due(_plan(), 0) is None


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"cron": "61 * * * *"}, "cron"),
        ({"cron": "0 0 30 2 *"}, "cron"),
        ({"cron": "* * * *"}, "cron"),
        ({"cron": "0 * * * * *"}, "cron"),
        ({"cron": "@sometimes"}, "cron"),
        ({"cron": "@daily", "zone": "Mars/Olympus"}, "zone"),
        ({"cron": "@daily", "zone": "../../etc/passwd"}, "zone"),
        ({"cron": "@daily", "every": 60}, "every"),
        ({"every": -1}, "every"),
    ],
)
def test_what_cannot_be_is_told(values, field):
    """With the field that is wrong."""
    with pytest.raises(InvalidError) as caught:
        next_due(_plan(**values), 0)
    assert list(caught.value.fields) == [field]


def _minutes(zone):
    """Some whole minute of ten years, more often near a change of the clock."""
    near = st.sampled_from(_changes(zone)) if _changes(zone) else st.just(0)
    first = round(datetime(2020, 1, 1, tzinfo=UTC).timestamp())
    anywhere = st.integers(0, 10 * 365 * 1440).map(lambda minute: first + 60 * minute)
    return anywhere | st.tuples(near, st.integers(-300, 300)).map(lambda at: at[0] + 60 * at[1])


def _changes(zone):
    hour, changes = datetime(2020, 1, 1, tzinfo=UTC), []
    while hour.year < 2030:
        later = hour + timedelta(days=1)
        if (
            hour.astimezone(ZoneInfo(zone)).utcoffset()
            != later.astimezone(ZoneInfo(zone)).utcoffset()
        ):
            changes.append(round(hour.timestamp()) + 12 * 3600)
        hour = later
    return changes


_FIELD = st.sampled_from(["0", "30", "15,45", "10-20"])
_HOUR = st.sampled_from(["2", "1,2,3", "0-5", "23", "*/2", "*"])
_DAY = st.sampled_from(["* * *", "* * 0", "1,25-31 * *", "* 3,4,10,11 *"])


@settings(max_examples=150, deadline=None)
@given(data=st.data(), zone=st.sampled_from(_ZONES), minute=_FIELD | st.just("*/20"), hour=_HOUR)
def test_answers_agree_with_a_clock_that_ticks(data, zone, minute, hour):
    """Over ten years, each zone's changes included: the next moment is the first minute whose time
    on the wall fits; a fixed time fits the first time only, a skipped one that much later.
    """
    cron = f"{minute} {hour} {data.draw(_DAY)}"
    after = data.draw(_minutes(zone))
    given_ = next_due(_plan(cron=cron, zone=zone), after * _NS)
    ticked = _tick(cron, ZoneInfo(zone), after)
    if ticked is None:
        assert given_ > (after + _AHEAD) * _NS
    else:
        assert given_ == ticked * _NS


_AHEAD = 2 * 86400


def _tick(cron, zone, after):
    """The slow and simple way: minute by minute, for two days."""
    fixed = not cron.split()[0].startswith("*") and not cron.split()[1].startswith("*")
    for second in range(after - after % 60 + 60, after + _AHEAD, 60):
        at = datetime.fromtimestamp(second, zone)
        skipped = at - timedelta(hours=1) if _is_after_gap(second, zone, hours=1) else None
        half = at - timedelta(minutes=30) if _is_after_gap(second, zone, hours=0.5) else None
        walls = [at.replace(tzinfo=None)] if not (fixed and at.fold) else []
        if fixed:
            walls += [wall.replace(tzinfo=None) for wall in (skipped, half) if wall]
        if any(_fits(cron, wall) for wall in walls):
            return second
    return None


def _is_after_gap(second, zone, hours):
    """Whether the time on the wall so many hours ago was skipped by a jump of so many hours."""
    at = datetime.fromtimestamp(second, zone)
    wall = (at.replace(tzinfo=None) - timedelta(hours=hours)).replace(tzinfo=zone)
    jump = wall.replace(fold=1).utcoffset() - wall.utcoffset()
    return jump == timedelta(hours=hours)


def _fits(cron, wall):
    minute, hour, day, month, weekday = cron.split()
    fields = (
        (minute, wall.minute),
        (hour, wall.hour),
        (day, wall.day),
        (month, wall.month),
        (weekday, (wall.weekday() + 1) % 7),
    )
    return all(_holds(field, value) for field, value in fields)


def _holds(field, value):
    for part in field.split(","):
        if part == "*" or (part.startswith("*/") and value % int(part[2:]) == 0):
            return True
        low, _, high = part.partition("-")
        if low.isdigit() and int(low) <= value <= int(high or low):
            return True
    return False


@settings(max_examples=200, deadline=None)
@given(
    every=st.integers(1, 10**6),
    created=st.integers(0, 2 * 10**18),
    after=st.integers(0, 4 * 10**18),
)
def test_intervals_follow_one_another(every, created, after):
    """The next is after, whole intervals from the making, and nothing lies between."""
    first = next_due(_plan(every=every, created=created), after)
    assert first > max(after, created)
    assert (first - created) % (every * _NS) == 0
    assert first - every * _NS <= max(after, created)
