"""What the tests of the Backup-chan face ask a server with."""

from __future__ import annotations

import http.client
import io
import json
import socket
import tarfile
import time
import uuid
import zipfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.web.conftest import Answer

if TYPE_CHECKING:
    from pathlib import Path

    from tests.web.conftest import Server

BOUNDARY = "a-boundary"
MANUAL = ("manual", None, b"1")
Part = tuple[str, str | bytes | None, bytes]


@dataclass
class Chan:
    """Requests with the key, to the face of one server."""

    server: Server
    roots: Path

    def __call__(
        self,
        method: str,
        path: str,
        body: Any = None,
        headers: dict[str, str] | None = None,
        *,
        key: str | None = None,
    ) -> Answer:
        """One request below `/api/`; `body` that is no bytes is sent as JSON."""
        key = self.server.api_key if key is None else key
        sent = dict(headers or {})
        if key:
            sent.setdefault("Authorization", f"Bearer {key}")
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
        connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=120)
        try:
            connection.request(method, f"/api/{path}", body, sent)
            answer = connection.getresponse()
            return Answer(answer.status, answer.read(), dict(answer.headers))
        finally:
            connection.close()

    def unfinished(self) -> list[Path]:
        """Files on their way into a plain pool."""
        return [path for path in self.roots.rglob(".holdfast/tmp/*") if path.is_file()]

    def target(self, **changes: Any) -> str:
        """A new one: a single file in a plain pool of its own; its id."""
        answer = self("POST", "target", self.draft(**changes))
        assert answer.status == 201, answer.body
        return str(answer.json()["id"])

    def draft(self, **changes: Any) -> dict[str, Any]:
        name = uuid.uuid4().hex[:8]
        return {
            "name": name,
            "backup_type": "single",
            "recycle_criteria": "none",
            "recycle_value": 0,
            "recycle_action": "recycle",
            "location": str(self.roots / name),
            "name_template": f"{name}-$I",
            "deduplicate": False,
            "alias": None,
            "min_backups": 0,
            "tags": [],
        } | changes

    def upload(self, target: str, *parts: Part) -> Answer:
        headers = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
        return self("POST", f"target/{target}/upload", form(*parts), headers)

    def put(self, target: str, content: bytes, name: str = "file.bin") -> dict[str, Any]:
        """One backup; what the target says of it."""
        answer = self.upload(target, MANUAL, ("backup_file", name, content))
        assert answer.status == 200, answer.body
        return self.backups(target)[0]

    def backups(self, target: str) -> list[dict[str, Any]]:
        found = self("GET", f"target/{target}").json()["backups"]
        assert isinstance(found, list)
        return found

    def kept(self, target: str) -> list[str]:
        """Ids of those that are not in the bin, newest first."""
        return [each["id"] for each in self.backups(target) if not each["is_recycled"]]

    def content(self, backup: str) -> bytes:
        answer = self("GET", f"backup/{backup}/download")
        assert answer.status == 200, answer.body
        return answer.body

    def files(self, backup: str) -> dict[str, bytes]:
        """Those of a backup of several, by their paths below the top folder."""
        found = {}
        with tarfile.open(fileobj=io.BytesIO(self.content(backup)), mode="r:xz") as tar:
            for member in tar:
                taken = tar.extractfile(member) if member.isfile() else None
                if taken is not None:
                    found[member.name.partition("/")[2]] = taken.read()
        return found

    def run(self, job: str) -> dict[str, Any]:
        """Forces a job and waits for its end."""
        before = self("GET", "jobs").json()["delayed"]
        assert self("GET", f"jobs/force_run/{job}").status == 200
        last = max((each["id"] for each in before), default=0)
        deadline = time.monotonic() + 90
        while time.monotonic() < deadline:
            for each in self("GET", "jobs").json()["delayed"]:
                if each["id"] > last and each["name"] == job and each["status"] not in _UNDER_WAY:
                    return dict(each)
            time.sleep(0.05)
        raise AssertionError(f"{job} did not end")

    def raw(self, *pieces: bytes | float, half: bool = False) -> Answer:
        """Sends bytes as they are, and sleeps for numbers; the first answer, 0 where none came.
        `half`: says that no more will come.
        """
        with socket.create_connection(("127.0.0.1", self.server.port), timeout=60) as wire:
            for piece in pieces:
                if isinstance(piece, float):
                    time.sleep(piece)
                    continue
                wire.sendall(piece)
            if half:
                wire.shutdown(socket.SHUT_WR)
            answer = http.client.HTTPResponse(wire)
            try:
                answer.begin()
                return Answer(answer.status, answer.read(), dict(answer.headers))
            except (http.client.HTTPException, OSError):
                return Answer(0, b"", {})

    def head(self, method: str, path: str, *lines: str) -> bytes:
        """The beginning of a request."""
        return "\r\n".join(
            [
                f"{method} /api/{path} HTTP/1.1",
                "Host: localhost",
                f"Authorization: Bearer {self.server.api_key}",
                *lines,
                "",
                "",
            ]
        ).encode("latin-1")


_UNDER_WAY = {"IDLE", "RUNNING"}
FORM = f"Content-Type: multipart/form-data; boundary={BOUNDARY}"


def form(*parts: Part) -> bytes:
    """A multipart form of (name, file name, content)."""
    body = b""
    for name, filename, content in parts:
        head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"'.encode()
        if filename is not None:
            file = filename if isinstance(filename, bytes) else filename.encode()
            head += b'; filename="' + file + b'"'
        body += head + b"\r\n\r\n" + content + b"\r\n"
    return body + f"--{BOUNDARY}--\r\n".encode()


def tar_of(*files: tuple[str | tarfile.TarInfo, bytes], mode: str = "w:gz") -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode=mode) as tar:  # type: ignore[call-overload]
        for file, content in files:
            info = tarfile.TarInfo(file) if isinstance(file, str) else file
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return made.getvalue()


def zip_of(*files: tuple[str, bytes]) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files:
            archive.writestr(name, content)
    return made.getvalue()


def files_below(folder: Path) -> list[str]:
    """Of backups: the pools' own folders left out."""
    return sorted(
        str(path.relative_to(folder))
        for path in folder.rglob("*")
        if path.is_file() and ".holdfast" not in path.parts
    )
