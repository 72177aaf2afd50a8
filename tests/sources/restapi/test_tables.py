"""Records as text and as tables, mixed and late columns included."""

from __future__ import annotations

import contextlib
import csv
import gzip
import io
import json
import sqlite3

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from holdfast.core.errors import UsageError
from holdfast.sources.restapi.records import tables, writers

MIXED = [
    [
        {"id": 1, "place": {"city": "Rome", "zip": 7}, "value": 5, "tags": ["a"]},
        {"id": 2, "place": None, "value": 2.5, "tags": []},
    ],
    [
        {"id": 2**60 + 1, "value": "five", "Late": True},
        {"id": 4, "place": {"city": "Oslo", "late": {"deep": 1}}, "value": [1], "huge": 2**70},
        "alone",
    ],
]


def over(batches):
    return lambda: iter(batches)


def written(write, batches, wrap=None):
    stream = io.BytesIO()
    if wrap is None:
        write(over(batches), stream)
    else:
        with contextlib.closing(wrap(stream)) as packed:
            write(over(batches), packed)
    return stream.getvalue()


def rows(database, query="SELECT * FROM records"):
    cursor = database.execute(query)
    names = [column[0] for column in cursor.description]
    return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def test_json_lines_keep_everything():
    """Lines hold the very records: order of fields, large numbers, letters unescaped."""
    records = [{"b": 2**70, "a": "жук"}, {"half": "\ud800"}, [1], None]
    lines = written(writers.write_jsonl, [records[:1], records[1:]]).splitlines()
    assert [json.loads(line) for line in lines] == records
    assert lines[0].decode() == '{"b":1180591620717411303424,"a":"жук"}'


@pytest.mark.parametrize("batches", [[], [[]], [[{"a": 1}]], MIXED])
def test_json_is_one_list(batches):
    """The whole file parses as one list, empty collections included."""
    assert json.loads(written(writers.write_json, batches)) == [r for b in batches for r in b]


def test_csv_has_all_columns_of_all_records():
    """Dotted columns for objects, JSON for lists and for what has no single type."""
    table = list(csv.DictReader(io.StringIO(written(writers.write_csv, MIXED).decode())))
    assert [row["place.city"] for row in table] == ["Rome", "", "", "Oslo", ""]
    assert [row["value"] for row in table] == ["5", "2.5", "five", "[1]", "alone"]
    assert table[3]["place.late.deep"] == "1"
    assert table[2]["Late"] == "true"
    assert table[2]["id"] == "1152921504606846977"


def test_packed_text_unpacks_to_the_same():
    """gzip and zstd hold what the plain form holds; the stream below stays open."""
    plain = written(writers.write_jsonl, MIXED)
    assert gzip.decompress(written(writers.write_jsonl, MIXED, writers.gzipped)) == plain
    packed = written(writers.write_jsonl, MIXED, writers.zstandard)
    assert pa.CompressedInputStream(pa.BufferReader(packed), "zstd").read() == plain


def test_parquet_holds_late_and_mixed_columns(tmp_path):
    """One schema for all records: nested where it can be, text where types disagree."""
    tables.write_parquet(over(MIXED), tmp_path / "a.parquet")
    table = pq.read_table(tmp_path / "a.parquet")
    assert table.schema.field("id").type == pa.int64()
    assert table.column("value").to_pylist() == ["5", "2.5", "five", "[1]", "alone"]
    assert table.column("huge").to_pylist()[3] == str(2**70)
    assert table.column("place").to_pylist()[3]["late"] == {"deep": 1}
    assert table.column("Late").to_pylist() == [None, None, True, None, None]


def test_a_column_after_many_records_is_not_lost(tmp_path):
    """A column that first appears late in a long collection is a column like any other."""
    batches = [[{"n": n} for n in range(at, at + 1000)] for at in range(0, 20_000, 1000)]
    batches.append([{"n": 20_000, "late": "x"}])
    tables.write_parquet(over(batches), tmp_path / "a.parquet")
    late = pq.read_table(tmp_path / "a.parquet", columns=["late"]).column(0)
    assert late.null_count == 20_000
    assert late[20_000].as_py() == "x"


def test_numbers_widen_only_without_loss(tmp_path):
    """Whole numbers and decimals share a column of decimals unless one would change by it."""
    tables.write_parquet(over([[{"a": 1, "b": 2**60 + 1}, {"a": 0.5, "b": 0.5}]]), tmp_path / "p")
    table = pq.read_table(tmp_path / "p")
    assert table.to_pydict() == {"a": [1.0, 0.5], "b": ["1152921504606846977", "0.5"]}


def test_objects_used_as_maps_do_not_become_thousands_of_columns(tmp_path):
    """An object with very many different keys is kept as JSON."""
    batches = [[{"map": {f"k{n}": n}} for n in range(at, at + 100)] for at in range(0, 1000, 100)]
    tables.write_parquet(over(batches), tmp_path / "a.parquet")
    column = pq.read_table(tmp_path / "a.parquet").column("map")
    assert column.type == pa.string()
    assert json.loads(column[500].as_py()) == {"k500": 500}


def test_sqlite_has_types_and_queries(tmp_path):
    """A table `records` with typed columns; names that differ in case only are told apart."""
    tables.write_sqlite(over([*MIXED, [{"late": 1}]]), tmp_path / "a.sqlite")
    with contextlib.closing(sqlite3.connect(tmp_path / "a.sqlite")) as database:
        found = rows(database, "SELECT id, value FROM records WHERE id > 2 ORDER BY rowid")
        names = [row[1] for row in database.execute("PRAGMA table_info(records)")]
    assert found == [{"id": 2**60 + 1, "value": "five"}, {"id": 4, "value": "[1]"}]
    assert {"place.city", "Late", "late_2", "tags"} <= set(names)


def test_sqlite_refuses_what_it_cannot_hold(tmp_path):
    """More columns than SQLite has room for is a sentence, not a broken database."""
    record = {f"field{number}": number for number in range(2500)}
    with pytest.raises(UsageError, match="2500 different fields"):
        tables.write_sqlite(over([[record]]), tmp_path / "a.sqlite")


def test_duckdb_keeps_nested_values(tmp_path):
    """Lists and objects stay lists and objects in DuckDB."""
    tables.write_duckdb(over(MIXED), tmp_path / "a.duckdb")
    with contextlib.closing(duckdb.connect(str(tmp_path / "a.duckdb"))) as database:
        cities = database.execute("SELECT place.city FROM records WHERE id < 5").fetchall()
    assert cities == [("Rome",), (None,), ("Oslo",)]


@pytest.mark.parametrize("write", [tables.write_parquet, tables.write_sqlite, tables.write_duckdb])
def test_an_empty_collection_is_an_empty_table(write, tmp_path):
    """No records is a valid table without rows."""
    write(over([]), tmp_path / "empty")
    assert (tmp_path / "empty").stat().st_size > 0
