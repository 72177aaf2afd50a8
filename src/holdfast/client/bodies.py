"""What is sent and what comes back, as streams: neither is ever whole in memory."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from holdfast.client.errors import (
    RestBackupException,
    RestBackupNetworkException,
    SourceChangedException,
)
from holdfast.client.streams import SizedInputStream, StringReader, pieces
from holdfast.core.errors import NetworkError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from holdfast.client.streams import RewindableSizedInputStream
    from holdfast.core.errors import HoldfastError
    from holdfast.net.http import Incoming

    GoOn = Callable[[int, int, RestBackupException], Incoming]

_LONGEST_TEXT: Final = 64 * 1024
_LONGEST_EXPLANATION: Final = 200
_RANGE: Final = re.compile(r"bytes (\d+)-\d+/(\d+)")
_WHOLE, _PART = 200, 206


class SourceFault(Exception):  # noqa: N818  never seen by people
    """Carries what reading a body raised past the library that sends it."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error


class Sending:
    """A body on its way: exactly `length` bytes, of which `left` are not yet sent."""

    def __init__(self, body: bytes | RewindableSizedInputStream) -> None:
        self.length = self.left = len(body)
        self._stream = StringReader(body) if isinstance(body, bytes) else body

    def __iter__(self) -> Iterator[bytes]:
        try:
            yield from self._counted()
        except Exception as error:
            raise SourceFault(error) from error

    def _counted(self) -> Iterator[bytes]:
        for piece in pieces(self._stream):
            self.left -= len(piece)
            if self.left < 0:
                break
            yield piece
        if self.left:
            got = self.length - self.left
            raise SourceChangedException(f"{got} bytes came to be sent instead of {self.length}")


class HttpResponseReader(SizedInputStream):
    """The body of an answer that says how long it is.

    `go_on` is asked for another answer where this one breaks off: from which byte, for the
    how-manieth time without a byte in between, and why.
    """

    def __init__(self, http_response: Incoming, go_on: GoOn | None = None) -> None:
        super().__init__(content_length(http_response))
        self._response = http_response
        self._tag = http_response.headers.get("ETag")
        self._go_on = go_on
        self._at = 0
        self._tries = 0

    def read_once(self, size: int) -> bytes:
        wanted = min(size, len(self) - self._at)
        while wanted:
            try:
                part = self._response.read(wanted)
            except NetworkError as error:
                self._resume(error)
                continue
            if part:
                self._at += len(part)
                self._tries = 0
                return part
            self._resume(NetworkError("the answer ended before its end"))
        return b""

    def close(self) -> None:
        self._response.close()

    def _resume(self, error: NetworkError) -> None:
        failure = broken(error)
        self._response.close()
        if self._go_on is None:
            raise failure from error
        self._tries += 1
        answer = self._go_on(self._at, self._tries, failure)
        self._check(answer)
        self._response = answer
        if answer.status == _WHOLE:
            self._skip(answer)

    def _check(self, answer: Incoming) -> None:
        """That it is more of the same."""
        if answer.status == _PART:
            part = _RANGE.fullmatch(answer.headers.get("Content-Range", ""))
            same = part is not None and part.groups() == (str(self._at), str(len(self)))
        else:
            same = answer.status == _WHOLE and content_length(answer) == len(self)
        if not same or answer.headers.get("ETag") != self._tag:
            answer.close()
            raise RestBackupException("the file is another one than when this download began")

    def _skip(self, answer: Incoming) -> None:
        """Passes over what was read before; a break in that counts as a try like any other."""
        left = self._at
        while left:
            try:
                left -= len(answer.read(min(left, _LONGEST_TEXT))) or left
            except NetworkError as error:
                self._resume(error)
                return


def content_length(answer: Incoming) -> int:
    """Raises RestBackupException where the answer does not tell the length of what is stored."""
    length = answer.headers.get("Content-Length", "")
    packed = answer.headers.get("Content-Encoding", "identity")
    if not length.isdecimal() or packed != "identity":
        answer.close()
        raise RestBackupException("the service does not tell how long the file is")
    return int(length)


def broken(error: HoldfastError) -> RestBackupNetworkException:
    """The same by the name that callers know."""
    failure = RestBackupNetworkException(error.message, remedy=error.advice)
    failure.passing = error.retryable
    return failure


def read_text(answer: Incoming) -> str:
    """The text of a short answer, as far as it came."""
    try:
        return answer.read(_LONGEST_TEXT).decode(errors="replace")
    except NetworkError:
        return ""


def explanation(answer: Incoming) -> str:
    """What the service says beside the status, if it is plain text."""
    if not answer.headers.get("Content-Type", "").startswith("text/plain"):
        return ""
    text = " ".join("".join(filter(_shown, read_text(answer))).split())
    return f" ({text[:_LONGEST_EXPLANATION]})" if text else ""


def _shown(letter: str) -> bool:
    return letter.isprintable() or letter.isspace()
