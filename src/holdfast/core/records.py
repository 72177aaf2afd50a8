"""What a server knows: one value for each noun, as the catalog keeps it and `service` hands it up.

Times are nanoseconds since 1970 UTC; None or 0 where there is none, as each field says. `id` is the
number of the row, 0 before it has one; `uid` is the name by which the outside knows it. JSON fields
hold plain data.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from holdfast.core.orders import OrderKind, OrderState

Json = dict[str, Any]


# --- where backups are kept -----------------------------------------------------------------------


class PoolKind(StrEnum):
    REPOSITORY = "repository"
    PLAIN = "plain"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """`locations`: directories or store addresses; new repositories go where most is free."""

    id: int = 0
    name: str
    kind: PoolKind = PoolKind.REPOSITORY
    locations: list[str]
    options: Json = field(default_factory=dict)
    """quota (bytes), append_only, credentials (sealed), task_limit"""
    note: str = ""
    created: int = 0


class Custody(StrEnum):
    """Who holds the key."""

    SERVER = "server"
    CLIENT = "client"


@dataclass(frozen=True, slots=True, kw_only=True)
class RepositoryRecord:
    """A repository of a pool: the server's own (`host_id` None) or that of one host.

    `snapshots`, `newest`, `digest`: what was seen last, to notice when a store goes back in time.
    """

    id: int = 0
    pool_id: int
    host_id: int | None = None
    location: str
    repository_uid: str = ""
    """its own id from its config; empty until it is known"""
    custody: Custody = Custody.SERVER
    sealed_key: str = field(default="", repr=False)
    """the master key, sealed by the server's; empty where the client holds it"""
    created: int = 0
    snapshots: int = 0
    newest: str = ""
    digest: str = ""
    stored: int = 0
    """bytes"""
    checked: int | None = None


NO_GROUP = 1
"""The group that every agent is in until it is put into another; there from the first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientGroup:
    """Machines that belong together, and are administered together."""

    id: int = 0
    name: str
    shared: bool = False
    """its members may restore each other's backups"""
    clustered: bool = False
    """its members present the same sources"""
    description: str = ""
    launch_attempts_limit: int = 1
    """starts of a task before it has failed"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    id: int = 0
    name: str
    note: str = ""
    created: int = 0
    seen: int | None = None
    facts: Json = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class MediaServer:
    """A machine that has storages of its own."""

    id: int = 0
    name: str
    """its host name"""
    hwid: str = field(default="")
    """16 hexadecimal digits that tell machines apart"""
    main: bool = False
    """where this catalog is served"""
    created: int = 0
    seen: int | None = None


# --- agents ---------------------------------------------------------------------------------------


class AgentState(StrEnum):
    WAITING = "waiting"
    """to be authorised"""
    AUTHORISED = "authorised"


@dataclass(frozen=True, slots=True, kw_only=True)
class Agent:
    """The program on a host. `hwid` follows from its secret, so that nobody can claim another's.

    `host_id` stays when the authorisation is taken back, so that a new one finds the same backups.
    """

    id: int = 0
    hwid: str
    """16 lower-case hexadecimal digits"""
    name: str
    """as it says; the host's may differ where that was taken"""
    digest: str = field(repr=False)
    """SHA-256 of its secret, which has 256 bits"""
    state: AgentState = AgentState.WAITING
    host_id: int | None = None
    group_id: int = NO_GROUP
    note: str = ""
    address: str = ""
    os: str = ""
    version: str = ""
    modules: list[str] = field(default_factory=list)
    capacity: int = 0
    """bytes of content that its backups may have together; 0: no limit"""
    central_restore: bool = True
    """whether this server may start restores on it"""
    own_backup: bool = False
    own_restore: bool = False
    local_schedule: bool = False
    local_restrictions: bool = False
    local_pool_id: int | None = None
    seen: int | None = None
    online_until: int = 0
    """counts as online before that moment"""
    created: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentOrder:
    """What an agent is to do, for as long as that is not over and heard. See `core.orders`."""

    id: int = 0
    agent_id: int
    task_id: int | None = None
    """None: somebody waits for the answer"""
    kind: OrderKind
    spec: Json = field(default_factory=dict)
    """what the agent is told"""
    terms: Json = field(default_factory=dict)
    """what the server keeps to itself: the backup that it will become"""
    state: OrderState = OrderState.WAITING
    issue: int = 1
    heard: int = 0
    """number of the newest report"""
    progress: Json = field(default_factory=dict)
    snapshot: str = ""
    """the one that was announced"""
    announced: Json = field(default_factory=dict)
    outcome: Json = field(default_factory=dict)
    created: int = 0
    touched: int = 0


# --- what is kept ---------------------------------------------------------------------------------


class Face(StrEnum):
    """Who made a target; its name rules are those of that face."""

    HOLDFAST = "holdfast"
    BACKUPCHAN = "backupchan"
    RESTBACKUP = "restbackup"
    APPLICATION = "application"
    RESTIC = "restic"
    RUBACKUP = "rubackup"


