"""Rows as values: one noun's table read and written through its record type."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import asdict, fields, replace
from enum import EnumType
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Protocol, TypeVar, get_type_hints

from sqlalchemy import ColumnElement, delete, func, insert, select, union_all, update
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert

from holdfast.core.errors import CatalogError, RecordNotFoundError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from sqlalchemy import Connection, Select, Table


class Record(Protocol):
    @property
    def id(self) -> int: ...

    __dataclass_fields__: ClassVar[dict[str, Any]]


T = TypeVar("T", bound=Record)


class Rows(Generic[T]):
    """The rows of one table within one transaction."""

    def __init__(self, connection: Connection, table: Table, record: type[T]) -> None:
        self.connection = connection
        self.table = table
        self.record = record
        self.written: set[str] = set()
        """Columns that this transaction has written: all of them where rows came or went."""
        self._enums = _enums(record)

    def of(self, row: Any) -> T:
        values = dict(row._mapping)  # noqa: SLF001  the library's own name for it
        for name, kind in self._enums:
            values[name] = kind(values[name])
        return self.record(**values)

    def _first(self, query: Select[Any]) -> T | None:
        with self._sound():
            row = self.connection.execute(query).first()
            return None if row is None else self.of(row)

    def _all(self, query: Select[Any]) -> list[T]:
        with self._sound():
            return [self.of(row) for row in self.connection.execute(query)]

    @contextmanager
    def _sound(self) -> Iterator[None]:
        """What was written can be read; what cannot, nobody here has written."""
        try:
            yield
        except ValueError as error:
            raise CatalogError(f"the catalog is damaged: a row of {self.table.name}") from error

    # --- reading ----------------------------------------------------------------------------------

    def find(self, **equal: Any) -> T | None:
        """The one row with these values, None where there is none."""
        return self._first(select(self.table).where(*self._where(equal)))

    def find_or_other(self, **equal: Any) -> T | None:
        """The one row with these values, else some other: as much work either way, so that nobody
        learns from the time it takes whether there is one. The caller compares. None where the
        table is empty.
        """
        id_ = self.table.c.id
        wanted = select(id_).where(*self._where(equal)).scalar_subquery()
        other = select(func.min(id_).label("id")).subquery()
        query = select(self.table).join(other, id_ == func.coalesce(wanted, other.c.id))
        return self._first(query)

    def get(self, id_: int) -> T:
        """Raises RecordNotFoundError."""
        found = self.find(id=id_)
        if found is None:
            raise RecordNotFoundError(f"there is no {self.table.name} {id_}")
        return found

    def all(
        self,
        *conditions: ColumnElement[bool],
        order: Sequence[ColumnElement[Any]] = (),
        limit: int | None = None,
        offset: int = 0,
        **equal: Any,
    ) -> Sequence[T]:
        """Rows in the order given, by `id` where none is."""
        query = select(self.table).where(*conditions, *self._where(equal))
        query = query.order_by(*(order or (self.table.c.id,))).limit(limit).offset(offset)
        return self._all(query)

    def page(
        self,
        *conditions: ColumnElement[bool],
        among: Mapping[str, Iterable[Any]],
        order: Sequence[str],
        descending: bool = False,
        limit: int,
        offset: int = 0,
    ) -> Sequence[T]:
        """Some of the rows where a column has one of the values of `among`, which names just one.

        Each value is looked up by itself, as only so an index of that column and those of `order`
        gives rows in order; and only rows that are shown are read. A page costs the same however
        many rows there are.
        """
        [(column, values)] = among.items()

        def ordered(columns: Any) -> list[Any]:
            return [columns[name].desc() if descending else columns[name] for name in order]

        all_of_it = self.table.c
        found = union_all(
            *(
                select(*(all_of_it[name] for name in {"id": 0} | dict.fromkeys(order)))
                .where(*conditions, all_of_it[column] == value)
                .order_by(*ordered(all_of_it))
                .limit(limit + offset)
                .subquery()
                .select()
                for value in values
            )
        ).subquery()
        shown = select(found.c.id).order_by(*ordered(found.c)).limit(limit).offset(offset)
        query = select(self.table).where(all_of_it.id.in_(shown)).order_by(*ordered(all_of_it))
        return self._all(query)

    def count(self, *conditions: ColumnElement[bool], **equal: Any) -> int:
        query = select(func.count()).select_from(self.table)
        return self.connection.scalar(query.where(*conditions, *self._where(equal))) or 0

    # --- writing ----------------------------------------------------------------------------------

    def add(self, record: T) -> T:
        """Inserts; the same value with its new `id`.

        Raises:
            RecordExistsError: a unique value is taken (raised where the transaction is).
        """
        values = self._values(record)
        self._all_written()
        result = self.connection.execute(insert(self.table).values(values))
        assert result.inserted_primary_key is not None
        return replace(record, id=result.inserted_primary_key[0])

    def add_all(self, records: Iterable[T]) -> None:
        values = [self._values(record) for record in records]
        if values:
            self._all_written()
            self.connection.execute(insert(self.table), values)

    def add_new(self, records: Iterable[T], *, unique: str) -> int:
        """Inserts those whose value of the column `unique` no row has yet; how many."""
        values = [self._values(record) for record in records]
        if not values:
            return 0
        self._all_written()
        make = sqlite_insert if self.connection.dialect.name == "sqlite" else postgresql_insert
        adding = make(self.table).on_conflict_do_nothing(index_elements=[unique])
        return sum(self.connection.execute(adding, each).rowcount for each in values)

    def change(self, id_: int, **values: Any) -> bool:
        """Sets columns of one row; False where there is no such row."""
        return self.change_where(self.table.c.id == id_, **values) > 0

    def change_where(self, *conditions: ColumnElement[bool], **values: Any) -> int:
        """Sets columns of every row that fits; how many."""
        self.written.update(values)
        return self.connection.execute(
            update(self.table).where(*conditions).values(**values)
        ).rowcount

    def remove(self, *conditions: ColumnElement[bool], **equal: Any) -> int:
        """Deletes what fits; how many. At least one condition."""
        where = [*conditions, *self._where(equal)]
        assert where, "a condition is needed to delete"
        self._all_written()
        return self.connection.execute(delete(self.table).where(*where)).rowcount

    def _all_written(self) -> None:
        self.written.update(self.table.c.keys())

    def _where(self, equal: dict[str, Any]) -> list[ColumnElement[bool]]:
        return [self.table.c[name] == value for name, value in equal.items()]

    def _values(self, record: T) -> dict[str, Any]:
        values = asdict(record)
        if not record.id:
            del values["id"]
        return dict(values)


@cache
def _enums(record: type[Any]) -> Sequence[tuple[str, EnumType]]:
    """Columns that hold a word of an enumeration. Reading the hints takes a third of a millisecond,
    and every transaction asks.
    """
    hints = get_type_hints(record)
    return [(f.name, hints[f.name]) for f in fields(record) if isinstance(hints[f.name], EnumType)]
