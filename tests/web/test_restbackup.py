"""RestBackup's documented requests, as curl, our own client and bare sockets make them."""

from __future__ import annotations

import base64
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest
from starlette.datastructures import Headers
from tests.web.conftest import Answer, Server

from holdfast.client.account import BackupAccount
from holdfast.client.errors import (
    RestBackup401NotAuthorizedException,
    RestBackup404NotFoundException,
    RestBackup405MethodNotAllowed,
)
from holdfast.core.access import SHELL
from holdfast.core.keeping import DAY
from holdfast.service.server import open_service

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from holdfast.service.server import Service

LARGEST = 5_368_709_120
MINUTE = 60 * 1_000_000_000


class User:
    """One account, as somebody with its access URL sees it."""

    def __init__(self, server: Server, pair: str) -> None:
        self.server, self.pair = server, pair
        self.header = "Basic " + base64.b64encode(pair.encode()).decode()

    @property
    def name(self) -> str:
        return self.pair.partition(":")[0]

    @property
    def url(self) -> str:
        return self.server.restbackup.replace("//", f"//{self.pair}@") + "/"

    def __call__(self, method: str, path: str, body: bytes | None = None, **more: str) -> Answer:
        headers = {"Authorization": self.header, "Accept": "*/*"}
        headers |= {name.replace("_", "-"): value for name, value in more.items()}
        return ask(self.server, method, path, body, headers)

    def names(self) -> list[str]:
        return [row["name"] for row in self("GET", "/").json()]

    def head(self, method: str, path: str, *headers: str) -> bytes:
        first = f"{method} {path} HTTP/1.1"
        lines = [first, "Host: 127.0.0.1", f"Authorization: {self.header}", *headers]
        return "\r\n".join([*lines, "", ""]).encode()


def ask(
    server: Server, method: str, path: str, body: bytes | None, headers: dict[str, str]
) -> Answer:
    """With headers that are found however they are spelt."""
    answer = server.request(method, path, body, headers, base=server.restbackup)
    return Answer(answer.status, answer.body, Headers(answer.headers))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def service(server: Server) -> Iterator[Service]:
    """The running server's data folder, opened beside it as commands open it."""
    opened = open_service(server.data)
    yield opened
    opened.close()


@pytest.fixture
def new(server: Server, service: Service) -> Callable[..., User]:
    """Makes an account."""

    def make(keep_days: int = 30) -> User:
        account, secret = service.accounts.add(SHELL, keep_days=keep_days)
        return User(server, f"{account.name}:{secret.reveal()}")

    return make


@pytest.fixture
def user(new) -> User:
    return new()


def connected(server: Server) -> socket.socket:
    host, _, port = server.restbackup.partition("//")[2].partition(":")
    return socket.create_connection((host, int(port)), timeout=30)


def said(connection: socket.socket) -> bytes:
    """The head of an answer, and what comes with it."""
    came = b""
    while b"\r\n\r\n" not in came:
        piece = connection.recv(65536)
        if not piece:
            break
        came += piece
    return came


def raw(server: Server, sent: bytes) -> bytes:
    with connected(server) as connection:
        connection.sendall(sent)
        return said(connection)


def status(answer: bytes) -> int:
    return int(answer.split(b" ")[1])


# --- backup ---------------------------------------------------------------------------------------


def test_a_file_lives_at_the_path_it_was_put_to(user: User) -> None:
    """201, and one line that says where it is."""
    answer = user("PUT", "/data.20100523.tar.gz", b"x" * 1000)
    assert (answer.status, answer.body) == (201, b"Stored /data.20100523.tar.gz\n")
    assert re.fullmatch("[0-9a-f]{16}", answer.headers["X-RequestID"])
    got = user("GET", "/data.20100523.tar.gz")
    assert (got.status, got.body) == (200, b"x" * 1000)
    assert got.headers["Content-Length"] == "1000"
    assert "Content-Encoding" not in got.headers
    assert "Transfer-Encoding" not in got.headers


def test_an_empty_file_is_a_file(user: User) -> None:
    """Its length is said, too."""
    assert user("PUT", "/nothing", b"").status == 201
    got = user("GET", "/nothing")
    assert (got.status, got.body, got.headers["Content-Length"]) == (200, b"", "0")


