"""The flat columns of a collection, for tables that know no nesting: CSV and SQLite."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa

from holdfast.sources.restapi.records.shapes import Shape, as_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from holdfast.sources.restapi.records.writers import Batches

_MOST: Final = 2000
"""Columns of an SQLite table; beyond that only the outermost level is taken apart."""


@dataclass(frozen=True, slots=True)
class Column:
    name: str
    path: tuple[str, ...]
    kind: pa.DataType


def shape_of(batches: Batches) -> Shape:
    """What all the records together look like: one object. A record that is no object is its
    `value`.
    """
    shape = Shape(fields={})
    for batch in batches():
        rows = as_objects(batch)
        try:
            array = pa.array(rows)
        except (pa.ArrowException, OverflowError, UnicodeEncodeError):
            for row in rows:
                shape.observe(row)
        else:
            shape.observe_array(array)
    return shape


def columns_of(batches: Batches) -> list[Column]:
    """Reads all records once. Objects are taken apart into dotted names."""
    shape = shape_of(batches)
    columns = list(_leaves(shape, (), deep=True))
    if len(columns) > _MOST:
        columns = list(_leaves(shape, (), deep=False))
    return _distinct(columns)


def rows_of(batch: list[Any], columns: list[Column]) -> Iterator[list[Any]]:
    """One list of values a record; lists, and what has no single type, become text."""
    readers = [_reader(column) for column in columns]
    for record in as_objects(batch):
        yield [read(record) for read in readers]


def as_objects(batch: list[Any]) -> list[dict[str, Any]]:
    return [record if isinstance(record, dict) else {"value": record} for record in batch]


def _leaves(shape: Shape, path: tuple[str, ...], *, deep: bool) -> Iterator[Column]:
    for key, inner in (shape.fields or {}).items():
        kind = inner.arrow_type()
        if deep and pa.types.is_struct(kind):
            yield from _leaves(inner, (*path, key), deep=True)
        else:
            nested = pa.types.is_struct(kind) or pa.types.is_list(kind)
            yield Column(".".join((*path, key)), (*path, key), pa.string() if nested else kind)


def _distinct(columns: list[Column]) -> list[Column]:
    """Names that differ in more than upper and lower case, which tables do not tell apart."""
    taken: set[str] = set()
    named = []
    for column in columns:
        name, number = column.name, 1
        while name.lower() in taken:
            number += 1
            name = f"{column.name}_{number}"
        taken.add(name.lower())
        named.append(Column(name, column.path, column.kind))
    return named


def _reader(column: Column) -> Callable[[dict[str, Any]], Any]:
    first, *rest = column.path
    text = pa.types.is_string(column.kind)

    def read(record: dict[str, Any]) -> Any:
        value = record.get(first)
        for part in rest:
            value = value.get(part) if value else None
        return as_text(value) if text and value is not None else value

    return read
