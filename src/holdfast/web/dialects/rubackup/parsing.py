"""What requests carry: bodies, and which page of a list is asked for."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import msgspec

from holdfast.core.errors import HoldfastError, InvalidError
from holdfast.core.fields import Asked, Condition
from holdfast.web import receiving

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.requests import Request

    from holdfast.core.fields import Page
    from holdfast.web.dialects.rubackup.describing import Body

MOST_ROWS = 10_000
"""On one page; so many come where no limit is given."""
_CONDITION = re.compile(
    r'\s*([A-Za-z_]\w{0,63})\s*([=~<>])\s*"((?:[^"\\\x00-\x1f]|\\["\\])*)"\s*(,|$)'
)
_MOST_CONDITIONS = 20
_LONGEST_FILTER = 4000


class NotJsonError(HoldfastError):
    code = "not-json"
    http_status = 415
    remedy = "Nothing was changed. Send JSON, and say so: Content-Type: application/json."


# --- bodies ---------------------------------------------------------------------------------------


async def body_of(request: Request, body: Body, *, idle: float) -> dict[str, Any]:
    """By the names of fields, not looked at any closer.

    Raises:
        InvalidError: it is no JSON, or no object, or holds keys that nobody knows.
        NotJsonError
    """
    raw = await receiving.whole(request, idle=idle)
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if raw and kind not in {"application/json", ""}:
        raise NotJsonError(f"a body of the type {kind} is not taken")
    return fields_of(_object(raw), body)


def fields_of(given: dict[str, Any], body: Body) -> dict[str, Any]:
    """Raises InvalidError: a key that nobody knows."""
    if body.wrapped:
        _refuse(given.keys() - {"data"}, "")
        inner = given.get("data")
        if not isinstance(inner, dict):
            raise _invalid({"data": "Must be an object."})
        given = inner
    keys = body.keys
    _refuse(given.keys() - keys.keys(), "data." if body.wrapped else "")
    return {keys[key].name: value for key, value in given.items()}


def _object(raw: bytes) -> dict[str, Any]:
    if not raw.strip():
        raise InvalidError("a body is needed, and there is none")
    try:
        parsed = msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise InvalidError("the body is not JSON") from None
    if not isinstance(parsed, dict):
        raise InvalidError("the body is no object")
    return parsed


def _refuse(unknown: set[str], above: str) -> None:
    if unknown:
        raise _invalid({above + key: "There is no such field here." for key in sorted(unknown)})


def _invalid(wrong: Mapping[str, str]) -> InvalidError:
    return InvalidError(
        "the request cannot be taken as it is",
        fields={place: ("invalid", sentence) for place, sentence in wrong.items()},
    )


# --- lists ----------------------------------------------------------------------------------------


def asked(query: Mapping[str, str], names: Mapping[str, str]) -> Asked:
    """`names`: of fields, by what they are called outside.

    Raises:
        InvalidError
    """
    limit = _number(query, "limit", MOST_ROWS, most=MOST_ROWS)
    page = _number(query, "page", 1, most=1 << 40)
    direction = query.get("sort_order", "asc").lower()
    if direction not in {"asc", "desc"}:
        raise _invalid({"sort_order": "Must be asc or desc."})
    names = {"id": "id", **names}
    by = query.get("sort_by", "") or "id"
    filters = conditions(query.get("filter_data", ""))
    for place, keys in (("sort_by", [by]), ("filter_data", [each.field for each in filters])):
        unknown = [key for key in keys if key not in names]
        if unknown:
            raise _invalid({place: f"There is no field {unknown[0]} here."})
    return Asked(
        sort=names[by],
        descending=direction == "desc",
        conditions=tuple(replace(each, field=names[each.field]) for each in filters),
        limit=limit,
        offset=(page - 1) * limit,
    )


def conditions(text: str) -> list[Condition]:
    """`name="x",size>"3"`: all of them hold. A backslash stands before a quote or itself.

    Raises:
        InvalidError
    """
    found: list[Condition] = []
    place = 0
    if len(text) > _LONGEST_FILTER:
        raise _invalid({"filter_data": f"Must have {_LONGEST_FILTER} characters at most."})
    while text.strip() and place < len(text):
        match = _CONDITION.match(text, place)
        goes_on = match is not None and match[4] == ","
        if (
            match is None
            or len(found) == _MOST_CONDITIONS
            or (goes_on and match.end() == len(text))
        ):
            raise _invalid({"filter_data": 'Must be conditions such as name="x",id>"3".'})
        found.append(Condition(match[1], match[2], re.sub(r'\\(["\\])', r"\1", match[3])))
        place = match.end()
    return found


def page_of(page: Page, wanted: Asked, rows: list[dict[str, Any]]) -> dict[str, Any]:
    assert wanted.limit is not None
    return {
        "items": rows,
        "total": page.total,
        "page": wanted.offset // wanted.limit + 1,
        "limit": wanted.limit,
    }


def _number(query: Mapping[str, str], name: str, otherwise: int, *, most: int) -> int:
    text = query.get(name, "")
    if not text:
        return otherwise
    if not re.fullmatch(r"\d{1,15}", text, re.ASCII) or not 1 <= int(text) <= most:
        raise _invalid({name: f"Must be a whole number from 1 to {most}."})
    return int(text)