class Shape(StrEnum):
    SINGLE = "single"
    """one stream a backup"""
    MULTI = "multi"
    """a tree of files a backup"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A named series of backups with one keep rule."""

    id: int = 0
    uid: str
    name: str
    face: Face = Face.HOLDFAST
    shape: Shape = Shape.SINGLE
    pool_id: int
    host_id: int | None = None
    location: str = ""
    """as it was given"""
    folder: str = ""
    """in a plain pool: where its files lie, relative to the pool"""
    name_template: str | None = None
    alias: str | None = None
    tags: list[str] = field(default_factory=list)
    deduplicate: bool = False
    """whole backups: the newest copy stays"""
    keep: Json = field(default_factory=dict)
    """the keep rule, see `core.keeping`"""
    source: Json = field(default_factory=dict)
    """what plans back up"""
    created: int = 0
    proven: int | None = None
    """when a backup of it was last restored and compared"""


class BackupState(StrEnum):
    KEPT = "kept"
    RECYCLED = "recycled"
    """in the recycle bin"""
    PART = "part"
    """a file of an upload that is not finished: out of sight"""
    FORGOTTEN = "forgotten"
    """deleted from the list only: nobody sees it here, its files stay where they are"""
    GONE = "gone"
    """deleted: nobody sees it; the row stays until its keeper has deleted it too"""


class Made(StrEnum):
    """How a backup was made; it restores alone in any case."""

    FULL = "full"
    INCREMENTAL = "incremental"
    DIFFERENTIAL = "differential"


@dataclass(frozen=True, slots=True, kw_only=True)
class Backup:
    """One kept thing. It lies in `repository_id` as `snapshot`, or in a plain pool at `path`."""

    id: int = 0
    uid: str
    target_id: int
    pool_id: int
    repository_id: int | None = None
    snapshot: str = ""
    path: str = ""
    name: str
    """as its face knows it"""
    size: int = 0
    """bytes of content"""
    stored: int = 0
    """bytes that it added to the storage"""
    files: int = 1
    sha256: str = ""
    """of the content; of a tree: of its names and the digests of its files"""
    created: int
    """as it is shown; a face may move it (tests age backups)"""
    received: int
    """by this server's clock when it was acknowledged; retention looks at this only"""
    manual: bool = True
    state: BackupState = BackupState.KEPT
    recycled: int | None = None
    hold_until: int | None = None
    """immutable until then"""
    made: Made = Made.FULL
    parent_id: int | None = None
    proven: int | None = None
    damaged: str = ""
    """what a verification found; empty where nothing"""
    flags: str = ""
    """what is odd about it: a claimed time far off, a sudden shrink"""
    facts: Json = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Upload:
    """An upload in several requests, by file; survives a restart."""

    id: int = 0
    target_id: int
    manual: bool = True
    created: int
    touched: int
    files: list[Json] = field(default_factory=list)
    """path, name, uploaded, and what the keeper needs to find it again"""


# --- work -----------------------------------------------------------------------------------------


