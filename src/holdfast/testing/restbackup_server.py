"""A small server of RestBackup's Backup API over a directory, for the loopback.

Written apart from `holdfast.client`, so that a misunderstanding of the protocol shows. It can also
refuse without reading, break off and forget to answer.
`python -m holdfast.testing.restbackup_server FOLDER` prints the access url of one.
"""

from __future__ import annotations

import json
import os
import re
import socket
import struct
import sys
import time
from base64 import b64encode
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Lock, Thread
from typing import TYPE_CHECKING, Any, Final, Self
from urllib.parse import quote, unquote_to_bytes

if TYPE_CHECKING:
    from collections.abc import Callable

LARGEST: Final = 5_368_709_120
"""Bytes of a file."""
USER, PASSWORD = "Y21R3P", "Mj313x2D1OyrTSpy"

_PIECE: Final = 1 << 16
_RESET: Final = struct.pack("ii", 1, 0)
_RANGE: Final = re.compile(r"bytes=(\d+)-")
_DAY: Final = 86400


@dataclass(frozen=True, slots=True)
class Fault:
    """What happens to a request instead of, or beside, the right thing."""

    status: int = 0
    """This answer comes at once; nothing else happens."""
    retry_after: str = ""
    forget: bool = False
    """It takes effect, and the connection is reset instead of an answer."""
    cut: int | None = None
    """The connection is reset after so many bytes of a body, whichever way it goes."""


@dataclass(frozen=True, slots=True)
class Asked:
    method: str
    path: str
    headers: dict[str, str]
    """Names in lower case."""


