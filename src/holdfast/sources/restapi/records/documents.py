"""Inside an API's answer: parsing it, and finding values, records and their keys."""

from __future__ import annotations

import json
from enum import Enum
from typing import TYPE_CHECKING, Any, Final

import msgspec

from holdfast.core.errors import AnswerError

if TYPE_CHECKING:
    from holdfast.sources.restapi.project.project import Project


class Missing(Enum):
    """Says that nothing is there, which is not the same as null."""

    MISSING = "missing"


MISSING: Final = Missing.MISSING
_MARK = b"\xef\xbb\xbf"


class ShapeError(AnswerError):
    """The answer has no records where the project says that they are."""

    code = "data-key-missing"
    remedy = "Check data.data_key; `holdfast api detect` finds it. The archive is untouched."


def parse(body: bytes) -> Any:
    """A JSON document. Any: whatever the API says.

    Raises:
        ValueError: it is not JSON.
    """
    body = without_mark(body)
    try:
        return msgspec.json.decode(body)
    except msgspec.MsgspecError:
        return json.loads(body)  # knows NaN, lone surrogates, UTF-16 and numbers beyond a double
    except RecursionError:
        raise ValueError("nested deeper than anything sensible") from None


def without_mark(body: bytes) -> bytes:
    """Without the byte order mark that some servers send."""
    return body.removeprefix(_MARK)


def value_at(document: Any, key: str, splitter: str = ".") -> Any:
    """What stands at a dotted key; of a list, what its first element has there.

    Any: JSON. MISSING where there is nothing.
    """
    if isinstance(document, dict) and key in document:
        return document[key]
    for part in key.split(splitter):
        if isinstance(document, list) and document:
            document = document[0]
        if not isinstance(document, dict) or part not in document:
            return MISSING
        document = document[part]
    return document


def with_value(document: dict[str, Any], key: str, value: Any) -> dict[str, Any]:
    """A copy with a value at a dotted key; folders on the way are made. Any: JSON."""
    head, _, rest = key.partition(".")
    if not rest:
        return {**document, head: value}
    below = document.get(head)
    return {**document, head: with_value(below if isinstance(below, dict) else {}, rest, value)}


def records_of(project: Project, document: Any) -> list[Any]:
    """The records of one parsed answer: the list at data_key, or one record that stands there
    alone.

    Any: JSON.

    Raises:
        ShapeError: nothing stands at data_key.
    """
    key = project.data.data_key
    found = value_at(document, key, project.settings.splitter) if key else document
    if found is MISSING:
        raise ShapeError(f"the answer has nothing at data_key {key!r}; it has {_outline(document)}")
    if found is None:
        return []
    return found if isinstance(found, list) else [found]


def key_of(project: Project, record: Any) -> str | None:
    """The record's item_key as JSON text, a list for a group of keys; None where any part is
    missing. Any: JSON.
    """
    keys = project.data.item_key
    if not keys:
        return None
    splitter = project.settings.splitter
    values = [value_at(record, key, splitter) for key in keys]
    if any(value is MISSING or value is None for value in values):
        return None
    return as_json(values[0] if len(values) == 1 else values)


def identity(project: Project, record: Any) -> str:
    """What tells a record from others: its item_key, or all of it. Any: JSON."""
    return key_of(project, record) or as_json(record)


def as_json(value: Any) -> str:
    """Compact JSON text. Any: JSON."""
    try:
        return msgspec.json.encode(value).decode()
    except UnicodeEncodeError:
        return json.dumps(value, separators=(",", ":"))


def whole_number(document: Any, key: str, splitter: str) -> int | None:
    """A count that an API announces, as a number or as text. Any: JSON."""
    found = value_at(document, key, splitter)
    if isinstance(found, bool) or not isinstance(found, (int, float, str)):
        return None
    try:
        number = int(float(found))
    except (ValueError, OverflowError):
        return None
    return number if number >= 0 else None


def _outline(document: Any) -> str:
    if isinstance(document, dict):
        return "the keys " + ", ".join(sorted(map(str, document))[:12]) if document else "no keys"
    return f"a list of {len(document)}" if isinstance(document, list) else "one plain value"
