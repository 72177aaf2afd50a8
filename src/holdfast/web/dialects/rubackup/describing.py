"""What a row of the table says. Routes, validation, errors and the interface's description come
from it, and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from holdfast.core.fields import Field, Kind, Page, read

if TYPE_CHECKING:
    from holdfast.core.access import Principal
    from holdfast.service.nouns.describing import Noun
    from holdfast.service.server import Service


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One request for a row, read by what the row says."""

    service: Service
    who: Principal
    row: Row
    id: int = 0
    """of the path"""
    body: Mapping[str, Any] = field(default_factory=dict)
    """by the names of fields"""
    query: Mapping[str, str] = field(default_factory=dict)

    def values(self) -> dict[str, Any]:
        """What the body says. Raises InvalidError."""
        body = self.row.body
        assert body is not None
        return read(body.fields, self.body, what="request", partial=body.partial)

    def asked(self) -> dict[str, Any]:
        """What the query says. Raises InvalidError."""
        known = {
            each.name: _number(self.query[each.name])
            if each.kind is Kind.NUMBER
            else self.query[each.name]
            for each in self.row.query
            if each.name in self.query
        }
        return read(self.row.query, known, what="request")


def _number(text: str) -> int | str:
    """What is no number stays a text, and is refused as one."""
    return int(text) if text.isascii() and text.isdecimal() and len(text) < _DIGITS else text


_DIGITS = 19


@dataclass(frozen=True, slots=True)
class Told:
    """What a row answers besides its status."""

    data: Any = field(default_factory=dict)
    message: str = ""


Act = Callable[[Call], Told]


