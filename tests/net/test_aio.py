"""The asynchronous client: one attempt, honest errors, redirects by our rules."""

from __future__ import annotations

import asyncio
import gzip
import socket
import ssl
import threading
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_network

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from yarl import URL

from holdfast.core.errors import AddressError, FetchError, ProjectError, TlsError, UnreachableError
from holdfast.net import aio
from holdfast.net.aio import AsyncClient, Call, ClientOptions, encoded, shown
from holdfast.net.egress import PUBLIC_ONLY, Egress
from holdfast.testing.api_server import ApiServer, cut_body
from holdfast.testing.loopback import Reply


@pytest.fixture
def api():
    with ApiServer() as server:
        yield server


def send(url, method="GET", headers=None, private=frozenset(), **options):
    async def once():
        async with AsyncClient(ClientOptions(**options)) as client:
            return await client.send(
                Call(method=method, url=url, headers=headers or {}, private=private)
            )

    return asyncio.run(once())


def test_an_answer_is_whole(api):
    """Status, body, headers in their order, and where it came from."""
    api.routes["/x"] = lambda _request: Reply(418, b"tea", {"X-A": "1"})
    reply = send(f"{api.url}/x?a=%2B")
    assert (reply.status, reply.body, reply.header("x-a")) == (418, b"tea", "1")
    assert api.requests[0].target == "/x?a=%2B"


def test_compressed_answers_are_unpacked(api):
    """gzip is asked for and undone."""
    api.routes["/x"] = lambda _request: Reply(
        200, gzip.compress(b"plain" * 100), {"Content-Encoding": "gzip"}
    )
    assert send(f"{api.url}/x").body == b"plain" * 100
    assert "gzip" in api.requests[0].headers["accept-encoding"]


def test_connections_are_kept(api):
    """Many requests, one connection."""

    async def many():
        async with AsyncClient(ClientOptions()) as client:
            for _ in range(5):
                await client.send(Call(method="GET", url=f"{api.url}/x"))

    asyncio.run(many())
    assert api.connections == 1


def test_a_cut_body_is_unreachable(api):
    """Fewer bytes than were promised are no answer."""
    api.script("/x", cut_body())
    with pytest.raises(UnreachableError, match=r"cut off|closed"):
        send(f"{api.url}/x")


def test_redirects_end(api):
    """A circle is named as one, a long way as longer than allowed, and none is followed when not
    wanted.
    """
    with pytest.raises(FetchError, match="in a circle"):
        send(f"{api.url}/loop")
    for step in range(9):
        api.routes[f"/s{step}"] = lambda _request, step=step: Reply(
            302, b"", {"Location": f"/s{step + 1}"}
        )
    api.routes["/s9"] = lambda _request: Reply(200, b"end", {})
    with pytest.raises(FetchError, match="more than 3 times"):
        send(f"{api.url}/s0", max_redirects=3)
    assert send(f"{api.url}/s0", max_redirects=9).body == b"end"
    assert send(f"{api.url}/s0", allow_redirects=False).status == 302


def test_max_redirects_is_exact(api):
    """Three hops are three: neither two nor four."""
    for step in range(3):
        api.routes[f"/s{step}"] = lambda _request, step=step: Reply(
            301, b"", {"Location": f"/s{step + 1}"}
        )
    api.routes["/s3"] = lambda _request: Reply(200, b"end", {})
    assert send(f"{api.url}/s0", max_redirects=3).body == b"end"
    with pytest.raises(FetchError, match="more than 2 times"):
        send(f"{api.url}/s0", max_redirects=2)


def test_times(api):
    """Slow answers end by the limit that was set."""
    api.latency = 2
    for options in ({"timeout": 0.2}, {"read_timeout": 0.2}):
        with pytest.raises(UnreachableError, match="in time"):
            send(f"{api.url}/x", **options)


def test_nobody_there():
    """Refused connections and unknown names are sentences."""
    with pytest.raises(UnreachableError, match="cannot be reached: Connection refused"):
        send("http://127.0.0.1:9/x")
    with pytest.raises(UnreachableError, match="cannot be reached"):
        send("http://no-such-host.invalid/x")


