"""Bodies of any size, both ways; and an answer that comes while a body is still being sent."""

import os
import socket
import ssl
import time
from contextlib import contextmanager
from threading import Thread

import pytest

from holdfast.core.errors import NetworkError
from holdfast.net.http import HttpClient
from holdfast.testing.loopback import Loopback, Reply

PIECE = bytes(64 << 10)
REFUSAL = b"HTTP/1.1 405 No\r\nContent-Length: 5\r\nConnection: close\r\n\r\ntaken"


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch):
    for name in list(os.environ):
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)


def body(pieces, sent=None):
    """So many pieces; how many were asked for is the length of `sent`."""
    for _ in range(pieces):
        if sent is not None:
            sent.append(1)
        yield PIECE


def put(client, url, pieces, sent=None):
    return client.exchange(
        "PUT", url, headers={}, body=body(pieces, sent), length=pieces * len(PIECE)
    )


@contextmanager
def listening(converse, context=None):
    """A server that holds one conversation by hand; its port."""
    listener = socket.create_server(("127.0.0.1", 0))

    def run():
        connection, _ = listener.accept()
        # Else session tickets hold the answer back, and closing throws it away.
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if context is not None:
            connection = context.wrap_socket(connection, server_side=True)
        with connection:
            converse(connection)

    thread = Thread(target=run, daemon=True)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        thread.join(10)
        listener.close()
        assert not thread.is_alive()


def read_head(connection):
    head = b""
    while b"\r\n\r\n" not in head:
        head += connection.recv(4096)
    return head


def refuse_and_reset(connection):
    """By the head alone, with the body unread: the kernel sends a reset."""
    read_head(connection)
    connection.sendall(REFUSAL)


def refuse_and_wait(connection):
    """Neither reads on nor closes before the client does."""
    read_head(connection)
    connection.sendall(REFUSAL)
    time.sleep(1)


def refuse_and_drain(connection):
    """Reads on, as long as anything comes."""
    read_head(connection)
    connection.sendall(REFUSAL)
    while connection.recv(1 << 16):
        pass


def refuse_after_interim(connection):
    read_head(connection)
    connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
    time.sleep(0.2)
    connection.sendall(REFUSAL)


REFUSALS = [refuse_and_reset, refuse_and_wait, refuse_and_drain, refuse_after_interim]


@pytest.mark.parametrize("converse", REFUSALS, ids=lambda each: each.__name__)
def test_refusal_is_read_before_all_is_sent(converse):
    """An upload of 4 GiB that is refused by its head ends with that answer, and soon."""
    sent = []
    client = HttpClient(read_timeout=3)
    with listening(converse) as port:
        answer = put(client, f"http://127.0.0.1:{port}/", 1 << 16, sent)
        assert (answer.status, answer.reason, answer.read()) == (405, "No", b"taken")
        client.close()
    assert len(sent) < 1 << 13


@pytest.mark.parametrize("converse", REFUSALS, ids=lambda each: each.__name__)
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_refusal_is_read_through_tls(converse, version, certificates):
    """The same where every byte is wrapped, and session tickets arrive, too."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates.pair)
    context.minimum_version = context.maximum_version = version
    sent = []
    client = HttpClient(read_timeout=3, ca_bundle=str(certificates.bundle))
    with listening(converse, context) as port:
        answer = put(client, f"https://localhost:{port}/", 1 << 16, sent)
        assert (answer.status, answer.reason, answer.read()) == (405, "No", b"taken")
        client.close()
    assert len(sent) < 1 << 13


def test_all_is_sent_through_tls(certificates):
    """Session tickets are no answer: every byte arrives."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates.pair)
    arrived = []

    def converse(connection):
        left = 100 * len(PIECE) - len(read_head(connection).partition(b"\r\n\r\n")[2])
        while left:
            got = len(connection.recv(min(left, 1 << 16)))
            assert got
            left -= got
        arrived.append(1)
        connection.sendall(b"HTTP/1.1 201 Created\r\nContent-Length: 2\r\n\r\nok")

    client = HttpClient(read_timeout=3, ca_bundle=str(certificates.bundle))
    with listening(converse, context) as port:
        answer = put(client, f"https://localhost:{port}/", 100)
        assert (answer.status, answer.read()) == (201, b"ok")
        client.close()
    assert arrived