@dataclass(frozen=True, slots=True, kw_only=True)
class Body:
    """The object that a request carries. `wire`: what fields are called there, where that is not
    their name. `wrapped`: it stands below `data`.
    """

    fields: tuple[Field, ...]
    wire: Mapping[str, str] = field(default_factory=dict)
    wrapped: bool = True
    partial: bool = False
    """what is not given stays as it is"""

    def key(self, name: str) -> str:
        return self.wire.get(name, name)

    @property
    def keys(self) -> dict[str, Field]:
        """What may be given, by its key."""
        return {self.key(each.name): each for each in self.fields if not each.read_only}

    def path(self, name: str) -> str:
        """Where a field stands in the request."""
        return f"data.{self.key(name)}" if self.wrapped else self.key(name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One method of one path."""

    method: str
    path: str
    group: str
    purpose: str
    act: Act
    answers: tuple[int, ...] = (200,)
    """as documented; every row may answer 401, 403 and 500 besides"""
    body: Body | None = None
    query: tuple[Field, ...] = ()
    shown: Body | None = None
    """what comes back, where that is a row of a noun"""
    listed: bool = False
    """a page of them comes back"""
    wire: Mapping[str, str] = field(default_factory=dict)

    @property
    def status(self) -> int:
        """Where it went well."""
        return self.answers[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class Resource:
    """Rows on one noun. `offers` names them; `add`, `change`, `remove` are for nouns that do more
    than keep what they are given.
    """

    path: str
    group: str
    noun: Noun
    offers: frozenset[str]
    wire: Mapping[str, str] = field(default_factory=dict)
    query: tuple[Field, ...] = ()
    """of the row that makes one"""
    add: Act | None = None
    change: Act | None = None
    remove: Callable[[Call, list[int]], None] | None = None
    changed_wire: Mapping[str, str] = field(default_factory=dict)
    """names that differ where one is changed"""
    quiet: frozenset[str] = frozenset()
    """documented without 404"""

    def rows(self) -> list[Row]:
        made = {name: make(self) for name, make in _MAKERS.items()}
        return [made[name] for name in _MAKERS if name in self.offers]

    # --- what most rows do ------------------------------------------------------------------------

    def _list(self, call: Call) -> Told:
        from holdfast.web.dialects.rubackup import parsing

        asked = parsing.asked(call.query, self._names())
        page = call.service.nouns.page(call.who, self.noun, asked)
        return Told(parsing.page_of(page, asked, self._shown_all(page)))

    def _get(self, call: Call) -> Told:
        return Told(self._shown(call.service.nouns.get(call.who, self.noun, call.id)))

    def _add(self, call: Call) -> Told:
        id_ = call.service.nouns.add(call.who, self.noun, call.body)
        return Told({"id": id_}, self._said("created"))

    def _change(self, call: Call) -> Told:
        call.service.nouns.change(call.who, self.noun, call.id, call.body)
        return Told(message=self._said("changed"))

    def _remove_one(self, call: Call) -> Told:
        return self._remove(call, [call.id])

    def _remove_many(self, call: Call) -> Told:
        return self._remove(call, list(dict.fromkeys(call.values()["ids"])))

    def _remove(self, call: Call, ids: list[int]) -> Told:
        if self.remove is not None:
            self.remove(call, ids)
        else:
            call.service.nouns.remove(call.who, self.noun, ids)
        return Told(message=self._said("deleted"))

    def _said(self, done: str) -> str:
        return f"Resource with name '{self.group}' was {done} successfully!"

    # --- how rows look ----------------------------------------------------------------------------

    def _names(self) -> dict[str, str]:
        """Fields by what they are called outside."""
        return {self.wire.get(each.name, each.name): each.name for each in self.noun.fields}

    def _shown_all(self, page: Page) -> list[dict[str, Any]]:
        return [self._shown(row) for row in page.rows]

    def _shown(self, row: Mapping[str, Any]) -> dict[str, Any]:
        shown = {"id": row["id"]}
        for each in self.noun.fields:
            if not each.secret:
                shown[self.wire.get(each.name, each.name)] = each.shown(row[each.name])
        return shown


IDS = Body(
    fields=(Field(name="ids", kind=Kind.NUMBERS, meaning="Numbers of rows: all, or none."),),
    wrapped=False,
)
"""What rows carry that delete several at once."""


def _body(resource: Resource, *, partial: bool = False) -> Body:
    wire = {**resource.wire, **(resource.changed_wire if partial else {})}
    return Body(fields=resource.noun.fields, wire=wire, partial=partial)


_LIST_QUERY = (
    Field(name="page", kind=Kind.NUMBER, default=1, least=1, meaning="From 1."),
    Field(name="limit", kind=Kind.NUMBER, default=0, meaning="Rows on a page."),
    Field(name="sort_by", default="id", meaning="A field."),
    Field(name="sort_order", default="asc", choices=("asc", "desc")),
    Field(
        name="filter_data", default="",
        meaning='Conditions that must all hold, such as name~"te",id>"3".',
    ),
)  # fmt: skip


def _made(resource: Resource, method: str, name: str, purpose: str, act: Act, **more: Any) -> Row:
    one = name in {"get", "patch", "delete"}
    return Row(
        method=method,
        path=resource.path + ("/{id}" if one else ""),
        group=resource.group,
        purpose=purpose,
        act=act,
        wire=resource.wire,
        **more,
    )


def _found(resource: Resource, name: str) -> tuple[int, ...]:
    return (200,) if name in resource.quiet else (200, 404)


_MAKERS: Mapping[str, Callable[[Resource], Row]] = {
    "list": lambda of: _made(
        of, "GET", "list", f"A page of the list: {of.group}.", of._list,  # noqa: SLF001
        query=_LIST_QUERY, listed=True, shown=_body(of),
    ),
    "get": lambda of: _made(
        of, "GET", "get", f"One {of.noun.name}.", of._get,  # noqa: SLF001
        answers=_found(of, "get"), shown=_body(of),
    ),
    "create": lambda of: _made(
        of, "POST", "create", f"Makes a {of.noun.name}.", of.add or of._add,  # noqa: SLF001
        answers=(201,), body=_body(of), query=of.query,
    ),
    "patch": lambda of: _made(
        of, "PATCH", "patch", f"Changes a {of.noun.name}: what is not given stays.",
        of.change or of._change,  # noqa: SLF001
        answers=(200, 400, 404), body=_body(of, partial=True),
    ),
    "delete": lambda of: _made(
        of, "DELETE", "delete", f"Deletes one {of.noun.name}.", of._remove_one,  # noqa: SLF001
        answers=_found(of, "delete"),
    ),
    "delete-many": lambda of: _made(
        of, "DELETE", "delete-many", f"Deletes several at once: {of.group}.",
        of._remove_many,  # noqa: SLF001
        answers=(200, 404), body=IDS,
    ),
}  # fmt: skip
