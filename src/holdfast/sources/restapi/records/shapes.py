"""What types the values of a whole collection have, learned batch by batch, and the columns that
hold them all.

A place in the records where types disagree becomes text: text stays as it is, anything else is
written as JSON. Integers and decimals together become decimals when none loses precision by it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

_FLOAT_EXACT: Final = 2**53
_INT64: Final = (-(2**63), 2**63 - 1)
_WIDEST: Final = 256
"""Keys of one object; an object with more is a map rather than a record and is kept as JSON."""


class Scalar(Enum):
    BOOL = "bool"
    INT = "int"
    LONG = "long"
    """An integer that a float cannot hold exactly."""
    HUGE = "huge"
    """An integer beyond 64 bits."""
    FLOAT = "float"
    TEXT = "text"


@dataclass(slots=True)
class Shape:
    """Everything seen at one place of the records."""

    scalars: set[Scalar] = field(default_factory=set)
    item: Shape | None = None
    fields: dict[str, Shape] | None = None

    def observe(self, value: Any) -> None:
        """Learns from one value."""
        if isinstance(value, dict):
            self.fields = {} if self.fields is None else self.fields
            for key, member in value.items():
                self.fields.setdefault(key, Shape()).observe(member)
        elif isinstance(value, list):
            self.item = self.item or Shape()
            for member in value:
                self.item.observe(member)
        elif value is not None:
            self.scalars.add(_scalar_of(value))

    def observe_array(self, array: pa.Array) -> None:
        """Learns from a column that the table library has typed by itself."""
        kind = array.type
        if pa.types.is_struct(kind):
            self.fields = {} if self.fields is None else self.fields
            for index in range(kind.num_fields):
                shape = self.fields.setdefault(kind.field(index).name, Shape())
                shape.observe_array(array.field(index))
        elif pa.types.is_list(kind):
            self.item = self.item or Shape()
            self.item.observe_array(array.values)
        elif pa.types.is_boolean(kind):
            self.scalars.add(Scalar.BOOL)
        elif pa.types.is_integer(kind):
            bounds = pc.min_max(array)
            for edge in (bounds["min"].as_py(), bounds["max"].as_py()):
                self.scalars.add(_scalar_of(edge or 0))
        elif pa.types.is_floating(kind):
            self.scalars.add(Scalar.FLOAT)
        elif pa.types.is_string(kind):
            self.scalars.add(Scalar.TEXT)

    def arrow_type(self) -> pa.DataType:
        """The one type that holds everything seen; text where only nulls were."""
        kinds = bool(self.scalars) + (self.item is not None) + (self.fields is not None)
        if kinds != 1:
            return pa.string()
        if self.item is not None:
            return pa.list_(self.item.arrow_type())
        if self.fields is not None:
            if not 0 < len(self.fields) <= _WIDEST:
                return pa.string()
            return pa.struct([(key, shape.arrow_type()) for key, shape in self.fields.items()])
        return _scalar_type(self.scalars)


def _scalar_of(value: Any) -> Scalar:
    if isinstance(value, bool):
        return Scalar.BOOL
    if isinstance(value, int):
        if abs(value) <= _FLOAT_EXACT:
            return Scalar.INT
        return Scalar.LONG if _INT64[0] <= value <= _INT64[1] else Scalar.HUGE
    return Scalar.FLOAT if isinstance(value, float) else Scalar.TEXT


def _scalar_type(scalars: set[Scalar]) -> pa.DataType:
    if scalars == {Scalar.BOOL}:
        return pa.bool_()
    if scalars <= {Scalar.INT, Scalar.LONG}:
        return pa.int64()
    if scalars <= {Scalar.INT, Scalar.FLOAT}:
        return pa.float64()
    return pa.string()


def fit(value: Any, kind: pa.DataType) -> Any:
    """The value as a column of that type takes it."""
    if value is None:
        return None
    if pa.types.is_string(kind):
        return as_text(value)
    if pa.types.is_struct(kind):
        return {
            kind.field(index).name: fit(value.get(kind.field(index).name), kind.field(index).type)
            for index in range(kind.num_fields)
        }
    if pa.types.is_list(kind):
        return [fit(member, kind.value_type) for member in value]
    return float(value) if pa.types.is_floating(kind) else value


def as_text(value: Any) -> str:
    """Text as it is (what cannot be written as UTF-8 is escaped), anything else as JSON."""
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    return msgspec.json.encode(value).decode()
