"""What is wrong with a request, for every row of the RuBackup face: the status, the envelope, the
place, and nothing changed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from tests.web.conftest import PASSWORD, Server
from tests.web.rubackup import Caller, log_in, opened

from holdfast.core.fields import Kind
from holdfast.web.dialects.rubackup.table import RESOURCES, ROWS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from holdfast.core.fields import Field
    from holdfast.web.dialects.rubackup.describing import Row

UNKNOWN = 999_999
ALL = pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.method} {row.path}")
WITH_BODY = pytest.mark.parametrize(
    "row", [row for row in ROWS if row.body], ids=lambda row: f"{row.method} {row.path}"
)
SELF = {"server_state", "users/change_password"}
"""For everybody who is signed in."""


@pytest.fixture(scope="module")
def root(server: Server) -> Caller:
    return log_in(server, "root", PASSWORD)


@pytest.fixture(scope="module")
def ned(server: Server, root: Caller) -> Caller:
    """Signed in, without a role."""
    body = {"username": "ned", "user_password": PASSWORD}
    root("POST", "users", {"data": body}, status=201)
    return log_in(server, "ned", PASSWORD)


@pytest.fixture(scope="module")
def known(root: Caller, ned: Caller) -> dict[str, int]:
    """A row of each resource that can be changed."""
    host = root("GET", "server_hello")["hostname"]
    made = {
        "user_groups": {"groupname": "ops"},
        "client_groups": {"name": "racks"},
        "administrators": {"client_group": "racks", "administrator": "root"},
        "maintainers": {"media_server": host, "maintainer": "root"},
        "supervisors": {"supervisor": "root"},
    }
    found = {
        path: root("POST", path, {"data": body}, status=201)["id"] for path, body in made.items()
    }
    [user] = root("GET", 'users?filter_data=username="ned"')["items"]
    return found | {"users": user["id"]}


@pytest.fixture(autouse=True)
def unchanged(root: Caller, known: dict[str, int]) -> Iterator[None]:
    """Whatever a test here sends, all lists are afterwards as they were."""
    before = everything(root)
    yield
    assert everything(root) == before


def everything(root: Caller) -> list[Any]:
    lists = [each.path for each in RESOURCES if "create" in each.offers]
    return [root("GET", path)["items"] for path in lists] + [root("GET", "global_configuration")]


def place(row: Row, known: dict[str, int] | None = None) -> str:
    """`known`: of a row that is there, where one can be."""
    name = row.path.partition("/")[0]
    return row.path.replace("{id}", str((known or {}).get(name, UNKNOWN)))


@ALL
def test_nobody_is_let_in(server: Server, root: Caller, ned: Caller, row: Row) -> None:
    """No token, or no CSRF token: 401, before the id, the body and the rights are looked at."""
    body = b"{" if row.body else None
    for headers in (
        {},
        {"X-CSRF-TOKEN": root.tokens["csrf_token"]},
        {"Authorization": root.headers["Authorization"]},
        {"Authorization": root.headers["Authorization"], "X-CSRF-TOKEN": "x"},
        {"Authorization": "Bearer x", "X-CSRF-TOKEN": root.tokens["csrf_token"]},
        {"Authorization": f"Bearer {ned.tokens['refresh_token']}"}
        | {"X-CSRF-TOKEN": root.tokens["csrf_token"]},
    ):
        said = opened(Caller(server).send(row.method, place(row), body, **headers), 401)
        assert said["message"] == "Verification failed"


@ALL
def test_who_has_no_role_is_refused(ned: Caller, known: dict[str, int], row: Row) -> None:
    if row.path in SELF:
        return
    opened(ned.send(row.method, place(row, known), good_body(row)), 403)


def good_body(row: Row) -> Any:
    """That would be taken, but that it names what is not there."""
    if row.body is None:
        return None
    given = {key: good(field) for key, field in row.body.keys.items()}
    return {"data": given} if row.body.wrapped else given


def good(field: Field) -> Any:
    if field.choices:
        return field.choices[0]
    values = {
        Kind.NUMBER: max(field.least, 1),
        Kind.FLAG: False,
        Kind.CLOCK: "12:00:00",
        Kind.NUMBERS: [UNKNOWN],
        Kind.REFERENCE: "nothing of that name",
    }
    return values.get(field.kind, "good text 1")


@pytest.mark.parametrize(
    "row", [row for row in ROWS if "{id}" in row.path], ids=lambda row: f"{row.method} {row.path}"
)
@pytest.mark.parametrize("id_", [str(UNKNOWN), "0", "-1", "x", "1x", "9" * 30, "%00", "1.0"])
def test_unknown_numbers(root: Caller, row: Row, id_: str) -> None:
    body = {"data": {}} if row.method == "PATCH" else None
    opened(root.send(row.method, row.path.replace("{id}", id_), body), 404)


@WITH_BODY
@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"null", b"5", b'"x"', b"\xff\xfe", b'{"a":NaN}', b"[" * 5000]
)
def test_bodies_that_are_none(root: Caller, known: dict[str, int], row: Row, body: bytes) -> None:
    headers = {"Content-Type": "application/json"}
    opened(root.send(row.method, place(row, known), body, **headers), 400)


@WITH_BODY
def test_bodies_of_another_type(root: Caller, known: dict[str, int], row: Row) -> None:
    headers = {"Content-Type": "text/plain"}
    opened(root.send(row.method, place(row, known), b"{}", **headers), 415)


@WITH_BODY
def test_keys_that_nobody_knows(root: Caller, known: dict[str, int], row: Row) -> None:
    """Beside those that are known; what fields are called inside is no key, either."""
    assert row.body is not None
    inside = {field.name for field in row.body.fields} - set(row.body.keys)
    for key in ("no_such_key", "id", *sorted(inside)):
        body = good_body(row)
        (body["data"] if row.body.wrapped else body)[key] = 1
        said = opened(root.send(row.method, place(row, known), body), 400)
        assert list(said["errors"]) == [f"data.{key}" if row.body.wrapped else key]
    said = opened(root.send(row.method, place(row, known), good_body(row) | {"more": 1}), 400)
    assert list(said["errors"]) == ["more"]


@WITH_BODY
def test_values_of_another_type(root: Caller, known: dict[str, int], row: Row) -> None:
    """Each is told, by its place."""
    assert row.body is not None
    for wrong in (None, {}, [], [[]], 1.5, [None], [True]):
        given = dict.fromkeys(row.body.keys, wrong)
        body = {"data": given} if row.body.wrapped else given
        said = opened(root.send(row.method, place(row, known), body), 400)
        before = "data." if row.body.wrapped else ""
        assert set(said["errors"]) == {before + key for key in row.body.keys}
        assert all(isinstance(text, str) for texts in said["errors"].values() for text in texts)


@WITH_BODY
def test_keys_that_are_missing(root: Caller, known: dict[str, int], row: Row) -> None:
    assert row.body is not None
    if row.body.wrapped:
        said = opened(root.send(row.method, place(row, known), {}), 400)
        assert list(said["errors"]) == ["data"]
    if row.body.partial:
        return
    said = opened(
        root.send(row.method, place(row, known), {"data": {}} if row.body.wrapped else {}), 400
    )
    before = "data." if row.body.wrapped else ""
    needed = {before + key for key, field in row.body.keys.items() if field.needed}
    assert set(said["errors"]) == needed


@WITH_BODY
def test_references_to_nothing(root: Caller, known: dict[str, int], row: Row) -> None:
    """By a name or a number that nothing has."""
    assert row.body is not None
    referring = [key for key, field in row.body.keys.items() if field.kind is Kind.REFERENCE]
    for nothing in ("nothing of that name", UNKNOWN, "x\0"):
        for key in referring:
            body = good_body(row)
            body["data"] |= {each: 1 for each in referring if each != key} | {key: nothing}
            if row.method == "PATCH":
                body["data"].pop("username", None)
            said = opened(root.send(row.method, place(row, known), body), 400)
            assert f"data.{key}" in said["errors"]


@pytest.mark.parametrize(
    "row",
    [row for row in ROWS if row.body and "ids" in row.body.keys],
    ids=lambda row: row.path,
)
@pytest.mark.parametrize(
    ("ids", "status"), [([], 400), ([UNKNOWN], 404), (["1"], 400), ([True], 400), (1, 400),
                        ([10**40], 404), ([-5], 404), ([1] * 1001, 400)],
)  # fmt: skip
def test_several_that_are_not_there(root: Caller, row: Row, ids: Any, status: int) -> None:
    opened(root.send("DELETE", row.path, {"ids": ids}), status)


def test_one_that_is_not_there_saves_the_others(root: Caller, known: dict[str, int]) -> None:
    for path, id_ in known.items():
        opened(root.send("DELETE", path, {"ids": [id_, UNKNOWN]}), 404)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("user_groups", {"groupname": "ops"}),
        ("client_groups", {"name": "racks"}),
        ("users", {"username": "ned", "user_password": PASSWORD}),
        ("supervisors", {"supervisor": "root"}),
        ("administrators", {"client_group": "racks", "administrator": "root"}),
    ],
)
def test_what_is_there_already(root: Caller, path: str, body: dict[str, Any]) -> None:
    opened(root.send("POST", path, {"data": body}), 409)


def test_a_name_that_another_has(root: Caller, known: dict[str, int]) -> None:
    place_ = f"user_groups/{known['user_groups']}"
    opened(root.send("PATCH", place_, {"data": {"groupname": "Nobody"}}), 409)


@pytest.mark.parametrize("value", ["", "x" * 101, "a\nb", "a\x00b", "\x7f"])
def test_names_that_cannot_be(root: Caller, value: str) -> None:
    said = opened(root.send("POST", "user_groups", {"data": {"groupname": value}}), 400)
    assert list(said["errors"]) == ["data.groupname"]


def test_half_a_character_is_no_json(root: Caller) -> None:
    """Neither in a name nor where one is referred to."""
    for path, data in (
        ("user_groups", {"groupname": "\ud800"}),
        ("supervisors", {"supervisor": "\ud800"}),
    ):
        opened(root.send("POST", path, {"data": data}), 400)


@pytest.mark.parametrize(
    ("change", "place_"),
    [
        ({"username": "other"}, "data.username"),
        ({"new_password": "short"}, "data.new_password"),
        ({"email": "no address"}, "data.email"),
        ({"group_id": "nowhere"}, "data.group_id"),
    ],
)
def test_users_that_cannot_be(
    root: Caller, known: dict[str, int], change: dict[str, str], place_: str
) -> None:
    said = opened(root.send("PATCH", f"users/{known['users']}", {"data": change}), 400)
    assert list(said["errors"]) == [place_]


@pytest.mark.parametrize(
    "query",
    [
        "page=0", "page=x", "limit=0", "limit=-1", "limit=10001", "limit=1e3", "page=" + "9" * 20,
        "sort_by=nothing", "sort_by=name", "sort_by=user_password", "sort_order=up",
        "filter_data=x", 'filter_data=groupname="x', 'filter_data=groupname="x",',
        'filter_data="x"="x"', 'filter_data=nothing="x"', 'filter_data=name="x"',
        'filter_data=id~"1"', 'filter_data=id="x"', "filter_data=groupname='x'",
        'filter_data=groupname="%00"', 'filter_data=groupname="a\\b"',
        'filter_data=groupname!="x"', "filter_data=" + "x" * 5000,
    ],
)  # fmt: skip
def test_lists_that_cannot_be_asked_for(root: Caller, query: str) -> None:
    said = opened(root.send("GET", "user_groups?" + query), 400)
    assert list(said["errors"]) == [query.partition("=")[0]]


def test_lists_by_their_parameters(root: Caller) -> None:
    """Names in quotes and with signs, pages, order."""
    path = "user_groups?limit=1&page=2&sort_by=groupname&sort_order=DESC"
    found = root("GET", path)
    assert (found["page"], found["limit"], found["total"]) == (2, 1, 2)
    assert [each["groupname"] for each in found["items"]] == ["Nobody"]
    path = 'user_groups/?filter_data=groupname~"OP", id>"1"'
    assert [each["groupname"] for each in root("GET", path)["items"]] == ["ops"]
    assert root("GET", 'user_groups?filter_data=groupname="a\\"b"')["items"] == []


@pytest.mark.parametrize("path", ["", "nothing", "users/1/2", "users//1", "auth", "auth/nothing"])
def test_addresses_that_are_none(root: Caller, path: str) -> None:
    if path:
        opened(root.send("GET", path), 404)
    opened(root.send("POST", path or "x", {}), 404)


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PUT", "users", "DELETE, GET, POST"),
        ("POST", "users/1", "DELETE, GET, PATCH"),
        ("DELETE", "server_state", "GET"),
        ("GET", "auth/login", "POST"),
        ("POST", "auth/logout", "DELETE"),
    ],
)
def test_methods_that_are_not_for_it(root: Caller, method: str, path: str, allowed: str) -> None:
    answer = root.send(method, path, {} if method in {"PUT", "POST"} else None)
    opened(answer, 405)
    assert answer.headers["allow"] == allowed


def test_bodies_that_are_too_large(root: Caller) -> None:
    body = {"data": {"groupname": "x" * (2 << 20)}}
    opened(root.send("POST", "user_groups", body), 413)