class RestBackupServer:
    """One account at `access_url` while it is used as a context.

    `faults` is asked about each request. `drain`: whether a refused body is read before the answer,
    as kind servers do; else the connection is closed on it. `ranges`: whether parts are given.
    """

    def __init__(self, folder: Path, *, drain: bool = False, ranges: bool = True) -> None:
        self.folder = folder
        self.drain = drain
        self.ranges = ranges
        self.days = 30
        self.faults: Callable[[str, str], Fault | None] = lambda _method, _path: None
        self.asked: list[Asked] = []
        self.received = 0
        """Bytes of bodies."""
        self.lock = Lock()
        self._server = _Server(self)
        self._thread = Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self._server.server_address[1]}"

    @property
    def access_url(self) -> str:
        return f"http://{USER}:{PASSWORD}@{self.host}/"

    def path_of(self, name: str) -> Path:
        """Where the content of a file lies."""
        return self.folder / quote(name, safe="")

    def names(self) -> list[str]:
        return [each["name"] for each in self.listing()]

    def listing(self) -> list[dict[str, Any]]:
        found = []
        for path in self.folder.iterdir():
            if path.suffix != ".part":
                made = path.stat()
                created = int(made.st_mtime)
                found.append(
                    {
                        "name": unquote_to_bytes(path.name).decode(),
                        "size": made.st_size,
                        "createtime": created,
                        "deletetime": created + self.days * _DAY,
                    }
                )
        return sorted(found, key=lambda each: (each["createtime"], each["name"]))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def serve(self) -> None:
        account = self.server.account
        headers = {name.lower(): value for name, value in self.headers.items()}
        account.asked.append(Asked(self.command, self.path, headers))
        fault = account.faults(self.command, self.path) or Fault()
        if fault.status:
            more = {"Retry-After": fault.retry_after} if fault.retry_after else {}
            self._refuse(HTTPStatus(fault.status), **more)
            return
        pair = b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        if self.headers.get("Authorization") != f"Basic {pair}":
            self._refuse(HTTPStatus.UNAUTHORIZED, WWW_Authenticate='Basic realm="backups"')
            return
        act = getattr(self, f"_{self.command.lower()}")
        act(unquote_to_bytes(self.path).decode(), fault)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = serve  # noqa: N815  the library's names

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  the library's name
        """Says nothing."""

    def _put(self, name: str, fault: Fault) -> None:
        account = self.server.account
        length = self.headers.get("Content-Length")
        if length is None or "Transfer-Encoding" in self.headers:
            self._refuse(HTTPStatus.LENGTH_REQUIRED)
        elif not length.isdecimal():
            self._refuse(HTTPStatus.BAD_REQUEST)
        elif int(length) > LARGEST:
            self._refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
        elif name == "/" or account.path_of(name).exists():
            self._refuse(HTTPStatus.METHOD_NOT_ALLOWED, Allow="GET, HEAD")
        elif self._receive(name, int(length), fault):
            if fault.forget:
                self._reset()
            else:
                self._answer(HTTPStatus.CREATED, f"Stored {name}\n".encode(), "text/plain")

    def _receive(self, name: str, left: int, fault: Fault) -> bool:
        account = self.server.account
        part = account.folder / f"{os.urandom(8).hex()}.part"
        cut = left - fault.cut if fault.cut is not None else -1
        with part.open("wb") as file:
            while left > max(cut, 0):
                piece = self.rfile.read(min(left, _PIECE))
                if not piece:
                    break
                left -= len(piece)
                account.received += len(piece)
                file.write(piece)
        if left:
            part.unlink()
            self._reset()
            return False
        with account.lock:
            part.rename(account.path_of(name))
        return True

    def _get(self, name: str, fault: Fault) -> None:
        if name == "/":
            rows = ",\n".join(
                json.dumps(each, ensure_ascii=False) for each in self.server.account.listing()
            )
            self._answer(HTTPStatus.OK, f"[\n{rows}\n]\n".encode(), "application/json")
            return
        path = self.server.account.path_of(name)
        if not path.is_file():
            self._refuse(HTTPStatus.NOT_FOUND)
            return
        size = path.stat().st_size
        wanted = _RANGE.fullmatch(self.headers.get("Range", ""))
        first = int(wanted[1]) if wanted and self.server.account.ranges else 0
        self.send_response(HTTPStatus.PARTIAL_CONTENT if first else HTTPStatus.OK)
        if first:
            self.send_header("Content-Range", f"bytes {first}-{size - 1}/{size}")
        self.send_header("Content-Type", "application/octet-stream")
        self.send_header("Content-Length", str(size - first))
        self.end_headers()
        if self.command == "GET":
            self._give(path, first, fault.cut)

    _head = _get

    def _give(self, path: Path, first: int, cut: int | None) -> None:
        left = path.stat().st_size - first if cut is None else cut
        with path.open("rb") as file:
            file.seek(first)
            while left > 0 and (piece := file.read(min(left, _PIECE))):
                self.wfile.write(piece)
                left -= len(piece)
        if cut is not None:
            time.sleep(0.05)  # else the reset overtakes what was sent
            self._reset()

    def _post(self, name: str, fault: Fault) -> None:  # noqa: ARG002  one signature for all
        if name == "/" and self.headers.get("X-HTTP-Method-Override") == "MAKESESSION":
            self.send_response(HTTPStatus.NO_CONTENT)
            token = os.urandom(8).hex()
            self.send_header("Location", f"http://{self.server.account.host}/session/{token}/")
            self.end_headers()
        else:
            self._refuse(HTTPStatus.METHOD_NOT_ALLOWED)

    def _delete(self, name: str, fault: Fault) -> None:  # noqa: ARG002  one signature for all
        self._refuse(HTTPStatus.METHOD_NOT_ALLOWED)

    def _refuse(self, status: HTTPStatus, **headers: str) -> None:
        left = int(self.headers.get("Content-Length") or 0) if self.command == "PUT" else 0
        if self.server.account.drain:
            while left > 0 and (piece := self.rfile.read(min(left, _PIECE))):
                left -= len(piece)
        self.close_connection = bool(left)
        self._answer(status, f"{status.phrase} here\n".encode(), "text/plain", **headers)

    def _answer(self, status: HTTPStatus, body: bytes, kind: str, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _reset(self) -> None:
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self.close_connection = True


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, account: RestBackupServer) -> None:
        self.account = account
        super().__init__(("127.0.0.1", 0), _Handler)

    def shutdown_request(self, request: object) -> None:
        """Closes at once, with what was not read, as a server that is in a hurry does."""
        assert isinstance(request, socket.socket)
        request.close()

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that went away is no error here."""


def main() -> None:
    with RestBackupServer(Path(sys.argv[1]), drain=True) as server:
        print(server.access_url, flush=True)  # noqa: T201  this is a program
        Event().wait()


if __name__ == "__main__":
    main()
