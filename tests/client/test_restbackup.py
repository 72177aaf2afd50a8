"""The Backup API by the original's names: what is asked, what comes back, what is tried again."""

from __future__ import annotations

import io
import os
import platform
import re
import socket
import sys
import time
from contextlib import contextmanager
from threading import Thread

import pytest

from holdfast.client import restbackup
from holdfast.client.bodies import HttpResponseReader
from holdfast.client.chlorocrypt import DataDamagedException, WrongPassphraseException
from holdfast.client.restbackup import (
    BackupApiCaller,
    FileObjectReader,
    FileReader,
    InvalidAccessUrl,
    InvalidName,
    RestBackup401NotAuthorizedException,
    RestBackup404NotFoundException,
    RestBackup405MethodNotAllowed,
    RestBackupException,
    RestBackupNetworkException,
    StringReader,
    parse_access_url,
)
from holdfast.client.streams import PipeReader
from holdfast.core.errors import HoldfastError
from holdfast.core.secret import Secret
from holdfast.testing.loopback import Loopback, Reply
from holdfast.testing.restbackup_server import PASSWORD, USER, Fault

URL = "https://Y21R3P:Mj313x2D1OyrTSpy@us.restbackup.com/"


def once(server, method, fault, times=1):
    """The first requests of a method meet a fault."""
    left = [times]

    def faults(asked, _path):
        if asked == method and left[0]:
            left[0] -= 1
            return fault
        return None

    server.faults = faults


# --- access urls and names ------------------------------------------------------------------------


def test_access_url_has_four_parts():
    """As the pattern of the API's page has them, in its order."""
    assert parse_access_url(URL).groups() == (
        "https",
        "Y21R3P",
        "Mj313x2D1OyrTSpy",
        "us.restbackup.com",
    )
    assert parse_access_url("http://a:b@localhost:8080/")[4] == "localhost:8080"


@pytest.mark.parametrize(
    ("text", "mistake"),
    [
        ("", "https://"),
        ("ftp://a:secret@host/", "https://"),
        ("https://host/", "@"),
        ("https://a:secret@host", "slash"),
        ("https://a:secret@host/ ", "slash"),
        ("https://a:secret@host/\n", "slash|stands"),
        ("https://a:secret-1@host/", "letters and digits"),
        ("https://secret@host/", "colon"),
        ("https://a:secret@host/path/", "no host"),
        ("https://a:secret@ho st/", "no host"),
    ],
)
def test_mistakes_in_access_urls_are_told(text, mistake):
    """And not the text, which holds a password."""
    with pytest.raises(InvalidAccessUrl, match=mistake) as caught:
        parse_access_url(text)
    assert isinstance(caught.value, ValueError)
    assert isinstance(caught.value, HoldfastError)
    assert "secret" not in str(caught.value) + caught.value.advice


def test_http_is_for_this_machine():
    """To another one only where that is said: the password would be readable."""
    for host in ("localhost:1", "127.0.0.1:1", "127.1.2.3"):
        assert BackupApiCaller(f"http://a:b@{host}/", "Demo/1.0").scheme == "http"
    for host in ("example.org", "10.0.0.1", "localhost.example.org", "127.0.0.1.example.org"):
        with pytest.raises(InvalidAccessUrl, match="readable"):
            BackupApiCaller(f"http://a:b@{host}/", "Demo/1.0")
        assert BackupApiCaller(f"http://a:b@{host}/", "Demo/1.0", allow_http=True).host == host


def test_credentials_are_in_no_text(server):
    """Neither of the caller nor of errors."""
    api = BackupApiCaller(Secret(server.access_url), "Demo/1.0")
    assert PASSWORD not in repr(api) + str(api)
    assert server.host in repr(api)
    api.set_user_pass(USER, "wrong")
    with pytest.raises(RestBackup401NotAuthorizedException) as caught:
        api.list()
    assert "wrong" not in str(caught.value) + caught.value.advice


@pytest.mark.parametrize(
    "name", ["", "/", "a//b", "/../a", "a/./b", "a\nb", "a\x7f", "a/", "\udcff"]
)
def test_impossible_names_are_refused_unsent(api, server, name):
    """What no service would store is not sent."""
    with pytest.raises(InvalidName):
        api.put(name, b"")
    assert not server.asked


