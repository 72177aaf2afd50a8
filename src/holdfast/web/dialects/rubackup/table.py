"""The table: every row there is. What stands here is answered and described; nothing else is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from holdfast.core.fields import Field, Kind
from holdfast.service.global_configuration import FIELDS
from holdfast.service.nouns import dictionaries, happenings, people
from holdfast.web.dialects.rubackup import acting
from holdfast.web.dialects.rubackup.describing import Body, Resource, Row

if TYPE_CHECKING:
    from holdfast.service.nouns.describing import Noun

_ALL = frozenset({"list", "get", "create", "patch", "delete", "delete-many"})
_GRANTED = _ALL - {"patch"}
_READ = frozenset({"list", "get"})


def _words(
    path: str, group: str, noun: Noun, offers: frozenset[str] = frozenset({"list"})
) -> Resource:
    return Resource(path=path, group=group, noun=noun, offers=offers)


def _log(path: str, group: str, noun: Noun, **wire: str) -> Resource:
    return Resource(path=path, group=group, noun=noun, offers=_READ, wire={"at": "time", **wire})


_ROLE_QUERY = (
    Field(name="role", default="", choices=("", *sorted(acting.ROLES)), meaning="Given at once."),
    Field(name="client_group", default="", meaning="That an administrator is over."),
    Field(name="media_server", default="", meaning="That a maintainer is over."),
)

RESOURCES: Final = (
    Resource(
        path="users", group="Users", noun=people.USER, offers=_ALL, query=_ROLE_QUERY,
        wire={"name": "username", "password": "user_password"},
        changed_wire={"password": "new_password"},
        add=acting.add_user, change=acting.change_user, remove=acting.remove_users,
    ),
    Resource(
        path="user_groups", group="User Groups", noun=people.USER_GROUP, offers=_ALL,
        wire={"name": "groupname"},
    ),
    Resource(
        path="administrators", group="Administrators", noun=people.ADMINISTRATOR, offers=_GRANTED,
        wire={"client_group_id": "client_group", "user_id": "administrator"},
        quiet=frozenset({"get"}),
    ),
    Resource(
        path="maintainers", group="Maintainers", noun=people.MAINTAINER, offers=_GRANTED,
        wire={"media_server_id": "media_server", "user_id": "maintainer"},
        quiet=frozenset({"get"}),
    ),
    Resource(
        path="supervisors", group="Supervisors", noun=people.SUPERVISOR, offers=_GRANTED,
        wire={"user_id": "supervisor"}, quiet=frozenset({"delete"}),
    ),
    Resource(
        path="client_groups", group="Client Groups", noun=people.CLIENT_GROUP, offers=_ALL,
        quiet=frozenset({"get"}),
    ),
    Resource(
        path="servers_hw_id_tmp", group="Servers HWID", noun=people.LICENSED_SERVER, offers=_READ,
        wire={"name": "hostname"},
    ),
    _log("task_log", "Task Log", happenings.TASK_LINE,
         kind="task_type", host="client", source="resource", state="status"),
    _log("clients_log", "Clients Log", happenings.CLIENT_LINE, host="client"),
    _log("media_servers_log", "Media Servers Log", happenings.MEDIA_SERVER_LINE,
         host="media_server"),
    _log("repository_log", "Repository Log", happenings.REPOSITORY_LINE,
         backup_id="repository_id"),
    _log("rubackup_server_system_monitoring", "Rubackup Server System Monitoring",
         happenings.SAMPLE),
    _words("backup_types", "Backup Types", dictionaries.BACKUP_TYPE),
    _words("compression_type", "Compression Type", dictionaries.COMPRESSION_TYPE),
    _words("crypto", "Crypto", dictionaries.CRYPTO),
    _words("deduplication_hash_algorithm", "Deduplication Hash Algorithm",
           dictionaries.HASH_ALGORITHM),
    _words("destination_storage_types", "Destination Storage Types", dictionaries.POOL_TYPE),
    _words("os_types", "OS Types", dictionaries.OS_TYPE),
    _words("task_status", "Task Status", dictionaries.TASK_STATUS),
    _words("verification_status", "Verification Status", dictionaries.VERIFICATION_STATUS),
    _words("license_types", "License Types", dictionaries.LICENSE_TYPE, _READ),
    _words("resourse_types", "Resourse Types", dictionaries.RESOURCE_TYPE, _READ),
)  # fmt: skip

_ACTIONS: Final = (
    Row(
        method="PATCH", path="users/change_password", group="Users", act=acting.change_password,
        purpose="Changes one's own password; its sessions end.", answers=(200, 404),
        body=Body(
            wrapped=False,
            fields=(Field(name="new_password", secret=True, least=8, most=255),),
        ),
        query=(Field(name="id", kind=Kind.NUMBER, default=0, meaning="Whose, if not one's own."),),
    ),
    Row(
        method="GET", path="global_configuration", group="Global Configuration",
        act=acting.configuration, purpose="Every value that holds at present.",
        shown=Body(fields=FIELDS),
    ),
    Row(
        method="PATCH", path="global_configuration", group="Global Configuration",
        act=acting.change_configuration, answers=(200, 400),
        purpose="Changes values, in service mode only; what is not given stays.",
        body=Body(fields=FIELDS, partial=True),
    ),
    Row(
        method="PATCH", path="global_configuration/service_mode", group="Global Configuration",
        act=acting.switch_service_mode, answers=(200, 400),
        purpose="Switches service mode: nothing new begins while it is on.",
        body=Body(fields=(Field(name="service_mode", kind=Kind.FLAG),), wrapped=False),
    ),
    Row(
        method="GET", path="server_state", group="Server State", act=acting.server_state,
        purpose="What somebody should look at.",
    ),
    Row(
        method="GET", path="server_hello", group="Server Hello", act=acting.server_hello,
        purpose="What server this is.",
    ),
)  # fmt: skip

ROWS: Final = (*_ACTIONS, *(row for each in RESOURCES for row in each.rows()))
"""Those with a fixed path come before those with a number in it."""
