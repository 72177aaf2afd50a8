"""The backups API as the Python SDKs of PocketBase and BosBase use it, and bare requests for what
they never send.
"""

from __future__ import annotations

import base64
import io
import json
import os
import zipfile
from typing import TYPE_CHECKING, Any

import bosbase
import pytest
from pocketbase import PocketBase
from pocketbase.errors import ClientResponseError
from pocketbase.models import FileUpload
from starlette.datastructures import Headers
from tests.web.conftest import EMAIL, PASSWORD, Answer, Server

from holdfast.core.access import SHELL
from holdfast.core.records import Role
from holdfast.core.secret import Secret
from holdfast.service.server import open_service

if TYPE_CHECKING:
    from collections.abc import Iterator

    from holdfast.service.server import Service

LOAD = "An error occurred while loading the submitted data."
VALIDATE = "An error occurred while validating the submitted data."
UNAUTHORIZED = "The request requires valid record authorization token."
FORBIDDEN = "The authorized record is not allowed to perform this action."
BUSY = "Try again later - another backup/restore process has already been started."
SIGN_IN = "/api/collections/_superusers/auth-with-password"
CREDENTIALS = {"identity": EMAIL, "password": PASSWORD}


class Caller:
    """One who is signed in, or nobody."""

    def __init__(self, server: Server, token: str = "") -> None:
        self.server, self.token = server, token

    def __call__(self, method: str, path: str, body: Any = None, **more: str) -> Answer:
        headers = {"Authorization": self.token} if self.token else {}
        headers |= {name.replace("_", "-"): value for name, value in more.items()}
        answer = self.server.request(method, path, body, headers)
        return Answer(answer.status, answer.body, Headers(answer.headers))  # type: ignore[arg-type]

    def keys(self) -> list[str]:
        return [each["key"] for each in self("GET", "/api/backups").json()]

    def file_token(self) -> str:
        return str(self("POST", "/api/files/token").json()["token"])


@pytest.fixture(scope="module")
def nobody(server: Server) -> Caller:
    return Caller(server)


@pytest.fixture(scope="module")
def root(server: Server, nobody: Caller) -> Caller:
    (server.data.parent / "app" / "data.txt").write_text("data")
    return Caller(server, nobody("POST", SIGN_IN, CREDENTIALS).json()["token"])


@pytest.fixture(scope="module")
def service(server: Server) -> Iterator[Service]:
    """The running server's data folder, opened beside it."""
    opened = open_service(server.data)
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def ordinary(server: Server, service: Service, nobody: Caller) -> Caller:
    """A user who is no superuser."""
    service.users.add(
        SHELL, name="ann", role=Role.USER, email="ann@example.com", password=Secret(PASSWORD)
    )
    signed = nobody(
        "POST",
        "/api/collections/users/auth-with-password",
        {"identity": "ann@example.com", "password": PASSWORD},
    )
    assert signed.status == 200, signed.body
    assert signed.json()["record"]["collectionName"] == "users"
    return Caller(server, signed.json()["token"])


def form(field: str, content: bytes, filename: str = "") -> bytes:
    """A multipart body of one part; its boundary is `edge`."""
    name = f'; filename="{filename}"' if filename else ""
    head = f'--edge\r\nContent-Disposition: form-data; name="{field}"{name}\r\n\r\n'
    return head.encode() + content + b"\r\n--edge--\r\n"


MULTIPART = "multipart/form-data; boundary=edge"


def zipped(**files: bytes) -> bytes:
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return held.getvalue()


def is_error(answer: Answer, status: int, message: str, data: dict[str, Any] | None = None) -> None:
    """Exactly three members."""
    assert answer.status == status, answer.body
    assert answer.json() == {"data": data or {}, "message": message, "status": status}
    assert answer.headers["Content-Type"] == "application/json"


# --- SDKs -----------------------------------------------------------------------------------------


@pytest.mark.interop
def test_pocketbases_python_sdk(server: Server, root: Caller) -> None:
    """Sign-in, create, list with dates, download, upload, delete, and its errors."""
    client = PocketBase(server.main)
    with client.http_client:
        use_pocketbases_python_sdk(client)


