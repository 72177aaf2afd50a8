"""Whether the keys that a project names are in its records at all."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from holdfast.core.errors import PartialError
from holdfast.sources.restapi.records.filters import split_key

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_SHOWN = 12


def check_keys(
    batches: Iterable[list[Any]], keys: Sequence[str], *, word: str, splitter: str
) -> None:
    """Reads until one record has one of the keys, which is the first as a rule. Any: JSON.

    Raises:
        PartialError: there are records, and none has any.
    """
    paths = [split_key(key, splitter) for key in keys]
    count, fields = 0, dict[str, None]()
    for batch in batches:
        for record in batch:
            if any(_leads(record, path) for path in paths):
                return
            count += 1
            if isinstance(record, dict) and len(fields) < _SHOWN:
                fields.update(dict.fromkeys(record))
    if count:
        named = " or ".join(repr(key) for key in keys)
        had = ", ".join(list(fields)[:_SHOWN]) or "no fields"
        raise PartialError(
            f"{word}: none of the {count} records has {named}; they have {had}",
            remedy=f"Nothing was fetched. Correct {word} in the project's file.",
        )


def _leads(value: Any, path: Sequence[str]) -> bool:
    """Whether a path is in a record, be it that null or an empty list stands there."""
    if isinstance(value, list):
        return not value or any(_leads(member, path) for member in value)
    if not path:
        return True
    if not isinstance(value, dict):
        return value is None
    return ".".join(path) in value or (path[0] in value and _leads(value[path[0]], path[1:]))
