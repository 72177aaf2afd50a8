"""What requests carry: JSON, a form, or nothing, read as PocketBase reads it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qsl

import msgspec

from holdfast.web import forms, receiving
from holdfast.web.dialects.pocketbase.rendering import LOAD, VALIDATE, FaceError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.requests import Request

NAME: Final = re.compile(r"[a-z0-9_-]+\.zip")
_LONGEST: Final = 150
_LONGEST_CREDENTIAL: Final = 255


async def body(request: Request, fields: Sequence[str]) -> dict[str, Any]:
    """Of a form, these fields; of JSON, everything."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "multipart/form-data":
        return {
            event.name: event.value
            async for event in forms.events(request, fields=fields, files=())
            if isinstance(event, forms.Field)
        }
    raw = await receiving.whole(request)
    if not raw or kind in {"application/xml", "text/xml"}:
        return {}
    if kind == "application/x-www-form-urlencoded":
        return dict(parse_qsl(raw.decode("utf-8", "replace"), keep_blank_values=True))
    if kind not in {"application/json", ""}:
        raise FaceError(400, LOAD)
    try:
        parsed = msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):  # too deep is no body either
        raise FaceError(400, LOAD) from None
    if not isinstance(parsed, dict):
        raise FaceError(400, LOAD)
    return parsed


def text(parsed: dict[str, Any], name: str) -> str:
    """A text, empty where it is not there; a number or a list cannot be loaded."""
    value = parsed.get(name)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise FaceError(400, LOAD)
    return value


def credentials(parsed: dict[str, Any]) -> tuple[str, str]:
    """Raises FaceError that names what is missing or too long."""
    wrong: dict[str, tuple[Any, ...]] = {}
    found = {}
    for name in ("identity", "password"):
        value = text(parsed, name)
        found[name] = value
        if not value:
            wrong[name] = ("validation_required", "Cannot be blank.")
        elif len(value) > _LONGEST_CREDENTIAL:
            wrong[name] = _length(_LONGEST_CREDENTIAL)
    if wrong:
        raise FaceError(400, VALIDATE, wrong)
    return found["identity"], found["password"]


def check_name(name: str) -> None:
    """Of a backup that is to be made: the length first, then the form."""
    if len(name) > _LONGEST:
        raise FaceError(400, VALIDATE, {"name": _length(_LONGEST)})
    if not NAME.fullmatch(name):
        raise FaceError(
            400, VALIDATE, {"name": ("validation_match_invalid", "Must be in a valid format.")}
        )


def _length(most: int) -> tuple[Any, ...]:
    return (
        "validation_length_out_of_range",
        f"The length must be between 1 and {most}.",
        {"max": most, "min": 1},
    )
