"""Pages of any noun: filtered, sorted and cut in the database, by the types of the fields."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import func, literal, select

from holdfast.core.errors import InvalidError
from holdfast.core.fields import Field, Kind, Page, RefusedError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy import ColumnElement

    from holdfast.catalog.database import Transaction
    from holdfast.core.fields import Asked, Condition
    from holdfast.service.nouns.describing import Noun

ID = Field(name="id", kind=Kind.NUMBER, read_only=True, meaning="The number of the row.")
_ORDERED = {Kind.NUMBER, Kind.SHARE, Kind.TEXT, Kind.TIME, Kind.CLOCK, Kind.REFERENCE}
_TEXTS = {Kind.TEXT, Kind.CLOCK, Kind.REFERENCE}


class Listing:
    """`nouns`: what fields may refer to, by name."""

    def __init__(self, nouns: Mapping[str, Noun]) -> None:
        self._nouns = nouns

    def page(self, tx: Transaction, noun: Noun, asked: Asked, seen: ColumnElement[bool]) -> Page:
        """Raises InvalidError: a field that is not there, or cannot be compared so."""
        conditions = [noun.only, seen, *self._conditions(noun, asked)]
        order = self._order(noun, asked)
        id_ = noun.source.c.id
        # The numbers first: only rows that are shown are read.
        shown = select(id_).where(*conditions).order_by(*order)
        shown = shown.limit(asked.limit).offset(asked.offset)
        rows = self._rows(tx, noun, id_.in_(shown.scalar_subquery()), order)
        counted = select(func.count()).select_from(noun.source).where(*conditions)
        return Page(rows, tx.connection.scalar(counted) or 0)

    def one(
        self, tx: Transaction, noun: Noun, id_: int, seen: ColumnElement[bool]
    ) -> Mapping[str, Any] | None:
        found = self._rows(tx, noun, (noun.source.c.id == id_) & noun.only & seen, ())
        return found[0] if found else None

    def _rows(
        self,
        tx: Transaction,
        noun: Noun,
        condition: ColumnElement[bool],
        order: tuple[ColumnElement[Any], ...],
    ) -> list[Mapping[str, Any]]:
        read = [each for each in (ID, *noun.fields) if not each.secret]
        columns = [
            self._shown(noun, each).label(each.name) for each in read if each.kind is not Kind.NAMES
        ]
        query = select(*columns).where(condition).order_by(*order)
        found = [dict(row) for row in tx.connection.execute(query).mappings()]
        noun.completed(tx, found)
        return list(found)

    def _shown(self, noun: Noun, field: Field) -> ColumnElement[Any]:
        """The column; of a reference, what the other row is called."""
        column = noun.column(field.name)
        if field.kind is not Kind.REFERENCE:
            return column
        other = self._nouns[field.refers]
        return (
            select(other.column(other.called))
            .where(other.source.c.id == column)
            .correlate(noun.source)
            .scalar_subquery()
        )

    # --- order and conditions ---------------------------------------------------------------------

    def _order(self, noun: Noun, asked: Asked) -> tuple[ColumnElement[Any], ...]:
        field = ID if asked.sort == "id" else noun.field_of(asked.sort)
        if field is None or field.secret or field.kind is Kind.NAMES:
            raise InvalidError(
                f"a {noun.name} cannot be sorted by that",
                fields={"sort_by": ("unknown", f"There is no field {asked.sort} to sort by.")},
            )
        id_: ColumnElement[Any] = noun.source.c.id
        by = [id_] if field is ID else [self._shown(noun, field), id_]
        return tuple(each.desc() if asked.descending else each for each in by)

    def _conditions(self, noun: Noun, asked: Asked) -> list[ColumnElement[bool]]:
        try:
            return [self._condition(noun, each) for each in asked.conditions]
        except RefusedError as error:
            raise InvalidError(
                "the filter cannot be used", fields={"filter_data": (error.code, error.sentence)}
            ) from None

    def _condition(self, noun: Noun, condition: Condition) -> ColumnElement[bool]:
        name, operator = condition.field, condition.operator
        field = ID if name == "id" else noun.field_of(name)
        if field is None or field.secret or field.kind is Kind.NAMES:
            raise RefusedError("unknown", f"There is no field {name} to filter by.")
        if operator == "~":
            if field.kind not in _TEXTS:
                raise RefusedError("operator", f"{name} is no text, so it contains nothing.")
            return self._shown(noun, field).icontains(condition.text, autoescape=True)
        value = literal(field.value_in(condition.text))
        if operator == "=":
            return self._equal(noun, field, value)
        if field.kind not in _ORDERED:
            raise RefusedError("operator", f"{name} has no order to compare by.")
        column = self._shown(noun, field)
        return column < value if operator == "<" else column > value

    def _equal(self, noun: Noun, field: Field, value: ColumnElement[Any]) -> ColumnElement[bool]:
        column = noun.column(field.name)
        if field.kind is not Kind.REFERENCE:
            return column == value
        other = self._nouns[field.refers]  # looked up once, so that an index of the column serves
        named = select(other.source.c.id).where(other.column(other.called) == value)
        return column.in_(named.scalar_subquery())
