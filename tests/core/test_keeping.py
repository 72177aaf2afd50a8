"""Which backups a keep rule lets go."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from holdfast.core.keeping import DAY, Action, Aged, Criteria, KeepRule, to_go

NOW = 1000 * DAY


def aged(*days: float) -> list[Aged]:
    return [Aged(number, NOW - int(day * DAY)) for number, day in enumerate(days)]


def test_count_keeps_the_newest():
    assert to_go(aged(5, 1, 3, 0), KeepRule(Criteria.COUNT, 2), NOW) == [0, 2]


def test_age_counts_whole_days_and_leaves_the_least():
    rule = KeepRule(Criteria.AGE, 10)
    assert to_go(aged(10.9, 11, 30), rule, NOW) == [2, 1]
    assert to_go(aged(10.9, 11, 30), KeepRule(Criteria.AGE, 10, min_backups=2), NOW) == [2]
    assert to_go(aged(11, 30), KeepRule(Criteria.AGE, 10, min_backups=5), NOW) == []


def test_no_value_keeps_everything():
    assert to_go(aged(1, 2), KeepRule(Criteria.COUNT, None), NOW) == []
    assert to_go(aged(1, 2), KeepRule(Criteria.NONE, 1), NOW) == []


@given(
    st.lists(st.floats(0, 900), max_size=30),
    st.sampled_from([Criteria.COUNT, Criteria.AGE]),
    st.integers(0, 20),
    st.integers(0, 20),
)
def test_what_goes_is_never_newer_than_what_stays(days, criteria, value, least):
    """And a rule says the same of the same backups twice: nothing more goes the second time."""
    backups = aged(*days)
    rule = KeepRule(criteria, value, Action.DELETE, least)
    going = set(to_go(backups, rule, NOW))
    staying = [each for each in backups if each.id not in going]
    gone = [each for each in backups if each.id in going]
    assert all(g.received <= s.received for g in gone for s in staying)
    assert to_go(staying, rule, NOW) == []
    if criteria is Criteria.AGE:
        assert len(staying) >= min(least, len(backups))


def test_rules_survive_the_catalog():
    rule = KeepRule(Criteria.AGE, 7, Action.DELETE, 3)
    assert KeepRule.of(rule.plain()) == rule
    assert KeepRule.of({}) == KeepRule()
