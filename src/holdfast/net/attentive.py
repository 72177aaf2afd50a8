"""Connections that notice an answer while they still send.

A server may refuse an upload by its head alone and close. Who sends on regardless dies of a broken
pipe and never learns why; here sending ends, and the answer is read.
"""

from __future__ import annotations

import io
import re
import ssl
from functools import partial
from http import HTTPStatus
from http.client import HTTPResponse
from typing import Any, Final

from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.util import Timeout

_BEGINNING: Final = 4096
_INTERIM: Final = re.compile(rb"HTTP/1\.\d 1\d\d[^\n]*\n(?:[^\r\n][^\n]*\n)*\r?\n")
_MAYBE_INTERIM: Final = re.compile(rb"HTTP/1\.\d 1")
_NOTHING_YET: Final = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


class _Attentive(HTTPConnection):
    """Mixed into urllib3's connections, which take a `BrokenPipeError` while they send for what it
    is here: a reason to read the answer.
    """

    stall: float = 60.0
    """Seconds in which each piece of a body must be taken."""
    response_class: Any = HTTPResponse
    _asked = False
    _beginning = b""

    def putrequest(self, *words: Any, **options: Any) -> None:
        self._asked = False
        self._beginning = b""
        self.response_class = HTTPResponse
        super().putrequest(*words, **options)

    def endheaders(self, *words: Any, **options: Any) -> None:
        super().endheaders(*words, **options)
        self._asked = True

    def send(self, data: Any) -> None:
        """Any: whatever a socket sends."""
        if not self._asked:
            super().send(data)
            return
        if self._is_answered():
            raise BrokenPipeError
        self.sock.settimeout(self.stall)
        try:
            super().send(data)
        except OSError as error:
            if self._is_answered():
                raise BrokenPipeError from error
            raise

    def _is_answered(self) -> bool:
        """Whether an answer has begun to arrive, or none can any more; what arrived is kept for its
        reader. Interim answers (100 Continue) end nothing.
        """
        self.sock.settimeout(0)
        try:
            arrived = self.sock.recv(_BEGINNING)
        except _NOTHING_YET:
            return False
        except OSError:
            return True  # reading will tell
        self._beginning += arrived
        while interim := _INTERIM.match(self._beginning):
            self._beginning = self._beginning[interim.end() :]
        began = bool(self._beginning) and not _MAYBE_INTERIM.match(self._beginning)
        self.response_class = partial(_Answer, self._beginning, began)
        return began or not arrived


class _Answer(HTTPResponse):
    """One to a request with a body, whose beginning was read while that was sent. Where the request
    was cut short, or refused, the connection is good for no other: who refuses a body may close on
    what he has not read, and say so to nobody.
    """

    def __init__(self, beginning: bytes, cut: bool, sock: Any, *words: Any, **options: Any) -> None:  # noqa: FBT001  filled in by `partial`
        super().__init__(sock, *words, **options)
        self._cut = cut
        self.fp = io.BufferedReader(_Rejoined(beginning, self.fp.detach()))

    def begin(self) -> None:
        super().begin()
        self.will_close = self.will_close or self._cut or self.status >= HTTPStatus.BAD_REQUEST


class _Rejoined(io.RawIOBase):
    """Bytes that were read already, and the rest of their stream."""

    def __init__(self, beginning: bytes, rest: io.RawIOBase) -> None:
        self._beginning = beginning
        self._rest = rest

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int | None:
        if not self._beginning:
            return self._rest.readinto(buffer)
        view = memoryview(buffer)
        part, self._beginning = self._beginning[: len(view)], self._beginning[len(view) :]
        view[: len(part)] = part
        return len(part)

    def close(self) -> None:
        self._rest.close()
        super().close()


class _Connection(_Attentive, HTTPConnection):
    pass


class _TlsConnection(_Attentive, HTTPSConnection):
    pass


class _Pool(HTTPConnectionPool):
    """Gives its connections the time that it has for reading."""

    ConnectionCls: Any = _Connection

    def _new_conn(self) -> Any:
        connection: Any = super()._new_conn()
        assert isinstance(self.timeout, Timeout)
        connection.stall = self.timeout.read_timeout
        return connection


class _TlsPool(_Pool, HTTPSConnectionPool):
    ConnectionCls = _TlsConnection


POOLS: Final = {"http": _Pool, "https": _TlsPool}
"""For `pool_classes_by_scheme` of urllib3's managers."""