@pytest.mark.parametrize(
    ("name", "quoted"),
    [
        ("/data.tar.gz", "/data.tar.gz"),
        ("data.tar.gz", "/data.tar.gz"),
        ("/a/b/c", "/a/b/c"),
        ("/резерв ёЖ.tar", "/%D1%80%D0%B5%D0%B7%D0%B5%D1%80%D0%B2%20%D1%91%D0%96.tar"),
        ("/100%?#;&=+.txt", "/100%25%3F%23%3B%26%3D%2B.txt"),
        ("/日本/😀", "/%E6%97%A5%E6%9C%AC/%F0%9F%98%80"),
        ("/" + "x" * 200, "/" + "x" * 200),
    ],
)
def test_names_are_sent_as_utf_8(api, server, name, quoted):
    """Quoted but for slashes, which are kept; the listing gives them back."""
    api.put(name, b"content")
    assert server.asked[-1].path == quoted
    assert [each[0] for each in api.list()] == ["/" + name.removeprefix("/")]
    assert api.get(name).read() == b"content"


# --- calls ----------------------------------------------------------------------------------------


def test_the_original_s_walkthrough(api, server, tmp_path):
    """The example of its documentation: strings, files, lists, encrypted and not."""
    assert api.put(name="/data-20110211", data="a string with data") == "Stored /data-20110211\n"
    assert api.get(name="/data-20110211").read() == b"a string with data"
    ((name, size, createtime),) = api.list()
    assert (name, size) == ("/data-20110211", 18)
    assert abs(createtime - time.time()) < 60
    (tmp_path / "data.zip").write_bytes(os.urandom(200_000))
    with FileReader(tmp_path / "data.zip") as reader:
        api.put("/data.zip", reader)
    with FileReader(str(tmp_path / "data.zip")) as reader:
        api.put_encrypted("passphrase", "/data.zip.encrypted", reader)
    for reader in (api.get("/data.zip"), api.get_encrypted("passphrase", "/data.zip.encrypted")):
        with (tmp_path / "restored").open("wb") as file:
            while chunk := reader.read(65536):
                file.write(chunk)
        assert (tmp_path / "restored").read_bytes() == (tmp_path / "data.zip").read_bytes()
    stored = server.path_of("/data.zip.encrypted").read_bytes()
    assert (tmp_path / "data.zip").read_bytes()[:16] not in stored


def test_what_is_sent(api, server):
    """Basic authentication, a length and no Expect, the program's name; Accept for the listing."""
    api.put("/a", b"12345")
    api.put_encrypted("pass", "/b", b"12345")
    api.list()
    put, encrypted, listing = server.asked
    assert put.headers["authorization"] == "Basic WTIxUjNQOk1qMzEzeDJEMU95clRTcHk="
    assert put.headers["content-length"] == "5"
    assert "expect" not in put.headers
    assert "transfer-encoding" not in put.headers
    agent = f"Demo/1.0 restbackup-python/1.4 Python/{platform.python_version()} {sys.platform}"
    assert put.headers["user-agent"] == agent
    assert encrypted.headers["user-agent"] == agent + " chlorocrypt/1.8"
    assert encrypted.headers["content-length"] == "96"
    assert listing.headers["accept"] == "application/json"


@pytest.mark.parametrize("drain", [False, True])
def test_taken_names_are_refused(api, server, drain):
    """At once, whatever the size, and without a second try: files are never replaced."""
    server.drain = drain
    api.put("/a", b"first")
    with pytest.raises(RestBackup405MethodNotAllowed, match="/a in the account already: 405") as e:
        api.put("/a", bytes(30_000_000))
    assert (e.value.status, e.value.attempts, e.value.code) == (405, 1, "service-file-exists")
    assert api.get("/a").read() == b"first"


@pytest.mark.parametrize("drain", [False, True])
def test_refused_credentials_are_told(server, drain):
    """Also in the middle of an upload, and without a second try."""
    server.drain = drain
    api = BackupApiCaller(server.access_url.replace(PASSWORD, "other"), "Demo/1.0")
    with pytest.raises(RestBackup401NotAuthorizedException, match="refuses the user name") as e:
        api.put("/a", bytes(30_000_000))
    assert e.value.code == "service-denied"
    assert len(server.asked) == 1


def test_missing_files_are_told(api):
    """By the exception on which restore loops stop."""
    for call in (api.get, api.size):
        with pytest.raises(RestBackup404NotFoundException, match="there is no /a in the account"):
            call("/a")


def test_other_refusals_are_told(api, server):
    """With the status and what the service says."""
    once(server, "PUT", Fault(status=413))
    with pytest.raises(RestBackupException, match=r"413 .*\(Request Entity Too Large here\)") as e:
        api.put("/a", bytes(30_000_000))
    assert e.value.status == 413
    with pytest.raises(RestBackupException, match="405"):
        api.call("DELETE", "/a")


