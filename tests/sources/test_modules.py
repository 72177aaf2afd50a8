"""The registry of modules, and what all of them can be told."""

import re
from dataclasses import dataclass

import pytest

from holdfast.core.errors import InvalidError, RestoreError
from holdfast.core.source import Found
from holdfast.sources.modules import MODULES, TITLES, available, module
from holdfast.sources.parameters import CommonSettings, described, parameters_of, read_settings
from holdfast.sources.streams import read_about


@pytest.mark.parametrize("name", MODULES)
def test_every_module_keeps_the_contract(name, ask):
    """Its name, its title, and its refusal of what it does not know."""
    found = module(name)
    assert found.name == name
    assert type(module(TITLES[name])) is type(found)
    assert all(each.meaning for each in (*found.parameters, *(found.putting_back or ())))
    with pytest.raises(InvalidError) as caught:
        found.check(ask("/x", surely_not=1))
    assert "surely_not" in caught.value.fields


def test_the_closest_module_is_named():
    """By name or title."""
    with pytest.raises(InvalidError, match="did you mean postgres"):
        module("postgre")
    with pytest.raises(InvalidError, match="did you mean LVM logical volume"):
        module("LVM logical volumes")
    assert set(available()) <= set(MODULES)
    assert {"files", "sqlite", "command", "api"} <= set(available())


@pytest.mark.parametrize("name", ["files", "command", "api"])
def test_what_is_kept_as_files_is_given_back_as_files(name, ask):
    """There is nothing to put it into."""
    assert module(name).putting_back is None
    with pytest.raises(InvalidError, match="files"):
        module(name).put_back(ask(), None)


def test_a_backup_of_one_module_is_not_put_back_by_another(ask, keep, tmp_path):
    """It says whose it is."""
    (tmp_path / "disk").write_bytes(b"x" * 1000)
    kept, _ = keep(module("block"), ask(tmp_path / "disk"))
    with pytest.raises(RestoreError, match="one of block, not of sqlite"):
        module("sqlite").put_back(ask(tmp_path / "app.db"), kept)
    with pytest.raises(RestoreError, match="one of block"):
        read_about(kept, "lvm")


def test_files_are_told_what_rubackup_clients_tell(ask, tmp_path):
    """The words of its documentation are taken; what cannot be done is refused by name."""
    documented = {
        "file_list": True, "numeric_owner": False, "use_snapshot": False,
        "ignore_errors_snapshot": True, "snapshot_type": "", "snapshot_size": 10,
        "script_before_snapshot": "", "script_after_snapshot": "", "script_error_snapshot": "",
    }  # fmt: skip
    module("files").check(ask(tmp_path, **documented))
    with pytest.raises(InvalidError) as caught:
        module("files").check(ask(tmp_path, **{**documented, "use_snapshot": True,
                                               "script_before_snapshot": "id"}))  # fmt: skip
    assert set(caught.value.fields) == {"use_snapshot", "script_before_snapshot"}
    read_settings(CommonSettings, {
        "worker_parallelism": 8, "enable_multithreading": False, "enable_flexible_dedup": False,
        "network_parallelism": 8, "memory_threshold": 0, "deny_memory_exceed": False,
    })  # fmt: skip


@pytest.mark.parametrize("numeric", [False, True])
def test_owners_are_kept_by_number_only_where_that_is_asked_for(numeric, ask, tmp_path):
    """As numeric_owner says."""
    (tmp_path / "file").touch()
    with module("files").open(ask(tmp_path / "file", numeric_owner=numeric)) as source:
        entries = [step.entry for step in source.walk() if isinstance(step, Found)]
    assert bool(entries[-1].user) is not numeric


@dataclass(frozen=True, slots=True, kw_only=True)
class _Settings:
    flag: bool = described(default=False, meaning="A flag.")
    number: int = described(3, "A number.", least=1)
    word: str = described("", "A word.", choices=("", "one", "two"))
    words: tuple[str, ...] = described((), "Some words.")


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, _Settings()),
        ({"flag": "yes", "number": "7"}, _Settings(flag=True, number=7)),
        ({"flag": True, "word": "two"}, _Settings(flag=True, word="two")),
        ({"words": ["a", "b"]}, _Settings(words=("a", "b"))),
        ({"words": "a"}, _Settings(words=("a",))),
    ],
)
def test_settings_come_as_json_or_as_text(given, expected):
    """From a face or a command line."""
    assert read_settings(_Settings, given) == expected


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"flag": "perhaps"}, "flag: Must be true or false"),
        ({"flag": 1}, "flag: Must be true or false"),
        ({"number": "many"}, "number: Must be a whole number"),
        ({"number": True}, "number: Must be a whole number"),
        ({"number": 0}, "number: Must be 1 or more"),
        ({"word": "three"}, "word: Must be"),
        ({"word": None}, "word: Must be text"),
        ({"words": [1]}, "words: Must be a list"),
        ({"words": ["a\0b"]}, "words: Must not have a NUL"),
        ({"nmber": 1}, "nmber: There is no such parameter; did you mean number"),
        ({"nmber": 1, "flag": 2}, "nmber: .*; flag: "),
    ],
)
def test_what_cannot_be_is_refused_with_all_its_mistakes(given, message):
    """By name."""
    with pytest.raises(InvalidError, match=message) as caught:
        read_settings(_Settings, given)
    assert set(caught.value.fields) == set(given)


def test_the_table_says_what_the_settings_are():
    """In their order."""
    table = parameters_of(_Settings)
    assert [each.name for each in table] == ["flag", "number", "word", "words"]
    assert [each.kind for each in table] == ["bool", "int", "string", "list"]
    assert table[1].default == 3
    for name in MODULES:
        for each in module(name).parameters:
            assert re.fullmatch(r"[a-z][a-z_]*", each.name)
            assert each.runs == ("command" in each.name)
