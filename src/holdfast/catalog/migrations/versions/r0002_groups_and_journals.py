"""Groups of machines and of users, roles that are granted, media servers, journals, samples."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    _groups()
    _roles()
    _what_happened()


def _groups() -> None:
    client_group = op.create_table(
        "client_group", _id(),
        _text("name"), _flag("shared"), _flag("clustered"), _text("description"),
        _number("launch_attempts_limit"),
        sa.UniqueConstraint("name", name="uq_client_group_name"),
    )  # fmt: skip
    user_group = op.create_table(
        "user_group", _id(), _text("name"), _text("description"),
        sa.UniqueConstraint("name", name="uq_user_group_name"),
    )  # fmt: skip
    # The first rows of new tables, so both are number 1.
    built_in = {"shared": False, "clustered": False, "launch_attempts_limit": 1}
    op.bulk_insert(client_group, [{"name": "No group", "description": "", **built_in}])
    op.bulk_insert(user_group, [{"name": "Nobody", "description": ""}])
    with op.batch_alter_table("user") as changed:
        changed.add_column(sa.Column("group_id", NUMBER, nullable=False, server_default="1"))
        for name in ("fullname", "address", "tel", "office"):
            changed.add_column(sa.Column(name, sa.Text(), nullable=False, server_default=""))
        changed.create_foreign_key("fk_user_group_id", "user_group", ["group_id"], ["id"])
        changed.create_index("ix_user_group_id", ["group_id"])


def _roles() -> None:
    op.create_table(
        "media_server", _id(),
        _text("name"), _text("hwid"), _flag("main"), _number("created"),
        _number("seen", null=True),
        sa.UniqueConstraint("name", name="uq_media_server_name"),
        sa.UniqueConstraint("hwid", name="uq_media_server_hwid"),
    )  # fmt: skip
    _role("supervisor")
    _role("administrator", "client_group")
    _role("maintainer", "media_server")
    op.create_table(
        "token_family", _id(),
        _text("name"), _row("user_id"), _text("refresh"), _number("created"), _number("expires"),
        sa.ForeignKeyConstraint(["user_id"], ["user.id"], name="fk_token_family_user_id"),
        sa.UniqueConstraint("name", name="uq_token_family_name"),
    )  # fmt: skip
    op.create_index("ix_token_family_user_id", "token_family", ["user_id"])
    op.create_index("ix_token_family_expires", "token_family", ["expires"])


def _role(name: str, over: str = "") -> None:
    named = ["user", *([over] if over else [])]
    columns = [f"{each}_id" for each in named]
    op.create_table(
        name, _id(), *map(_row, columns),
        *(
            sa.ForeignKeyConstraint([column], [f"{each}.id"], name=f"fk_{name}_{column}")
            for each, column in zip(named, columns, strict=True)
        ),
        sa.UniqueConstraint(*columns, name=f"uq_{name}_{'_'.join(columns)}"),
    )  # fmt: skip
    for column in columns:
        op.create_index(f"ix_{name}_{column}", name, [column])


def _what_happened() -> None:
    op.create_index("ix_audit_subject", "audit", ["subject", "id"])
    op.create_table(
        "journal", _id(),
        _text("area"), _number("at"), _text("level"), _text("text"), _text("actor"),
        _row("task_id", null=True), _text("kind"), _text("state"), _text("source"),
        _row("host_id", null=True), _text("host"), _row("backup_id", null=True),
    )  # fmt: skip
    op.create_index("ix_journal_area", "journal", ["area", "id"])
    for column in ("at", "level", "task_id", "host", "backup_id"):
        op.create_index(f"ix_journal_{column}", "journal", ["area", column, "id"])
    op.create_table(
        "sample", _id(),
        _number("at"), *(sa.Column(each, sa.Float(), nullable=False) for each in _SHARES),
        *map(_number, ("disk_read", "disk_written", "received", "sent")),
    )  # fmt: skip
    op.create_index("ix_sample_at", "sample", ["at"])


_SHARES = ("cpu", "memory", "swap", "disk")


# --- columns --------------------------------------------------------------------------------------


def _id() -> sa.Column[int]:
    return sa.Column("id", NUMBER, primary_key=True, autoincrement=True)


def _row(name: str, *, null: bool = False) -> sa.Column[int]:
    """The number of a row."""
    return sa.Column(name, NUMBER, nullable=null)


def _number(name: str, *, null: bool = False) -> sa.Column[int]:
    """Times, too."""
    return sa.Column(name, sa.BigInteger(), nullable=null)


def _text(name: str) -> sa.Column[str]:
    return sa.Column(name, sa.Text(), nullable=False)


def _flag(name: str) -> sa.Column[bool]:
    return sa.Column(name, sa.Boolean(), nullable=False)
