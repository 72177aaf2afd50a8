"""One list, create, change and delete for every settings-like noun: authorise, check, act."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from sqlalchemy import select

from holdfast.core.access import EVERYTHING
from holdfast.core.errors import (
    RecordExistsError,
    RecordNotFoundError,
    StateError,
)
from holdfast.core.fields import Kind, read, refuse
from holdfast.service.audit import write_record
from holdfast.service.nouns.listing import Listing

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from holdfast.catalog.database import Transaction
    from holdfast.catalog.rows import Rows
    from holdfast.core.access import Principal, Verb
    from holdfast.core.fields import Asked, Page
    from holdfast.service.ground import Ground
    from holdfast.service.nouns.describing import Noun


class Nouns:
    """Values are by the names of fields, as plain data: what JSON can say. What somebody may not
    see is not there for them.
    """

    def __init__(self, ground: Ground, nouns: Sequence[Noun]) -> None:
        self.ground = ground
        self._nouns = {each.name: each for each in nouns}
        self._listing = Listing(self._nouns)

    # --- looking ----------------------------------------------------------------------------------

    def page(self, who: Principal, noun: Noun, asked: Asked) -> Page:
        """Raises InvalidError: a field that is not there, or cannot be compared so."""
        seen = noun.visible(self.ground.scopes(who, noun.sees, noun.name))
        with self.ground.catalog.read() as tx:
            return self._listing.page(tx, noun, asked, seen)

    def get(self, who: Principal, noun: Noun, id_: int) -> Mapping[str, Any]:
        """Raises RecordNotFoundError."""
        seen = noun.visible(self.ground.scopes(who, noun.sees, f"{noun.name} {id_}"))
        with self.ground.catalog.read() as tx:
            found = self._listing.one(tx, noun, id_, seen)
        if found is None:
            raise _not_found(noun, id_)
        return found

    # --- changing ---------------------------------------------------------------------------------

    def add(self, who: Principal, noun: Noun, given: Mapping[str, Any]) -> int:
        """The number of the new row.

        Raises:
            InvalidError: by field, all at once.
            RecordExistsError: there is one like it.
        """
        verb = _verb(noun)
        if EVERYTHING not in self.ground.scopes(who, verb, noun.name):
            self.ground.refuse(who, verb, noun.name)
        values = read(noun.fields, given, what=noun.name)
        with self._writing(who, verb, noun.name, {"added": _told(values)}) as tx:
            values = self.resolved(tx, noun, values)
            rows = _rows(noun, tx)
            _check_unique(rows, noun, values)
            return int(rows.add(rows.record(**values)).id)

    def change(self, who: Principal, noun: Noun, id_: int, given: Mapping[str, Any]) -> None:
        """What is not given stays.

        Raises:
            InvalidError, RecordExistsError, RecordNotFoundError
            StateError: it was there from the first.
        """
        self.allow_change(who, noun, [id_])
        values = read(noun.fields, given, what=noun.name, partial=True)
        detail = {"changed": sorted(values)}
        with self._writing(who, _verb(noun), f"{noun.name} {id_}", detail) as tx:
            values = self.resolved(tx, noun, values)
            rows = _rows(noun, tx)
            before = rows.get(id_)
            values = _without_fixed(noun, values, before)
            _check_unique(rows, noun, values, before=before)
            if values:
                rows.change(id_, **values)

    def remove(self, who: Principal, noun: Noun, ids: Sequence[int]) -> None:
        """All of them, or none.

        Raises:
            RecordNotFoundError: one is not there.
            StateError: one was there from the first.
        """
        self.allow_change(who, noun, ids)
        subject = f"{noun.name} {', '.join(map(str, ids))}"
        with self._writing(who, _verb(noun), subject, {"removed": True}) as tx:
            rows = _rows(noun, tx)
            for id_ in ids:
                noun.before_removal(tx, id_)
                if not rows.remove(id=id_):
                    raise _not_found(noun, id_)

    # --- for what acts on rows of a noun in its own way -------------------------------------------

    def allow_change(self, who: Principal, noun: Noun, ids: Sequence[int]) -> None:
        """Raises RecordNotFoundError (what somebody may not see is not there for them),
        DeniedError, StateError (a row that stays as it is).
        """
        verb = _verb(noun)
        subject = f"{noun.name} {', '.join(map(str, ids))}"
        may = noun.visible(self.ground.scopes(who, verb, subject))
        seen = noun.visible(self.ground.scopes(who, noun.sees, subject))
        id_ = noun.source.c.id
        with self.ground.catalog.read() as tx:
            there = set(tx.connection.scalars(select(id_).where(id_.in_(ids), noun.only, seen)))
            own = set(tx.connection.scalars(select(id_).where(id_.in_(ids), noun.only, may)))
        missing = [each for each in ids if each not in there]
        if missing:
            raise _not_found(noun, missing[0])
        if not own.issuperset(ids):
            self.ground.refuse(who, verb, subject)
        if not noun.built_in.isdisjoint(ids):
            raise StateError(f"this {noun.name} is part of the program, and stays as it is")

    def changes(self, noun: Noun, id_: int, given: Mapping[str, Any]) -> dict[str, Any]:
        """What was given of a row that is to change, as values: what can be given once is left out.

        Raises:
            InvalidError: by field.
        """
        values = read(noun.fields, given, what=noun.name, partial=True)
        with self.ground.catalog.read() as tx:
            values = self.resolved(tx, noun, values)
            found = tx.connection.execute(select(noun.source).where(noun.source.c.id == id_)).one()
        return _without_fixed(noun, values, found)

    def resolved(self, tx: Transaction, noun: Noun, values: dict[str, Any]) -> dict[str, Any]:
        """The same with the numbers of the rows that are referred to.

        Raises:
            InvalidError: by field, where there is no such row.
        """
        wrong: dict[str, tuple[str, str]] = {}
        found = dict(values)
        for field in noun.fields:
            if field.kind is Kind.REFERENCE and field.name in values:
                number = self.find(tx, field.refers, values[field.name])
                found[field.name] = number
                if number is None:
                    said = f"There is no {field.refers} {values[field.name]}."
                    wrong[field.name] = ("unknown", said)
        refuse(noun.name, wrong)
        return found

    def find(self, tx: Transaction, name: str, named: str | int) -> int | None:
        """The number of the row of that noun that is called so, or has that number."""
        noun = self._nouns[name]
        by = noun.source.c.id if isinstance(named, int) else noun.column(noun.called)
        found: int | None = tx.connection.scalar(
            select(noun.source.c.id).where(by == named, noun.only)
        )
        return found

    @contextmanager
    def _writing(
        self, who: Principal, verb: Verb, subject: str, detail: dict[str, Any]
    ) -> Iterator[Transaction]:
        """Whoever comes here has been allowed to; with the audit record, or not at all (I9)."""
        with self.ground.catalog.write() as tx:
            write_record(tx, self.ground.now(), who, verb, subject, detail=detail)
            yield tx


def _verb(noun: Noun) -> Verb:
    assert noun.changes is not None, noun.name
    return noun.changes


def _rows(noun: Noun, tx: Transaction) -> Rows[Any]:
    assert noun.rows is not None, noun.name
    return noun.rows(tx)


def _not_found(noun: Noun, id_: int) -> RecordNotFoundError:
    return RecordNotFoundError(f"there is no {noun.name} {id_}")


def _without_fixed(noun: Noun, values: dict[str, Any], before: Any) -> dict[str, Any]:
    """What can be given once may be given again as it is."""
    fixed = {each.name for each in noun.fields if each.fixed} & values.keys()
    refuse(
        noun.name,
        {
            name: ("fixed", "Cannot be changed.")
            for name in fixed
            if getattr(before, name) != values[name]
        },
    )
    return {name: value for name, value in values.items() if name not in fixed}


def _check_unique(
    rows: Rows[Any], noun: Noun, values: Mapping[str, Any], *, before: Any = None
) -> None:
    """Raises RecordExistsError in words, before the catalog would in its own."""
    if not noun.unique or values.keys().isdisjoint(noun.unique):
        return
    key = {name: values.get(name, getattr(before, name, None)) for name in noun.unique}
    other = rows.find(**key)
    if other is not None and other.id != getattr(before, "id", 0):
        raise RecordExistsError(f"there is a {noun.name} like that already")


def _told(values: Mapping[str, Any]) -> dict[str, Any]:
    """For the audit: what somebody chose, in short."""
    return {name: value for name, value in values.items() if isinstance(value, str | int)}
