"""What `--where` and `--fields` take."""

from __future__ import annotations

import pytest

from holdfast.core.errors import UsageError
from holdfast.sources.restapi.records.filters import pick, split_key, values_at
from holdfast.sources.restapi.records.where import parse_where

RECORD = {
    "inn": "7700000007",
    "code": "007",
    "count": 42,
    "big": 2**60 + 1,
    "price": 0.1,
    "active": True,
    "gone": None,
    "date": "2026-01-05T10:00:00Z",
    "owner": {"name": "Ann, and co", "tags": [{"id": 1}, {"id": 2}]},
    "a.b": "dotted",
}


WRONG = {
    "count >>> 5": "'>>>' (character 7)",
    "count === 5": "'===' (character 7)",
    "count == 5; code == 7": "';' (character 11)",
    "name == Ann and": "at its end",
    "name == Ann Lee": "'Lee' (character 13)",
    "count == 5 && code == 7": "'&&' (character 12)",
    "(count == 5": "at its end a closing parenthesis",
    "count == 5)": "')' (character 11)",
    "count == 5 or or code == 7": "'or' (character 15)",
    "not": "at its end",
    "name == O'Brien": '"\'" (character 10)',
    "count == (5)": "'(' (character 10)",
    "(" * 60 + "count == 5" + ")" * 60: "nested deeper than 50",
}


def accepts(expression, record=RECORD):
    return parse_where(expression).accepts(record)


@pytest.mark.parametrize(
    "expression",
    [
        "inn == 7700000007",
        "inn = 7700000007",
        'inn == "7700000007"',
        "code == 007",
        "code != 7",
        "count == 42",
        "count == 42.0",
        "count > 9",
        "inn > 900",
        "price == 0.1",
        "big == 1152921504606846977",
        "big != 1152921504606846976",
        "active == true",
        "active != false",
        "gone == null",
        "missing == null",
        "missing != 5",
        "date >= 2026-01-05",
        "date < 2026-01-06",
        "owner.name == 'Ann, and co'",
        "owner.tags.id == 2",
        "owner.tags.id != 3",
        "a.b == dotted",
        "count >= 42 and active == true",
        'owner.name == "Ann, and co" and count < 43',
        "count == 1 or count == 42",
        "code == 7 and count == 1 or active == true",
        "code == 007 and (count == 1 or active == true)",
        "not count == 1",
        "NOT (count == 1 or active == false) AND inn != 5",
        "not not (count==42)",
        "'code' == '007'",
    ],
)
def test_conditions_that_hold(expression):
    """Text compares with text and number with number, whatever the condition looks like."""
    assert accepts(expression)


@pytest.mark.parametrize(
    "expression",
    [
        "code == 7",
        'count == "42"',
        "count > abc",
        "active == 1",
        "active > 0",
        "gone < 5",
        "missing == 0",
        "owner.tags.id != 2",
        "inn < 900",
        "count >= 42 and active == false",
        "count == 1 or count == 2",
        "code == 7 and (count == 1 or active == true)",
        "not (count == 42 or active == false)",
    ],
)
def test_conditions_that_do_not_hold(expression):
    """Different types never compare as equal by accident."""
    assert not accepts(expression)


@pytest.mark.parametrize("expression", ["", "inn", "inn ~ 5", "== 5", "count > 5 and", *WRONG])
def test_what_is_no_condition_is_refused(expression):
    """An expression that cannot be understood ends the export instead of exporting everything."""
    with pytest.raises(UsageError, match="not a condition"):
        parse_where(expression)


@pytest.mark.parametrize("expression", WRONG)
def test_the_place_that_is_not_understood_is_named(expression):
    """The message points at the first word that does not fit."""
    with pytest.raises(UsageError) as caught:
        parse_where(expression)
    assert WRONG[expression] in caught.value.message


def test_the_splitter_of_the_project_splits():
    """With another splitter a dot is part of the name."""
    condition = parse_where("@odata.count == 3", "/")
    assert condition.accepts({"@odata.count": 3})


def test_fields_are_flat_and_complete():
    """Every record has every field asked for, in that order; paths through lists give lists."""
    names = ["count", "owner.tags.id", "owner.name", "nowhere.at", "a.b"]
    fields = {name: split_key(name) for name in names}
    assert list(pick(RECORD, fields).items()) == [
        ("count", 42),
        ("owner.tags.id", [1, 2]),
        ("owner.name", "Ann, and co"),
        ("nowhere.at", None),
        ("a.b", "dotted"),
    ]


def test_values_are_found_through_lists():
    """Lists on the way and at the end of a path are gone through."""
    record = {"files": [{"urls": ["a", "b"]}, {"urls": "c"}, {"other": 1}]}
    assert list(values_at(record, ("files", "urls"))) == ["a", "b", "c"]