@pytest.mark.parametrize("again", [b"first", b"other", b""])
def test_nothing_is_ever_replaced(user: User, again: bytes) -> None:
    """Not by the same bytes either."""
    assert user("PUT", "/x", b"first").status == 201
    answer = user("PUT", "/x", again)
    assert answer.status == 405
    assert answer.headers["Allow"] == "GET, HEAD"
    assert user("GET", "/x").body == b"first"


@pytest.mark.parametrize("why", ["exists", "password"])
def test_who_reads_only_at_the_end_sees_the_refusal(user: User, why: str) -> None:
    """And no broken pipe: 20 MiB are more than any buffer between."""
    user("PUT", "/x", b"first")
    asked = user if why == "exists" else User(user.server, f"{user.name}:wrong")
    body = b"n" * (20 << 20)
    head = asked.head("PUT", "/x", f"Content-Length: {len(body)}")
    assert status(raw(user.server, head + body)) == (405 if why == "exists" else 401)


def test_the_refusal_comes_instead_of_leave_to_send(user: User) -> None:
    """No byte of the body is asked for; for a good one it is."""
    user("PUT", "/x", b"first")
    expect = "Expect: 100-continue"
    stranger = User(user.server, "NOBODY:wrong")
    server = user.server
    assert status(raw(server, user.head("PUT", "/x", expect, "Content-Length: 5"))) == 405
    assert status(raw(server, stranger.head("PUT", "/y", expect, "Content-Length: 5"))) == 401
    large = f"Content-Length: {LARGEST + 1}"
    assert status(raw(server, user.head("PUT", "/y", expect, large))) == 413
    with connected(server) as connection:
        connection.sendall(user.head("PUT", "/y", expect, "Content-Length: 5"))
        assert said(connection).startswith(b"HTTP/1.1 100")
        connection.sendall(b"hello")
        assert status(said(connection)) == 201
    assert user("GET", "/y").body == b"hello"


@pytest.mark.parametrize(
    ("headers", "body", "expected"),
    [
        (["Transfer-Encoding: chunked"], b"5\r\nhello\r\n0\r\n\r\n", 411),
        ([], b"", 411),
        (["Content-Length: five"], b"hello", 400),
        (["Content-Length: -5"], b"hello", 400),
        (["Content-Length: 5", "Content-Length: 6"], b"hello!", 400),
        (["Content-Length: 5", "Transfer-Encoding: chunked"], b"5\r\nhello\r\n0\r\n\r\n", 400),
        ([f"Content-Length: {'9' * 30}"], b"", 413),
        ([f"Content-Length: {LARGEST + 1}"], b"", 413),
    ],
)
def test_a_length_is_needed(user: User, headers: list[str], body: bytes, expected: int) -> None:
    """Exactly one, that is a number and not too large; from the header alone."""
    connection = connected(user.server)
    with connection:
        connection.sendall(user.head("PUT", "/x", *headers) + body)
        if expected == 413:
            connection.shutdown(socket.SHUT_WR)
        answer = status(said(connection))
    allowed = {expected} if expected != 400 else {400, 411}
    if headers and "9" * 30 in headers[0]:
        allowed |= {400}  # no number that a parser of HTTP must know
    assert answer in allowed
    assert user.names() == []


def test_the_longest_body_is_taken_in(user: User) -> None:
    """5368709120 bytes may be announced; here they stop coming, and nothing is there."""
    expect = "Expect: 100-continue"
    with connected(user.server) as connection:
        connection.sendall(user.head("PUT", "/x", expect, f"Content-Length: {LARGEST}"))
        assert said(connection).startswith(b"HTTP/1.1 100")
    assert user("GET", "/x").status == 404


def test_a_body_that_is_cut_leaves_the_name_free(user: User, eventually) -> None:
    """Whether the client hangs up or only stops sending its half."""
    for tail in (b"x" * 10, b"x" * (3 << 20)):
        with connected(user.server) as connection:
            connection.sendall(user.head("PUT", "/x", "Content-Length: 9999999") + tail)
            connection.shutdown(socket.SHUT_WR)
            said(connection)
    eventually(lambda: user("PUT", "/x", b"whole").status == 201)
    assert user("GET", "/x").body == b"whole"
    assert user.names() == ["/x"]


