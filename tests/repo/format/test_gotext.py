from __future__ import annotations

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.repo.format.gotext import (
    format_time,
    json_string,
    parse_time,
    quote_name,
    unquote_name,
)


@given(st.binary(max_size=60))
def test_any_name_survives(name):
    """Any bytes quoted, put through JSON and unquoted are the same bytes."""
    quoted = quote_name(name)
    assert quoted.isascii() or quoted.isprintable()
    assert unquote_name(json.loads(quoted)) == name


@pytest.mark.parametrize(
    ("name", "quoted"),
    [
        (b"plain.txt", '"plain.txt"'),
        (b"new\nline", r'"new\\nline"'),
        (b"bad\xff", r'"bad\\xff"'),
        (b'quo"te', r'"quo\\\"te"'),
        (b"back\\slash", r'"back\\\\slash"'),
        (b"a<b>&c", r'"a\u003cb\u003e\u0026c"'),
        ("ümlaut".encode(), '"ümlaut"'),
        ("nb\u00a0sp".encode(), r'"nb\\u00a0sp"'),
        ("zero\u200bwidth".encode(), r'"zero\\u200bwidth"'),
        ("\U0001f600".encode(), '"\U0001f600"'),
        ("\U000e0001".encode(), r'"\\U000e0001"'),
        (b"bell\x07esc\x1b", r'"bell\\aesc\\x1b"'),
        (b"del\x7f", r'"del\\x7f"'),
        ("line\u2028sep".encode(), r'"line\\u2028sep"'),
    ],
)
def test_names_are_written_as_go_writes_them(name, quoted):
    """The text of a name is restic's to the letter, so that trees deduplicate with it."""
    assert quote_name(name) == quoted


def test_octal_escapes_are_read():
    """Go also reads octal escapes; so do we."""
    assert unquote_name(r"a\101") == b"aA"


def test_unknown_escapes_are_refused():
    """A name with an escape that Go would not write is an error, not a guess."""
    with pytest.raises(ValueError, match="escape"):
        unquote_name(r"a\q")


@given(st.integers(min_value=-62_000_000_000 * 10**9, max_value=253402300799 * 10**9))
def test_times_survive(moment):
    """Any time of the years 5 to 9999 is read back to the nanosecond."""
    assert parse_time(format_time(moment)) == moment


def test_fractions_lose_their_zeros(monkeypatch):
    """Times look as Go's RFC3339Nano writes them."""
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    try:
        format_time.__globals__["_second"].cache_clear()
        assert format_time(1_700_000_000_120_000_000) == "2023-11-14T23:13:20.12+01:00"
        assert format_time(1_700_000_000_000_000_000) == "2023-11-14T23:13:20+01:00"
    finally:
        monkeypatch.undo()
        time.tzset()
        format_time.__globals__["_second"].cache_clear()


def test_offsets_are_counted():
    """One moment written with different offsets is one time."""
    assert parse_time("2023-11-14T23:13:20.12+01:00") == parse_time("2023-11-14T22:13:20.12Z")
    assert parse_time("2023-11-14T18:43:20.12-03:30") == parse_time("2023-11-14T22:13:20.12Z")


def test_gos_zero_time_is_read():
    """Go writes year 1 for a time that was never set; year 0 is legal, too."""
    assert parse_time("0001-01-01T00:00:00Z") == -62135596800 * 10**9
    assert parse_time("0000-01-01T00:00:00Z") == -62167219200 * 10**9


@pytest.mark.parametrize("text", ["", "yesterday", "2023-11-14", "2023-11-14T23:13:20"])
def test_what_is_no_time_is_refused(text):
    """A damaged time is an error."""
    with pytest.raises(ValueError, match="not a time"):
        parse_time(text)


def test_broken_utf8_in_plain_strings_is_replaced():
    """User names are plain JSON: bytes that are not UTF-8 become U+FFFD as in Go."""
    assert json_string(b"a\xffb".decode("utf-8", "surrogateescape")) == '"a\\ufffdb"'
