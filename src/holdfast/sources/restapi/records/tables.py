"""Records as tables: Parquet, DuckDB and SQLite.

All read the records twice: first to learn the types of all of them, then to write. Nested objects
and lists are kept as
such in Parquet and DuckDB; in SQLite objects become dotted columns and lists JSON.
"""

from __future__ import annotations

import contextlib
import errno
import re
import sqlite3
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from holdfast.core.errors import UsageError
from holdfast.sources.restapi.records.columns import as_objects, columns_of, rows_of, shape_of
from holdfast.sources.restapi.records.shapes import Shape, fit

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from holdfast.sources.restapi.records.writers import Batches

_FULL = re.compile(r"No space left|disk is full")
_GROUP: Final = 8 << 20
"""Bytes of a Parquet row group in memory."""
_SQLITE_COLUMNS: Final = 2000


def write_parquet(batches: Batches, path: Path) -> None:
    schema = schema_of(shape_of(batches))
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for group in _groups(batches, schema):
            writer.write_table(group)


def write_duckdb(batches: Batches, path: Path) -> None:
    """A DuckDB database with one table, `records`."""
    import duckdb

    schema = schema_of(shape_of(batches))
    with (
        _as_os_error(duckdb.IOException, duckdb.TransactionException, duckdb.FatalException),
        contextlib.closing(
            duckdb.connect(str(path), config={"threads": 1, "memory_limit": "128MB"})
        ) as database,
    ):
        database.register("incoming", schema.empty_table())
        database.execute("CREATE TABLE records AS SELECT * FROM incoming")
        for group in _groups(batches, schema):
            database.register("incoming", group)
            database.execute("INSERT INTO records SELECT * FROM incoming")
        database.unregister("incoming")


def write_sqlite(batches: Batches, path: Path) -> None:
    """An SQLite database with one table, `records`.

    Raises:
        UsageError: the records have more fields than such a table can have.
    """
    columns = columns_of(batches)
    if len(columns) > _SQLITE_COLUMNS:
        raise UsageError(
            f"the records have {len(columns)} different fields; SQLite takes {_SQLITE_COLUMNS}",
            remedy="Choose some with --fields, or export to parquet or duckdb.",
        )
    defined = ", ".join(f"{_quoted(column.name)} {_sqlite_type(column.kind)}" for column in columns)
    marks = ", ".join("?" * max(len(columns), 1))
    with (
        _as_os_error(sqlite3.OperationalError),
        contextlib.closing(sqlite3.connect(path, isolation_level=None)) as database,
    ):
        database.execute("PRAGMA journal_mode = OFF")
        database.execute("PRAGMA synchronous = OFF")
        database.execute(f"CREATE TABLE records ({defined or 'value TEXT'})")
        database.execute("BEGIN")
        for batch in batches():
            database.executemany(
                f"INSERT INTO records VALUES ({marks})",  # noqa: S608 - question marks only
                (row or [None] for row in rows_of(batch, columns)),
            )
        database.execute("COMMIT")


@contextlib.contextmanager
def _as_os_error(*kinds: type[Exception]) -> Iterator[None]:
    """What a database says about a file that it cannot write, as anybody else says it."""
    try:
        yield
    except kinds as error:
        number = errno.ENOSPC if _FULL.search(str(error)) else errno.EIO
        raise OSError(number, str(error)) from error


def schema_of(shape: Shape) -> pa.Schema:
    fields = [(name, inner.arrow_type()) for name, inner in (shape.fields or {}).items()]
    return pa.schema(fields or [("value", pa.string())])


def _groups(batches: Batches, schema: pa.Schema) -> Iterator[pa.Table]:
    """The records as tables of that schema, of some thousands of rows each."""
    kind = pa.struct(list(schema))
    waiting: list[pa.RecordBatch] = []
    for batch in batches():
        if batch:
            waiting.append(pa.RecordBatch.from_struct_array(_array(as_objects(batch), kind)))
        if sum(part.nbytes for part in waiting) >= _GROUP:
            yield pa.Table.from_batches(waiting, schema)
            waiting = []
    if waiting:
        yield pa.Table.from_batches(waiting, schema)


def _array(rows: list[dict[str, Any]], kind: pa.DataType) -> pa.Array:
    try:
        return pa.array(rows, type=kind)
    except (pa.ArrowException, TypeError, OverflowError, UnicodeEncodeError):
        # Somewhere in here a value must become text, which the library does only when it is told
        # how.
        return pa.array([fit(row, kind) for row in rows], type=kind)


def _sqlite_type(kind: pa.DataType) -> str:
    if pa.types.is_boolean(kind):
        return "BOOLEAN"
    if pa.types.is_integer(kind):
        return "INTEGER"
    return "REAL" if pa.types.is_floating(kind) else "TEXT"


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