@pytest.fixture
def tls(tmp_path):
    """Port of a server with a certificate that nobody has signed, and that certificate's file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    (tmp_path / "cert.pem").write_bytes(certificate.public_bytes(Encoding.PEM))
    (tmp_path / "key.pem").write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"ok")

        def log_message(self, *_):
            pass

    class Quiet(ThreadingHTTPServer):
        def handle_error(self, *_):
            pass

    with Quiet(("127.0.0.1", 0), Handler) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server.server_address[1], tmp_path / "cert.pem"
        server.shutdown()
        thread.join()


def test_an_untrusted_certificate(tls):
    """The documented sentence, with its two ways out, and both of them work."""
    port, bundle = tls
    with pytest.raises(TlsError, match="SSL certificate verification failed for URL") as caught:
        send(f"https://localhost:{port}/x")
    assert "The reason: self-signed certificate" in caught.value.message
    assert "'verify_ssl = False'" in caught.value.advice
    assert "trusted certificate bundle" in caught.value.advice
    assert send(f"https://localhost:{port}/x", verify=False).status == 200
    assert send(f"https://localhost:{port}/x", verify=bundle).status == 200


def test_a_certificate_for_another_name(tls):
    """What is wrong with it is told, since a bundle does not help here."""
    port, bundle = tls
    with pytest.raises(TlsError, match="certificate is not valid for '127"):
        send(f"https://127.0.0.1:{port}/x", verify=bundle)


def test_a_bundle_that_is_none(tmp_path):
    """A wrong path is named."""
    with pytest.raises(ProjectError, match="no bundle of certificates"):
        send("https://localhost:1/x", verify=tmp_path / "none.pem")


def test_a_body_beyond_measure(api):
    """Memory is bounded whatever the other side sends."""
    api.routes["/x"] = lambda _request: Reply(200, b"x" * 3_000_000, {})
    with pytest.raises(FetchError, match="more than 1 MiB"):
        send(f"{api.url}/x", largest_body=1 << 20)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "169.254.169.254"])
def test_a_server_reaches_no_private_place(api, host):
    """With the policy for other people's requests, nothing at home is asked."""
    port = api.url.rsplit(":", 1)[1]
    with pytest.raises(FetchError):
        send(f"http://{host}:{port}/x", egress=PUBLIC_ONLY)
    assert api.requests == []


ONE_ALLOWED = Egress(allowed=(ip_network("127.0.0.1/32"),))
ELSEWHERE = [
    "http://127.0.0.2:{port}/y",
    "http://127.2:{port}/y",
    "http://2130706434:{port}/y",
    "http://0x7f000002:{port}/y",
    "http://0177.0.0.2:{port}/y",
    "http://[::1]:{port}/y",
    "http://[::ffff:127.0.0.2]:{port}/y",
    "http://[::ffff:7f00:2]:{port}/y",
    "http://0.0.0.0:{port}/y",
    "http://127.0.0.1@127.0.0.2:{port}/y",
    "http://127.0.0.1:80@127.0.0.2:{port}/y",
    "http://127.0.0.2:{port}\\@127.0.0.1/y",
    "http://127.0.0.2:{port}#@127.0.0.1/y",
    "http://127.0.0.2:{port}?@127.0.0.1/y",
    "//127.0.0.2:{port}/y",
    "http://169.254.169.254/latest/meta-data/",
    "http://10.0.0.1/y",
    "http://here.test:{port}/y",
    "file:///etc/passwd",
    "gopher://127.0.0.2:{port}/y",
]


@pytest.fixture
def names(monkeypatch):
    """Addresses of names that no name server knows, as a mapping to fill."""
    known = {"here.test": ["127.0.0.2"]}
    asked = []
    real = socket.getaddrinfo

    def lookup(host, port, *args, **options):
        asked.append(host)
        if host in known:
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (ip, port)) for ip in known[host]]
        return real(host, port, *args, **options)

    monkeypatch.setattr(socket, "getaddrinfo", lookup)
    known["asked"] = asked
    return known


@pytest.mark.usefixtures("names")
@pytest.mark.parametrize("target", ELSEWHERE)
@pytest.mark.parametrize("way", ["address", "redirect"])
def test_no_spelling_and_no_redirect_leads_elsewhere(api, target, way):
    """One address is allowed; whatever another is dressed as, nothing but that one is asked."""
    port = api.url.rsplit(":", 1)[1]
    target = target.format(port=port)
    api.routes["/x"] = lambda _request: Reply(302, b"", {"Location": target})
    first = f"{api.url}/x" if way == "redirect" else target
    try:
        reply = send(first, egress=ONE_ALLOWED, connect_timeout=1)
    except FetchError:
        reply = None
    # some of these are read as a harmless path or query of the allowed host
    assert reply is None or URL(reply.url).host == "127.0.0.1"
    assert {request.headers["host"] for request in api.requests} <= {f"127.0.0.1:{port}"}


