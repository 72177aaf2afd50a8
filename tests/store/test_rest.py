"""The client of restic's REST protocol, against a server written apart from it."""

import socket
from contextlib import contextmanager, suppress
from threading import Thread

import pytest

from holdfast.core.errors import (
    ObjectExistsError,
    ObjectNotFoundError,
    StorageFullError,
    StoreBusyError,
    StoreDeniedError,
    StoreError,
    UnsupportedStoreError,
)
from holdfast.core.secret import Secret
from holdfast.net.egress import PUBLIC_ONLY
from holdfast.store.contract import FileKind
from holdfast.store.rest import RestStore
from holdfast.store.retry import RetryStore
from holdfast.testing.fake_clock import FakeClock
from holdfast.testing.rest_server import CUT, CUT_AFTER
from holdfast.testing.store_contract import keep, named, sample

PACK = FileKind.PACK


@pytest.fixture
def server(rest_server):
    return rest_server()


@pytest.fixture
def store(server):
    store = RestStore(server.url)
    store.create()
    yield store
    store.close()


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, StoreError),
        (401, StoreDeniedError),
        (403, StoreDeniedError),
        (404, ObjectNotFoundError),
        (413, StorageFullError),
        (507, StorageFullError),
        (418, StoreError),
        (429, StoreBusyError),
        (500, StoreBusyError),
        (502, StoreBusyError),
        (503, StoreBusyError),
        (504, StoreBusyError),
        (CUT, StoreBusyError),
    ],
)
def test_answers_become_errors_of_the_registry(server, store, status, error):
    """Each status is the error that tells a person, and a retry, what to do; never success."""
    server.interfere = lambda _method, _path: status
    name = named(b"")
    for call in (
        lambda: store.put(PACK, name, b""),
        lambda: store.get(PACK, name),
        lambda: store.get_range(PACK, name, 0, 1),
        lambda: store.stat(PACK, name),
        lambda: store.remove(PACK, name),
    ):
        with pytest.raises(error) as caught:
            call()
        assert type(caught.value) is error
    if status != 404:
        with pytest.raises(error):
            list(store.list(PACK))


def test_lost_answer_of_an_upload_is_settled(server, store):
    """The upload took place, the connection broke: a retry finds the object and is content."""
    lost = iter([CUT_AFTER])
    server.interfere = lambda method, _path: next(lost, None) if method == "POST" else None
    data = sample(300_000)
    keep(RetryStore(store, clock=FakeClock()), PACK, data)
    assert store.get(PACK, named(data)) == data
    assert [method for method, _ in server.requests].count("POST") == 3


def test_altered_upload_is_refused(store):
    """A server that checks digests refuses other bytes, and nothing lies under the name."""
    with pytest.raises(StoreError):
        store.put(PACK, named(b"these"), b"others")
    assert list(store.list(PACK)) == []


def test_append_only_servers_say_so(rest_server):
    """Removal is denied, not thought done."""
    store = RestStore(rest_server(append_only=True).url)
    name = keep(store, PACK, b"kept")
    with pytest.raises(StoreDeniedError):
        store.remove(PACK, name)
    assert store.get(PACK, name) == b"kept"


def test_quota_is_a_full_store(rest_server):
    """Also where a server says it with 413."""
    store = RestStore(rest_server(quota=1000).url)
    keep(store, PACK, sample(900))
    with pytest.raises(StorageFullError):
        keep(store, PACK, sample(901))


def test_credentials_go_to_the_server_and_nowhere_else(rest_server):
    """They work from the address and from options, and show in no address and no error."""
    server = rest_server(user="me", password="p@ss/word")
    with_address = server.url.replace("//", "//me:p%40ss%2Fword@")
    for store in (
        RestStore(with_address),
        RestStore(server.url, user="me", password=Secret("p@ss/word")),
    ):
        store.create()
        assert store.address == f"rest:{server.url}"
        with pytest.raises(ObjectNotFoundError) as caught:
            store.get(PACK, named(b""))
        assert "ss" not in str(caught.value).replace(named(b"")[:8], "").replace("does", "")
        assert "word" not in repr(vars(store))
    with pytest.raises(StoreDeniedError) as caught:
        RestStore(server.url.replace("//", "//me:wrong-word@")).stat(PACK, named(b""))
    assert "wrong-word" not in str(caught.value)
    with pytest.raises(UnsupportedStoreError) as caught:
        RestStore("ftp://me:wrong-word@host/")
    assert "wrong-word" not in str(caught.value)


def test_taken_and_forbidden_are_told_apart(server, store):
    """Servers answer both with 403."""
    name = keep(store, PACK, b"there")
    with pytest.raises(ObjectExistsError):
        store.put(PACK, name, b"there")
    server.interfere = lambda method, _path: 403 if method == "POST" else None
    with pytest.raises(StoreDeniedError):
        keep(store, PACK, b"not there")


def test_egress_policy_holds(server):
    """What a server does on somebody's behalf does not reach this machine."""
    with pytest.raises(StoreDeniedError, match="this machine"):
        RestStore(server.url, egress=PUBLIC_ONLY).stat(PACK, named(b""))
    assert server.requests == []


def test_strange_listing_is_an_error():
    """A page that is no listing is never an empty one."""
    page = b"HTTP/1.1 200 OK\r\nContent-Length: 13\r\n\r\n<html></html>"
    with raw_server(page) as url, pytest.raises(StoreError, match="no listing"):
        list(RestStore(url).list(PACK))


def test_size_that_is_not_told_is_an_error():
    """An object without a size is none that could be relied on."""
    answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    with raw_server(answer) as url, pytest.raises(StoreError, match="size"):
        RestStore(url).stat(PACK, named(b""))


def test_listing_of_what_nobody_made_is_empty(server):
    """A server without the folder has nothing in it."""
    assert list(RestStore(server.url).list(PACK)) == []


def test_names_that_are_none_of_ours_are_passed_over(store, server):
    """Whatever else a server lists."""
    name = keep(store, PACK, b"x")
    (server.folder / "data" / name[:2] / "upload-123").write_bytes(b"stranger")
    assert [each.name for each in store.list(PACK)] == [name]


def test_cut_body_is_an_error():
    """Fewer bytes than announced are never returned."""
    cut = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly these"
    with raw_server(cut) as url, pytest.raises(StoreBusyError):
        RestStore(url).get(PACK, named(b""))


@contextmanager
def raw_server(answer):
    """Answers each connection with the same bytes, whatever it says, and closes it."""
    listening = socket.create_server(("127.0.0.1", 0))

    def serve():
        with suppress(OSError):
            while True:
                connection, _ = listening.accept()
                with connection:
                    connection.recv(65536)
                    connection.sendall(answer)

    thread = Thread(target=serve, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{listening.getsockname()[1]}/"
    listening.shutdown(socket.SHUT_RDWR)
    listening.close()
    thread.join()


@pytest.mark.interop
def test_stock_restic_and_this_client_mean_the_same_protocol(server, store, tmp_path, stock_restic):
    """I6: this client reads each object of a repository that restic keeps on the server."""
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "file").write_bytes(sample(3_000_000))
    restic = stock_restic(f"rest:{server.url}", tmp_path)
    restic("init")
    restic("backup", "source")
    restic("check", "--read-data")
    for kind in FileKind:
        found = list(store.list(kind))
        assert len(found) == {"config": 1, "keys": 1, "locks": 0, "snapshots": 1}.get(
            kind, len(found)
        )
        for each in found:
            data = store.get(kind, each.name)
            assert len(data) == each.size
            assert kind is FileKind.CONFIG or named(data) == each.name
    assert len(list(store.list(PACK))) >= 2