def test_too_large_files_are_not_sent(api, server):
    """Above 5 GB the length alone says so."""

    class Huge(StringReader):
        def __len__(self):
            return restbackup.MAX_FILE_SIZE + 1

    with pytest.raises(RestBackupException, match="at most 5368709120"):
        api.put("/a", Huge(b""))
    assert not server.asked


def test_original_errors_are_kin():
    """All are RestBackupException, which is an OSError."""
    for kind in (
        RestBackup401NotAuthorizedException,
        RestBackup404NotFoundException,
        RestBackup405MethodNotAllowed,
        RestBackupNetworkException,
    ):
        assert issubclass(kind, RestBackupException)
        assert issubclass(kind, HoldfastError)
    assert issubclass(RestBackupException, IOError)


def test_files_tell_when_they_expire(api, server):
    """Where the service says so."""
    api.put("/a", b"")
    (file,) = api.files()
    assert file.deletetime == file.createtime + 30 * 86400


@pytest.mark.parametrize("body", [b"", b"<html>", b"{}", b'[{"name": 1}]', b'[{"name": "/a"}]'])
def test_a_page_is_no_listing(body):
    """What is something else is an error, never an empty account."""
    with Loopback(lambda _: Reply(body=body)) as page:
        api = BackupApiCaller(f"http://a:b@127.0.0.1:{page.port}/", "Demo/1.0")
        with pytest.raises(RestBackupException, match="listing"):
            api.list()


def test_listings_may_say_more():
    """Older and newer services add fields, and break lines as they like."""
    body = b'[\r\n{"name":"/a","size":1,"createtime":2,"date":"2010-05-21T11:00:03Z","x":[]}\r\n]'
    with Loopback(lambda _: Reply(body=body)) as page:
        api = BackupApiCaller(f"http://a:b@127.0.0.1:{page.port}/", "Demo/1.0")
        assert api.list() == [("/a", 1, 2)]


def test_sessions_are_made(api, server):
    """The address for a browser."""
    assert re.fullmatch(rf"http://{server.host}/session/\w{{16}}/", api.make_session())
    assert server.asked[-1].headers["x-http-method-override"] == "MAKESESSION"
    assert server.asked[-1].headers["content-length"] == "0"


def test_sizes_are_asked(api):
    """Without the content."""
    api.put("/a", b"12345")
    assert api.size("/a") == 5


def test_posts_are_forms():
    """As the old management API took them."""
    with Loopback(lambda _: Reply(201, b"made")) as page:
        api = BackupApiCaller(f"http://a:b@127.0.0.1:{page.port}/", "Demo/1.0")
        assert api.post("/", {"description": "ä b", "retaindays": "9"}).read() == b"made"
        assert page.requests[0].body == b"description=%C3%A4+b&retaindays=9"


def test_files_without_a_length_are_refused():
    """Nobody could tell whether the whole came."""
    with Loopback(lambda _: Reply(body=iter([b"some"]))) as page:
        api = BackupApiCaller(f"http://a:b@127.0.0.1:{page.port}/", "Demo/1.0")
        with pytest.raises(RestBackupException, match="how long"):
            api.get("/a")


# --- again ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", [Fault(status=503), Fault(status=500), Fault(cut=0)])
def test_passing_faults_pass(api, server, clock, notes, fault):
    """5xx answers and broken connections: up to four more tries, with growing waits."""
    server.drain = True  # or a reset that overtakes an answer would be one failure more
    once(server, "PUT", fault, times=4)
    api.put("/a", bytes(1_000_000))
    assert 7.5 <= clock.slept <= 15
    once(server, "GET", fault, times=4)
    assert api.get("/a").read() == bytes(1_000_000)
    assert 15 <= clock.slept <= 30
    assert len(notes) == 8
    assert all("trying again" in note for note in notes)


def test_waits_differ(server, notes):
    """So that many clients do not come back all at once."""
    from holdfast.testing.fake_clock import FakeClock

    slept = set()
    for _ in range(5):
        clock = FakeClock()
        once(server, "GET", Fault(status=503))
        BackupApiCaller(server.access_url, "Demo/1.0", clock=clock).list()
        slept.add(clock.slept)
    assert len(slept) > 1
    assert all(0.5 <= each <= 1 for each in slept)


def test_services_say_when_to_come_back(api, server, clock):
    """Retry-After is waited for, up to a minute."""
    for asked, least, most in (("20", 20, 20), ("9999", 60, 60), ("soon", 0, 1)):
        before = clock.slept
        once(server, "GET", Fault(status=503, retry_after=asked))
        api.list()
        assert least <= clock.slept - before <= most