def use_pocketbases_python_sdk(client: PocketBase) -> None:
    with pytest.raises(ClientResponseError) as refused:
        client.backups.get_full_list()
    assert refused.value.status == 401
    client.collection("_superusers").auth_with_password(EMAIL, PASSWORD)
    assert client.backups.create("sdk_py.zip")
    with pytest.raises(ClientResponseError) as refused:
        client.backups.create("sdk_py.zip")
    assert refused.value.data["data"]["name"]["code"] == "validation_backup_name_exists"
    [found] = [each for each in client.backups.get_full_list() if each.key == "sdk_py.zip"]
    content = client.backups.download("sdk_py.zip")
    assert len(content) == found.size
    assert zipfile.ZipFile(io.BytesIO(content)).read("data.txt") == b"data"
    assert not isinstance(found.modified, str)
    assert client.backups.upload(FileUpload(("up_py.zip", content, "application/zip")))
    assert client.backups.download("up_py.zip") == content
    for key in ("sdk_py.zip", "up_py.zip"):
        assert client.backups.delete(key)
    with pytest.raises(ClientResponseError) as refused:
        client.backups.delete("sdk_py.zip")
    assert refused.value.status == 400


@pytest.mark.interop
def test_bosbases_python_sdk(server: Server, root: Caller) -> None:
    """The same, and a name that it encodes."""
    client = bosbase.BosBase(server.main)
    client.collection("_superusers").auth_with_password(EMAIL, PASSWORD)
    client.backups.create("bos.zip")
    assert "bos.zip" in [each["key"] for each in client.backups.get_full_list()]
    content = zipped(**{"a.txt": b"a"})
    client.backups.upload({"file": ("@ü p.zip", content, "application/zip")})
    url = client.backups.get_download_url(client.files.get_token(), "@ü p.zip")
    answer = server.request("GET", url.removeprefix(server.main))
    assert answer.body == content
    assert client.health.check()["data"]["canBackup"] is True
    for key in ("bos.zip", "@ü p.zip"):
        client.backups.delete(key)
    assert {"bos.zip", "@ü p.zip"}.isdisjoint(root.keys())


# --- who ------------------------------------------------------------------------------------------


def test_sign_in_tells_nobody_who_is_there(nobody: Caller) -> None:
    """The same answer for a wrong password and for an unknown name."""
    for identity in (EMAIL, "nobody@example.com"):
        answer = nobody("POST", SIGN_IN, {"identity": identity, "password": "wrong"})
        is_error(answer, 400, "Failed to authenticate.")
    blank = {"code": "validation_required", "message": "Cannot be blank."}
    is_error(nobody("POST", SIGN_IN, {}), 400, VALIDATE, {"identity": blank, "password": blank})
    is_error(nobody("POST", SIGN_IN, b"{", Content_Type="application/json"), 400, LOAD)
    unknown = nobody("POST", "/api/collections/none/auth-with-password", CREDENTIALS)
    is_error(unknown, 404, "Missing or invalid collection context.")


def test_before_0_23_the_status_was_called_code(nobody: Caller) -> None:
    """And a superuser was an admin."""
    answer = nobody("POST", "/api/admins/auth-with-password", CREDENTIALS)
    assert set(answer.json()) == {"admin", "token"}
    refused = nobody("POST", "/api/admins/auth-with-password", CREDENTIALS | {"password": "wrong"})
    assert refused.json() == {"data": {}, "message": "Failed to authenticate.", "code": 400}


def test_tokens_are_read_from_the_header(root: Caller, nobody: Caller) -> None:
    """With or without the word before; a bad one is as none."""
    for value in (root.token, f"Bearer {root.token}", f"bearer {root.token}"):
        assert nobody("GET", "/api/backups", Authorization=value).status == 200
    for value in ("rubbish", "Bearer ", root.token[:-3], root.file_token()):
        is_error(nobody("GET", "/api/backups", Authorization=value), 401, UNAUTHORIZED)
    fresh = root("POST", "/api/collections/_superusers/auth-refresh").json()["token"]
    assert Caller(root.server, fresh)("GET", "/api/backups").status == 200
    assert root("GET", "/api/backups").status == 200


