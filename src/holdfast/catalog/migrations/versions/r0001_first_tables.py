"""The first tables."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0001"
down_revision = None

NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
JSON = sa.JSON().with_variant(JSONB(), "postgresql")


def upgrade() -> None:
    _places()
    _kept_things()
    _work()
    _people()
    _the_server_itself()


def _places() -> None:
    op.create_table(
        "pool", _id(),
        _text("name"), _text("kind"), _json("locations"), _json("options"), _text("note"),
        _number("created"),
        sa.UniqueConstraint("name", name="uq_pool_name"),
    )  # fmt: skip
    op.create_table(
        "host", _id(),
        _text("name"), _text("note"), _number("created"), _number("seen", null=True),
        _json("facts"),
        sa.UniqueConstraint("name", name="uq_host_name"),
    )  # fmt: skip
    op.create_table(
        "repository", _id(),
        _row("pool_id"), _row("host_id", null=True), _text("location"), _text("repository_uid"),
        _text("custody"), _text("sealed_key"), _number("created"), _number("snapshots"),
        _text("newest"), _text("digest"), _number("stored"), _number("checked", null=True),
        sa.ForeignKeyConstraint(["pool_id"], ["pool.id"], name="fk_repository_pool_id"),
        sa.ForeignKeyConstraint(["host_id"], ["host.id"], name="fk_repository_host_id"),
        sa.UniqueConstraint("location", name="uq_repository_location"),
    )  # fmt: skip
    op.create_index("ix_repository_pool_id", "repository", ["pool_id"])
    op.create_index("ix_repository_host_id", "repository", ["host_id"])
    op.create_index("ix_repository_repository_uid", "repository", ["repository_uid"])


def _kept_things() -> None:
    op.create_table(
        "target", _id(),
        _text("uid"), _text("name"), _text("face"), _text("shape"), _row("pool_id"),
        _row("host_id", null=True), _text("location"), _text("folder"),
        _text("name_template", null=True), _text("alias", null=True), _json("tags"),
        _flag("deduplicate"), _json("keep"), _json("source"), _number("created"),
        _number("proven", null=True),
        sa.ForeignKeyConstraint(["pool_id"], ["pool.id"], name="fk_target_pool_id"),
        sa.ForeignKeyConstraint(["host_id"], ["host.id"], name="fk_target_host_id"),
        sa.UniqueConstraint("uid", name="uq_target_uid"),
        sa.UniqueConstraint("name_template", name="uq_target_name_template"),
        sa.UniqueConstraint("alias", name="uq_target_alias"),
    )  # fmt: skip
    op.create_index("ix_target_name", "target", ["name"])
    op.create_index("ix_target_face", "target", ["face"])
    op.create_index("ix_target_pool_id", "target", ["pool_id"])
    op.create_index("ix_target_host_id", "target", ["host_id"])
    op.create_table(
        "backup", _id(),
        _text("uid"), _row("target_id"), _row("pool_id"), _row("repository_id", null=True),
        _text("snapshot"), _text("path"), _text("name"), _number("size"), _number("stored"),
        _number("files"), _text("sha256"), _number("created"), _number("received"),
        _flag("manual"), _text("state"), _number("recycled", null=True),
        _number("hold_until", null=True), _text("made"), _row("parent_id", null=True),
        _number("proven", null=True), _text("damaged"), _text("flags"), _json("facts"),
        sa.ForeignKeyConstraint(["target_id"], ["target.id"], name="fk_backup_target_id"),
        sa.ForeignKeyConstraint(["pool_id"], ["pool.id"], name="fk_backup_pool_id"),
        sa.ForeignKeyConstraint(
            ["repository_id"], ["repository.id"], name="fk_backup_repository_id"
        ),
        sa.ForeignKeyConstraint(["parent_id"], ["backup.id"], name="fk_backup_parent_id"),
        sa.UniqueConstraint("uid", name="uq_backup_uid"),
    )  # fmt: skip
    in_order = ["state", "created", "name", "id"]
    op.create_index("ix_backup_target_state_created", "backup", ["target_id", *in_order])
    op.create_index("ix_backup_state_created", "backup", in_order)
    op.create_index("ix_backup_target_state_size", "backup", ["target_id", "state", "size"])
    op.create_index("ix_backup_target_name_state", "backup", ["target_id", "name", "state"])
    op.create_index("ix_backup_snapshot", "backup", ["repository_id", "snapshot"])
    op.create_index("ix_backup_pool_id", "backup", ["pool_id"])
    op.create_index("ix_backup_parent_id", "backup", ["parent_id"])
    op.create_table(
        "upload", _id(),
        _row("target_id"), _flag("manual"), _number("created"), _number("touched"),
        _json("files"),
        sa.ForeignKeyConstraint(["target_id"], ["target.id"], name="fk_upload_target_id"),
        sa.UniqueConstraint("target_id", name="uq_upload_target_id"),
    )  # fmt: skip


def _work() -> None:
    op.create_table(
        "plan", _id(),
        _text("uid"), _text("name"), _text("kind"), _row("target_id", null=True),
        _row("pool_id", null=True), _json("spec"), _text("cron"), _number("every"),
        _text("zone"), _flag("enabled"), _number("next_at", null=True),
        _number("last_at", null=True), _number("rev"), _number("priority"), _number("created"),
        sa.ForeignKeyConstraint(["target_id"], ["target.id"], name="fk_plan_target_id"),
        sa.ForeignKeyConstraint(["pool_id"], ["pool.id"], name="fk_plan_pool_id"),
        sa.UniqueConstraint("uid", name="uq_plan_uid"),
    )  # fmt: skip
    op.create_index("ix_plan_due", "plan", ["enabled", "next_at"])
    op.create_index("ix_plan_target_id", "plan", ["target_id"])
    op.create_index("ix_plan_pool_id", "plan", ["pool_id"])
    op.create_table(
        "task", _id(),
        _text("kind"), _text("state"), _text("wanted"), _number("priority"),
        _row("pool_id", null=True), _row("target_id", null=True), _row("backup_id", null=True),
        _row("host_id", null=True), _row("plan_id", null=True), _text("actor"), _json("spec"),
        _json("progress"), _json("outcome"), _number("created"), _number("due"),
        _number("started", null=True), _number("ended", null=True), _number("attempt"),
        _number("generation"), _number("token"), _text("holder"), _flag("committed"),
    )  # fmt: skip
    op.create_index("ix_task_target_id", "task", ["target_id"])
    op.create_index("ix_task_backup_id", "task", ["backup_id"])
    op.create_index("ix_task_host_id", "task", ["host_id"])
    op.create_index("ix_task_plan_id", "task", ["plan_id"])
    op.create_index("ix_task_ended", "task", ["ended"])
    op.create_index("ix_task_holder", "task", ["holder"])
    op.create_index("ix_task_state_priority", "task", ["state", "priority", "id"])
    op.create_index("ix_task_kind_created", "task", ["kind", "created"])
    op.create_table(
        "task_line", _id(), _row("task_id"), _number("at"), _text("level"), _text("text")
    )
    op.create_index("ix_task_line_task_id", "task_line", ["task_id"])
    op.create_table(
        "node", _id(),
        _text("name"), _number("number"), _text("role"), _number("beat"), _text("state"),
        _text("reaper"), _number("reap_until"), _number("started"), _json("facts"),
        sa.UniqueConstraint("name", "number", name="uq_node_name_number"),
    )  # fmt: skip
    op.create_table(
        "lease", _id(),
        _text("name"), _text("holder"), _number("token"), _number("until"),
        sa.UniqueConstraint("name", name="uq_lease_name"),
    )  # fmt: skip


def _people() -> None:
    op.create_table(
        "user", _id(),
        sa.Column("uid", sa.String(15), nullable=False), _text("name"), _text("email", null=True),
        _text("role"), _text("password_hash"), _text("token_key"), _flag("verified"),
        _flag("disabled"), _number("created"), _number("updated"),
        sa.UniqueConstraint("uid", name="uq_user_uid"),
        sa.UniqueConstraint("name", name="uq_user_name"),
        sa.UniqueConstraint("email", name="uq_user_email"),
    )  # fmt: skip
    op.create_table(
        "token", _id(),
        _text("uid"), _text("kind"), _text("name"), _text("digest"), _json("scope"),
        _row("user_id", null=True), _row("host_id", null=True), _number("created"),
        _number("expires", null=True), _number("used", null=True),
        sa.ForeignKeyConstraint(["user_id"], ["user.id"], name="fk_token_user_id"),
        sa.ForeignKeyConstraint(["host_id"], ["host.id"], name="fk_token_host_id"),
        sa.UniqueConstraint("uid", name="uq_token_uid"),
        sa.UniqueConstraint("digest", name="uq_token_digest"),
    )  # fmt: skip
    op.create_index("ix_token_user_id", "token", ["user_id"])
    op.create_index("ix_token_host_id", "token", ["host_id"])
    op.create_table(
        "account", _id(),
        _text("name"), _text("label"), _text("digest"), _number("keep_days"), _row("target_id"),
        _number("created"),
        sa.ForeignKeyConstraint(["target_id"], ["target.id"], name="fk_account_target_id"),
        sa.UniqueConstraint("name", name="uq_account_name"),
    )  # fmt: skip
    op.create_index("ix_account_target_id", "account", ["target_id"])
    op.create_table(
        "session", _id(),
        _text("digest"), _row("account_id"), _number("created"), _number("expires"),
        sa.ForeignKeyConstraint(["account_id"], ["account.id"], name="fk_session_account_id"),
        sa.UniqueConstraint("digest", name="uq_session_digest"),
    )  # fmt: skip
    op.create_index("ix_session_account_id", "session", ["account_id"])
    op.create_index("ix_session_expires", "session", ["expires"])
    op.create_table(
        "guess", _id(),
        _text("key"), _number("wrong"), _number("last"), _number("blocked_until"),
        sa.UniqueConstraint("key", name="uq_guess_key"),
    )  # fmt: skip


def _the_server_itself() -> None:
    op.create_table(
        "audit", _id(),
        _number("at"), _text("actor"), _text("address"), _text("verb"), _text("subject"),
        _text("outcome"), _json("detail"), _text("previous"), _text("digest"),
    )  # fmt: skip
    op.create_index("ix_audit_at", "audit", ["at"])
    op.create_table(
        "setting", _id(),
        _text("name"), sa.Column("value", JSON), _number("rev"),
        sa.UniqueConstraint("name", name="uq_setting_name"),
    )  # fmt: skip


# --- columns --------------------------------------------------------------------------------------


def _id() -> sa.Column[int]:
    return sa.Column("id", NUMBER, primary_key=True, autoincrement=True)


def _row(name: str, *, null: bool = False) -> sa.Column[int]:
    """The number of a row."""
    return sa.Column(name, NUMBER, nullable=null)


def _number(name: str, *, null: bool = False) -> sa.Column[int]:
    """Times, too."""
    return sa.Column(name, sa.BigInteger(), nullable=null)


def _text(name: str, *, null: bool = False) -> sa.Column[str]:
    return sa.Column(name, sa.Text(), nullable=null)


def _flag(name: str) -> sa.Column[bool]:
    return sa.Column(name, sa.Boolean(), nullable=False)


def _json(name: str) -> sa.Column[object]:
    return sa.Column(name, JSON, nullable=False)
