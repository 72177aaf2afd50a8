"""Limits are kept exactly, in every window, whoever asks and however often."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.net.pace import Limits, Pace


def starts(limits, asked):
    pace = Pace(limits)
    return [pace.book(now) for now in asked]


def most_within(times, length):
    return max(sum(begin <= time < begin + length for time in times) for begin in times)


def test_a_burst_then_the_rate():
    """The bucket holds `burst` requests; then they come evenly."""
    times = starts(Limits(per_second=10, burst=3), [0.0] * 6)
    assert [round(time, 3) for time in times] == [0, 0, 0, 0.1, 0.2, 0.3]


def test_rest_fills_the_bucket_and_not_more():
    """After a long rest the burst is the same as at the beginning."""
    times = starts(Limits(per_second=10, burst=2), [0.0, 0.0, 100.0, 100.0, 100.0])
    assert [round(time, 3) for time in times] == [0, 0, 100, 100, 100.1]


def test_spacing():
    """A pause between requests is one between their starts."""
    assert starts(Limits(spacing=0.5), [0.0, 0.0, 2.0]) == [0, 0.5, 2.0]


def test_no_limit_is_no_wait():
    """Without limits everything starts at once."""
    assert starts(Limits(), [1.0, 1.0, 1.0]) == [1.0, 1.0, 1.0]


@settings(deadline=None, max_examples=150)
@given(
    gaps=st.lists(st.floats(0, 40), min_size=1, max_size=60),
    rate=st.floats(0.5, 50),
    burst=st.integers(1, 6),
    minute=st.integers(1, 20),
    hour=st.integers(1, 40),
)
def test_no_window_ever_holds_more(gaps, rate, burst, minute, hour):
    """Any window of a second, minute or hour, anywhere, holds at most what was promised."""
    now, asked = 0.0, []
    for gap in gaps:
        now += gap
        asked.append(now)
    times = starts(Limits(per_second=rate, burst=burst, per_minute=minute, per_hour=hour), asked)
    assert times == sorted(times)
    assert all(start >= now for start, now in zip(times, asked, strict=True))
    assert most_within(times, 60) <= minute
    assert most_within(times, 3600) <= hour
    for index in range(len(times)):
        for later in range(index + 1, len(times)):
            allowed = burst + rate * (times[later] - times[index])
            assert later - index + 1 <= allowed + 1e-6


def test_requests_of_an_earlier_process_count():
    """Three of five an hour were made before: two are left, the third waits for the oldest."""
    pace = Pace(Limits(per_hour=5))
    pace.recall([3000, 2000, 1000], now=10_000.0)
    assert [round(pace.book(10_000.0)) for _ in range(3)] == [10_000, 10_000, 10_600]
