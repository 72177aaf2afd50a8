from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.core.retention import NEWEST, UNLIMITED, Dated, Period, Rules, decide, parse_group_by

NOW = 1_700_000_000 * 10**9
HOUR = 3600 * 10**9


def _at(text, name="a", **fields):
    time = datetime.fromisoformat(text).replace(tzinfo=UTC)
    return Dated(name, int(time.timestamp()) * 10**9, **fields)


def _kept(snapshots, rules, **options):
    groups = decide(snapshots, rules, now=options.pop("now", NOW), **options)
    return {d.snapshot.id for group in groups for d in group.decisions if d.keep}


periods = st.builds(
    Period,
    years=st.integers(0, 3),
    months=st.integers(0, 14),
    days=st.integers(0, 40),
    hours=st.integers(0, 50),
)
counts = st.integers(UNLIMITED, 5)
rules = st.builds(
    Rules,
    last=counts,
    hourly=counts,
    daily=counts,
    weekly=counts,
    monthly=counts,
    yearly=counts,
    within=periods,
    within_daily=periods,
    within_yearly=periods,
    tags=st.sampled_from([(), (("keep",),), (("keep", "me"), ())]),
)
histories = st.lists(
    st.builds(
        Dated,
        id=st.uuids().map(lambda u: u.hex),
        time=st.integers(0, 1_800_000_000).map(lambda s: s * 10**9),
        offset=st.sampled_from([0, 3600, -18000, 19800]),
        host=st.sampled_from(["one", "two"]),
        paths=st.sampled_from([("/a",), ("/b", "/a")]),
        tags=st.sampled_from([(), ("keep",), ("keep", "me")]),
    ),
    max_size=20,
    unique_by=lambda d: d.id,
)


@given(histories, rules, st.sampled_from(["host,paths", "", "tags", "host,paths,tags"]))
def test_the_newest_of_a_group_survives_and_every_decision_has_its_reason(history, rules, grouping):
    """F46: whatever the rules, no group loses its newest snapshot; what is kept says why, what goes
    has no reason; nothing is decided twice or not at all.
    """
    groups = decide(history, rules, now=NOW, group_by=parse_group_by(grouping))
    decided = [d.snapshot.id for group in groups for d in group.decisions]
    assert sorted(decided) == sorted(d.id for d in history)
    for group in groups:
        assert group.decisions[0].keep
        assert group.decisions[0].snapshot.time == max(d.snapshot.time for d in group.decisions)
        assert all(bool(d.reasons) == d.keep for d in group.decisions)


@given(histories, rules)
def test_what_is_kept_does_not_depend_on_the_order_of_a_listing(history, rules):
    """The same snapshots and rules give the same decisions."""
    assert _kept(history, rules) == _kept(list(reversed(history)), rules)


@given(
    histories, rules, st.sampled_from(["last", "hourly", "daily", "weekly", "monthly", "yearly"])
)
def test_a_larger_count_never_keeps_less(history, rules, name):
    """Raising one number, or making it unlimited, keeps all that was kept before."""
    from dataclasses import replace

    if getattr(rules, name) == UNLIMITED:
        return
    more = replace(rules, **{name: getattr(rules, name) + 1})
    if rules:
        assert _kept(history, rules) <= _kept(history, more)
    assert _kept(history, more) <= _kept(history, replace(rules, **{name: UNLIMITED}))


def test_weeks_are_those_of_the_iso_calendar():
    """The last days of December may belong to the first week of the next year."""
    monday = _at("2020-12-28", "monday")
    sunday = _at("2021-01-03", "sunday")
    next_monday = _at("2021-01-04", "next")
    assert _kept([monday, sunday, next_monday], Rules(weekly=2)) == {"sunday", "next"}


