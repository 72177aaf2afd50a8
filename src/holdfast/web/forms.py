"""Multipart forms as they come: fields and files in their order, nothing spooled."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from streaming_form_data import StreamingFormDataParser
from streaming_form_data.parser import ParseFailedException
from streaming_form_data.targets import BaseTarget

from holdfast.core.errors import InvalidError
from holdfast.web import receiving

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from starlette.requests import Request

_LONGEST_FIELD = 1 << 20


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
    came: deque[Event] = deque()
    try:
        parser = StreamingFormDataParser(headers=dict(request.headers))
    except ParseFailedException as error:
        raise FormError(f"the form cannot be read: {error}") from error
    for name in {*fields, *files}:
        parser.register(name, _Target(name, came, is_file=name in files))
    last = _LastBytes()
    async for piece in receiving.pieces(request, idle=idle, limit=limit):
        last.add(piece)
        try:
            parser.data_received(piece)
        except ParseFailedException as error:
            raise FormError(f"the form cannot be read: {error}") from error
        while came:
            yield came.popleft()
    if not last.ends_form():
        raise FormError("the form ends in the middle")


class _Target(BaseTarget):  # type: ignore[misc]  # the library has no types
    def __init__(self, name: str, came: deque[Event], *, is_file: bool) -> None:
        super().__init__()
        self._name = name
        self._came = came
        self._is_file = is_file
        self._value = bytearray()

    def on_start(self) -> None:
        self._value.clear()
        if self._is_file:
            self._came.append(FileBegins(self._name, self.multipart_filename or ""))

    def on_data_received(self, chunk: bytes) -> None:
        if self._is_file:
            self._came.append(FilePiece(bytes(chunk)))
            return
        self._value += chunk
        if len(self._value) > _LONGEST_FIELD:
            raise FormError(f"the field {self._name} is too long")

    def on_finish(self) -> None:
        if self._is_file:
            self._came.append(FileEnds())
        else:
            self._came.append(Field(self._name, self._value.decode("utf-8", "replace")))


class _LastBytes:
    """A whole form ends with its boundary and two dashes."""

    def __init__(self) -> None:
        self._tail = b""

    def add(self, piece: bytes) -> None:
        self._tail = (self._tail + piece[-8:])[-8:]

    def ends_form(self) -> bool:
        return self._tail.rstrip(b"\r\n").endswith(b"--")
