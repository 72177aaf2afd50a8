"""The rows of the RuBackup face by real requests, as its document calls them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from tests.web.conftest import PASSWORD, Server
from tests.web.rubackup import Caller, log_in, opened

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture(scope="module")
def root(server: Server) -> Caller:
    return log_in(server, "root", PASSWORD)


def test_a_group_from_its_making_to_its_end(root: Caller) -> None:
    """As documented: the keys of the body, the statuses and the message."""
    body = {
        "name": "group_name",
        "shared": False,
        "clustered": False,
        "description": "some description",
        "launch_attempts_limit": 1,
    }
    made = opened(root.send("POST", "client_groups", {"data": body}), 201)
    assert made["message"] == "Resource with name 'Client Groups' was created successfully!"
    place = f"client_groups/{made['data']['id']}"
    assert root("GET", place) == {"id": made["data"]["id"], **body}
    root("PATCH", place, {"data": {"shared": True}})
    assert root("GET", place) == {"id": made["data"]["id"], **body, "shared": True}
    root("DELETE", place)
    root("GET", place, status=404)


def test_several_go_at_once_or_none(root: Caller) -> None:
    ids = [
        root("POST", "user_groups", {"data": {"groupname": name}}, status=201)["id"]
        for name in ("one", "two", "three")
    ]
    root("DELETE", "user_groups", {"ids": [*ids, 999_999]}, status=404)
    assert {"one", "two", "three"} <= set(root.names("user_groups", "groupname"))
    root("DELETE", "user_groups", {"ids": ids[:2]})
    assert not {"one", "two"} & set(root.names("user_groups", "groupname"))
    root("DELETE", f"user_groups/{ids[2]}")


USER = {
    "group_id": "Nobody",
    "fullname": "Anna Example",
    "address": "Street 1",
    "tel": "123",
    "office": "2",
    "email": "anna@example.com",
}


def test_users(root: Caller, server: Server) -> None:
    """With everything that the document shows of one; the password is never shown again."""
    body = {**USER, "username": "anna", "user_password": "good password 1"}
    id_ = root("POST", "users", {"data": body}, status=201)["id"]
    assert root("GET", f"users/{id_}") == {"id": id_, "username": "anna", **USER, "roles": []}
    root("PATCH", f"users/{id_}", {"data": {"tel": "456", "new_password": ""}})
    assert root("GET", f"users/{id_}")["tel"] == "456"
    log_in(server, "anna", "good password 1")
    root("PATCH", f"users/{id_}", {"data": {"new_password": "good password 2"}})
    anna = log_in(server, "anna", "good password 2")
    anna("PATCH", "users/change_password", {"new_password": "good password 3"})
    anna("GET", "server_state", status=401)
    log_in(server, "anna", "good password 3")
    root("PATCH", f"users/change_password?id={id_}", {"new_password": "good password 4"})
    log_in(server, "anna", "good password 4")
    root("PATCH", "users/change_password?id=99999", {"new_password": "good password"}, status=404)
    root("DELETE", "users", {"ids": [id_]})
    root("GET", f"users/{id_}", status=404)


@pytest.mark.parametrize(
    ("query", "role"),
    [
        ("role=supervisor", "supervisor"),
        ("role=administrator&client_group=No group", "administrator"),
        ("role=maintainer&media_server={host}", "maintainer"),
    ],
)
def test_users_with_a_role_at_once(root: Caller, server: Server, query: str, role: str) -> None:
    """A role that somebody has been given is in the list of those who have it, and in the login."""
    host = root("GET", "server_hello")["hostname"]
    body = {"data": {"username": f"has-{role}", "user_password": "good password 1"}}
    id_ = root("POST", f"users?{query.format(host=host)}", body, status=201)["id"]
    assert log_in(server, f"has-{role}", "good password 1").tokens["role"] == [role]
    [assigned] = root("GET", f'{role}s?filter_data={role}="has-{role}"')["items"]
    assert root("GET", f"{role}s/{assigned['id']}") == assigned
    assert root("GET", f"users/{id_}")["roles"] == [role]
    root("DELETE", f"{role}s/{assigned['id']}")
    root("GET", f"{role}s/{assigned['id']}", status=404)
    assert log_in(server, f"has-{role}", "good password 1").tokens["role"] == []
    root("DELETE", f"users/{id_}")


@pytest.mark.parametrize(
    ("query", "place"),
    [
        ("role=king", "role"),
        ("role=administrator", "client_group"),
        ("role=administrator&client_group=nowhere", "client_group"),
        ("role=maintainer", "media_server"),
    ],
)
def test_a_role_needs_its_companion(root: Caller, query: str, place: str) -> None:
    body = {"data": {"username": "nobody-yet", "user_password": "good password 1"}}
    answer = opened(root.send("POST", f"users?{query}", body), 400)
    assert list(answer["errors"]) == [place]
    assert "nobody-yet" not in root.names("users", "username")


def test_what_referred_to_a_group_falls_back(root: Caller) -> None:
    """Users of a group that goes are in Nobody; roles over a group go with it."""
    group = root("POST", "user_groups", {"data": {"groupname": "ops"}}, status=201)["id"]
    over = root("POST", "client_groups", {"data": {"name": "racks"}}, status=201)["id"]
    body = {"username": "paul", "user_password": "good password 1", "group_id": "ops"}
    user = root("POST", "users", {"data": body}, status=201)["id"]
    granted = {"data": {"client_group": "racks", "administrator": "paul"}}
    role = root("POST", "administrators", granted, status=201)["id"]
    assert root("GET", f"administrators/{role}") == {
        "id": role, "client_group": "racks", "administrator": "paul",
    }  # fmt: skip
    root("POST", "administrators", granted, status=409)
    root("DELETE", f"user_groups/{group}")
    root("DELETE", f"client_groups/{over}")
    assert root("GET", f"users/{user}")["group_id"] == "Nobody"
    root("GET", f"administrators/{role}", status=404)
    root("DELETE", f"users/{user}")


@pytest.mark.parametrize(
    ("path", "patch"),
    [("user_groups/1", {"groupname": "Everybody"}), ("client_groups/1", {"shared": True})],
)
def test_what_is_built_in_stays(root: Caller, path: str, patch: dict[str, Any]) -> None:
    before = root("GET", path)
    root("PATCH", path, {"data": patch}, status=400)
    root("DELETE", path, status=409)
    assert root("GET", path) == before


def test_the_last_superuser_stays(root: Caller) -> None:
    [own] = root("GET", 'users?filter_data=username="root"')["items"]
    root("DELETE", f"users/{own['id']}", status=409)
    root("GET", f"users/{own['id']}")


WORDS = {
    "backup_types": "full",
    "compression_type": "None",
    "crypto": "nocrypt",
    "deduplication_hash_algorithm": "sha2",
    "destination_storage_types": "File system",
    "os_types": "Linux",
    "task_status": "Transmission",
    "verification_status": "Verified",
    "license_types": "Community",
    "resourse_types": "File system",
}


@pytest.mark.parametrize(("path", "word"), WORDS.items())
def test_dictionaries(root: Caller, path: str, word: str) -> None:
    """They are lists like all others."""
    assert word in root.names(path)
    [found] = root("GET", f'{path}?filter_data=name="{word}"')["items"]
    assert found["name"] == word
    if path in {"license_types", "resourse_types"}:
        assert root("GET", f"{path}/{found['id']}") == found
    else:
        root("GET", f"{path}/{found['id']}", status=404)


def test_the_configuration_changes_in_service_mode_only(root: Caller) -> None:
    before = root("GET", "global_configuration")
    assert (before["wrong_auth_attempts_count"], before["immutable_archives"]) == (5, True)
    change = {"data": {"wrong_auth_attempts_count": 6, "service_window_start": "01:00:00"}}
    root("PATCH", "global_configuration", change, status=400)
    assert root("GET", "global_configuration") == before
    root("PATCH", "global_configuration/service_mode", {"service_mode": True})
    assert root("GET", "server_state")["service_mode"] is True
    root("PATCH", "global_configuration", change)
    assert root("GET", "global_configuration") == before | change["data"]
    root("PATCH", "global_configuration", {"data": {key: before[key] for key in change["data"]}})
    for wrong in (
        {"no_such_key": 1},
        {"wrong_auth_attempts_count": "5"},
        {"wrong_auth_attempts_count": 0},
        {"service_window_start": "25:00:00"},
        {"verify_archive_after_creation": "maybe"},
        {"immutable_archives": "yes"},
    ):
        said = opened(root.send("PATCH", "global_configuration", {"data": wrong}), 400)
        assert list(said["errors"]) == [f"data.{next(iter(wrong))}"]
    root("PATCH", "global_configuration/service_mode", {"service_mode": False})
    assert root("GET", "global_configuration") == before
    assert root("GET", "server_state")["service_mode"] is False


def test_the_server_tells_what_it_is(root: Caller) -> None:
    hello = root("GET", "server_hello")
    assert hello["product"] == "Holdfast"
    [server] = root("GET", "servers_hw_id_tmp")["items"]
    assert (server["hostname"], server["hwid"]) == (hello["hostname"], hello["hwid"])
    assert server["license_type"] == "Community"
    assert root("GET", f"servers_hw_id_tmp/{server['id']}") == server
    root("GET", "servers_hw_id_tmp/99", status=404)


def test_the_machine_is_watched(root: Caller, eventually: Callable[..., Any]) -> None:
    """Real figures, newer ones later."""
    path = "rubackup_server_system_monitoring"
    first = eventually(lambda: root("GET", f"{path}?limit=1&sort_order=desc")["items"])[0]
    assert 0 <= first["cpu"] <= 100
    assert 0 < first["memory"] <= 100
    assert root("GET", f"{path}/{first['id']}") == first
    later = f'{path}?filter_data=id>"{first["id"]}"'
    [second, *_] = eventually(lambda: root("GET", later)["items"])
    assert second["time"] > first["time"]


def test_media_servers_log(root: Caller) -> None:
    host = root("GET", "server_hello")["hostname"]
    found = root("GET", "media_servers_log")["items"]
    assert {each["media_server"] for each in found} == {host}
    assert root("GET", f"media_servers_log/{found[0]['id']}") == found[0]
