"""Answers and errors as PocketBase writes them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import msgspec
from starlette.responses import Response

from holdfast.core.records import Role
from holdfast.service.web_tokens import SUPERUSERS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from holdfast.core.records import Backup, User

_SECOND = 1_000_000_000
_MILLISECOND = 1_000_000
UNAUTHORIZED = "The request requires valid record authorization token."
FORBIDDEN = "The authorized record is not allowed to perform this action."
BUSY = "Try again later - another backup/restore process has already been started."
LOAD = "An error occurred while loading the submitted data."
VALIDATE = "An error occurred while validating the submitted data."


class FaceError(Exception):
    """An answer that is an error. `fields`: by dotted path, code and sentence, and parameters where
    the rule has any.
    """

    def __init__(
        self,
        status: int,
        message: str,
        fields: Mapping[str, tuple[Any, ...]] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.fields = fields or {}


def json(value: Any, status: int = 200) -> Response:
    return Response(msgspec.json.encode(value), status, media_type="application/json")


def nothing() -> Response:
    return Response(status_code=204)


def error(raised: FaceError, *, older: bool = False) -> Response:
    """`older`: before 0.23 the status was called code."""
    data: dict[str, Any] = {}
    for path, (code, sentence, *params) in raised.fields.items():
        place = data
        *above, last = path.split(".")
        for name in above:
            place = place.setdefault(name, {})
        place[last] = {"code": code, "message": sentence}
        if params:
            place[last]["params"] = params[0]
    body = {
        "data": data,
        "message": sentenced(raised.message),
        "code" if older else "status": raised.status,
    }
    return json(body, raised.status)


def sentenced(message: str) -> str:
    """With a capital letter and a full stop."""
    text = message[:1].upper() + message[1:]
    return text if text.endswith((".", "!", "?")) else text + "."


def date(nanoseconds: int) -> str:
    """With a space: one of the SDKs reads only that."""
    moment = datetime.fromtimestamp(nanoseconds // _SECOND, UTC)
    return f"{moment:%Y-%m-%d %H:%M:%S}.{nanoseconds // _MILLISECOND % 1000:03}Z"


def backup(each: Backup) -> dict[str, Any]:
    return {"modified": date(each.created), "key": each.name, "size": each.size}


def record(user: User) -> dict[str, Any]:
    is_super = user.role is Role.SUPERUSER
    return {
        "collectionId": SUPERUSERS if is_super else "_pb_users_auth_",
        "collectionName": "_superusers" if is_super else "users",
        "id": user.uid,
        "created": date(user.created),
        "updated": date(user.updated or user.created),
        "email": user.email or "",
        "emailVisibility": False,
        "verified": user.verified,
    } | ({} if is_super else {"username": user.name, "name": user.name})


def admin(user: User) -> dict[str, Any]:
    """A superuser, before 0.23."""
    return {
        "id": user.uid,
        "created": date(user.created),
        "updated": date(user.updated or user.created),
        "avatar": 0,
        "email": user.email or "",
    }
