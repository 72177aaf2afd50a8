"""Addresses and names made of foreign values."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.sources.restapi.records.naming import (
    detail_name,
    filled,
    joined,
    key_name,
    path_name,
    safe_name,
)

START = "http://api.test/v1/items"


@pytest.mark.parametrize(
    ("value", "address"),
    [
        ("17", "http://api.test/bill/17"),
        ("a b", "http://api.test/bill/a%20b"),
        ("100%?x#y", "http://api.test/bill/100%25%3Fx%23y"),
        ("2020/17", "http://api.test/bill/2020/17"),
        ("ключ", "http://api.test/bill/%D0%BA%D0%BB%D1%8E%D1%87"),
        ("view?id=5", "http://api.test/bill/view?id=5"),
        ("https://other.test/x", "https://other.test/x"),
        ("../x", "http://api.test/bill/..%2Fx"),
    ],
)
def test_keys_are_escaped_and_links_are_not(value, address):
    """A key cannot change the address it is appended to; a link stays a link."""
    assert joined("http://api.test/bill/", value, START) == address


def test_patterns_are_filled():
    """{} takes the escaped value; a relative pattern belongs to the API's own host."""
    assert filled("/file?id={}&v=1", "a&b", START) == "http://api.test/file?id=a%26b&v=1"
    assert filled("http://f.test/{0}.pdf", "7", START) == "http://f.test/7.pdf"


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("http://f.test/docs/a.pdf", "docs/a.pdf"),
        ("http://f.test/get?id=3", "get~id=3"),
        ("http://f.test/get.php?id=3", "get~id=3.php"),
        ("http://f.test/", "index"),
        ("http://f.test/dir/", "dir/index"),
    ],
)
def test_files_are_named_after_their_address(url, name):
    """The path is the name; a query sets files apart."""
    assert path_name(url) == name


def test_long_queries_are_kept_apart_too():
    """Queries that make no good name are told apart by a digest."""
    names = {path_name(f"http://f.test/get?id={number}&q={'x' * 200}") for number in range(9)}
    assert len(names) == 9


@given(st.text(max_size=300), st.booleans())
def test_no_name_leaves_the_archive(name, portable):
    """I10: whatever a record says, the name is relative, has no way up and no odd separators."""
    safe = safe_name(name, portable=portable)
    parts = safe.split("/")
    assert not set(parts) & {"", ".", ".."}
    assert "\\" not in safe
    assert "\0" not in safe
    assert all(len(part.encode("utf-8", "surrogatepass")) < 255 for part in parts)


@given(st.text(max_size=30), st.text(max_size=30))
def test_different_names_stay_different(one, other):
    """Two values never share a file."""
    assert (safe_name(one) == safe_name(other)) == (one == other)


def test_details_and_ids_keep_the_known_names():
    """Ordinary keys give the names that other tools of the form expect."""
    assert detail_name("17") == "17.json"
    assert detail_name("17", page=2) == "17_page_2.json"
    assert key_name("17", "pdf") == "17.pdf"
    assert safe_name("../../etc/passwd").startswith("_/_/etc/passwd~")