def test_a_hundred_cut_bodies_leave_nothing(user: User, eventually) -> None:
    """No file, no name taken."""
    for number in range(100):
        with connected(user.server) as connection:
            connection.sendall(user.head("PUT", f"/{number % 7}", "Content-Length: 900000"))
            connection.sendall(b"x" * 50_000)
    assert user.names() == []
    for number in range(7):
        eventually(lambda at=number: user("PUT", f"/{at}", b"whole").status == 201)


def test_of_two_that_race_for_a_name_one_wins(user: User) -> None:
    """And it is the winner's bytes that are kept."""
    bodies = [bytes([letter]) * 300_000 for letter in b"abcd"]
    start = threading.Barrier(len(bodies))

    def put(body: bytes) -> int:
        start.wait()
        return user("PUT", "/raced", body).status

    with ThreadPoolExecutor(len(bodies)) as pool:
        answers = list(pool.map(put, bodies))
    assert sorted(answers) == [201, 405, 405, 405]
    assert user("GET", "/raced").body == bodies[answers.index(201)]


# --- restore --------------------------------------------------------------------------------------


def test_head_says_what_get_gives(user: User) -> None:
    """The shell script asks so before each download."""
    user("PUT", "/x", b"0123456789")
    head = user("HEAD", "/x")
    assert (head.status, head.headers["Content-Length"], head.body) == (200, "10", b"")
    assert user("HEAD", "/y").status == 404
    assert user("HEAD", "/").status == 200
    answer = user("GET", "/y")
    assert (answer.status, bool(answer.body)) == (404, True)
    done = subprocess.run(
        ["curl", "-sI", f"{user.url}x"], capture_output=True, check=True, timeout=60
    )
    assert done.stdout.startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize(
    ("asked", "expected", "body"),
    [
        ("bytes=0-3", 206, b"0123"),
        ("bytes=-3", 206, b"789"),
        ("bytes=4-", 206, b"456789"),
        ("bytes=10-", 416, None),
        ("bytes=5-2", 200, b"0123456789"),
        ("lines=1-2", 200, b"0123456789"),
    ],
)
def test_a_part_may_be_asked_for(user: User, asked: str, expected: int, body: bytes | None) -> None:
    """The document knows no ranges; whoever goes on where a download broke off gets them."""
    user("PUT", "/x", b"0123456789")
    answer = user("GET", "/x", Range=asked)
    assert answer.status == expected
    if body is not None:
        assert answer.body == body
        assert answer.headers["Content-Length"] == str(len(body))


# --- list -----------------------------------------------------------------------------------------


def test_the_list_has_the_documents_layout(user: User) -> None:
    """One object a line, oldest first; `deletetime` as the first generation had it."""
    assert user("GET", "/").body == b"[]\n"
    before = int(time.time())
    for name, size in (("/b", 3), ("/a", 5), ("/ü x/y", 7)):
        assert user("PUT", quote(name), b"x" * size).status == 201
    after = int(time.time())
    answer = user("GET", "/")
    assert answer.headers["Content-Type"] == "application/json"
    rows = answer.json()
    assert [(row["name"], row["size"]) for row in rows] == [("/b", 3), ("/a", 5), ("/ü x/y", 7)]
    for row in rows:
        assert before <= row["createtime"] <= after
        assert row["deletetime"] == row["createtime"] + 30 * 86400
    lines = [json.dumps(row, separators=(",", ":"), ensure_ascii=False).encode() for row in rows]
    assert answer.body == b"[\n " + b",\n ".join(lines) + b"\n]\n"
    assert list(rows[0]) == ["name", "size", "createtime", "deletetime"]


def test_a_browser_gets_a_page(user: User) -> None:
    """With links, and nothing of a name is taken for HTML."""
    hostile = "/<script>alert(1)</script>&\"'.txt"
    assert user("PUT", quote(hostile), b"x").status == 201
    answer = user("GET", "/", Accept="text/html,application/xhtml+xml")
    page = answer.body.decode()
    assert answer.headers["Content-Type"].startswith("text/html")
    assert answer.headers["Content-Security-Policy"].startswith("default-src 'none'")
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    [link] = re.findall('href="([^"]+)"', page)
    assert user("GET", link).body == b"x"


