"""Writing what was collected into a file of a common form."""

from __future__ import annotations

import os
import secrets
import sys
from contextlib import closing, contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final

from holdfast.core.errors import ExportError, StorageFullError, UsageError
from holdfast.core.progress import Silence
from holdfast.sources.restapi.kept import latest
from holdfast.sources.restapi.kept.members import details, followed
from holdfast.sources.restapi.project.place import FULL_DISK
from holdfast.sources.restapi.records.filters import pick, split_key
from holdfast.sources.restapi.records.where import parse_where
from holdfast.sources.restapi.records.writers import (
    gzipped,
    write_csv,
    write_json,
    write_jsonl,
    zstandard,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from holdfast.core.progress import Progress
    from holdfast.sources.restapi.kept.archive import Archive
    from holdfast.sources.restapi.project.project import Project
    from holdfast.sources.restapi.records.writers import Batches


class Form(StrEnum):
    JSONL = "jsonl"
    JSON = "json"
    CSV = "csv"
    GZIP = "gzip"
    ZSTD = "zstd"
    PARQUET = "parquet"
    SQLITE = "sqlite"
    DUCKDB = "duckdb"


STDOUT: Final = "-"
_KEPT: Final = "The archive is untouched. Free space, try again."
_BATCH: Final = 1000
"""Records that are handed on together, at least."""
_SUFFIXES: Final = {
    ".jsonl": Form.JSONL, ".ndjson": Form.JSONL, ".json": Form.JSON, ".csv": Form.CSV,
    ".gz": Form.GZIP, ".gzip": Form.GZIP, ".zst": Form.ZSTD, ".zstd": Form.ZSTD,
    ".parquet": Form.PARQUET, ".pq": Form.PARQUET, ".sqlite": Form.SQLITE,
    ".sqlite3": Form.SQLITE, ".db": Form.SQLITE, ".duckdb": Form.DUCKDB,
}  # fmt: skip
_TEXTS: Final = {Form.JSONL: write_jsonl, Form.JSON: write_json, Form.CSV: write_csv}
_PACKERS: Final = {Form.GZIP: gzipped, Form.ZSTD: zstandard}


@dataclass(frozen=True, slots=True)
class Selection:
    """What to export. `where` as `--where` takes it; `fields` are dotted names; `part` is
    "records", "details" or the name
    of a follow rule, None for details where there are some and records otherwise.
    """

    fields: tuple[str, ...] = ()
    where: tuple[str, ...] = ()
    history: bool = False
    part: str | None = None


@dataclass(frozen=True, slots=True)
class Exported:
    form: Form
    records: int
    size: int
    """Bytes written; 0 on standard output."""


def export(
    project: Project,
    archive: Archive,
    target: str,
    *,
    form: Form | None = None,
    selection: Selection | None = None,
    progress: Progress | None = None,
) -> Exported:
    """Writes the chosen records to a file, or to standard output for "-". The file appears whole
    or not at all.

    Raises:
        UsageError: the selection or the form cannot be.
        ExportError, StorageFullError: the target cannot be written; what was there is as it was.
        ShapeError, DamagedError: a stored page cannot be read as records.
    """
    form = form or form_of(target)
    counter = _Counter(progress or Silence())
    batches = counter.over(_chosen(project, archive, selection or Selection()))
    if target == STDOUT:
        _write_stdout(form, batches)
        return Exported(form, counter.count, 0)
    path = Path(target)
    with _placed(path) as draft:
        _write_file(form, batches, draft, name=path.name)
    return Exported(form, counter.count, path.stat().st_size)


def form_of(target: str) -> Form:
    """The form that a file's name asks for; JSON lines where it asks for none."""
    return _SUFFIXES.get(Path(target).suffix.lower(), Form.JSONL)


def _chosen(project: Project, archive: Archive, selection: Selection) -> Batches:
    """The records of a selection. Its mistakes show here, before anything is written."""
    splitter = project.settings.splitter
    conditions = [parse_where(text, splitter) for text in selection.where]
    fields = {name: split_key(name, splitter) for name in selection.fields}
    if selection.history:
        fields |= {name: (name,) for name in (latest.RUN, latest.TIME, latest.CHANGE) if fields}
    origin = _origin(project, archive, selection)

    def batches() -> Iterator[list[Any]]:
        waiting: list[Any] = []
        for batch in origin():
            if conditions:
                batch = [row for row in batch if all(each.accepts(row) for each in conditions)]
            waiting += [pick(row, fields) for row in batch] if fields else batch
            if len(waiting) >= _BATCH:
                yield waiting
                waiting = []
        if waiting:
            yield waiting

    return batches


def _origin(project: Project, archive: Archive, selection: Selection) -> Batches:
    stored = followed(project)
    part = selection.part
    if part is None and stored and not selection.history:
        return lambda: details(project, stored)
    if part in {None, "records"}:
        read = latest.history if selection.history else latest.state
        return lambda: read(project, archive)
    if selection.history:
        raise UsageError("--history is about the records; details keep no history")
    chosen = {
        label: rule for label, rule in stored.items() if part in {"details", rule.name, label}
    }
    if not chosen:
        names = ["records", *(["details"] if stored else [])]
        known = ", ".join(names + [rule.name for rule in stored.values() if rule.name])
        raise UsageError(f"there is no {part!r} to export", remedy=f"This archive has: {known}.")
    return lambda: details(project, chosen)


class _Counter:
    """Counts the records of the last time they were gone through."""

    def __init__(self, progress: Progress) -> None:
        self.count = 0
        self._progress = progress

    def over(self, batches: Batches) -> Batches:
        def counted() -> Iterator[list[Any]]:
            self.count = 0
            self._progress.stage("reading records")
            for batch in batches():
                yield batch
                self.count += len(batch)
                self._progress.add(items=len(batch))

        return counted


def _write_stdout(form: Form, batches: Batches) -> None:
    if form in {Form.PARQUET, Form.SQLITE, Form.DUCKDB}:
        raise UsageError(f"{form} needs a file, not standard output", remedy="Name a file.")
    try:
        _write_text(form, batches, sys.stdout.buffer, name="")
        sys.stdout.buffer.flush()
    except OSError as error:
        if error.errno in FULL_DISK:
            raise StorageFullError(
                "no room left where standard output goes", remedy=_KEPT
            ) from error
        raise


def _write_file(form: Form, batches: Batches, draft: Path, *, name: str) -> None:
    if form in _TEXTS or form in _PACKERS:
        with draft.open("wb") as stream:
            _write_text(form, batches, stream, name=name)
        return
    # The table libraries take long to load, and most exports need none of them.
    from holdfast.sources.restapi.records import tables

    writers = {
        Form.PARQUET: tables.write_parquet,
        Form.SQLITE: tables.write_sqlite,
        Form.DUCKDB: tables.write_duckdb,
    }
    writers[form](batches, draft)


def _write_text(form: Form, batches: Batches, stream: BinaryIO, *, name: str) -> None:
    """Text as it is or packed; `data.csv.gz` says what is packed, JSON lines otherwise."""
    if form in _TEXTS:
        _TEXTS[form](batches, stream)
        return
    inner = _SUFFIXES.get(Path(Path(name).stem).suffix.lower(), Form.JSONL)
    with closing(_PACKERS[form](stream)) as packed:
        _TEXTS.get(inner, write_jsonl)(batches, packed)


@contextmanager
def _placed(path: Path) -> Iterator[Path]:
    """A name beside the target to write to; the target is replaced at once when all went well."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}.new")
    try:
        yield draft
        with draft.open("r+b") as written:
            os.fsync(written.fileno())
        draft.replace(path)
    except UnicodeEncodeError as error:
        raise ExportError(
            f"{path} cannot be written: the name of a field is no valid Unicode text",
            remedy="Export to jsonl, or choose other fields with --fields.",
        ) from error
    except OSError as error:
        if error.errno in FULL_DISK:
            raise StorageFullError(
                f"no room left to write {path}",
                remedy=f"No partial file was left. {_KEPT}",
            ) from error
        raise ExportError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        for leftover in (draft, draft.with_name(f"{draft.name}.wal")):
            leftover.unlink(missing_ok=True)
