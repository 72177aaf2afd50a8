"""The HTTP client keeps its bounds."""

import datetime as dt
import os
import socket
import ssl
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from holdfast.core.errors import (
    CertificateError,
    EgressDeniedError,
    HostNotFoundError,
    NetworkError,
    RedirectError,
)
from holdfast.net import http
from holdfast.net.egress import PUBLIC_ONLY
from holdfast.net.http import HttpClient
from holdfast.testing.fake_clock import FakeClock
from holdfast.testing.loopback import Loopback, Reply


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch):
    for name in list(os.environ):
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)


@pytest.fixture
def client():
    client = HttpClient()
    yield client
    client.close()


def port_of(listening):
    return listening.getsockname()[1]


def echo(request):
    return Reply(body=request.method.encode() + b" " + request.target.encode() + request.body)


def test_request_and_answer_come_through_whole(client):
    """Method, path, query, body and status; large bodies too."""
    body = os.urandom(3_000_000)
    with Loopback(echo) as server:
        answer = client.request("POST", f"{server.url}/a/b%20c?d=e#f", body=body)
        assert answer.body == b"POST /a/b%20c?d=e" + body
        assert answer.status == 200
        view = memoryview(body)[10:1000]
        assert client.request("PUT", server.url, body=view).body == b"PUT /" + view
        assert server.requests[0].headers["host"] == f"127.0.0.1:{server.port}"
        assert server.requests[0].headers["user-agent"].startswith("holdfast/")


def test_connections_are_kept(client):
    """Requests one after the other share a connection."""
    with Loopback(echo) as server:
        for _ in range(5):
            client.request("GET", server.url)
        assert server.connections == 1


def test_forked_process_has_connections_of_its_own(client):
    """Parent and child never read each other's answers."""
    with Loopback(echo) as server:
        client.request("GET", server.url)
        child = os.fork()
        if child == 0:
            status = 1
            try:
                status = int(client.request("GET", f"{server.url}/child").body != b"GET /child")
            finally:
                os._exit(status)
        assert os.waitpid(child, 0)[1] == 0
        assert client.request("GET", f"{server.url}/parent").body == b"GET /parent"
        assert server.connections == 2


def test_errors_are_answers(client):
    """Statuses are the caller's business."""
    with Loopback(lambda _: Reply(503, b"busy")) as server:
        assert client.request("GET", server.url).status == 503


@pytest.mark.parametrize(
    "reply",
    [
        Reply(body=b"x" * 1000, cut=500),
        Reply(body=iter([b"some"]), length=1000, cut=4),
        Reply(body=iter([b"chunk"]), cut=5),
        Reply(body=b"x", cut=0),
    ],
    ids=["cut", "less than announced", "cut chunks", "cut at once"],
)
def test_cut_answers_are_errors(client, reply):
    """Never a part for the whole; and worth another try."""
    with Loopback(lambda _: reply) as server, pytest.raises(NetworkError) as caught:
        client.request("GET", server.url)
    assert caught.value.retryable


def test_silence_ends():
    """A server that stops answering is given up after `read_timeout`."""
    with Loopback(lambda _: Reply(delay=30)) as server:
        started = time.monotonic()
        with pytest.raises(NetworkError, match="stopped answering"):
            HttpClient(read_timeout=0.2).request("GET", server.url)
        assert time.monotonic() - started < 20


def test_endless_answers_end(client, monkeypatch):
    """A body without an end does not fill the memory."""
    monkeypatch.setattr(http, "LARGEST_BODY", 1 << 20)
    endless = Reply(body=iter(lambda: bytes(65536), b""))
    with (
        Loopback(lambda _: endless) as server,
        pytest.raises(NetworkError, match="without an end"),
    ):
        client.request("GET", server.url)


def test_refused_connections_are_told(client):
    """With host and port, and worth another try."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = port_of(listening)
    with pytest.raises(NetworkError, match=rf"127\.0\.0\.1 refuses connections at port {port}"):
        client.request("GET", f"http://127.0.0.1:{port}/")


def test_hosts_that_do_not_answer_are_given_up():
    """After `connect_timeout`: here a listener whose queue is full."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listening:
        waiting = [socket.socket() for _ in range(4)]
        for each in waiting:
            each.setblocking(False)
            each.connect_ex(listening.getsockname())
        client = HttpClient(connect_timeout=0.3)
        with pytest.raises(NetworkError, match="in time"):
            client.request("GET", f"http://127.0.0.1:{port_of(listening)}/")
        for each in waiting:
            each.close()


def test_unknown_hosts_are_told(client):
    """And not worth another try."""
    with pytest.raises(HostNotFoundError, match=r"nowhere\.invalid"):
        client.request("GET", "http://nowhere.invalid/")