def test_patience_ends(api, server, monkeypatch):
    """After five tries, or as many as the constant says."""
    server.faults = lambda *_: Fault(status=503)
    with pytest.raises(RestBackupException, match=r"503 .*\(5 tries\)") as caught:
        api.list()
    assert (caught.value.status, caught.value.attempts) == (503, 5)
    monkeypatch.setattr(restbackup, "MAX_ATTEMPTS", 2)
    with pytest.raises(RestBackupException, match="2 tries"):
        api.list()


@pytest.mark.parametrize("status", [400, 404, 413, 501, 507])
def test_permanent_refusals_are_final(api, server, status):
    """No other try changes them."""
    server.faults = lambda *_: Fault(status=status)
    with pytest.raises(RestBackupException):
        api.put("/a", b"")
    assert len(server.asked) == 1


def test_forms_are_not_sent_twice():
    """After a broken connection nobody knows whether a POST had its effect."""

    def converse(connection):
        connection.recv(4096)
        connection.close()

    with conversation(converse) as url:
        with pytest.raises(RestBackupNetworkException) as caught:
            BackupApiCaller(url, "Demo/1.0").post("/", {})
        assert caught.value.attempts == 1


def test_a_lost_acknowledgement_is_found_in_the_listing(api, server, notes):
    """The file was stored, its 201 lost, the second try meets 405: a success, and it is said."""
    once(server, "PUT", Fault(forget=True))
    said = api.put("/a", b"content")
    assert "acknowledgement was lost" in said
    assert "7 bytes" in said
    assert any("it is stored" in note for note in notes)
    assert server.path_of("/a").read_bytes() == b"content"


def test_a_file_of_another_size_is_not_ours(api, server):
    """Somebody else took the name: an error with both sizes."""
    server.drain = True

    def faults(method, _path):
        if method == "PUT" and not server.names():
            server.path_of("/a").write_bytes(b"somebody else's")
            return Fault(status=503)
        return None

    server.faults = faults
    with pytest.raises(
        RestBackup405MethodNotAllowed, match="has 15 bytes, and 7 were sent"
    ) as caught:
        api.put("/a", b"content")
    assert caught.value.attempts == 2


def test_an_older_file_of_the_same_size_is_not_ours(api, server):
    """It was there before the first try, whose refusal was lost: an error, not a success."""
    server.path_of("/a").write_bytes(b"CONTENT")
    old = time.time() - 3600
    os.utime(server.path_of("/a"), (old, old))
    once(server, "PUT", Fault(status=503))
    with pytest.raises(RestBackup405MethodNotAllowed, match="older than this upload"):
        api.put("/a", b"content")


def test_uploads_begin_again_from_the_start(api, server):
    """Encrypted or not, after a break in the middle; nothing of the broken one is stored."""
    data = os.urandom(3_000_000)
    once(server, "PUT", Fault(cut=1_000_000), times=2)
    api.put("/plain", FileObjectReader(io.BytesIO(data), len(data)))
    once(server, "PUT", Fault(cut=1_000_000), times=2)
    api.put_encrypted("pass", "/encrypted", data)
    assert set(server.names()) == {"/encrypted", "/plain"}
    assert api.get("/plain").read() == data
    assert api.get_encrypted("pass", "/encrypted").read() == data


def test_what_can_be_read_once_is_sent_once(api, server):
    """A pipe that broke off is an error that says the file may be there."""

    class Sized(PipeReader):
        def __len__(self):
            return 3_000_000

    once(server, "PUT", Fault(cut=1_000_000))
    with pytest.raises(RestBackupNetworkException) as caught:
        api.put("/a", Sized(io.BytesIO(bytes(3_000_000))))
    assert caught.value.attempts == 1
    assert "list the account" in caught.value.advice


def test_sources_that_fail_are_not_stored(api, server):
    """Their own error comes out, and nothing is stored under the name."""

    class Broken(StringReader):
        def read_once(self, size):
            raise OSError(5, "Input/output error")

    with pytest.raises(OSError, match="Input/output error") as caught:
        api.put("/a", Broken(bytes(1000)))
    assert not isinstance(caught.value, RestBackupException)
    with pytest.raises(OSError, match=r"shorter meanwhile"):
        api.put("/a", FileObjectReader(io.BytesIO(bytes(10)), 1000))
    assert server.names() == []