# --- who ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "header",
    [
        None, "Basic", "Basic !!!", "Basic " + base64.b64encode(b"nocolon").decode(),
        "Basic " + base64.b64encode(b"\xff\xfe:\xff").decode(), "Bearer abc",
        "Basic " + base64.b64encode(b"NOBODY:wrong").decode(),
    ],
)  # fmt: skip
def test_nobody_learns_what_is_there(user: User, header: str | None) -> None:
    """The answer is the same for every path, and a browser is told to ask."""
    user("PUT", "/x", b"x")
    headers = {} if header is None else {"Authorization": header}
    answers = {
        (answer.status, answer.body, answer.headers.get("WWW-Authenticate"))
        for path in ("/x", "/y", "/", "/%ff", "/a/../b")
        for answer in [ask(user.server, "GET", path, None, headers)]
    }
    assert answers == {(401, b"The access URL is not right.\n", 'Basic realm="RestBackup"')}


def test_accounts_know_nothing_of_each_other(new) -> None:
    """The same name in two of them is two files."""
    one, two = new(), new()
    assert one("PUT", "/x", b"one").status == 201
    assert two("GET", "/x").status == 404
    assert two.names() == []
    assert two("PUT", "/x", b"two").status == 201
    assert (one("GET", "/x").body, two("GET", "/x").body) == (b"one", b"two")
    crossed = User(one.server, f"{one.name}:{two.pair.partition(':')[2]}")
    assert crossed("GET", "/x").status == 401


def test_an_account_that_is_removed_lets_nobody_in(user: User, service: Service) -> None:
    """Not by a session either."""
    user("PUT", "/x", b"x")
    session = session_of(user)
    service.accounts.remove(SHELL, service.accounts.find(SHELL, user.name).id)
    assert user("GET", "/x").status == 401
    assert fetched(user.server, session).status == 404


# --- deleting, and other methods ------------------------------------------------------------------


@pytest.mark.parametrize("method", ["DELETE", "POST", "PATCH", "OPTIONS", "MKCOL"])
@pytest.mark.parametrize("path", ["/x", "/"])
def test_files_are_kept_until_they_expire(user: User, method: str, path: str) -> None:
    """No other method does anything."""
    user("PUT", "/x", b"x")
    answer = user(method, path, b"description=a&retaindays=9" if method == "POST" else None)
    assert answer.status == 405
    assert answer.headers["Allow"]
    assert user("GET", "/x").body == b"x"


def test_the_root_is_no_file(user: User) -> None:
    """Nothing is stored under it, or under what looks like a folder."""
    for path in ("/", "/folder/"):
        assert user("PUT", path, b"x").status == 400
    assert user.names() == []


# --- names ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "/plain", "/nested/deeper/file.tar.gz", "/ümläut €.txt", "/日本語", "/a b+c&d=e?f#g%h",
        "/Case", "/case", "/" + "n" * 250, "/" + "/".join(["part"] * 40), "/...", "/.hidden",
        "/back\\slash", "/'\"`$(x)", "/sessions", "/e\u0301", "/\u00e9",
    ],
)  # fmt: skip
def test_names_are_what_they_are(user: User, name: str) -> None:
    """Percent-encoded UTF-8, listed decoded, told apart by every letter."""
    assert user("PUT", quote(name), name.encode()).status == 201
    assert user.names() == [name]
    assert user("GET", quote(name)).body == name.encode()


def test_like_names_are_different_names(user: User) -> None:
    """By case, by how an accent is written, by a folder of the same name."""
    names = ["/Case", "/case", "/e\u0301", "/\u00e9", "/case/below"]
    for name in names:
        assert user("PUT", quote(name), name.encode()).status == 201
    assert user.names() == names
    for name in names:
        assert user("GET", quote(name)).body == name.encode()