def test_days_are_those_of_the_zone_that_the_time_is_written_in():
    """An hour before midnight in one zone is the next day in another."""
    early = _at("2021-05-05T22:30:00", "early", offset=2 * 3600)
    late = _at("2021-05-06T00:30:00", "late", offset=2 * 3600)
    assert _kept([early, late], Rules(daily=5)) == {"late"}
    utc = [_at("2021-05-05T22:30:00", "early"), _at("2021-05-06T00:30:00", "late")]
    assert _kept(utc, Rules(daily=5)) == {"early", "late"}


def test_within_reaches_back_from_the_newest_that_is_not_in_the_future():
    """A snapshot from the future is kept, and takes none of the others with it."""
    newest = _at("2023-10-10T12:00:00", "newest")
    older = _at("2023-10-09T13:00:00", "older")
    oldest = _at("2023-10-09T11:00:00", "oldest")
    future = _at("2031-01-01", "future")
    assert _kept([newest, older, oldest, future], Rules(within=Period(days=1))) == {
        "newest",
        "older",
        "future",
    }


def test_months_are_counted_on_the_calendar():
    """A month before the 31st of March is the 3rd of March."""
    snapshots = [
        _at("2023-03-31", "now"),
        _at("2023-03-03T00:00:01", "in"),
        _at("2023-03-03T00:00:00", "out"),
    ]
    assert _kept(snapshots, Rules(within=Period(months=1))) == {"now", "in"}


def test_rules_of_tags_alone_still_keep_the_newest():
    """Where restic would remove the newest snapshot, it stays, and says why."""
    tagged = _at("2020-01-01", "tagged", tags=("keep", "other"))
    newest = _at("2021-01-01", "newest")
    between = _at("2020-06-01", "between")
    [group] = decide([tagged, newest, between], Rules(tags=(("keep",),)), now=NOW)
    assert [d.keep for d in group.decisions] == [True, False, True]
    assert group.decisions[0].reasons == (NEWEST,)
    assert group.decisions[2].reasons == ("has tags [keep]",)


def test_without_rules_everything_stays():
    """No policy is not a policy of zero."""
    snapshots = [_at("2020-01-01", "a"), _at("2021-01-01", "b")]
    assert _kept(snapshots, Rules()) == {"a", "b"}
    assert not Rules()
    assert Rules(last=1)


def test_grouping_is_by_what_was_asked_for():
    """Paths in any order are the same paths."""
    one = _at("2020-01-01", "a", paths=("/x", "/y"), host="h")
    two = _at("2021-01-01", "b", paths=("/y", "/x"), host="h")
    three = _at("2022-01-01", "c", paths=("/x",), host="i")
    assert _kept([one, two, three], Rules(last=1)) == {"b", "c"}
    assert _kept([one, two, three], Rules(last=1), group_by=parse_group_by("")) == {"c"}
    [group] = decide([one], Rules(last=1), now=NOW)
    assert (group.host, group.paths, group.tags) == ("h", ("/x", "/y"), None)


@pytest.mark.parametrize(
    ("text", "period"),
    [
        ("1y5m7d2h", Period(1, 5, 7, 2)),
        ("7d", Period(days=7)),
        (" 2h1y ", Period(years=1, hours=2)),
        ("", Period()),
    ],
)
def test_periods_are_read_as_restic_writes_them(text, period):
    """1y5m7d2h, in any order, each unit once."""
    assert Period.parse(text) == period


def test_a_period_is_shown_as_restic_shows_it():
    """Largest unit first, empty ones left out."""
    assert str(Period.parse("2h1y")) == "1y2h"


@pytest.mark.parametrize("text", ["1w", "5", "d", "1d x", "1.5d"])
def test_what_is_no_period_is_refused(text):
    """A typing mistake must not become "keep nothing"."""
    with pytest.raises(ValueError, match="period"):
        Period.parse(text)


def test_counts_below_unlimited_are_refused():
    """-2 means nothing."""
    with pytest.raises(ValueError, match="keep-daily"):
        Rules(daily=-2)
    with pytest.raises(ValueError, match="group by"):
        parse_group_by("host,colour")