def test_services_that_are_not_there_are_told(clock):
    """After all tries, with the host and no traceback of a library."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    api = BackupApiCaller(f"http://a:b@127.0.0.1:{port}/", "Demo/1.0", clock=clock)
    with pytest.raises(RestBackupNetworkException, match=rf"refuses .* {port} \(5 tries\)"):
        api.list()


def test_unknown_hosts_are_not_tried_again(clock):
    """A name that nobody knows will not be known in four seconds."""
    api = BackupApiCaller("https://a:b@nowhere.invalid/", "Demo/1.0", clock=clock)
    with pytest.raises(RestBackupNetworkException, match=r"nowhere\.invalid"):
        api.list()
    assert not clock.slept


def test_silent_services_are_given_up(clock):
    """After the time-out, not for ever."""
    with Loopback(lambda _: Reply(delay=5)) as page:
        api = BackupApiCaller(
            f"http://a:b@127.0.0.1:{page.port}/", "Demo/1.0", timeout=0.2, clock=clock
        )
        began = time.monotonic()
        with pytest.raises(RestBackupNetworkException, match="stopped answering"):
            api.list()
        assert time.monotonic() - began < 4


@contextmanager
def conversation(converse):
    listener = socket.create_server(("127.0.0.1", 0))
    thread = Thread(target=lambda: converse(listener.accept()[0]), daemon=True)
    thread.start()
    yield f"http://a:b@127.0.0.1:{listener.getsockname()[1]}/"
    thread.join(5)
    listener.close()


def test_an_early_201_is_no_success():
    """Who acknowledges before the whole was sent has not stored it."""

    def converse(connection):
        connection.recv(4096)
        connection.sendall(b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n")
        time.sleep(0.3)
        connection.close()

    with conversation(converse) as url:
        api = BackupApiCaller(url, "Demo/1.0")
        with pytest.raises(RestBackupException, match="before it had all"):
            api.put("/a", bytes(50_000_000))


# --- downloads ------------------------------------------------------------------------------------


@pytest.mark.parametrize("ranges", [True, False])
def test_downloads_go_on_where_they_broke_off(api, server, ranges, notes):
    """By a part where the service gives parts, else by passing over what was read."""
    server.ranges = ranges
    data = os.urandom(3_000_000)
    server.path_of("/a").write_bytes(data)
    once(server, "GET", Fault(cut=1_000_000), times=2)
    reader = api.get("/a")
    assert len(reader) == len(data)
    assert reader.read() == data
    assert len(notes) == 2
    again = [each.headers.get("range") for each in server.asked if each.method == "GET"]
    assert again[0] is None
    assert again[1].startswith("bytes=")


def test_encrypted_downloads_go_on_too(api, server):
    """Below the decryption, which notices nothing."""
    data = os.urandom(1_000_000)
    api.put_encrypted("pässwörd", "/a", data)
    once(server, "GET", Fault(cut=300_000))
    assert api.get_encrypted("pässwörd", "/a").read() == data


def test_downloads_that_stand_still_end(api, server):
    """Five breaks without a byte in between are enough."""
    server.path_of("/a").write_bytes(bytes(100_000))
    server.faults = lambda *_: Fault(cut=0)
    with pytest.raises(RestBackupNetworkException):
        api.get("/a").read()
    assert len(server.asked) < 40


def test_another_file_is_not_more_of_the_same(api, server):
    """I4: what expired and was stored anew meanwhile is not joined to what came before."""
    server.path_of("/a").write_bytes(bytes(2_000_000))
    once(server, "GET", Fault(cut=1_000_000))
    reader = api.get("/a")
    reader.read(500_000)
    server.path_of("/a").write_bytes(b"other" * 500_000)
    with pytest.raises(RestBackupException, match="another one"):
        reader.read()


def test_readers_without_a_way_back_fail():
    """I4: what broke off is an error, never an end."""
    with Loopback(lambda _: Reply(body=bytes(1_000_000), cut=500_000)) as page:
        api = BackupApiCaller(f"http://a:b@127.0.0.1:{page.port}/", "Demo/1.0")
        with pytest.raises(RestBackupNetworkException):
            HttpResponseReader(api.call("GET", "/a")).read()


def test_wrong_passphrases_are_told_at_once(api, server):
    """When the file is opened, before anything is written anywhere."""
    api.put_encrypted("right", "/a", b"content")
    with pytest.raises(WrongPassphraseException):
        api.get_encrypted("wrong", "/a")
    server.path_of("/b").write_bytes(b"never encrypted")
    with pytest.raises(DataDamagedException, match="15 bytes cannot be"):
        api.get_encrypted("right", "/b")