@pytest.mark.parametrize(
    "path",
    [
        "/..", "/../x", "/a/../b", "/a/./b", "/.", "/a//b", "//a", "/%2e%2e/x", "/a%2f..%2fb",
        "/a%00b", "/a%0ab", "/a%0d%0aX-Evil:%20yes", "/%1b", "/%7f", "/%ff%fe", "/%c0%ae",
        "/%ed%a0%80", "/" + "n" * 1100,
    ],
)  # fmt: skip
@pytest.mark.parametrize("method", ["PUT", "GET"])
def test_names_that_cannot_be(user: User, method: str, path: str) -> None:
    """400 with a reason, and nothing of the name in a header."""
    sent = user.head(method, path, "Content-Length: 1", "Connection: close") + b"x"
    answer = raw(user.server, sent)
    assert status(answer) == 400
    assert b"x-evil" not in answer.lower().partition(b"\r\n\r\n")[0]
    assert user.names() == []


# --- how long files are kept ----------------------------------------------------------------------


def age(service: Service, name: str, by: int) -> None:
    """As if it had come `by` nanoseconds ago."""
    moment = service.ground.now() - by
    with service.ground.catalog.write() as tx:
        [found] = tx.backups.all(name=name)
        tx.backups.change(found.id, received=moment, created=moment)


@pytest.mark.parametrize("days", [30, 365])
def test_a_file_goes_when_its_days_are_over(new, service: Service, days: int) -> None:
    """Not a minute before; then it is nowhere, and the name is free."""
    user = new(keep_days=days)
    name = f"/kept-{days}-{os.urandom(4).hex()}"
    user("PUT", name, b"old")
    age(service, name, days * DAY - MINUTE)
    assert user("GET", name).body == b"old"
    assert user("PUT", name, b"new").status == 405
    [row] = user("GET", "/").json()
    assert 0 < row["deletetime"] - time.time() <= 60
    age(service, name, days * DAY)
    assert user("GET", name).status == 404
    assert user("HEAD", name).status == 404
    assert user.names() == []
    assert user("PUT", name, b"new").status == 201
    assert user("GET", name).body == b"new"


# --- sessions -------------------------------------------------------------------------------------


def session_of(user: User) -> str:
    """The path of a new one."""
    answer = user("POST", "/", X_HTTP_Method_Override="MAKESESSION")
    assert (answer.status, answer.body) == (204, b"")
    assert answer.headers["Date"].endswith("GMT")
    place = answer.headers["Location"]
    assert re.fullmatch(re.escape(user.server.restbackup) + "/session/[A-Za-z0-9]{16}/", place)
    return place.removeprefix(user.server.restbackup)


def fetched(server: Server, path: str, accept: str = "text/html", method: str = "GET") -> Answer:
    body = b"x" if method in {"PUT", "POST"} else None
    return ask(server, method, path, body, {"Accept": accept})


def test_a_session_shows_the_account_to_a_browser(user: User) -> None:
    """The page, the files below it, JSON where that is asked for; live, and each a new one."""
    session = session_of(user)
    user("PUT", "/a%20b/c.txt", b"content")
    [link] = re.findall('href="([^"]+)"', fetched(user.server, session).body.decode())
    assert link.startswith(session)
    assert fetched(user.server, link).body == b"content"
    [row] = fetched(user.server, session, "application/json").json()
    assert row["name"] == "/a b/c.txt"
    assert session_of(user) != session


@pytest.mark.parametrize("method", ["PUT", "POST", "DELETE"])
def test_a_session_only_reads(user: User, method: str) -> None:
    """It makes no other session either."""
    session = session_of(user)
    for path in (session, session + "x"):
        assert fetched(user.server, path, method=method).status == 405
    override = {"X-HTTP-Method-Override": "MAKESESSION"}
    answer = ask(user.server, "POST", session, b"", override)
    assert answer.status == 405
    assert user.names() == []


def test_a_session_ends_after_24_hours(user: User, service: Service) -> None:
    """Then it is gone, with a word of why, and so is all that lies below it."""
    user("PUT", "/x", b"x")
    session = session_of(user)
    account = service.accounts.find(SHELL, user.name)
    with service.ground.catalog.write() as tx:
        [row] = tx.sessions.all(account_id=account.id)
        assert row.expires - row.created == DAY
        tx.sessions.remove(account_id=account.id)
        tx.sessions.add(replace(row, expires=service.ground.now()))
    for path in (session, session + "x", session + "missing"):
        answer = fetched(user.server, path)
        assert answer.status == 410
        assert b"expired" in answer.body


@pytest.mark.parametrize("path", ["/session/", "/session/AAAAAAAAAAAAAAAA/", "/session/%00/x"])
def test_a_session_that_never_was(server: Server, path: str) -> None:
    """Not found; nobody is asked for a password."""
    assert fetched(server, path).status == 404


