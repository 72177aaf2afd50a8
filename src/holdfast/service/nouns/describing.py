"""What a settings-like noun is: its fields, who may see and change it, and what else happens."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sqlalchemy import ColumnElement, FromClause, and_, false, literal, or_, select, true, union_all

if TYPE_CHECKING:
    from holdfast.catalog.database import Transaction
    from holdfast.catalog.rows import Rows
    from holdfast.core.access import Scope, Verb
    from holdfast.core.fields import Field

Row = Mapping[str, Any]
Columns = Mapping[str, ColumnElement[Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Noun:
    """`source` is a table, or a query that has a column for each field. Every noun has an `id`."""

    name: str
    """for people: "user group" """
    source: FromClause
    fields: tuple[Field, ...]
    sees: Verb
    changes: Verb | None = None
    """None: nobody changes it here"""
    rows: Callable[[Transaction], Rows[Any]] | None = None
    """where it can be changed"""
    called: str = "name"
    """by which column others refer to it"""
    columns: Columns = field(default_factory=dict)
    """expressions of fields that are no columns of the source"""
    only: ColumnElement[bool] = field(default_factory=true)
    """which rows of the source are its"""
    unique: tuple[str, ...] = ("name",)
    """fields that tell its rows apart"""
    built_in: frozenset[int] = frozenset()
    """rows that were there from the first, and stay as they are"""
    within: Columns | None = None
    """by which columns somebody is narrowed, by the names in a `Scope`; a scope that narrows by
    anything else holds none of the rows. None: whoever sees it anywhere sees all of it"""
    before_removal: Callable[[Transaction, int], None] = lambda _tx, _id: None
    """what referred to a row is changed"""
    completed: Callable[[Transaction, Sequence[dict[str, Any]]], None] = lambda _tx, _rows: None
    """adds to rows that are handed up what no column says"""

    def column(self, name: str) -> ColumnElement[Any]:
        return self.columns[name] if name in self.columns else self.source.c[name]

    def field_of(self, name: str) -> Field | None:
        return next((each for each in self.fields if each.name == name), None)

    def visible(self, scopes: Sequence[Scope]) -> ColumnElement[bool]:
        """The rows that lie in one of these."""
        if self.within is None:
            return true()
        return or_(false(), *(self._in_scope(scope, self.within) for scope in scopes))

    @staticmethod
    def _in_scope(scope: Scope, within: Columns) -> ColumnElement[bool]:
        if not scope.limits.keys() <= within.keys():
            return false()
        return and_(true(), *(within[name].in_(sorted(ids)) for name, ids in scope.limits.items()))


def rows_of(*rows: Mapping[str, Any], name: str = "fixed") -> FromClause:
    """A source of rows that are part of the program: lists of them are filtered as all others are.
    They are numbered from 1.
    """
    return union_all(
        *(
            select(*(literal(v).label(k) for k, v in {"id": number, **row}.items()))
            for number, row in enumerate(rows, 1)
        )
    ).subquery(name)
