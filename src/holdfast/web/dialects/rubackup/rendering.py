"""The envelope that every answer comes in, and errors in it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
from starlette.responses import Response

from holdfast.core.errors import (
    DeniedError,
    HoldfastError,
    InvalidError,
    NotSignedInError,
    StateError,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from holdfast.web.dialects.rubackup.describing import Row, Told

_ERROR = 400
_RETRY = {429, 503}


def envelope(
    status: int,
    data: Any = None,
    message: str = "",
    errors: Mapping[str, list[str]] | None = None,
    headers: Mapping[str, str] | None = None,
) -> Response:
    content = {
        "data": {} if data is None else data,
        "errors": errors or {},
        "is_error": status >= _ERROR,
        "message": message,
    }
    return Response(msgspec.json.encode(content), status, headers, media_type="application/json")


def told(row: Row, said: Told) -> Response:
    return envelope(row.status, said.data, said.message)


def refused(error: HoldfastError, row: Row | None) -> Response:
    """`errors`: texts by the place in the request that they are about."""
    status = error.http_status
    message = _sentences(error)
    if isinstance(error, StateError) and row is not None and _ERROR in row.answers:
        status = _ERROR  # documented so where it cannot be done at present
    elif isinstance(error, NotSignedInError):
        message = "Verification failed"
    elif isinstance(error, DeniedError):
        message = "This is not allowed to you."
    fields = error.fields if isinstance(error, InvalidError) else {}
    errors = {_place(name, row): [sentence] for name, (_, sentence) in fields.items()}
    headers = {"Retry-After": "5"} if status in _RETRY else {}
    return envelope(status, message=message, errors=errors, headers=headers)


def _place(name: str, row: Row | None) -> str:
    """Names that are no field's are places already."""
    if row is None or row.body is None:
        return name
    known = any(each.name == name for each in row.body.fields)
    return row.body.path(name) if known else name


def _sentences(error: HoldfastError) -> str:
    message = error.message[:1].upper() + error.message[1:]
    message = message if message.endswith((".", "!", "?")) else message + "."
    return f"{message} {error.advice}".strip()
