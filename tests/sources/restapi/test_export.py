"""Exports of stored archives: order, latest state, history, selection, and the file itself."""

from __future__ import annotations

import contextlib
import errno
import gzip
import json
import os
import sqlite3
import tracemalloc
import zipfile

import pyarrow.parquet as pq
import pytest

from holdfast.core.errors import DamagedError, ExportError, StorageFullError, UsageError
from holdfast.sources.restapi.giving.export import Form, Selection, export, form_of
from holdfast.sources.restapi.kept.archive import open_archive
from holdfast.testing.api_projects import store_run, write_project


def rec(number, **more):
    return {"id": number, "name": f"n{number}", **more}


def exported(project, target, **options):
    selection = {key: options.pop(key) for key in list(options) if key != "form"}
    with open_archive(project.place) as archive:
        export(project, archive, str(target), selection=Selection(**selection), **options)
    if target.suffix == ".json":
        return json.loads(target.read_text())
    return [json.loads(line) for line in target.read_text().splitlines()]


@pytest.fixture
def project(tmp_path):
    return write_project(tmp_path / "shop", "http://127.0.0.1:1/items")


def test_records_come_in_the_order_of_the_api(project, tmp_path):
    """Pages are exported by number, not by name: page 10 comes after page 9."""
    store_run(project, [[rec(n * 2), rec(n * 2 + 1)] for n in range(12)], repeated=0)
    records = exported(project, tmp_path / "out.jsonl")
    assert [record["id"] for record in records] == list(range(24))


def test_a_record_read_twice_is_exported_once(project, tmp_path):
    """Records that slid onto the next page while it was read are one record by their key."""
    store_run(project, [[rec(1), rec(2)], [rec(2), rec(3)], [{"name": "no key"}]])
    records = exported(project, tmp_path / "out.json")
    assert [record.get("id") for record in records] == [1, 2, 3, None]


def test_an_update_gives_the_latest_state(project, tmp_path):
    """Changed records are exported once, in their place, as they are now; new ones follow."""
    store_run(project, [[rec(1), rec(2)], [rec(3)]], repeated=0)
    store_run(project, [[rec(2, v=2), rec(9)]], mode="update", whole=False)
    store_run(project, [[rec(2, v=3), rec(8)]], mode="update", whole=False)
    assert exported(project, tmp_path / "out.json") == [
        rec(1), rec(2, v=3), rec(3), rec(9), rec(8),
    ]  # fmt: skip


def test_what_a_complete_update_lacks_is_deleted(project, tmp_path):
    """A record that a complete listing lacks is gone from the state, not from the history."""
    store_run(project, [[rec(1), rec(2), rec(3)]], repeated=0)
    update = store_run(project, [[rec(3), rec(1, v=2)]], mode="update", repeated=0)
    assert exported(project, tmp_path / "out.json") == [rec(3), rec(1, v=2)]
    history = exported(project, tmp_path / "h.json", history=True)
    assert [(row["id"], row["_change"]) for row in history] == [
        (1, "added"), (2, "added"), (3, "added"), (1, "changed"), (2, "removed"),
    ]  # fmt: skip
    assert history[3]["_run"] == update.id
    assert history[0]["_time"] == "2026-01-02T00:00:00Z"


def test_history_reaches_back_over_full_runs(project, tmp_path):
    """Earlier full runs that are kept are part of the history."""
    store_run(project, [[rec(1), rec(2)]], repeated=0)
    store_run(project, [[rec(2), rec(3, v=1)]], repeated=0)
    history = exported(project, tmp_path / "h.json", history=True)
    assert [(row["id"], row["_change"]) for row in history] == [
        (1, "added"), (2, "added"), (3, "added"), (1, "removed"),
    ]  # fmt: skip


def test_without_an_item_key_nothing_is_merged(tmp_path):
    """When nothing says which records are the same, every record is kept."""
    project = write_project(tmp_path / "p", "http://127.0.0.1:1/", data={"item_key": None})
    store_run(project, [[rec(1), rec(1)]])
    store_run(project, [[rec(1)]], mode="update", whole=False)
    assert len(exported(project, tmp_path / "out.json")) == 3


def test_fields_and_conditions_select(project, tmp_path):
    """Only the fields asked for, only the records that satisfy every condition."""
    store_run(project, [[rec(n, deep={"x": str(n)}) for n in range(30)]])
    chosen = {"fields": ("id", "deep.x"), "where": ("deep.x >= 9", "id < 12 and name != n10")}
    assert exported(project, tmp_path / "out.json", **chosen) == [
        {"id": 9, "deep.x": "9"}, {"id": 11, "deep.x": "11"},
    ]  # fmt: skip


def test_composite_keys_and_another_splitter_work(tmp_path):
    """A group of keys makes a record unique together; the splitter is the project's."""
    project = write_project(
        tmp_path / "p",
        "http://127.0.0.1:1/",
        settings={"splitter": "/"},
        data={"item_key": "a.b,c/d"},
    )
    rows = [{"a.b": 1, "c": {"d": 1}}, {"a.b": 1, "c": {"d": 2}}, {"a.b": 1, "c": {"d": 1}}]
    store_run(project, [rows])
    assert exported(project, tmp_path / "out.json") == rows[:2]
    store_run(project, [rows[:1]], mode="update")
    history = exported(project, tmp_path / "h.json", history=True)
    assert (history[-1]["a.b"], history[-1]["c"], history[-1]["_change"]) == (
        1,
        {"d": 2},
        "removed",
    )


