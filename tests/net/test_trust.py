"""Whom an agent believes: its authority whatever the clock says, one certificate, or anybody."""

from __future__ import annotations

import datetime as dt
import ssl
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from holdfast.core.errors import CertificateError
from holdfast.net.http import HttpClient
from holdfast.net.trust import anybody, authority, very

FAR = dt.datetime(2049, 1, 1, tzinfo=dt.UTC)
"""From then on the certificates hold: a clock of today is decades behind."""


class Answers(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, *_):
        pass


def certificate(name, key, *, issuer=None, signer=None):
    """Of an authority where nobody else signs it."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(FAR)
        .not_valid_after(FAR + dt.timedelta(days=300))
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
    )
    return builder.sign(signer or key, hashes.SHA256())


def pem(made):
    return made.public_bytes(serialization.Encoding.PEM)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A server as `localhost`, its authority, and another one; in files of a folder."""
    folder = tmp_path_factory.mktemp("tls")
    keys = [ec.generate_private_key(ec.SECP256R1()) for _ in range(3)]
    ours, theirs = certificate("ours", keys[0]), certificate("theirs", keys[1])
    own = certificate("localhost", keys[2], issuer=ours, signer=keys[0])
    (folder / "ca.pem").write_bytes(pem(ours))
    (folder / "other.pem").write_bytes(pem(theirs))
    (folder / "server.pem").write_bytes(pem(own))
    (folder / "server.key").write_bytes(
        keys[2].private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "server.pem", folder / "server.key")
    server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield folder, server.server_port
    server.shutdown()
    thread.join()
    server.server_close()


def asked(host, port, **options):
    client = HttpClient(**options)
    try:
        return client.request("GET", f"https://{host}:{port}/").body
    finally:
        client.close()


def test_a_clock_that_is_decades_off(place):
    """Whoever has the authority of a server reaches it; others see that the dates are wrong."""
    folder, port = place
    assert asked("localhost", port, tls=authority(str(folder / "ca.pem"))) == b"ok"
    with pytest.raises(CertificateError):
        asked("localhost", port, ca_bundle=str(folder / "ca.pem"))


def test_an_authority_is_still_the_authority(place):
    """Neither another's signature nor another's name is believed."""
    folder, port = place
    with pytest.raises(CertificateError):
        asked("localhost", port, tls=authority(str(folder / "other.pem")))
    with pytest.raises(CertificateError):
        asked("127.0.0.1", port, tls=authority(str(folder / "ca.pem")))


def test_the_very_certificate(place):
    """By whatever name, and no other."""
    folder, port = place
    assert asked("127.0.0.1", port, tls=very(str(folder / "server.pem"))) == b"ok"
    with pytest.raises(CertificateError):
        asked("localhost", port, tls=very(str(folder / "other.pem")))


def test_anybody(place):
    """On request."""
    assert asked("127.0.0.1", place[1], tls=anybody()) == b"ok"


@pytest.mark.parametrize("content", [None, "nonsense"])
def test_a_file_that_holds_no_authority(tmp_path, content):
    """It is named before anything is sent."""
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_text(content)
    with pytest.raises(CertificateError, match="cannot be read"):
        authority(str(path))
