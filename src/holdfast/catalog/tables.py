"""The tables. Columns carry the names of the fields in `core.records`; migrations bring a database
here, and a test compares the two.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)
from sqlalchemy.dialects.postgresql import JSONB

if TYPE_CHECKING:
    from sqlalchemy.sql.operators import OperatorType
    from sqlalchemy.types import TypeEngine

REVISION: Final = "0003"
"""The newest step in `migrations`, which these tables are the outcome of."""

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)

_Number = BigInteger().with_variant(Integer, "sqlite")
_Json = JSON().with_variant(JSONB, "postgresql")


class _Text(Text):
    """Enums of text are compared as the text that they are. The library would ask the module of
    mapped classes about each, which another thread may be just loading.
    """

    def coerce_compared_value(self, op: OperatorType | None, value: Any) -> TypeEngine[Any]:
        del op, value
        return self


def _id() -> Column[int]:
    return Column("id", _Number, primary_key=True, autoincrement=True)


def _time(name: str, *, needed: bool = True, index: bool = False) -> Column[int]:
    return Column(name, BigInteger, nullable=not needed, index=index)


def _text(name: str, *, unique: bool = False, index: bool = False) -> Column[str]:
    return Column(name, _Text, nullable=False, unique=unique, index=index)


def _json(name: str) -> Column[object]:
    return Column(name, _Json, nullable=False)


def _number(name: str) -> Column[int]:
    return Column(name, BigInteger, nullable=False)


def _share(name: str) -> Column[float]:
    return Column(name, Float, nullable=False)


def _flag(name: str) -> Column[bool]:
    return Column(name, Boolean, nullable=False)


def _to(
    table: str, *, needed: bool = True, index: bool = True, name: str | None = None
) -> Column[int]:
    return Column(
        name or f"{table}_id", _Number, ForeignKey(f"{table}.id"), nullable=not needed, index=index
    )


pool = Table(
    "pool", metadata, _id(),
    _text("name", unique=True), _text("kind"), _json("locations"), _json("options"), _text("note"),
    _time("created"),
)  # fmt: skip

client_group = Table(
    "client_group", metadata, _id(),
    _text("name", unique=True), _flag("shared"), _flag("clustered"), _text("description"),
    _number("launch_attempts_limit"),
)  # fmt: skip

host = Table(
    "host", metadata, _id(),
    _text("name", unique=True), _text("note"), _time("created"), _time("seen", needed=False),
    _json("facts"),
)  # fmt: skip

agent = Table(
    "agent", metadata, _id(),
    _text("hwid", unique=True), _text("name", index=True), _text("digest", unique=True),
    _text("state", index=True),
    Column("host_id", _Number, ForeignKey("host.id"), unique=True),
    _to("client_group", name="group_id"), _text("note"), _text("address"), _text("os"),
    _text("version"), _json("modules"), _number("capacity"), _flag("central_restore"),
    _flag("own_backup"), _flag("own_restore"), _flag("local_schedule"),
    _flag("local_restrictions"), _to("pool", needed=False, index=False, name="local_pool_id"),
    _time("seen", needed=False), _time("online_until"), _time("created"),
)  # fmt: skip

agent_order = Table(
    "agent_order", metadata, _id(),
    _to("agent"), Column("task_id", _Number, unique=True), _text("kind"), _json("spec"),
    _json("terms"), _text("state"), _number("issue"), _number("heard"), _json("progress"),
    _text("snapshot", index=True), _json("announced"), _json("outcome"), _time("created"),
    _time("touched"),
)  # fmt: skip

media_server = Table(
    "media_server", metadata, _id(),
    _text("name", unique=True), _text("hwid", unique=True), _flag("main"), _time("created"),
    _time("seen", needed=False),
)  # fmt: skip

repository = Table(
    "repository", metadata, _id(),
    _to("pool"), _to("host", needed=False), _text("location", unique=True),
    _text("repository_uid", index=True), _text("custody"), _text("sealed_key"), _time("created"),
    _number("snapshots"), _text("newest"), _text("digest"), _number("stored"),
    _time("checked", needed=False),
)  # fmt: skip

target = Table(
    "target", metadata, _id(),
    _text("uid", unique=True), _text("name", index=True), _text("face", index=True), _text("shape"),
    _to("pool"), _to("host", needed=False), _text("location"), _text("folder"),
    Column("name_template", Text, unique=True), Column("alias", Text, unique=True),
    _json("tags"), _flag("deduplicate"), _json("keep"), _json("source"), _time("created"),
    _time("proven", needed=False),
)  # fmt: skip

backup = Table(
    "backup", metadata, _id(),
    _text("uid", unique=True), _to("target", index=False), _to("pool"),
    _to("repository", needed=False, index=False),
    _text("snapshot"), _text("path"), _text("name"), _number("size"), _number("stored"),
    _number("files"), _text("sha256"), _time("created"), _time("received"), _flag("manual"),
    _text("state"), _time("recycled", needed=False), _time("hold_until", needed=False),
    _text("made"), _to("backup", needed=False, name="parent_id"),
    _time("proven", needed=False), _text("damaged"), _text("flags"), _json("facts"),
    # A page of a list, of one target or of all, see Rows.page; and totals without the rows.
    Index("ix_backup_target_state_created", "target_id", "state", "created", "name", "id"),
    Index("ix_backup_state_created", "state", "created", "name", "id"),
    Index("ix_backup_target_state_size", "target_id", "state", "size"),
    Index("ix_backup_target_name_state", "target_id", "name", "state"),
    Index("ix_backup_snapshot", "repository_id", "snapshot"),
)  # fmt: skip

upload = Table(
    "upload", metadata, _id(),
    Column("target_id", _Number, ForeignKey("target.id"), nullable=False, unique=True),
    _flag("manual"), _time("created"), _time("touched"), _json("files"),
)  # fmt: skip

plan = Table(
    "plan", metadata, _id(),
    _text("uid", unique=True), _text("name"), _text("kind"), _to("target", needed=False),
    _to("pool", needed=False), _json("spec"), _text("cron"), _number("every"), _text("zone"),
    _flag("enabled"), _time("next_at", needed=False), _time("last_at", needed=False),
    _number("rev"), _number("priority"), _time("created"),
    Index("ix_plan_due", "enabled", "next_at"),
)  # fmt: skip

task = Table(
    "task", metadata, _id(),
    _text("kind"), _text("state"), _text("wanted"), _number("priority"),
    # Tasks outlive what they were about: no foreign keys.
    Column("pool_id", _Number), Column("target_id", _Number, index=True),
    Column("backup_id", _Number, index=True), Column("host_id", _Number, index=True),
    Column("plan_id", _Number, index=True),
    _text("actor"), _json("spec"), _json("progress"), _json("outcome"), _time("created"),
    _time("due"), _time("started", needed=False), _time("ended", needed=False, index=True),
    _number("attempt"), _number("generation"), _number("token"),
    _text("holder", index=True), _flag("committed"), _text("stage"),
    Index("ix_task_state_priority", "state", "priority", "id"),
    Index("ix_task_kind_created", "kind", "created"),
)  # fmt: skip

task_line = Table(
    "task_line", metadata, _id(),
    Column("task_id", _Number, nullable=False, index=True), _time("at"), _text("level"),
    _text("text"),
)  # fmt: skip

node = Table(
    "node", metadata, _id(),
    _text("name"), _number("number"), _text("role"), _time("beat"), _text("state"), _text("reaper"),
    _time("reap_until"), _time("started"), _json("facts"),
    UniqueConstraint("name", "number"),
)  # fmt: skip

lease = Table(
    "lease", metadata, _id(),
    _text("name", unique=True), _text("holder"), _number("token"), _time("until"),
)  # fmt: skip

user_group = Table("user_group", metadata, _id(), _text("name", unique=True), _text("description"))

user = Table(
    "user", metadata, _id(),
    Column("uid", String(15), nullable=False, unique=True), _text("name", unique=True),
    Column("email", Text, unique=True), _text("role"), _text("password_hash"), _text("token_key"),
    _flag("verified"), _flag("disabled"), _to("user_group", name="group_id"), _text("fullname"),
    _text("address"), _text("tel"), _text("office"), _time("created"), _time("updated"),
)  # fmt: skip

supervisor = Table("supervisor", metadata, _id(), _to("user"), UniqueConstraint("user_id"))

administrator = Table(
    "administrator", metadata, _id(), _to("user"), _to("client_group"),
    UniqueConstraint("user_id", "client_group_id"),
)  # fmt: skip

maintainer = Table(
    "maintainer", metadata, _id(), _to("user"), _to("media_server"),
    UniqueConstraint("user_id", "media_server_id"),
)  # fmt: skip

token_family = Table(
    "token_family", metadata, _id(),
    _text("name", unique=True), _to("user"), _text("refresh"), _time("created"),
    _time("expires", index=True),
)  # fmt: skip

token = Table(
    "token", metadata, _id(),
    _text("uid", unique=True), _text("kind"), _text("name"), _text("digest", unique=True),
    _json("scope"), _to("user", needed=False), _to("host", needed=False), _time("created"),
    _time("expires", needed=False), _time("used", needed=False),
)  # fmt: skip

account = Table(
    "account", metadata, _id(),
    _text("name", unique=True), _text("label"), _text("digest"), _number("keep_days"),
    _to("target"), _time("created"),
)  # fmt: skip

session = Table(
    "session", metadata, _id(),
    _text("digest", unique=True), _to("account"), _time("created"), _time("expires", index=True),
)  # fmt: skip

guess = Table(
    "guess", metadata, _id(),
    _text("key", unique=True), _number("wrong"), _time("last"), _time("blocked_until"),
)  # fmt: skip

audit = Table(
    "audit", metadata, _id(),
    _time("at", index=True), _text("actor"), _text("address"), _text("verb"), _text("subject"),
    _text("outcome"), _json("detail"), _text("previous"), _text("digest"),
    Index("ix_audit_subject", "subject", "id"),
)  # fmt: skip

journal = Table(
    "journal", metadata, _id(),
    _text("area"), _time("at"), _text("level"), _text("text"), _text("actor"),
    Column("task_id", _Number), _text("kind"), _text("state"), _text("source"),
    Column("host_id", _Number), _text("host"), Column("backup_id", _Number),
    # A page of one area's lines, by each column that people look for them by.
    Index("ix_journal_area", "area", "id"),
    Index("ix_journal_at", "area", "at", "id"),
    Index("ix_journal_level", "area", "level", "id"),
    Index("ix_journal_task_id", "area", "task_id", "id"),
    Index("ix_journal_host", "area", "host", "id"),
    Index("ix_journal_backup_id", "area", "backup_id", "id"),
)  # fmt: skip

sample = Table(
    "sample", metadata, _id(),
    _time("at", index=True), _share("cpu"), _share("memory"), _share("swap"), _share("disk"),
    _number("disk_read"), _number("disk_written"), _number("received"), _number("sent"),
)  # fmt: skip

setting = Table(
    "setting", metadata, _id(),
    _text("name", unique=True), Column("value", _Json), _number("rev"),
)  # fmt: skip
