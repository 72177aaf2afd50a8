"""Records as text: JSON lines, one JSON list, CSV; plain or compressed. Everything streams."""

from __future__ import annotations

import csv
import gzip
import io
import json
from typing import TYPE_CHECKING, Any, BinaryIO, Final, cast

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Batches = Callable[[], Iterator[list[Any]]]
    """Gives the records from the start each time it is called, some at a time, in order."""

_GZIP_LEVEL: Final = 6


def write_jsonl(batches: Batches, stream: BinaryIO) -> None:
    """One record a line, UTF-8, nothing escaped that need not be."""
    encoder = msgspec.json.Encoder()
    for batch in batches():
        try:
            lines = encoder.encode_lines(batch)
        except UnicodeEncodeError:
            lines = b"".join(encode(record) + b"\n" for record in batch)
        stream.write(lines)


def write_json(batches: Batches, stream: BinaryIO) -> None:
    """One JSON list, a record a line."""
    lead = b"[\n"
    for batch in batches():
        if batch:
            stream.write(lead + b",\n".join(map(encode, batch)))
            lead = b",\n"
    stream.write(b"[]\n" if lead == b"[\n" else b"\n]\n")


def write_csv(batches: Batches, stream: BinaryIO) -> None:
    """A header and a row a record; columns of objects have dotted names, lists are JSON.

    Reads the records twice: the columns are those of all records.
    """
    # its table library takes long to load and much room, and most callers need none of it
    from holdfast.sources.restapi.records.columns import columns_of, rows_of

    columns = columns_of(batches)
    text = io.TextIOWrapper(stream, encoding="utf-8", errors="backslashreplace", newline="")
    writer = csv.writer(text)
    writer.writerow([column.name for column in columns])
    for batch in batches():
        writer.writerows([_cell(value) for value in row] for row in rows_of(batch, columns))
    text.detach()


def encode(record: Any) -> bytes:
    """One record as compact JSON. Half surrogate pairs, which UTF-8 cannot say, stay escaped."""
    try:
        return msgspec.json.encode(record)
    except UnicodeEncodeError:
        return json.dumps(record, separators=(",", ":")).encode()


def gzipped(stream: BinaryIO) -> BinaryIO:
    """Compresses what is written; equal records give equal files, since no time is stored."""
    packed = gzip.GzipFile("", "wb", _GZIP_LEVEL, stream, mtime=0)
    return cast("BinaryIO", packed)  # it is one in all but its declared type


def zstandard(stream: BinaryIO) -> BinaryIO:
    """Compresses what is written; closing it ends the frame and leaves `stream` open."""
    import pyarrow as pa

    packed: BinaryIO = pa.CompressedOutputStream(pa.PythonFile(_Borrowed(stream), "w"), "zstd")
    return packed


class _Borrowed:
    """Keeps the compressor from closing a stream that is ours."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self.closed = False

    def write(self, data: bytes) -> int:
        return self._stream.write(data)

    def flush(self) -> None:
        self._stream.flush()

    def close(self) -> None:
        self.closed = True


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if isinstance(value, str) else str(value)