def test_connection_is_not_used_again_after_a_refusal():
    """Its server may still take the next request for a part of the body."""

    def answer(request):
        return Reply(body=str(request.connection).encode())

    client = HttpClient(read_timeout=3)
    with listening(refuse_and_drain) as port:
        refused = put(client, f"http://127.0.0.1:{port}/", 1 << 16)
        assert refused.read() == b"taken"
        pool = client._direct.connection_from_host("127.0.0.1", port)
        assert all(each is None or each.sock is None for each in pool.pool.queue)
    with Loopback(answer) as server:
        for _ in range(3):
            assert put(client, server.url, 2).read() == b"1"


def test_interim_answers_are_passed_over():
    """An unasked 100 Continue ends nothing: all is sent, and the answer after it is the one."""

    def converse(connection):
        connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        left = 100 * len(PIECE)
        left -= len(read_head(connection).partition(b"\r\n\r\n")[2])
        while left:
            left -= len(connection.recv(1 << 16))
        connection.sendall(b"HTTP/1.1 201 Created\r\nContent-Length: 2\r\n\r\nok")

    client = HttpClient(read_timeout=3)
    with listening(converse) as port:
        answer = put(client, f"http://127.0.0.1:{port}/", 100)
        assert (answer.status, answer.read()) == (201, b"ok")
        client.close()


def test_bodies_come_piece_by_piece():
    """What was sent is read in any sizes, unpacked by nobody."""
    content = os.urandom(300_000)
    headers = {"Content-Encoding": "gzip"}
    with Loopback(lambda _: Reply(body=content, headers=headers)) as server:
        client = HttpClient()
        with client.exchange("GET", server.url, headers={"X-Own": "1"}) as answer:
            assert answer.headers["content-length"] == "300000"
            assert answer.read(10) == content[:10]
            assert answer.read() == content[10:]
            assert answer.read(10) == b""
        sent = server.requests[0].headers
        assert sent["accept-encoding"] == "identity"
        assert sent["x-own"] == "1"
        assert "content-length" not in sent


def test_redirects_are_answers():
    """They are not followed: what was sent may not be sent twice."""
    with Loopback(lambda _: Reply(307, headers={"Location": "/x"})) as server:
        assert put(HttpClient(), server.url, 1).status == 307
        assert len(server.requests) == 1


def test_cut_bodies_are_errors():
    """Never a part for the whole."""
    with Loopback(lambda _: Reply(body=bytes(100_000), cut=50_000)) as server:
        answer = HttpClient().exchange("GET", server.url, headers={})
        with pytest.raises(NetworkError) as caught:
            list(iter(lambda: answer.read(1000), b""))
    assert caught.value.retryable


def test_forgotten_answers_hold_no_connection():
    """More requests than connections, none of them read."""
    with Loopback(lambda _: Reply(body=bytes(1 << 20))) as server:
        client = HttpClient(connections=2)
        for _ in range(5):
            assert client.exchange("GET", server.url, headers={}).status == 200


def test_errors_of_the_body_are_passed_on():
    """And the connection is given up: half a body is no body."""

    class OwnError(Exception):
        pass

    def broken():
        yield PIECE
        raise OwnError

    def converse(connection):
        read_head(connection)
        while connection.recv(1 << 16):
            pass

    with listening(converse) as port, pytest.raises(OwnError):
        HttpClient().exchange(
            "PUT", f"http://127.0.0.1:{port}/", headers={}, body=broken(), length=1 << 20
        )


def test_servers_that_take_nothing_are_given_up():
    """After `read_timeout` for a piece."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = HttpClient(read_timeout=0.3)
        with pytest.raises(NetworkError, match="takes no more"):
            put(client, f"http://127.0.0.1:{listener.getsockname()[1]}/", 1 << 16)
