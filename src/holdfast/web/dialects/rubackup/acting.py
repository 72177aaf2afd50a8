"""Rows that do more than keep what they are given: one function each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from holdfast import __version__
from holdfast.core.access import Verb
from holdfast.core.errors import InvalidError
from holdfast.core.fields import iso
from holdfast.core.records import Role
from holdfast.core.secret import Secret
from holdfast.service import machine
from holdfast.service.global_configuration import in_service_mode
from holdfast.service.nouns.people import USER
from holdfast.service.users import Charge
from holdfast.web.dialects.rubackup.describing import Told

if TYPE_CHECKING:
    from collections.abc import Mapping

    from holdfast.web.dialects.rubackup.describing import Call

ROLES = {"administrator": "client group", "maintainer": "media server", "supervisor": ""}
"""What a role is over, by the noun that names it."""
_COMPANIONS = {"client group": "client_group", "media server": "media_server"}


# --- users ----------------------------------------------------------------------------------------


def add_user(call: Call) -> Told:
    service = call.service
    service.ground.allow(call.who, Verb.USER_CHANGE, "users")
    values = call.values()
    with service.ground.catalog.read() as tx:
        values = service.nouns.resolved(tx, USER, values)
    password = Secret(values.pop("password"))
    added = service.users.add(
        call.who,
        name=values.pop("name"),
        password=password,
        role=Role.USER,
        email=values.pop("email") or None,
        details=values,
        charge=_charge(call),
    )
    return Told({"id": added.id}, "Resource with name 'Users' was created successfully!")


def change_user(call: Call) -> Told:
    service = call.service
    service.nouns.allow_change(call.who, USER, [call.id])
    given = {name: v for name, v in call.body.items() if (name, v) != ("password", "")}
    values = service.nouns.changes(USER, call.id, given)
    if "email" in values:
        values["email"] = values["email"] or None
    if "password" in values:
        values["password"] = Secret(values["password"])
    service.users.change(call.who, call.id, **values)
    return Told(message="Resource with name 'Users' was changed successfully!")


def remove_users(call: Call, ids: list[int]) -> None:
    call.service.nouns.allow_change(call.who, USER, ids)
    call.service.users.remove_all(call.who, ids)


def change_password(call: Call) -> Told:
    """One's own; its sessions end, this one too. `id`: somebody else's."""
    new = Secret(call.values()["new_password"])
    asked = call.asked()["id"]
    if asked:
        call.service.nouns.allow_change(call.who, USER, [asked])
        call.service.users.change(call.who, asked, password=new)
    else:
        call.service.users.set_own_password(call.who, new)
    return Told(message="The password was changed successfully!")


def _charge(call: Call) -> Charge:
    """What the query puts a new user in charge of."""
    asked = call.asked()
    if not asked["role"]:
        return Charge()
    over = ROLES[asked["role"]]
    if not over:
        return Charge(supervisor=True)
    key = _COMPANIONS[over]
    name = asked[key]
    with call.service.ground.catalog.read() as tx:
        number = call.service.nouns.find(tx, over, name) if name else None
    if number is None:
        said = f"There is no {over} {name}." if name else "Must be given for this role."
        raise InvalidError(f"the role is over a {over}", fields={key: ("unknown", said)})
    if key == "client_group":
        return Charge(client_group_id=number)
    return Charge(media_server_id=number)


# --- the server -----------------------------------------------------------------------------------


def configuration(call: Call) -> Told:
    return Told(call.service.global_configuration.get(call.who))


def change_configuration(call: Call) -> Told:
    call.service.global_configuration.change(call.who, call.body)
    return Told(message="Global configuration was changed successfully!")


def switch_service_mode(call: Call) -> Told:
    on = call.values()["service_mode"]
    call.service.global_configuration.set_service_mode(call.who, on=on)
    return Told(message=f"Service mode is {'on' if on else 'off'}.")


def server_state(call: Call) -> Told:
    call.service.ground.allow(call.who, Verb.SELF, "server state")
    with call.service.ground.catalog.read() as tx:
        state: Mapping[str, Any] = {"service_mode": in_service_mode(tx)}
    return Told(state)


def server_hello(call: Call) -> Told:
    call.service.ground.scopes(call.who, Verb.SETTING_READ, "server")
    return Told(
        {
            "product": "Holdfast",
            "version": __version__,
            "hostname": machine.host_name(),
            "hwid": machine.hwid(),
            "server_time": iso(call.service.ground.now()),
        }
    )
