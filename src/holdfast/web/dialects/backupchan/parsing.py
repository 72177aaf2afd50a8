"""What requests say, checked: every mistake is a sentence, never a traceback."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from holdfast.core.errors import InvalidError
from holdfast.core.keeping import Action, Criteria, KeepRule
from holdfast.core.records import Face, Shape
from holdfast.service.targets import Draft, Filter
from holdfast.web import receiving

if TYPE_CHECKING:
    from enum import StrEnum

    from starlette.datastructures import QueryParams
    from starlette.requests import Request

    from holdfast.core.records import Target

E = TypeVar("E", bound="StrEnum")
_REQUIRED = (
    "name", "recycle_criteria", "recycle_value", "recycle_action", "location", "name_template",
)  # fmt: skip
_LARGEST = (1 << 63) - 1
_LARGEST_BODY = 1 << 20
LARGEST_LIST = 64 << 20
"""Bytes of a list of files."""
_LARGEST_NUMBER = 1 << 40
"""In a query: beyond it there are neither pages nor lines."""
_DIGITS = 20
_TRUE, _FALSE = {"1", "true", "on", "yes"}, {"0", "false", "off", "no"}


async def body(request: Request, *, idle: float, limit: int = _LARGEST_BODY) -> dict[str, Any]:
    """Raises InvalidError: no JSON object."""
    raw = await receiving.whole(request, limit=limit, idle=idle)
    try:
        parsed = msgspec.json.decode(raw) if raw else {}
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidError(f"the body is not JSON: {error}") from error
    if not isinstance(parsed, dict):
        raise InvalidError("the body must be a JSON object")
    return parsed


def flag(parsed: dict[str, Any], name: str) -> bool:
    """A boolean that must be there; 0 and 1 are taken, too."""
    if name not in parsed:
        raise _required(name)
    return _flag(parsed[name], name)


def flag_of_text(text: str, name: str) -> bool:
    """As forms write them: 0, 1, true, false."""
    lowered = text.strip().lower()
    if lowered in _TRUE | _FALSE:
        return lowered in _TRUE
    raise InvalidError(f"Parameter '{name}' must be true or false")


def number(params: QueryParams, name: str, default: int, *, least: int = 0) -> int:
    text = params.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdigit()) or int(text[:_DIGITS]) < least:
        raise InvalidError(f"Parameter '{name}' must be a number from {least} on")
    return min(int(text[:_DIGITS]), _LARGEST_NUMBER)


def draft(parsed: dict[str, Any], *, before: Target | None = None) -> Draft:
    """A new target, or what an existing one becomes.

    The document calls `min_backups` `num_backups` where it edits, and `tags` optional; the original
    needed what the document leaves out. Both are taken.
    """
    for name in _REQUIRED if before else ("name", "backup_type", *_REQUIRED[1:]):
        if name not in parsed:
            raise _required(name)
    least = parsed.get("min_backups", parsed.get("num_backups"))
    if least is None and before is not None and not {"min_backups", "num_backups"} & set(parsed):
        least = KeepRule.of(before.keep).min_backups
    rule = KeepRule(
        criteria=_choice(parsed, "recycle_criteria", Criteria),
        value=_count(parsed["recycle_value"], "recycle_value"),
        action=_choice(parsed, "recycle_action", Action),
        min_backups=_count(least, "min_backups") or 0,
    )
    alias = parsed.get("alias", before.alias if before else None)
    duplicates = parsed.get("deduplicate", before.deduplicate if before else False)
    return Draft(
        face=Face.BACKUPCHAN,
        shape=before.shape if before else _choice(parsed, "backup_type", Shape),
        name=_text(parsed["name"], "name"),
        location=_text(parsed["location"], "location"),
        name_template=_text(parsed["name_template"], "name_template"),
        alias=None if alias is None else _text(alias, "alias"),
        deduplicate=_flag(duplicates, "deduplicate"),
        tags=_tags(parsed.get("tags", before.tags if before else None)),
        keep=rule,
    )


def search(params: QueryParams) -> Filter:
    """What is empty is not looked for: the command line sends some that way. Raises InvalidError
    where nothing is left.
    """
    given = {name: text for name, text in params.items() if text}
    if any("\0" in text for text in given.values()):
        raise InvalidError("No name has control characters")
    found = Filter(
        name=given.get("name"),
        location=given.get("location"),
        name_template=given.get("name_template"),
        alias=given.get("alias"),
        shape=_chosen(given, "type", Shape),
        criteria=_chosen(given, "recycle_criteria", Criteria),
        action=_chosen(given, "recycle_action", Action),
        deduplicate=(
            flag_of_text(given["deduplicate"], "deduplicate") if "deduplicate" in given else None
        ),
        tags=given.get("tags", "").split(),
    )
    if found == Filter(tags=[]):
        raise InvalidError("Give at least one thing to look for")
    return found


def files(parsed: dict[str, Any]) -> list[tuple[str, str]]:
    """Folder and name of each file of a sequential upload."""
    listed = parsed.get("file_list")
    if "file_list" not in parsed:
        raise _required("file_list")
    if not isinstance(listed, list) or not listed:
        raise InvalidError("File list validation failed")
    found = []
    for each in listed:
        path, name = (each.get("path"), each.get("name")) if isinstance(each, dict) else (None, 0)
        if not isinstance(path, str) or not isinstance(name, str):
            raise InvalidError("File list validation failed")
        found.append((path, name))
    return found


def _required(name: str) -> InvalidError:
    return InvalidError(f"Parameter '{name}' required")


def _flag(value: Any, name: str) -> bool:
    if isinstance(value, bool) or value in (0, 1):
        return bool(value)
    if isinstance(value, str):
        return flag_of_text(value, name)
    raise InvalidError(f"Parameter '{name}' must be true or false")


def _text(value: Any, name: str) -> str:
    if not isinstance(value, str):
        raise InvalidError(f"Parameter '{name}' must be text")
    return value


def _tags(value: Any) -> list[str]:
    """The published command line, from 0.13 on, sends one comma in place of the tags of a new
    target; without this it could make none.
    """
    if value is None or value == [","]:
        return []
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise InvalidError("Parameter 'tags' must be a list of texts")
    return value


def _count(value: Any, name: str) -> int | None:
    if value is None:
        return None
    if isinstance(value, str) and value.isascii() and value.isdigit():
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= _LARGEST:
        raise InvalidError(f"Parameter '{name}' must be a number from 0 on")
    return value


def _choice(parsed: dict[str, Any], name: str, kind: type[E]) -> E:
    try:
        return kind(parsed[name])
    except ValueError:
        known = ", ".join(kind)
        raise InvalidError(f"Parameter '{name}' must be one of {known}") from None


def _chosen(given: dict[str, str], name: str, kind: type[E]) -> E | None:
    """The client library under newer Pythons writes `BackupType.SINGLE` for `single`."""
    if name not in given:
        return None
    return _choice({name: given[name].rpartition(".")[2].lower()}, name, kind)