def test_a_name_that_changes_its_mind(api, names, monkeypatch):
    """Each new look at a name is judged anew, and the connection goes where it was judged."""
    monkeypatch.setattr(aio, "_ADDRESSES_LAST", 0)
    port = api.url.rsplit(":", 1)[1]
    names["rebinding.test"] = ["127.0.0.1"]
    api.routes["/x"] = lambda _request: Reply(200, b"", {"Connection": "close"})

    async def twice():
        async with AsyncClient(ClientOptions(egress=ONE_ALLOWED)) as client:
            call = Call(method="GET", url=f"http://rebinding.test:{port}/x")
            assert (await client.send(call)).status == 200
            names["rebinding.test"] = ["127.0.0.2"]
            with pytest.raises(FetchError, match="this machine itself"):
                await client.send(call)

    asyncio.run(twice())
    assert len(api.requests) == 1


@pytest.mark.parametrize("proxy", ["http://127.0.0.2:{port}", "http://here.test:{port}"])
def test_a_project_brings_no_proxy_from_within(api, names, proxy):
    """A proxy that somebody else names is an address like any other."""
    names["public.test"] = ["8.8.8.8"]
    proxy = proxy.format(port=api.url.rsplit(":", 1)[1])
    with pytest.raises(FetchError, match="this machine itself"):
        send("http://public.test/x", egress=ONE_ALLOWED, proxies={"http": proxy})


def test_what_a_proxy_would_resolve_is_judged_here(api, names):
    """Behind an allowed proxy, too, private names and addresses stay out of reach."""
    options = {"egress": ONE_ALLOWED, "proxies": {"http": api.url}}
    for target in ("http://here.test/x", "http://127.0.0.2/x", "http://169.254.169.254/x"):
        with pytest.raises(FetchError, match="may not go"):
            send(target, **options)
    assert api.requests == []
    names["public.test"] = ["8.8.8.8"]
    send("http://public.test/x", **options)
    assert api.requests[0].target == "http://public.test/x"


def test_the_operators_own_proxy_is_trusted(api, names, monkeypatch):
    """That of the environment may lie in a private network; what is asked for through it may
    not.
    """
    names["public.test"], names["proxy.test"] = ["8.8.8.8"], ["127.0.0.1"]
    for name in (api.url, api.url.replace("127.0.0.1", "proxy.test")):
        monkeypatch.setenv("http_proxy", name)
        monkeypatch.delenv("no_proxy", raising=False)
        send("http://public.test/x", egress=PUBLIC_ONLY)
        with pytest.raises(FetchError, match="may not go"):
            send("http://here.test/x", egress=PUBLIC_ONLY)
    assert [request.target for request in api.requests] == ["http://public.test/x"] * 2


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_a_name_is_looked_up_once(api, names, host):
    """Many requests, many connections, one look."""
    url = api.url.replace("127.0.0.1", host)
    api.latency = 0.01

    async def many():
        async with AsyncClient(ClientOptions(connections=4)) as client:
            calls = [Call(method="GET", url=f"{url}/x") for _ in range(20)]
            await asyncio.gather(*map(client.send, calls))

    asyncio.run(many())
    assert api.connections == 4
    assert names["asked"].count(host) <= 1


def test_a_proxy_is_used(api):
    """Requests go where the proxy is, with the whole address."""
    send("http://example.invalid/x", proxies={"http": api.url})
    assert api.requests[0].target.startswith("http://example.invalid/x")


def test_addresses():
    """Everything is encoded once, and shown without what may be secret."""
    assert (
        encoded("http://x/ä?a=1", [("b", "2 3"), ("b", "&")]) == "http://x/%C3%A4?a=1&b=2+3&b=%26"
    )
    assert shown("https://u:p@h:8/p?k=v#f") == "https://h:8/p"
    with pytest.raises(AddressError):
        encoded("http://[x/")


def test_tls_defaults_verify():
    """Nobody turns verification off by accident."""
    assert ClientOptions().verify is True
    assert ssl.create_default_context().verify_mode is ssl.CERT_REQUIRED
