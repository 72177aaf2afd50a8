"""Who may do what: the one table of it. `service` asks here, once for each act."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from holdfast.core.records import Role

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class Verb(StrEnum):
    """Acts that need a right. `noun.verb`; the noun's name is that of the module in `service`."""

    BACKUP_LIST = "backup.list"
    BACKUP_READ = "backup.read"
    BACKUP_CREATE = "backup.create"
    BACKUP_CHANGE = "backup.change"
    BACKUP_DELETE = "backup.delete"
    BACKUP_RESTORE = "backup.restore"
    BACKUP_VERIFY = "backup.verify"
    TARGET_LIST = "target.list"
    TARGET_CHANGE = "target.change"
    TARGET_DELETE = "target.delete"
    POOL_LIST = "pool.list"
    POOL_CHANGE = "pool.change"
    POOL_MAINTAIN = "pool.maintain"
    HOST_LIST = "host.list"
    HOST_CHANGE = "host.change"
    GROUP_CHANGE = "group.change"
    """groups of machines"""
    HOST_STORE = "host.store"
    """writing into one's own repository over /restic/"""
    PLAN_LIST = "plan.list"
    PLAN_CHANGE = "plan.change"
    TASK_LIST = "task.list"
    TASK_CONTROL = "task.control"
    USER_LIST = "user.list"
    USER_CHANGE = "user.change"
    USER_PROMOTE = "user.promote"
    """making superusers and supervisors, and changing who is one"""
    TOKEN_CHANGE = "token.change"  # noqa: S105  a verb
    ACCOUNT_LIST = "account.list"
    ACCOUNT_CHANGE = "account.change"
    SETTING_READ = "setting.read"
    SETTING_CHANGE = "setting.change"
    APPLICATION_BACKUP = "application.backup"
    APPLICATION_RESTORE = "application.restore"
    CATALOG_BACKUP = "catalog.backup"
    CATALOG_REBUILD = "catalog.rebuild"
    RECOVERY_KIT = "recovery-kit.read"
    AUDIT_READ = "audit.read"
    METRICS_READ = "metrics.read"
    SELF = "self"
    """what every signed-in person may: a token for oneself, one's own password"""


_SEES = frozenset(
    {
        Verb.BACKUP_LIST, Verb.TARGET_LIST, Verb.POOL_LIST, Verb.HOST_LIST, Verb.PLAN_LIST,
        Verb.TASK_LIST, Verb.ACCOUNT_LIST, Verb.SETTING_READ, Verb.METRICS_READ, Verb.SELF,
    }
)  # fmt: skip

RIGHTS: Mapping[Role, frozenset[Verb]] = {
    Role.SUPERUSER: frozenset(Verb),
    Role.SUPERVISOR: frozenset(Verb)
    - {
        Verb.USER_PROMOTE, Verb.SETTING_CHANGE, Verb.TOKEN_CHANGE, Verb.RECOVERY_KIT,
        Verb.APPLICATION_RESTORE, Verb.CATALOG_REBUILD, Verb.HOST_STORE,
    },
    Role.ADMINISTRATOR: _SEES
    | {
        Verb.BACKUP_READ, Verb.BACKUP_CREATE, Verb.BACKUP_CHANGE, Verb.BACKUP_DELETE,
        Verb.BACKUP_RESTORE, Verb.BACKUP_VERIFY, Verb.HOST_CHANGE, Verb.PLAN_CHANGE,
        Verb.TARGET_CHANGE, Verb.TASK_CONTROL,
    },
    Role.MAINTAINER: _SEES
    | {
        Verb.POOL_CHANGE, Verb.POOL_MAINTAIN, Verb.BACKUP_VERIFY, Verb.BACKUP_DELETE,
        Verb.TASK_CONTROL,
    },
    Role.STRATEGY_ADMINISTRATOR: _SEES | {Verb.PLAN_CHANGE, Verb.TARGET_CHANGE},
    Role.USER: frozenset({Verb.SELF}),
}  # fmt: skip