def test_archives_of_the_original_program_export(project, tmp_path):
    """A storage.zip without any of our own files beside it reads the same."""
    project.place.folder.mkdir()
    with zipfile.ZipFile(project.place.pages, "w", zipfile.ZIP_DEFLATED) as archive:
        for number in (1, 10, 2):
            archive.writestr(f"page_{number}.json", json.dumps({"data": [rec(number)]}))
        archive.writestr(
            "runs/20260101T000000Z-abc/page_1.json", json.dumps({"data": [rec(2, v=2)]})
        )
    assert exported(project, tmp_path / "out.json") == [rec(1), rec(2, v=2), rec(10)]


@pytest.mark.parametrize(
    ("name", "form"),
    [
        ("a.jsonl", "jsonl"), ("a.json", "json"), ("a.csv", "csv"), ("a.jsonl.gz", "gzip"),
        ("a.zst", "zstd"), ("a.PARQUET", "parquet"), ("a.db", "sqlite"), ("a.duckdb", "duckdb"),
        ("a", "jsonl"), ("-", "jsonl"),
    ],
)  # fmt: skip
def test_the_name_decides_about_the_form(name, form):
    """Without --format the file's name says what it becomes."""
    assert form_of(name) == form


@pytest.mark.parametrize("form", list(Form))
def test_every_form_is_written_whole(project, tmp_path, form):
    """Each form gives one file and leaves nothing else behind."""
    store_run(project, [[rec(n) for n in range(50)]])
    with open_archive(project.place) as archive:
        done = export(project, archive, str(tmp_path / "out"), form=form)
    assert (done.records, done.form) == (50, form)
    assert done.size == (tmp_path / "out").stat().st_size
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "shop"]


def test_packed_csv_is_csv(project, tmp_path):
    """`data.csv.gz` is CSV inside."""
    store_run(project, [[rec(1)]])
    with open_archive(project.place) as archive:
        export(project, archive, str(tmp_path / "data.csv.gz"))
    assert gzip.decompress((tmp_path / "data.csv.gz").read_bytes()) == b"id,name\r\n1,n1\r\n"


def test_late_columns_reach_parquet(project, tmp_path):
    """The schema is that of all records, also of those that an update brought."""
    store_run(project, [[rec(n)] for n in range(5)], repeated=0)
    store_run(project, [[rec(9, late=[1, 2])]], mode="update", whole=False)
    with open_archive(project.place) as archive:
        export(project, archive, str(tmp_path / "out.parquet"))
    assert pq.read_table(tmp_path / "out.parquet").column("late").to_pylist()[-1] == [1, 2]


def test_a_failed_export_leaves_the_old_file(project, tmp_path, monkeypatch):
    """I10: a full disk while exporting leaves the file that was there and nothing half-written."""
    store_run(project, [[rec(n) for n in range(5000)]])
    target = tmp_path / "out.jsonl"
    target.write_text("old")

    def full(*_args):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageFullError, match="no room left"):
        exported(project, target)
    assert target.read_text() == "old"
    assert [path.name for path in tmp_path.glob(".*")] == []


def test_a_target_that_cannot_be_is_a_sentence(project, tmp_path):
    """A missing folder, a table on standard output and unknown parts are explained."""
    store_run(project, [[rec(1)]])
    with pytest.raises(ExportError, match="No such file"):
        exported(project, tmp_path / "nowhere" / "out.jsonl")
    with open_archive(project.place) as archive:
        with pytest.raises(UsageError, match="needs a file"):
            export(project, archive, "-", form=Form.PARQUET)
        with pytest.raises(UsageError, match="no 'details'"):
            export(project, archive, "-", selection=Selection(part="details"))


def test_standard_output_takes_text(project, capfdbinary):
    """`-` writes the records to standard output."""
    store_run(project, [[rec(1)]])
    with open_archive(project.place) as archive:
        export(project, archive, "-")
    assert capfdbinary.readouterr().out == b'{"id":1,"name":"n1"}\n'


def test_memory_stays_flat(project, tmp_path):
    """Exporting many records needs no more memory than exporting few."""
    peaks = []
    for count in (40, 400):
        store_run(project, [[rec(p * 100 + n) for n in range(100)] for p in range(count)])
        tracemalloc.start()
        exported_to = tmp_path / "out.jsonl"
        with open_archive(project.place) as archive:
            export(project, archive, str(exported_to))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < peaks[0] * 1.5 + (1 << 20)


@pytest.mark.parametrize("kind", ["filesystem", "sqlite"])
def test_a_page_that_is_not_what_was_received_is_refused(tmp_path, kind):
    """A flipped bit in storage without checksums of its own is named, not exported."""
    storage = {"storage_type": kind}
    project = write_project(tmp_path / "p", "http://127.0.0.1:1/items", storage=storage)
    store_run(project, [[rec(1)], [rec(2)]])
    with open_archive(project.place) as archive:
        name = archive.place.pages
    if kind == "filesystem":
        page = name / "page_2.json"
        page.write_bytes(page.read_bytes().replace(b"n2", b"n3"))
    else:
        with contextlib.closing(sqlite3.connect(name)) as database, database:
            (body,) = database.execute(
                "SELECT content FROM pages WHERE name = 'page_2.json'"
            ).fetchone()
            changed = body.replace(b"n2", b"n3")
            database.execute("UPDATE pages SET content = ? WHERE name = 'page_2.json'", (changed,))
    with pytest.raises(DamagedError, match=r"page_2\.json") as caught:
        exported(project, tmp_path / "out.json")
    assert "holdfast api verify" in caught.value.advice
    assert not (tmp_path / "out.json").exists()