def test_a_token_of_deep_claims_is_as_none(nobody: Caller) -> None:
    """Nobody makes the server fail by what a token claims."""
    for depth in (500, 1000, 1200):
        claims = b'{"id":"x","type":"auth","z":' + b"[" * depth + b"]" * depth + b"}"
        token = f"e30.{base64.urlsafe_b64encode(claims).decode().rstrip('=')}.x"
        is_error(nobody("GET", "/api/backups", Authorization=token), 401, UNAUTHORIZED)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/api/backups"), ("POST", "/api/backups"), ("POST", "/api/backups/upload"),
        ("DELETE", "/api/backups/x.zip"), ("POST", "/api/backups/x.zip/restore"),
        ("GET", "/api/settings"), ("PATCH", "/api/settings"), ("GET", "/api/crons"),
        ("POST", "/api/crons/__pbAutoBackup__"),
    ],
)  # fmt: skip
def test_an_ordinary_user_may_not(ordinary: Caller, nobody: Caller, method: str, path: str) -> None:
    """Whether there is such a backup or not."""
    body = {} if method in {"POST", "PATCH"} else None
    is_error(ordinary(method, path, body), 403, FORBIDDEN)
    is_error(nobody(method, path, body), 401, UNAUTHORIZED)


def test_health_says_more_to_superusers(root: Caller, ordinary: Caller, nobody: Caller) -> None:
    """`code` in every generation."""
    for caller in (nobody, ordinary):
        body = caller("GET", "/api/health").json()
        assert body == {"message": "API is healthy.", "code": 200, "data": {}}
    data = root("GET", "/api/health").json()["data"]
    assert data == {
        "canBackup": True, "realIP": "127.0.0.1", "possibleProxyHeader": "", "requireS3": False
    }  # fmt: skip


# --- paths and bodies -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/api/backups/"), ("PUT", "/api/backups"), ("PATCH", "/api/backups/x.zip"),
        ("GET", "/api/backups/x.zip/restore"), ("GET", "/api/backups/a/b"),
    ],
)  # fmt: skip
def test_what_is_no_route_is_not_found(root: Caller, method: str, path: str) -> None:
    """A wrong method, too, and a slash at the end."""
    body = {} if method != "GET" else None
    is_error(root(method, path, body), 404, "The requested resource wasn't found.")


def test_preflight(nobody: Caller) -> None:
    """The requested headers come back."""
    answer = nobody("OPTIONS", "/api/backups", Access_Control_Request_Headers="authorization,x-a")
    assert answer.status == 204
    assert answer.headers["Access-Control-Allow-Origin"] == "*"
    assert answer.headers["Access-Control-Allow-Headers"] == "authorization,x-a"
    assert "DELETE" in answer.headers["Access-Control-Allow-Methods"]


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("application/json", b"{"), ("application/json", b'{"name": 5}'),
        ("application/json", b'{"name": ["a.zip"]}'), ("application/json", b"[]"),
        ("application/json", b"\xff\xfe"), ("text/plain", b'{"name": "a.zip"}'),
        ("application/json", b"[" * 100_000),
    ],
)  # fmt: skip
def test_bodies_that_cannot_be_loaded(root: Caller, kind: str, body: bytes) -> None:
    """One answer for all of them."""
    is_error(root("POST", "/api/backups", body, Content_Type=kind), 400, LOAD)


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("Bad.zip", "validation_match_invalid"), ("a b.zip", "validation_match_invalid"),
        ("../a.zip", "validation_match_invalid"), ("a.zip\n", "validation_match_invalid"),
        ("a.tar", "validation_match_invalid"), (".zip", "validation_match_invalid"),
        ("B" * 151, "validation_length_out_of_range"),
    ],
)  # fmt: skip
def test_names_of_new_backups(root: Caller, name: str, code: str) -> None:
    """The length is looked at before the form."""
    error = root("POST", "/api/backups", {"name": name}).json()
    assert error["message"] == VALIDATE
    assert error["data"]["name"]["code"] == code
    if code.endswith("range"):
        assert error["data"]["name"]["params"] == {"max": 150, "min": 1}


def test_every_kind_of_body_creates(root: Caller) -> None:
    """JSON, forms, and the query that one SDK uses; no body or XML is no name."""
    multipart = form("name", b"multi.zip")
    root("POST", "/api/backups", multipart, Content_Type=MULTIPART)
    encoded = "application/x-www-form-urlencoded"
    root("POST", "/api/backups", b"name=encoded.zip", Content_Type=encoded)
    root("POST", "/api/backups?basename=query.zip", b"")
    assert {"multi.zip", "encoded.zip", "query.zip"} <= set(root.keys())
    before = set(root.keys())
    assert root("POST", "/api/backups", b"<name/>", Content_Type="text/xml").status == 204
    assert root("POST", "/api/backups", {"name": None}).status == 204
    new = set(root.keys()) - before
    assert len(new) == 2
    assert all(key.startswith("pb_backup_") for key in new)
    assert root.keys() == sorted(root.keys(), key=str.encode)