API_KEY_RIGHTS = frozenset(
    {
        Verb.BACKUP_LIST, Verb.BACKUP_READ, Verb.BACKUP_CREATE, Verb.BACKUP_CHANGE,
        Verb.BACKUP_DELETE, Verb.TARGET_LIST, Verb.TARGET_CHANGE, Verb.TARGET_DELETE,
        Verb.POOL_LIST, Verb.PLAN_LIST, Verb.TASK_LIST, Verb.TASK_CONTROL, Verb.SETTING_READ,
        Verb.METRICS_READ,
    }
)  # fmt: skip
"""The one key of the Backup-chan face."""
ACCOUNT_RIGHTS = frozenset(
    {Verb.TARGET_LIST, Verb.BACKUP_LIST, Verb.BACKUP_READ, Verb.BACKUP_CREATE}
)
"""Of an access URL, within its own target."""
SESSION_RIGHTS = frozenset({Verb.TARGET_LIST, Verb.BACKUP_LIST, Verb.BACKUP_READ})
"""Of an account's session in a browser, and of a token for downloads: they only read."""
HOST_RIGHTS = frozenset({Verb.HOST_STORE})


@dataclass(frozen=True, slots=True)
class Scope:
    """What a principal is narrowed to. None: no narrowing."""

    targets: frozenset[int] | None = None
    hosts: frozenset[int] | None = None
    pools: frozenset[int] | None = None
    faces: frozenset[str] | None = None
    groups: frozenset[int] | None = None
    """groups of machines"""
    servers: frozenset[int] | None = None
    """media servers"""

    @property
    def limits(self) -> Mapping[str, frozenset[int]]:
        """What it narrows, by name."""
        named = {
            "targets": self.targets, "hosts": self.hosts, "pools": self.pools,
            "groups": self.groups, "servers": self.servers,
        }  # fmt: skip
        return {name: allowed for name, allowed in named.items() if allowed is not None}

    def covers(self, things: Mapping[str, int | None]) -> bool:
        """Whether what an act names lies within; an act that does not name it does not."""
        return all(things.get(name) in allowed for name, allowed in self.limits.items())


EVERYTHING = Scope()


@dataclass(frozen=True, slots=True)
class Grant:
    """A role that somebody has been given over some things."""

    role: Role
    scope: Scope = EVERYTHING

    @property
    def rights(self) -> frozenset[Verb]:
        return RIGHTS[self.role]


@dataclass(frozen=True, slots=True)
class Principal:
    """Who asks: a person, a key, an account, a host, or the server itself."""

    name: str
    """as the audit shows it: `user:anna`, `account:Y21R3P`, `api-key`, `host:web1`, `shell`"""
    rights: frozenset[Verb] = frozenset()
    user_id: int | None = None
    role: Role | None = None
    scope: Scope = EVERYTHING
    address: str = ""
    signed_in: bool = True
    token_id: int | None = None
    """the token by which it came in, where it was one"""
    host_id: int | None = None
    account_id: int | None = None
    narrowed: bool = False
    """came in by something that can do less than a password"""
    grants: tuple[Grant, ...] = ()
    """what it may besides"""

    def scopes(self, verb: Verb) -> Sequence[Scope]:
        """Where it has this right; nowhere: no scope at all."""
        own = [self.scope] if verb in self.rights else []
        return own + [grant.scope for grant in self.grants if verb in grant.rights]

    def may(
        self,
        verb: Verb,
        *,
        target: int | None = None,
        host: int | None = None,
        pool: int | None = None,
    ) -> bool:
        """A narrowed principal may only what names a thing within its scope."""
        things = {"targets": target, "hosts": host, "pools": pool}
        return any(scope.covers(things) for scope in self.scopes(verb))


ANONYMOUS = Principal("anonymous", signed_in=False)
SHELL = Principal("shell", frozenset(Verb), role=Role.SUPERUSER)
"""Whoever can open the data folder: the administration commands."""
SERVER = Principal("server", frozenset(Verb), role=Role.SUPERUSER)
"""Tasks that a plan started."""
