"""The table says what the document says of each row that is there; and so does the description
that is made from it.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from schemathesis import openapi
from tests.web.rubackup import ROOT

from holdfast.service.global_configuration import FIELDS
from holdfast.web.dialects.rubackup import sessions
from holdfast.web.dialects.rubackup.describing import IDS, Row
from holdfast.web.dialects.rubackup.openapi import document
from holdfast.web.dialects.rubackup.table import ROWS

if TYPE_CHECKING:
    from tests.web.conftest import Server

# Of each path: which rows it has, and which statuses those have beside that of success. L: list,
# G: one, C: made (201), P: changed (200 400 404), D: one deleted, B: several deleted (200 404).
# A small letter: 404 is not documented.
RESOURCES = """
    users L G C P D B
    user_groups L G C P D B
    client_groups L g C P D B
    administrators L g C D B
    maintainers L g C D B
    supervisors L G C d B
    servers_hw_id_tmp L G
    license_types L G
    resourse_types L G
    task_log L G
    clients_log L G
    media_servers_log L G
    repository_log L G
    rubackup_server_system_monitoring L G
    backup_types L
    compression_type L
    crypto L
    deduplication_hash_algorithm L
    destination_storage_types L
    os_types L
    task_status L
    verification_status L
"""
ACTIONS = {
    ("PATCH", "users/change_password"): (200, 404),
    ("GET", "global_configuration"): (200,),
    ("PATCH", "global_configuration"): (200, 400),
    ("PATCH", "global_configuration/service_mode"): (200, 400),
    ("GET", "server_state"): (200,),
    ("GET", "server_hello"): (200,),
}
KINDS = {
    "L": ("GET", "", (200,)),
    "G": ("GET", "/{id}", (200, 404)),
    "g": ("GET", "/{id}", (200,)),
    "C": ("POST", "", (201,)),
    "P": ("PATCH", "/{id}", (200, 400, 404)),
    "D": ("DELETE", "/{id}", (200, 404)),
    "d": ("DELETE", "/{id}", (200,)),
    "B": ("DELETE", "", (200, 404)),
}
# Keys of bodies; ! marks those that must be given.
BODIES = {
    ("POST", "users"): ("username! user_password! group_id fullname address tel office email"),
    ("PATCH", "users/{id}"): ("username new_password group_id fullname address tel office email"),
    ("POST", "user_groups"): "groupname! description",
    ("PATCH", "user_groups/{id}"): "groupname description",
    ("POST", "client_groups"): "name! shared clustered description launch_attempts_limit",
    ("PATCH", "client_groups/{id}"): "name shared clustered description launch_attempts_limit",
    ("POST", "administrators"): "client_group! administrator!",
    ("POST", "maintainers"): "media_server! maintainer!",
    ("POST", "supervisors"): "supervisor!",
    ("PATCH", "global_configuration/service_mode"): "service_mode!",
    ("PATCH", "users/change_password"): "new_password!",
}
FLAT = {"global_configuration/service_mode", "users/change_password"}


def rows() -> dict[tuple[str, str], Row]:
    return {(row.method, row.path): row for row in ROWS}


def documented() -> dict[tuple[str, str], tuple[int, ...]]:
    found = dict(ACTIONS)
    for line in RESOURCES.strip().splitlines():
        path, *kinds = line.split()
        for kind in kinds:
            method, behind, statuses = KINDS[kind]
            found[method, path + behind] = statuses
    return found


def test_rows_and_statuses_are_the_documents() -> None:
    assert {key: row.answers for key, row in rows().items()} == documented()
    assert len(ROWS) == len(rows())


@pytest.mark.parametrize("key", BODIES)
def test_bodies_are_the_documents(key: tuple[str, str]) -> None:
    body = rows()[key].body
    assert body is not None
    assert body.wrapped is (key[1] not in FLAT)
    needed = {name for name, field in body.keys.items() if field.needed and not body.partial}
    wanted = BODIES[key].split()
    assert set(body.keys) == {each.rstrip("!") for each in wanted}
    assert needed == {each.rstrip("!") for each in wanted if each.endswith("!")}


def test_all_other_bodies_name_rows_or_settings() -> None:
    others = {key: row.body for key, row in rows().items() if row.body and key not in BODIES}
    configuration = others.pop(("PATCH", "global_configuration"))
    assert configuration is not None
    assert set(configuration.keys) == {each.name for each in FIELDS}
    assert {method for method, _ in others} == {"DELETE"}
    assert all(body is IDS for body in others.values())


def test_the_description_holds_every_row() -> None:
    """And it is OpenAPI: a library that knows it reads it all."""
    made = document()
    described = {
        (method.upper(), path.removeprefix("/"))
        for path, item in made["paths"].items()
        for method in item
    }
    auth = {("POST", "auth/login"), ("POST", "auth/refresh"), ("DELETE", "auth/logout")}
    assert described == set(rows()) | auth
    loaded = openapi.from_dict(json.loads(json.dumps(made)))
    loaded.validate()
    assert len(list(loaded.get_all_operations())) == len(described)


def test_the_description_is_served(server: Server) -> None:
    answer = server.request("GET", f"{ROOT}swagger.json")
    assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
    assert answer.json() == json.loads(json.dumps(document()))
    schemes: dict[str, Any] = answer.json()["components"]["securitySchemes"]
    assert schemes["csrf"] == {"type": "apiKey", "in": "header", "name": sessions.CSRF}


def test_swagger_ui_is_whole(server: Server) -> None:
    """Every file that the page names comes from here, and the page names nothing else."""
    import re

    page = server.request("GET", ROOT)
    assert page.headers["content-type"].startswith("text/html")
    named = re.findall(r'(?:src|href)="([^"]+)"', page.body.decode())
    assert len(named) >= 3
    for name in named:
        found = server.request("GET", ROOT + name)
        assert (found.status, bool(found.body)) == (200, True), name
    assert not re.search(rb"https?://", page.body)
    assert server.request("GET", f"{ROOT}ui/../table.py").status == 404
    assert server.request("GET", "/api/v1").body == page.body  # by a redirect