def test_while_one_is_at_work(root: Caller, service: Service) -> None:
    """Busy is said before the body is read; uploads and downloads go on."""
    with service.application.busy():
        is_error(root("POST", "/api/backups", b"{"), 400, BUSY)
        is_error(root("POST", "/api/backups/x.zip/restore", {}), 400, BUSY)
        assert root("GET", "/api/health").json()["data"]["canBackup"] is False
        body = form("file", zipped(a=b"a"), "meanwhile.zip")
        answer = root("POST", "/api/backups/upload", body, Content_Type=MULTIPART)
        assert answer.status == 204
    assert root("GET", "/api/health").json()["data"]["canBackup"] is True


# --- upload ---------------------------------------------------------------------------------------


def uploaded(root: Caller, name: str, content: bytes) -> Answer:
    body = form("file", content, name)
    return root("POST", "/api/backups/upload", body, Content_Type=MULTIPART)


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"no zip at all", "validation_invalid_mime_type"),
        (b"", "validation_invalid_mime_type"),
        (zipped(a=b"x" * 1000)[:-30], "validation_invalid_file"),
        (zipped(a=b"x" * 1000)[:500], "validation_invalid_file"),
    ],
)
def test_an_upload_must_be_a_whole_zip(root: Caller, content: bytes, code: str) -> None:
    """What is not leaves nothing, and its name is free."""
    answer = uploaded(root, "broken.zip", content)
    assert answer.status == 400
    assert answer.json()["data"]["file"]["code"] == code
    assert "broken.zip" not in root.keys()  # noqa: SIM118  no dictionary


@pytest.mark.parametrize(
    ("name", "key"),
    [("Upper Case ü", "Upper Case ü"), ("../esc.zip", "esc.zip"), ("@auto_x.zip", "@auto_x.zip")],
)
def test_names_of_uploads_are_free(root: Caller, name: str, key: str) -> None:
    """But for folders, which are cut off; a second of that name is refused."""
    assert uploaded(root, name, zipped(a=b"a")).status == 204
    assert key in root.keys()  # noqa: SIM118  no dictionary
    error = uploaded(root, name, zipped(a=b"b")).json()
    assert error["data"]["file"] == {
        "code": "validation_backup_name_exists",
        "message": "Backup file with the specified name already exists.",
    }


def test_an_upload_without_a_file(root: Caller) -> None:
    """Is told what is missing."""
    body = form("other", b"x", "a.zip")
    answer = root("POST", "/api/backups/upload", body, Content_Type=MULTIPART)
    blank = {"code": "validation_required", "message": "Cannot be blank."}
    is_error(answer, 400, VALIDATE, {"file": blank})
    is_error(root("POST", "/api/backups/upload", {}), 400, VALIDATE, {"file": blank})


# --- download and delete --------------------------------------------------------------------------


def test_downloads(root: Caller, ordinary: Caller, nobody: Caller) -> None:
    """By a file token in the query alone; whole, in parts, or not at all."""
    content = zipped(a=os.urandom(5000))
    uploaded(root, "down.zip", content)
    token = root.file_token()
    path = f"/api/backups/down.zip?token={token}"
    whole = nobody("GET", path)
    assert (whole.status, whole.body) == (200, content)
    assert whole.headers["Content-Type"] == "application/zip"
    assert whole.headers["Content-Disposition"] == 'attachment; filename="down.zip"'
    assert whole.headers["Cache-Control"] == "no-store"
    head = nobody("HEAD", path)
    assert (head.status, head.headers["Content-Length"]) == (200, str(len(content)))
    modified = whole.headers["Last-Modified"]
    assert nobody("GET", path, If_Modified_Since=modified).status == 304
    part = nobody("GET", path, Range="bytes=10-19", If_Range=modified)
    assert (part.status, part.body) == (206, content[10:20])
    old = "Sat, 01 Jan 2000 00:00:00 GMT"
    assert nobody("GET", path, Range="bytes=10-19", If_Range=old).body == content
    parts = nobody("GET", path, Range="bytes=0-3,-4")
    assert parts.headers["Content-Type"].startswith("multipart/byteranges")
    assert content[:4] in parts.body
    assert content[-4:] in parts.body
    beyond = nobody("GET", path, Range="bytes=9999999-")
    assert (beyond.status, beyond.headers["Content-Range"]) == (416, f"bytes */{len(content)}")
    missing = nobody("GET", f"/api/backups/missing.zip?token={token}")
    is_error(missing, 404, "The requested resource wasn't found.")
    refused = "Insufficient permissions to access the resource."
    for wrong in ("", "rubbish", root.token, ordinary.file_token()):
        for key in ("down.zip", "missing.zip"):
            is_error(root("GET", f"/api/backups/{key}?token={wrong}"), 403, refused)


