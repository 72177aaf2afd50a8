"""Bringing a database to the tables of this version, in one transaction: whatever interrupts it
leaves the old tables or the new ones, and of processes that start together one does it.
"""

from __future__ import annotations

import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import text

from holdfast.catalog.database import told
from holdfast.catalog.tables import REVISION
from holdfast.core.errors import CatalogError, CatalogNewerError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Connection

    from holdfast.catalog.database import Catalog

_LOCK: Final = 0x486F6C65
"""PostgreSQL's advisory lock of whoever migrates; SQLite has one writer anyway."""
_VERSIONS: Final = "alembic_version"
_REBUILDING: Final = " rebuilding"
"""Stands behind the revision while a catalog is not whole."""


def revision_of(catalog: Catalog) -> str | None:
    """What step a database is at; None where it has no tables yet."""
    with catalog.read() as tx:
        return _revision(tx.connection)


def upgrade(catalog: Catalog, *, make: bool = True) -> None:
    """Makes or changes tables where it must. Costs a look at one row where there is nothing to do.
    Without `make` there must be tables.

    Raises:
        CatalogNewerError: a newer Holdfast has changed the database.
        CatalogError: its tables are gone, or are being made anew.
    """
    if revision_of(catalog) == REVISION:
        return
    with _migrating(catalog) as connection:
        found = _revision(connection)  # another process may have done it meanwhile
        if found == REVISION:
            return
        if found is None and not make:
            raise CatalogError("the catalog is gone: its database is empty")
        _refuse_what_we_cannot(connection, found)
        _run(connection)


def begin_rebuilding(catalog: Catalog) -> None:
    """Makes the tables, or brings them up to date, and shuts the catalog to `upgrade`, until
    `end_rebuilding`: nobody works on half a catalog. May be called again after a crash.

    Raises:
        CatalogNewerError, CatalogError
    """
    with _migrating(catalog) as connection:
        found = _revision(connection)
        if found is not None and found.endswith(_REBUILDING):
            found = found.removesuffix(_REBUILDING)
            _set_revision(connection, found)
        _refuse_what_we_cannot(connection, found)
        _run(connection)
        _set_revision(connection, REVISION + _REBUILDING)


def end_rebuilding(catalog: Catalog) -> None:
    """What `begin_rebuilding` shut is open."""
    with _migrating(catalog) as connection:
        _set_revision(connection, REVISION)


def is_rebuilding(catalog: Catalog) -> bool:
    found = revision_of(catalog)
    return found is not None and found.endswith(_REBUILDING)


def _revision(connection: Connection) -> str | None:
    if not connection.dialect.has_table(connection, _VERSIONS):
        return None
    found = connection.scalar(text(f"SELECT version_num FROM {_VERSIONS}"))  # noqa: S608  a constant
    return None if found is None else str(found)


def _set_revision(connection: Connection, revision: str) -> None:
    query = f"UPDATE {_VERSIONS} SET version_num = :revision"  # noqa: S608  a constant
    connection.execute(text(query), {"revision": revision})


@contextmanager
def _migrating(catalog: Catalog) -> Iterator[Connection]:
    """A transaction in which tables may be made and changed, and nobody else does so."""
    with (
        told(),
        catalog.engine.connect().execution_options(writes=True) as connection,
        _without_references(connection),
        connection.begin(),
    ):
        if not catalog.embedded:
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
        yield connection
        _check_references(connection)


@contextmanager
def _without_references(connection: Connection) -> Iterator[None]:
    """SQLite changes a table by making it anew, and would see references to the old one break. It
    can be told so outside of transactions only.
    """
    if connection.dialect.name != "sqlite":
        yield
        return
    driver: Any = connection.connection.driver_connection
    driver.execute("PRAGMA foreign_keys=OFF")
    try:
        yield
    finally:
        driver.execute("PRAGMA foreign_keys=ON")


def _check_references(connection: Connection) -> None:
    if connection.dialect.name == "sqlite":
        broken = connection.exec_driver_sql("PRAGMA foreign_key_check").first()
        if broken is not None:
            raise CatalogError(
                f"a row of {broken[0]} would refer to nothing after the upgrade",
                remedy="Nothing was changed. Run the Holdfast of before, and report this.",
            )


def _refuse_what_we_cannot(connection: Connection, found: str | None) -> None:
    if found is not None and found.endswith(_REBUILDING):
        raise CatalogError(
            "the catalog is being made anew, or that was interrupted",
            remedy="Backups are untouched. If nobody is doing it, run `holdfast catalog rebuild` "
            "again: it goes on where it was.",
        )
    if found is not None and found > REVISION:
        raise CatalogNewerError(
            f"a newer Holdfast has changed the catalog (to {found}; this one knows {REVISION})"
        )
    if found is None and connection.dialect.has_table(connection, "backup"):
        raise CatalogError(
            "the database has tables that say of no Holdfast that it made them",
            remedy="Nothing was changed. Give Holdfast an empty database.",
        )


def _run(connection: Connection) -> None:
    """Imported here: it takes longer than all the rest of opening a catalog."""
    logging.getLogger("alembic.runtime.plugins").setLevel(logging.WARNING)
    from alembic import command
    from alembic.config import Config

    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", "holdfast.catalog:migrations")
    command.upgrade(config, "head")