def test_sessions_are_no_place_for_files(user: User) -> None:
    """`/session/` is theirs."""
    assert user("PUT", "/session/x", b"x").status in {404, 405}
    assert user.names() == []


# --- clients --------------------------------------------------------------------------------------


def test_the_documents_walk_through(user: User, tmp_path: Path) -> None:
    """tar and curl, word by word."""
    (tmp_path / "file1").write_bytes(os.urandom(2_000_000))
    (tmp_path / "file2").write_bytes(b"two")

    def sh(line: str) -> str:
        done = subprocess.run(
            line, shell=True, cwd=tmp_path, capture_output=True, check=True, text=True, timeout=60
        )
        return done.stdout

    at = f"-su {user.pair} {user.server.restbackup}"
    sh("tar czf data.20100523.tar.gz file1 file2")
    assert sh(f"curl {at}/ -T data.20100523.tar.gz") == "Stored /data.20100523.tar.gz\n"
    assert '"name":"/data.20100523.tar.gz","size":' in sh(f"curl {at}/")
    sh(f"mkdir out && curl {at}/data.20100523.tar.gz | tar xz -C out")
    for name in ("file1", "file2"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / name).read_bytes()
    streamed = sh(f"cat file1 | curl -w '%{{http_code}}' -o /dev/null -T - {at}/streamed")
    assert streamed == "411"


def test_our_own_client_is_understood(user: User) -> None:
    """What goes in comes out, and each refusal is the error that its users catch."""
    account = BackupAccount(user.url)
    account.upload(b"content", "/plain")
    account.upload(b"content", "/secret", passphrase="three words")
    assert account.open("/plain").read() == b"content"
    assert account.open("/secret", passphrase="three words").read() == b"content"
    assert [each.name for each in account.list()] == ["/plain", "/secret"]
    with pytest.raises(RestBackup405MethodNotAllowed):
        account.upload(b"other", "/plain")
    with pytest.raises(RestBackup404NotFoundException):
        account.open("/missing").read()
    wrong = BackupAccount(user.url.replace(user.pair, f"{user.name}:wrong"))
    with pytest.raises(RestBackup401NotAuthorizedException):
        wrong.list()


def test_our_command_line_is_understood(user: User, tmp_path: Path) -> None:
    """Up, listed and down again, encrypted."""
    source, back = tmp_path / "in.bin", tmp_path / "out.bin"
    source.write_bytes(os.urandom(300_000))

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "holdfast", "restbackup", *words],
            env=os.environ
            | {"HOLDFAST_RESTBACKUP_URL": user.url, "HOLDFAST_RESTBACKUP_PASSPHRASE": "p w"},
            capture_output=True, text=True, check=False, timeout=60, stdin=subprocess.DEVNULL,
        )  # fmt: skip

    put = run("encrypt-and-put", str(source), "/kept")
    assert put.returncode == 0, put.stderr
    assert "/kept" in run("list").stdout
    got = run("get-and-decrypt", "/kept", str(back))
    assert got.returncode == 0, got.stderr
    assert back.read_bytes() == source.read_bytes()
    assert run("encrypt-and-put", str(source), "/kept").returncode != 0


# --- crashes --------------------------------------------------------------------------------------


def test_what_was_acknowledged_survives_the_server(own_server: Server, eventually) -> None:
    """Its web process is killed in the middle of an upload, and comes again by itself: that upload
    is gone, the one before is there.
    """
    own_server.start()
    user = User(own_server, own_server.account)
    assert user("PUT", "/whole", b"w" * 500_000).status == 201

    def process() -> int:
        return int(json.loads((own_server.data / "run" / "listeners.json").read_text())["pid"])

    first = process()
    with connected(own_server) as connection:
        connection.sendall(user.head("PUT", "/half", "Content-Length: 9000000") + b"h" * 4_000_000)
        os.kill(first, signal.SIGKILL)
    eventually(lambda: process() != first, 60)
    own_server.wait_until_up()
    assert user.names() == ["/whole"]
    assert user("GET", "/whole").body == b"w" * 500_000
    assert user("PUT", "/half", b"again").status == 201
