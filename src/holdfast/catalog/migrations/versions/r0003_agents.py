"""Agents, and what they are to do."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0003"
down_revision = "0002"

NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
JSON = sa.JSON().with_variant(JSONB(), "postgresql")


def upgrade() -> None:
    _agents()
    _orders()
    with op.batch_alter_table("task") as task:
        task.add_column(sa.Column("stage", sa.Text(), nullable=False, server_default=""))
    with op.batch_alter_table("task") as task:
        task.alter_column("stage", server_default=None)


def _agents() -> None:
    op.create_table(
        "agent", _id(),
        _text("hwid"), _text("name"), _text("digest"), _text("state"),
        _row("host_id"), _row("group_id", null=False), _text("note"), _text("address"), _text("os"),
        _text("version"), _json("modules"), _number("capacity"), _flag("central_restore"),
        _flag("own_backup"), _flag("own_restore"), _flag("local_schedule"),
        _flag("local_restrictions"), _row("local_pool_id"),
        _number("seen", null=True), _number("online_until"), _number("created"),
        sa.ForeignKeyConstraint(["host_id"], ["host.id"], name="fk_agent_host_id"),
        sa.ForeignKeyConstraint(["group_id"], ["client_group.id"], name="fk_agent_group_id"),
        sa.ForeignKeyConstraint(["local_pool_id"], ["pool.id"], name="fk_agent_local_pool_id"),
        sa.UniqueConstraint("hwid", name="uq_agent_hwid"),
        sa.UniqueConstraint("digest", name="uq_agent_digest"),
        sa.UniqueConstraint("host_id", name="uq_agent_host_id"),
    )  # fmt: skip
    for column in ("name", "state", "group_id"):
        op.create_index(f"ix_agent_{column}", "agent", [column])


def _orders() -> None:
    op.create_table(
        "agent_order", _id(),
        _row("agent_id", null=False), _row("task_id"), _text("kind"), _json("spec"),
        _json("terms"), _text("state"), _number("issue"), _number("heard"), _json("progress"),
        _text("snapshot"), _json("announced"), _json("outcome"), _number("created"),
        _number("touched"),
        sa.ForeignKeyConstraint(["agent_id"], ["agent.id"], name="fk_agent_order_agent_id"),
        sa.UniqueConstraint("task_id", name="uq_agent_order_task_id"),
    )  # fmt: skip
    for column in ("agent_id", "snapshot"):
        op.create_index(f"ix_agent_order_{column}", "agent_order", [column])


def _id() -> sa.Column[int]:
    return sa.Column("id", NUMBER, primary_key=True, autoincrement=True)


def _row(name: str, *, null: bool = True) -> sa.Column[int]:
    return sa.Column(name, NUMBER, nullable=null)


def _text(name: str) -> sa.Column[str]:
    return sa.Column(name, sa.Text(), nullable=False)


def _number(name: str, *, null: bool = False) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger(), nullable=null)


def _flag(name: str) -> sa.Column[bool]:
    return sa.Column(name, sa.Boolean(), nullable=False)


def _json(name: str) -> sa.Column[object]:
    return sa.Column(name, JSON, nullable=False)
