"""Multipart forms as they come: fields and files in their order, nothing spooled."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from holdfast.core.errors import InvalidError
from holdfast.web import receiving

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from starlette.requests import Request

LONGEST_FIELD = 1 << 20


@dataclass(frozen=True, slots=True)
class Field:
    name: str
    value: str


@dataclass(frozen=True, slots=True)
class FileBegins:
    name: str
    filename: str


@dataclass(frozen=True, slots=True)
class FilePiece:
    content: bytes


@dataclass(frozen=True, slots=True)
class FileEnds:
    pass


Event = Field | FileBegins | FilePiece | FileEnds


class FormError(InvalidError):
    """The body is no multipart form, or a broken one."""

    code = "bad-form"


def is_form(request: Request) -> bool:
    return request.headers.get("content-type", "").startswith("multipart/form-data")


async def events(
    request: Request,
    *,
    fields: Sequence[str],
    files: Sequence[str],
    idle: float = 30.0,
    limit: int | None = None,
) -> AsyncIterator[Event]:
    """What the form holds of these names; other parts are passed over.

    A part is a file where it has a file name or its name is among `files` only.

    Raises:
        FormError, BodyCutError, BodySlowError, BodyTooLargeError
    """
    if not is_form(request):
        raise FormError("a multipart form is needed")
    from holdfast.web.form_parser import FormParser  # half a second, which not every start needs

    came: deque[Event] = deque()
    parser = FormParser(dict(request.headers), fields, files, came)
    last = _LastBytes(parser.end)
    async for piece in receiving.pieces(request, idle=idle, limit=limit):
        last.add(piece)
        parser.feed(piece)
        while came:
            yield came.popleft()
    if not last.ends_form():
        raise FormError("the form ends in the middle")


class _LastBytes:
    """A whole form ends with `end`, and maybe a new line."""

    def __init__(self, end: bytes) -> None:
        self._end = end
        self._most = len(end) + 8
        self._tail = b""

    def add(self, piece: bytes) -> None:
        self._tail = (self._tail + piece[-self._most :])[-self._most :]

    def ends_form(self) -> bool:
        return self._tail.rstrip(b"\r\n").endswith(self._end)