def test_a_key_leads_nowhere_else(root: Caller) -> None:
    """No way out of the backups; deleting what is not there is a 400 without a path."""
    for key in ("missing.zip", "%2e%2e", "%00", "%ff", "x" * 3000):
        answer = root("DELETE", f"/api/backups/{key}")
        message = "Invalid or already deleted backup file. Raw error: not found."
        is_error(answer, 400, message)
        assert root("POST", f"/api/backups/{key}/restore", {}).status == 400
    for method in ("GET", "DELETE"):
        out = root(method, "/api/backups/..%2f..%2fcatalog.db")
        is_error(out, 404, "The requested resource wasn't found.")


# --- settings -------------------------------------------------------------------------------------


def test_settings_are_merged_and_errors_nest(root: Caller) -> None:
    """What is not named stays; secrets never come back."""
    first = root("PATCH", "/api/settings", {"backups": {"cron": "0 3 * * *", "cronMaxKeep": 5}})
    assert first.status == 200
    second = root("PATCH", "/api/settings", {"backups": {"cronMaxKeep": 7}}).json()["backups"]
    assert (second["cron"], second["cronMaxKeep"]) == ("0 3 * * *", 7)
    assert "secret" not in second["s3"]
    message = "An error occurred while saving the new settings."
    wrong = {"backups": {"cron": "never", "s3": {"enabled": True}}}
    error = root("PATCH", "/api/settings", wrong).json()
    assert error["message"] == message
    assert error["data"]["backups"]["cron"]["code"] == "validation_invalid_cron"
    assert error["data"]["backups"]["s3"]["bucket"]["code"] == "validation_required"
    assert root("GET", "/api/settings").json()["backups"] == second
    root("PATCH", "/api/settings", {"backups": {"cron": ""}})


# --- restore --------------------------------------------------------------------------------------


def test_restoring_swaps_the_files_and_starts_again(
    server: Server, root: Caller, eventually
) -> None:
    """204 at once; then busy, another process, the old content; tokens stay good."""
    data = server.data.parent / "app" / "data.txt"

    def process() -> int:
        return int(json.loads((server.data / "run" / "listeners.json").read_text())["pid"])

    def can_backup() -> bool:
        return bool(root("GET", "/api/health").json()["data"]["canBackup"])

    assert root("POST", "/api/backups", {"name": "before.zip"}).status == 204
    data.write_text("changed")
    first = process()
    assert root("POST", "/api/backups/before.zip/restore", {}).status == 204
    assert not can_backup()
    eventually(lambda: process() != first, 60)
    server.wait_until_up()
    eventually(can_backup, 60)
    assert data.read_text() == "data"
    assert "before.zip" in root.keys()  # noqa: SIM118  no dictionary


@pytest.mark.parametrize("state", [b"{}", b"no JSON", b"[" * 100_000])
def test_what_is_no_backup_is_told_at_once(server: Server, root: Caller, state: bytes) -> None:
    """And changes nothing."""
    name = f"damaged-{len(state)}.zip"
    content = zipped(**{"holdfast/state.json": state, "data.txt": b"other"})
    assert uploaded(root, name, content).status == 204
    answer = root("POST", f"/api/backups/{name}/restore", {})
    assert answer.status == 400
    assert answer.json()["message"] == "Missing or invalid backup file."
    assert root("GET", "/api/health").json()["data"]["canBackup"] is True
    assert (server.data.parent / "app" / "data.txt").read_text() == "data"


def test_what_is_not_there_is_not_restored(root: Caller) -> None:
    """The same sentence."""
    answer = root("POST", "/api/backups/missing.zip/restore", {})
    is_error(answer, 400, "Missing or invalid backup file.")
