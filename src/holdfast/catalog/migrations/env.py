"""What Alembic runs the steps in: the transaction that `catalog.migrating` holds."""

from __future__ import annotations

from alembic import context

from holdfast.catalog.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,  # for the names of constraints
    transactional_ddl=True,
)
context.run_migrations()
