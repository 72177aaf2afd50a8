"""The library that reads multipart forms, at its edge."""

from __future__ import annotations

from typing import TYPE_CHECKING

from streaming_form_data import StreamingFormDataParser
from streaming_form_data.parser import ParseFailedException, parse_content_boundary
from streaming_form_data.targets import BaseTarget

from holdfast.web.forms import (
    LONGEST_FIELD,
    Event,
    Field,
    FileBegins,
    FileEnds,
    FilePiece,
    FormError,
)

if TYPE_CHECKING:
    from collections import deque
    from collections.abc import Mapping, Sequence


_MOST_IN_VAIN = 2 * LONGEST_FIELD
"""Bytes in a row of which nothing comes."""


class FormParser:
    """Puts what it finds into `came`. Raises FormError where it is no form. `end`: what a whole one
    ends with.
    """

    def __init__(
        self,
        headers: Mapping[str, str],
        fields: Sequence[str],
        files: Sequence[str],
        came: deque[Event],
    ) -> None:
        try:
            self.end = b"--" + parse_content_boundary(headers) + b"--"
            self._parser = StreamingFormDataParser(headers=headers)
        except (ParseFailedException, UnicodeError) as error:
            raise FormError(f"the form cannot be read: {error}") from error
        self._came = came
        self._in_vain = 0
        for name in {*fields, *files}:
            self._parser.register(name, _Target(name, came, is_file=name in files))

    def feed(self, piece: bytes) -> None:
        known = len(self._came)
        try:
            self._parser.data_received(piece)
        except ParseFailedException as error:
            raise FormError(
                "the form cannot be read: it does not keep to its boundary, or to the form of forms"
            ) from error
        except UnicodeDecodeError as error:
            raise FormError("the form cannot be read: a name in it is not UTF-8") from error
        # The library takes its time over headers, a second a mebibyte.
        self._in_vain = 0 if len(self._came) > known else self._in_vain + len(piece)
        if self._in_vain > _MOST_IN_VAIN:
            raise FormError("too much of the form belongs to no field and no file of it")


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
        if len(self._value) > LONGEST_FIELD:
            raise FormError(f"the field {self._name} is too long")

    def on_finish(self) -> None:
        if self._is_file:
            self._came.append(FileEnds())
        else:
            self._came.append(Field(self._name, self._value.decode("utf-8", "replace")))