class TaskState(StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    PAUSED = "paused"
    SUCCEEDED = "succeeded"
    PARTIAL = "partial"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def ended(self) -> bool:
        return self not in {TaskState.QUEUED, TaskState.RUNNING, TaskState.PAUSED}


class Wanted(StrEnum):
    """What a person wants of a task; looked at when its body starts."""

    RUN = "run"
    PAUSED = "paused"
    KILLED = "killed"


REMOTE = "agent-"
"""How kinds of tasks begin whose work an agent does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One unit of work in the queue.

    `token` grows with each start of the body: whoever holds an older one cannot commit.
    `generation` grows with each enqueueing; the durable engine knows the task as
    `<id>.<generation>`.
    """

    id: int = 0
    kind: str
    state: TaskState = TaskState.QUEUED
    wanted: Wanted = Wanted.RUN
    priority: int = 100
    """1 is first"""
    pool_id: int | None = None
    target_id: int | None = None
    backup_id: int | None = None
    host_id: int | None = None
    plan_id: int | None = None
    actor: str = ""
    """who asked for it"""
    spec: Json = field(default_factory=dict)
    progress: Json = field(default_factory=dict)
    """done, total, unit, rate, eta, current"""
    outcome: Json = field(default_factory=dict)
    """code, message, remedy, and what the kind reports"""
    created: int
    due: int
    started: int | None = None
    ended: int | None = None
    attempt: int = 0
    generation: int = 1
    token: int = 0
    holder: str = ""
    """the node incarnation that runs it"""
    committed: bool = False
    stage: str = ""
    """of one that runs on an agent: where it stands, see `core.stages`"""

    @property
    def remote(self) -> bool:
        """Whether an agent does its work: it waits for its host to be online, and takes no slot."""
        return self.kind.startswith(REMOTE)


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskLine:
    id: int = 0
    task_id: int
    at: int
    level: str = "info"
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """When to do what. `kind` is that of the tasks it makes."""

    id: int = 0
    uid: str
    name: str
    kind: str
    target_id: int | None = None
    pool_id: int | None = None
    spec: Json = field(default_factory=dict)
    cron: str = ""
    """five fields; empty where `every` says"""
    every: int = 0
    """seconds; 0 where `cron` says"""
    zone: str = "UTC"
    enabled: bool = True
    next_at: int | None = None
    last_at: int | None = None
    rev: int = 0
    priority: int = 100
    created: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One start of a process; `name#number`. Times by the database's clock."""

    id: int = 0
    name: str
    number: int
    role: str = "worker"
    beat: int
    state: str = "live"
    """live, reaping, dead"""
    reaper: str = ""
    reap_until: int = 0
    started: int = 0
    facts: Json = field(default_factory=dict)

    @property
    def incarnation(self) -> str:
        return f"{self.name}#{self.number}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """One holder at a time of something with a name."""

    id: int = 0
    name: str
    holder: str
    token: int
    until: int


# --- who ------------------------------------------------------------------------------------------


class Role(StrEnum):
    SUPERUSER = "superuser"
    SUPERVISOR = "supervisor"
    ADMINISTRATOR = "administrator"
    MAINTAINER = "maintainer"
    STRATEGY_ADMINISTRATOR = "strategy_administrator"
    USER = "user"


NOBODY = 1
"""The user group that is told nothing; there from the first, and empty."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UserGroup:
    """An address list: people who are told of something together."""

    id: int = 0
    name: str
    description: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    id: int = 0
    uid: str
    """15 lower-case letters and digits"""
    name: str
    email: str | None = None
    role: Role = Role.USER
    password_hash: str = field(repr=False)
    token_key: str = field(repr=False)
    """changes with the password; a token signed under an older one is void"""
    verified: bool = True
    disabled: bool = False
    group_id: int = NOBODY
    fullname: str = ""
    address: str = ""
    tel: str = ""
    office: str = ""
    created: int = 0
    updated: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Supervisor:
    """A user who has been made supervisor."""

    id: int = 0
    user_id: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Administrator:
    """A user who administers the machines of a group."""

    id: int = 0
    user_id: int
    client_group_id: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Maintainer:
    """A user who looks after a media server."""

    id: int = 0
    user_id: int
    media_server_id: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenFamily:
    """The pairs of tokens that follow one another from one sign-in."""

    id: int = 0
    name: str
    """16 lower-case letters"""
    user_id: int
    refresh: str
    """the id of the one refresh token that is good"""
    created: int
    expires: int


class TokenKind(StrEnum):
    API_KEY = "api-key"
    """the Backup-chan face's; there is one"""
    PERSONAL = "personal"
    HOST = "host"
    """stock restic's or an agent's password"""
    CONSOLE = "console"


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """A secret given out; only its digest is kept."""

    id: int = 0
    uid: str
    kind: TokenKind
    name: str = ""
    digest: str = field(repr=False)
    """SHA-256 in hexadecimal; the secret has 256 bits, so no slow hash is needed"""
    scope: Json = field(default_factory=dict)
    """verbs, hosts, pools; empty: all that its owner may"""
    user_id: int | None = None
    host_id: int | None = None
    created: int = 0
    expires: int | None = None
    used: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """A RestBackup account: the user name of an access URL and a space of its own."""

    id: int = 0
    name: str
    label: str = ""
    digest: str = field(repr=False)
    """of the access URL's password (95 bits at random)"""
    keep_days: int = 365
    target_id: int
    created: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """A browser's way to an account, for a time."""

    id: int = 0
    digest: str = field(repr=False)
    account_id: int
    created: int
    expires: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Guess:
    """Wrong credentials of one account or address."""

    id: int = 0
    key: str
    wrong: int
    last: int
    blocked_until: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditRecord:
    """One security-relevant act. `digest` covers the record and the digest before it."""

    id: int = 0
    at: int
    actor: str
    address: str = ""
    verb: str
    subject: str = ""
    outcome: str = "allowed"
    detail: Json = field(default_factory=dict)
    previous: str = ""
    digest: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    id: int = 0
    name: str
    value: Any = None
    rev: int = 0


# --- what happened --------------------------------------------------------------------------------


class Area(StrEnum):
    """What a line of the journal is about."""

    TASKS = "tasks"
    CLIENTS = "clients"
    MEDIA_SERVERS = "media-servers"
    REPOSITORY = "repository"


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalLine:
    """What happened, for people to read. It outlives what it is about: numbers and names only."""

    id: int = 0
    area: Area
    at: int
    level: str = "info"
    """debug, info, warning or error"""
    text: str
    actor: str = ""
    task_id: int | None = None
    kind: str = ""
    """of the task"""
    state: str = ""
    """the task's, from then on"""
    source: str = ""
    """what was or is to be backed up"""
    host_id: int | None = None
    host: str = ""
    """name of the machine it happened on"""
    backup_id: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """How busy the server's machine was at a moment. Shares are percent; the last four are bytes
    in the second before.
    """

    id: int = 0
    at: int
    cpu: float
    memory: float
    swap: float
    disk: float
    """of the file system that holds the data folder"""
    disk_read: int
    disk_written: int
    received: int
    sent: int
