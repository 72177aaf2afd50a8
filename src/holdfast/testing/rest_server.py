"""A small server of restic's REST protocol, versions 1 and 2, over a directory, for the loopback.

Written apart from `holdfast.store`, so that a misunderstanding of the protocol shows. Stock restic
can use it: `python -m holdfast.testing.rest_server FOLDER`.
"""

from __future__ import annotations

import json
import re
import socket
import struct
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from base64 import b64encode
from dataclasses import dataclass
from hashlib import sha256
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from tempfile import NamedTemporaryFile
from threading import Event, Thread
from typing import TYPE_CHECKING, Final, Self
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Callable

    Interference = Callable[[str, str], int | None]

CUT: Final = -1
"""As an answer to `interfere`: the connection is reset instead of an answer."""
CUT_AFTER: Final = -2
"""The request takes effect, then the connection is reset."""

_PLACE = re.compile(r"/(data|index|keys|locks|snapshots)/([0-9a-f]{64})?")
_RANGE = re.compile(r"bytes=(\d*)-(\d*)")
_V1, _V2 = "application/vnd.x.restic.rest.v1", "application/vnd.x.restic.rest.v2"
_RESET: Final = struct.pack("ii", 1, 0)


class RestServer:
    """Serves one repository at `url` while it is used as a context.

    `interfere` is asked about each request (method, path) and may answer in its stead: with a
    status, CUT or CUT_AFTER. `quota` bounds the bytes of all objects. Version 1 lists no sizes.
    """

    def __init__(
        self,
        folder: Path,
        *,
        version: int = 2,
        append_only: bool = False,
        ranges: bool = True,
        user: str = "",
        password: str = "",
        quota: int | None = None,
    ) -> None:
        self.folder = folder
        self.version = version
        self.append_only = append_only
        self.ranges = ranges
        pair = b64encode(f"{user}:{password}".encode()).decode()
        self.authorization = f"Basic {pair}" if user else ""
        self.quota = quota
        self.interfere: Interference = lambda _method, _path: None
        self.requests: list[tuple[str, str]] = []
        self._server = _Server(self)
        self._thread = Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    body: bytes = b""
    type: str = "application/octet-stream"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # head and body are written apart
    server: _Server

    def serve(self) -> None:
        repository = self.server.repository
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = urlsplit(self.path).path
        repository.requests.append((self.command, path))
        status = repository.interfere(self.command, path)
        if status is not None and status > 0:
            return self._answer(_Answer(status))
        if repository.authorization not in {"", self.headers.get("Authorization")}:
            return self._answer(_Answer(HTTPStatus.UNAUTHORIZED))
        answer = _Answer(HTTPStatus.OK) if status == CUT else self._act(path, body)
        return self._reset() if status in {CUT, CUT_AFTER} else self._answer(answer)

    do_GET = do_HEAD = do_POST = do_DELETE = serve  # noqa: N815  the library's names

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  the library's name
        """Says nothing."""

    def _act(self, path: str, body: bytes) -> _Answer:
        repository = self.server.repository
        if path == "/":
            return self._create() if self.command == "POST" else _Answer(HTTPStatus.NOT_FOUND)
        place = _PLACE.fullmatch(path)
        if path == "/config":
            file = repository.folder / "config"
        elif not place:
            return _Answer(HTTPStatus.NOT_FOUND)
        elif not place[2]:
            return self._list(place[1])
        else:
            file = repository.folder / place[1]
            file = (file / place[2][:2] if place[1] == "data" else file) / place[2]
        if self.command == "POST":
            return self._put(file, body, digest=place[2] if place else None)
        if not file.is_file():
            return _Answer(HTTPStatus.NOT_FOUND)
        if self.command == "DELETE":
            return self._remove(file)
        return self._read(file.read_bytes())

    def _create(self) -> _Answer:
        for kind in ("data", "index", "keys", "locks", "snapshots"):
            (self.server.repository.folder / kind).mkdir(parents=True, exist_ok=True)
        return _Answer(HTTPStatus.OK)

    def _list(self, kind: str) -> _Answer:
        repository = self.server.repository
        folder = repository.folder / kind
        if not folder.is_dir():
            return _Answer(HTTPStatus.NOT_FOUND)
        files = [file for file in folder.rglob("*") if file.is_file()]
        if repository.version > 1 and self.headers.get("Accept") == _V2:
            found = [{"name": file.name, "size": file.stat().st_size} for file in files]
            return _Answer(HTTPStatus.OK, json.dumps(found).encode(), _V2)
        return _Answer(HTTPStatus.OK, json.dumps([file.name for file in files]).encode(), _V1)

    def _put(self, file: Path, body: bytes, *, digest: str | None) -> _Answer:
        repository = self.server.repository
        if digest and sha256(body).hexdigest() != digest:
            return _Answer(HTTPStatus.BAD_REQUEST)
        if repository.quota is not None and _size(repository.folder) + len(body) > repository.quota:
            return _Answer(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
        file.parent.mkdir(parents=True, exist_ok=True)
        with NamedTemporaryFile(dir=repository.folder, prefix="upload-", delete=False) as temporary:
            temporary.write(body)
        try:
            file.hardlink_to(temporary.name)
        except FileExistsError:
            return _Answer(HTTPStatus.FORBIDDEN)
        finally:
            Path(temporary.name).unlink()
        return _Answer(HTTPStatus.OK)

    def _remove(self, file: Path) -> _Answer:
        if self.server.repository.append_only and file.parent.name != "locks":
            return _Answer(HTTPStatus.FORBIDDEN)
        file.unlink()
        return _Answer(HTTPStatus.OK)

    def _read(self, content: bytes) -> _Answer:
        wanted = _RANGE.fullmatch(self.headers.get("Range", ""))
        if not wanted or not self.server.repository.ranges:
            return _Answer(HTTPStatus.OK, content)
        first, last = wanted.groups()
        if not first:
            return _Answer(HTTPStatus.PARTIAL_CONTENT, content[-int(last) :])
        if int(first) >= len(content):
            return _Answer(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE)
        end = int(last) + 1 if last else len(content)
        return _Answer(HTTPStatus.PARTIAL_CONTENT, content[int(first) : end])

    def _answer(self, answer: _Answer) -> None:
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.type)
        self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.body)

    def _reset(self) -> None:
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self.close_connection = True


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, repository: RestServer) -> None:
        self.repository = repository
        super().__init__(("127.0.0.1", 0), _Handler)

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that went away is no error here."""


def _size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def main() -> None:
    parser = ArgumentParser(description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="of the repository; made by the client's init")
    with RestServer(parser.parse_args().folder) as server:
        print(f"rest:{server.url}", flush=True)  # noqa: T201  this is a program
        Event().wait()


if __name__ == "__main__":
    main()
