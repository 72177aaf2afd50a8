"""Nouns about people and what they are put in charge of."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from sqlalchemy import func, literal, null, select, union_all

from holdfast.catalog import tables
from holdfast.core.access import Verb
from holdfast.core.fields import Field, Kind
from holdfast.core.records import NO_GROUP, NOBODY, Role
from holdfast.service.nouns.describing import Noun
from holdfast.service.nouns.dictionaries import LICENSE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from holdfast.catalog.database import Transaction

_LONG = 1000
_DESCRIPTION = Field(name="description", lines=True, default="", most=_LONG)


def _name(most: int = 100) -> Field:
    return Field(name="name", least=1, most=most, meaning="Tells it from all others.")


def _forget_user_group(tx: Transaction, id_: int) -> None:
    tx.users.change_where(tables.user.c.group_id == id_, group_id=NOBODY)


def _forget_client_group(tx: Transaction, id_: int) -> None:
    tx.administrators.remove(client_group_id=id_)
    tx.agents.change_where(tables.agent.c.group_id == id_, group_id=NO_GROUP)


USER_GROUP = Noun(
    name="user group",
    source=tables.user_group,
    rows=lambda tx: tx.user_groups,
    sees=Verb.USER_LIST,
    changes=Verb.USER_CHANGE,
    built_in=frozenset({NOBODY}),
    before_removal=_forget_user_group,
    fields=(_name(), _DESCRIPTION),
)

CLIENT_GROUP = Noun(
    name="client group",
    source=tables.client_group,
    rows=lambda tx: tx.client_groups,
    sees=Verb.HOST_LIST,
    changes=Verb.GROUP_CHANGE,
    built_in=frozenset({NO_GROUP}),
    within={"groups": tables.client_group.c.id},
    before_removal=_forget_client_group,
    fields=(
        _name(),
        Field(
            name="shared", kind=Kind.FLAG, default=False,
            meaning="Members may restore each other's copies.",
        ),
        Field(
            name="clustered", kind=Kind.FLAG, default=False,
            meaning="Members present the same resources.",
        ),
        _DESCRIPTION,
        Field(
            name="launch_attempts_limit", kind=Kind.NUMBER, default=1, least=1, most=100,
            meaning="Starts of a task before it has failed.",
        ),
    ),
)  # fmt: skip

MEDIA_SERVER = Noun(
    name="media server",
    source=tables.media_server,
    sees=Verb.POOL_LIST,
    within={"servers": tables.media_server.c.id},
    fields=(
        Field(name="name", read_only=True, meaning="Its host name."),
        Field(name="hwid", read_only=True, meaning="Tells machines apart."),
        Field(name="seen", kind=Kind.TIME, read_only=True, meaning="When it was last started."),
    ),
)
LICENSED_SERVER = replace(
    MEDIA_SERVER,
    name="licensed server",
    fields=(
        *MEDIA_SERVER.fields[:2],
        Field(name="license_type", read_only=True),
        Field(
            name="capacity", kind=Kind.NUMBER, read_only=True, meaning="Bytes; 0: without limit."
        ),
        Field(name="valid_until", kind=Kind.TIME, read_only=True, meaning="null: without an end."),
    ),
    columns={
        "license_type": literal(LICENSE),
        "capacity": literal(0),
        "valid_until": null(),
    },
)

_USER = Field(name="user_id", kind=Kind.REFERENCE, refers="user")

SUPERVISOR = Noun(
    name="supervisor",
    source=tables.supervisor,
    rows=lambda tx: tx.supervisors,
    sees=Verb.USER_LIST,
    changes=Verb.USER_PROMOTE,
    unique=("user_id",),
    fields=(_USER,),
)

ADMINISTRATOR = Noun(
    name="administrator",
    source=tables.administrator,
    rows=lambda tx: tx.administrators,
    sees=Verb.USER_LIST,
    changes=Verb.USER_CHANGE,
    unique=("user_id", "client_group_id"),
    fields=(
        Field(name="client_group_id", kind=Kind.REFERENCE, refers="client group"),
        _USER,
    ),
)

MAINTAINER = Noun(
    name="maintainer",
    source=tables.maintainer,
    rows=lambda tx: tx.maintainers,
    sees=Verb.USER_LIST,
    changes=Verb.USER_CHANGE,
    unique=("user_id", "media_server_id"),
    fields=(
        Field(name="media_server_id", kind=Kind.REFERENCE, refers="media server"),
        _USER,
    ),
)


def _add_roles(tx: Transaction, rows: Sequence[dict[str, Any]]) -> None:
    granted = roles_of(tx, [row["id"] for row in rows])
    for row in rows:
        row["roles"] = granted[row["id"]]


def roles_of(tx: Transaction, ids: Sequence[int]) -> dict[int, list[Role]]:
    """The roles of each of these users, the widest first; none for those who have none."""
    user = tables.user.c
    granted = (
        (tables.supervisor, Role.SUPERVISOR),
        (tables.administrator, Role.ADMINISTRATOR),
        (tables.maintainer, Role.MAINTAINER),
    )
    query = union_all(
        select(user.id, user.role).where(user.id.in_(ids)),
        *(
            select(table.c.user_id, literal(str(role))).where(table.c.user_id.in_(ids))
            for table, role in granted
        ),
    )
    found: dict[int, set[Role]] = {id_: set() for id_ in ids}
    for id_, role in tx.connection.execute(query):
        found[id_].add(Role(role))
    order = [each for each in Role if each is not Role.USER]
    return {id_: [role for role in order if role in roles] for id_, roles in found.items()}


USER = Noun(
    name="user",
    source=tables.user,
    sees=Verb.USER_LIST,
    changes=Verb.USER_CHANGE,
    columns={"email": func.coalesce(tables.user.c.email, "")},
    completed=_add_roles,
    fields=(
        Field(name="name", least=1, most=64, fixed=True, meaning="By which they sign in."),
        Field(name="password", secret=True, least=8, most=255),
        Field(name="group_id", kind=Kind.REFERENCE, refers="user group", default=NOBODY),
        Field(name="fullname", default="", most=200),
        Field(name="address", default="", most=_LONG),
        Field(name="tel", default="", most=100),
        Field(name="office", default="", most=200),
        Field(name="email", default="", most=254),
        Field(name="roles", kind=Kind.NAMES, read_only=True, meaning="What they may."),
    ),
)
