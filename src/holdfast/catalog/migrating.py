"""Bringing a database to the tables of this version."""

from __future__ import annotations

from typing import TYPE_CHECKING

from holdfast.catalog.tables import metadata

if TYPE_CHECKING:
    from holdfast.catalog.database import Catalog


def upgrade(catalog: Catalog) -> None:
    """Makes what is missing; two processes that start together do it one after the other."""
    with catalog.write() as tx:
        metadata.create_all(tx.connection)