def test_policy_is_asked_before_anything_is_sent():
    """What is forbidden sees no request."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(0)
        with pytest.raises(EgressDeniedError):
            HttpClient(egress=PUBLIC_ONLY).request("GET", f"http://127.0.0.1:{port_of(listening)}/")
        with pytest.raises(BlockingIOError):
            listening.accept()


def test_connection_goes_to_the_address_that_was_judged(client, monkeypatch):
    """A name that changes its mind after the look changes nothing."""
    asked = []

    def lookup(egress, host, port):
        asked.append(host)
        return ["127.0.0.1"] if len(asked) == 1 else ["127.0.0.2"]

    monkeypatch.setattr(http, "reachable", lookup)
    with Loopback(echo) as server:
        for _ in range(3):
            client.request("GET", f"http://changing.test:{server.port}/")
        assert server.requests[0].headers["host"] == f"changing.test:{server.port}"
    assert asked == ["changing.test"]


def test_judgements_do_not_last_for_ever(monkeypatch):
    """After a minute a name is looked up and judged anew."""
    clock = FakeClock()
    client = HttpClient(clock=clock)
    verdicts = iter([["127.0.0.1"], []])
    monkeypatch.setattr(http, "reachable", lambda *_: next(verdicts))
    with Loopback(echo) as server:
        client.request("GET", f"http://name.test:{server.port}/")
        clock.advance(61)
        with pytest.raises(AssertionError):
            client.request("GET", f"http://name.test:{server.port}/")


def redirecting(status=302, target="/end"):
    return lambda request: (
        echo(request) if request.path == "/end" else Reply(status, headers={"Location": target})
    )


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_of_reads_are_followed(client, status):
    """To the end."""
    with Loopback(redirecting(status)) as server:
        assert client.request("GET", server.url).body == b"GET /end"


def test_writes_follow_only_redirects_that_keep_them(client):
    """307 and 308 send the body again; 302 would turn it into a read, and is the caller's."""
    with Loopback(redirecting(307)) as server:
        assert client.request("POST", server.url, body=b"!").body == b"POST /end!"
    with Loopback(redirecting(302)) as server:
        assert client.request("POST", server.url, body=b"!").status == 302


def test_redirect_loops_end(client):
    """After five, as an error that no other try mends."""
    with Loopback(redirecting(target="/again")) as server:
        with pytest.raises(RedirectError) as caught:
            client.request("GET", server.url)
        assert len(server.requests) == 6
    assert not caught.value.retryable


def test_redirects_to_elsewhere_carry_no_credentials(client):
    """Authorization and cookies stay with the host they were meant for."""
    headers = {"Authorization": "Basic secret", "Cookie": "secret", "X-Other": "kept"}
    with Loopback(echo) as other, Loopback(redirecting(target=f"{other.url}/end")) as server:
        client.request("GET", server.url, headers=headers)
        assert "authorization" in server.requests[0].headers
        assert not {"authorization", "cookie"} & set(other.requests[0].headers)
        assert other.requests[0].headers["x-other"] == "kept"


@pytest.mark.parametrize("target", ["http://169.254.169.254/latest", "http://[fe80::1]/"])
def test_redirects_are_judged_too(client, target):
    """A public page cannot send a request to where it may not go."""
    with Loopback(redirecting(target=target)) as server, pytest.raises(EgressDeniedError):
        client.request("GET", server.url)


@pytest.mark.parametrize("target", ["ftp://host/", "file:///etc/passwd", "gopher://host"])
def test_redirects_stay_with_http(client, target):
    """Other schemes are refused."""
    with Loopback(redirecting(target=target)) as server, pytest.raises(RedirectError):
        client.request("GET", server.url)


def test_proxy_of_the_environment_is_used(client, monkeypatch):
    """With its credentials, and not for what NO_PROXY names."""
    with Loopback(echo) as proxy, Loopback(echo) as server:
        monkeypatch.setenv("http_proxy", f"http://me:p%40ss@127.0.0.1:{proxy.port}")
        client.request("GET", "http://only-the-proxy-knows.invalid/x?y")
        assert proxy.requests[0].target == "http://only-the-proxy-knows.invalid/x?y"
        assert proxy.requests[0].headers["proxy-authorization"] == "Basic bWU6cEBzcw=="
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        assert client.request("GET", f"{server.url}/direct").body == b"GET /direct"


def test_proxy_is_no_way_around_the_policy(monkeypatch):
    """What cannot be judged here is not asked of a proxy on somebody's behalf."""
    with socket.create_server(("127.0.0.1", 0)) as proxy:
        proxy.settimeout(0)
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{port_of(proxy)}")
        client = HttpClient(egress=PUBLIC_ONLY)
        for url in ("http://10.0.0.1/", "http://only-the-proxy-knows.invalid/"):
            with pytest.raises((EgressDeniedError, HostNotFoundError)):
                client.request("GET", url)
        with pytest.raises(BlockingIOError):
            proxy.accept()


@pytest.fixture
def tls(tmp_path):
    """An HTTPS server for `localhost`, and the file that holds its certificate."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), 1)
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    bundle = tmp_path / "certificate.pem"
    bundle.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    pair = tmp_path / "pair.pem"
    pair.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + bundle.read_bytes()
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair)

    class Hello(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(302 if self.path == "/redirect" else 200)
            self.send_header("Location", "http://localhost/")
            self.end_headers()
            self.wfile.write(b"hello")

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Hello)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    server.handle_error = lambda *_: None
    thread = Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    yield server.server_address[1], bundle
    server.shutdown()
    server.server_close()
    thread.join()


def test_certificate_is_checked_against_the_name(tls):
    """Although the connection is made to an address: trusted for its name, and for no other."""
    port, bundle = tls
    client = HttpClient(ca_bundle=str(bundle))
    assert client.request("GET", f"https://localhost:{port}/").body == b"hello"
    with pytest.raises(CertificateError):
        client.request("GET", f"https://127.0.0.1:{port}/")


def test_redirects_do_not_leave_tls(tls, client):
    """From HTTPS to plain HTTP is refused, wherever it leads."""
    port, bundle = tls
    with pytest.raises(RedirectError, match="plain HTTP"):
        HttpClient(ca_bundle=str(bundle)).request("GET", f"https://localhost:{port}/redirect")


def test_unreadable_certificates_are_told():
    """When the client is made."""
    with pytest.raises(CertificateError, match="/nowhere"):
        HttpClient(ca_bundle="/nowhere")


def test_unknown_authorities_are_not_trusted(tls, client):
    """And no other try helps."""
    with pytest.raises(CertificateError, match="localhost is not trusted") as caught:
        client.request("GET", f"https://localhost:{tls[0]}/")
    assert not caught.value.retryable
