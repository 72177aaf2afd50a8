"""Databases come to the tables of this version wholly, or not at all."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from contextlib import closing
from itertools import count

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import event, inspect, text

from holdfast.catalog import migrating, tables
from holdfast.catalog.database import Catalog
from holdfast.core.errors import CatalogError, CatalogNewerError
from holdfast.core.records import Pool


def test_the_steps_lead_to_the_tables(catalog):
    """What the steps make is what `tables` says, columns, types, indexes and all."""
    migrating.upgrade(catalog)
    with catalog.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, tables.metadata) == []
        found = {
            key["name"]
            for table in tables.metadata.tables
            for key in inspect(connection).get_foreign_keys(table)
        }
    wanted = {
        key.constraint.name
        for table in tables.metadata.tables.values()
        for key in table.foreign_keys
    }
    assert found == wanted


def test_the_newest_step_is_known():
    """`tables.REVISION` names the last step, and steps are one line."""
    config = Config()
    config.set_main_option("script_location", "holdfast.catalog:migrations")
    assert ScriptDirectory.from_config(config).get_heads() == [tables.REVISION]


def test_nothing_is_done_twice(catalog):
    """Once there, it is a look at one row."""
    migrating.upgrade(catalog)
    statements = []
    event.listen(
        catalog.engine, "before_cursor_execute", lambda _c, _u, text, *_: statements.append(text)
    )
    migrating.upgrade(catalog)
    assert not [each for each in statements if each.startswith(("CREATE", "INSERT"))]
    assert len(statements) <= 3


def test_alembic_is_not_imported_for_nothing(tmp_path):
    """By opening what is there: commands would all start later."""
    address = str(tmp_path / "catalog.db")
    with closing(Catalog(address)) as catalog:
        migrating.upgrade(catalog)
    program = (
        "import sys\n"
        "from holdfast.catalog.database import Catalog\n"
        "from holdfast.catalog.migrating import upgrade\n"
        f"upgrade(Catalog({address!r}))\n"
        "assert 'alembic' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_newer_databases_are_refused(catalog):
    """F7: with a sentence, and untouched."""
    migrating.upgrade(catalog)
    with catalog.write() as tx:
        tx.connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(CatalogNewerError, match="9999"):
        migrating.upgrade(catalog)
    assert migrating.revision_of(catalog) == "9999"


def test_tables_of_somebody_else_are_refused(catalog):
    """They are not changed into ours."""
    tables.metadata.create_all(catalog.engine)
    with pytest.raises(CatalogError, match="made them"):
        migrating.upgrade(catalog)
    assert migrating.revision_of(catalog) is None


def test_several_at_once(address):
    """One makes the tables, the others find them."""
    failed = []
    start = threading.Barrier(4)

    def run():
        catalog = Catalog(address)
        try:
            start.wait()
            migrating.upgrade(catalog)
        except CatalogError as error:
            failed.append(error)
        finally:
            catalog.close()

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    with closing(Catalog(address)) as catalog:
        assert migrating.revision_of(catalog) == tables.REVISION


@pytest.mark.parametrize("every", [False, pytest.param(True, marks=pytest.mark.long)])
def test_killed_at_any_statement(address, every):
    """F7, I5: the tables are all there or none is, and the next start makes them."""
    for at in count() if every else (0, 2, 3, 20, 47, 10_000):
        killed = killed_at(address, at)
        with closing(Catalog(address)) as catalog:
            names = set(inspect(catalog.engine).get_table_names())
            assert names in (set(), {*tables.metadata.tables, "alembic_version"}), at
            if killed:
                continue
            assert migrating.revision_of(catalog) == tables.REVISION
            with catalog.write() as tx:
                tx.pools.add(Pool(name="main", locations=["/pool"]))
            return
    raise AssertionError


def killed_at(address, at):
    """Upgrades in a process that dies before that statement, or at the end; whether it died."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            left = [at]
            catalog = Catalog(address)

            def step(*_):
                if left[0] == 0:
                    os.kill(os.getpid(), 9)
                left[0] -= 1

            event.listen(catalog.engine, "before_cursor_execute", step)
            event.listen(catalog.engine, "commit", step)
            migrating.upgrade(catalog)
            status = 0
        finally:
            os._exit(status)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in (0, -9)
    return code == -9


def test_a_catalog_that_is_being_rebuilt_is_shut(catalog):
    """Until that has ended; beginning again is no error."""
    migrating.begin_rebuilding(catalog)
    with pytest.raises(CatalogError, match="made anew"):
        migrating.upgrade(catalog)
    migrating.begin_rebuilding(catalog)
    assert migrating.is_rebuilding(catalog)
    migrating.end_rebuilding(catalog)
    migrating.upgrade(catalog)


def test_lost_tables_are_not_made_again(catalog):
    """Where there must have been some."""
    with pytest.raises(CatalogError, match="empty"):
        migrating.upgrade(catalog, make=False)
    assert migrating.revision_of(catalog) is None
