"""Certificates: given ones, or a local authority and a certificate of its making.

The authority's certificate (`tls/ca.pem` in the data folder) is what people give their clients
(`curl --cacert`); its key never leaves the folder.
"""

from __future__ import annotations

import ipaddress
import os
import socket
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from holdfast.core.errors import ConfigurationError
from holdfast.web.listening import Certificate

if TYPE_CHECKING:
    from collections.abc import Sequence

_AUTHORITY_DAYS = 3650
_CERTIFICATE_DAYS = 397
_RENEW_DAYS = 30
_BACKDATED = timedelta(hours=1)
"""Clients' clocks may be behind."""


def certificate_for(setting: str, folder: Path, names: Sequence[str]) -> Certificate | None:
    """What `listen.tls` asks for: `off`, `auto`, or `CERT:KEY`.

    Raises:
        ConfigurationError: it is none of them, or a file is not there.
    """
    if setting == "off":
        return None
    if setting == "auto":
        return _automatic(folder / "tls", names)
    certificate, colon, key = setting.partition(":")
    if not colon:
        raise ConfigurationError(f"listen.tls is {setting!r}; write auto, off, or CERT:KEY")
    for path in (certificate, key):
        if not Path(path).is_file():
            raise ConfigurationError(f"listen.tls names {path}, and there is no such file")
    return Certificate(Path(certificate), Path(key))


def _automatic(folder: Path, names: Sequence[str]) -> Certificate:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    wanted = _names(names)
    found = Certificate(folder / "server.pem", folder / "server.key")
    if not _still_good(found.certificate, wanted):
        authority, authority_key = _authority(folder)
        key = ec.generate_private_key(ec.SECP256R1())
        made = _server_certificate(authority, authority_key, key, wanted)
        _write(found.key, _pem(key), 0o600)
        chain = made.public_bytes(serialization.Encoding.PEM)
        _write(found.certificate, chain + authority.public_bytes(serialization.Encoding.PEM), 0o644)
    return found


def _names(names: Sequence[str]) -> list[str]:
    own = ["localhost", "127.0.0.1", "::1", socket.gethostname(), *names]
    return sorted({name for name in own if name and name not in {"0.0.0.0", "::"}})  # noqa: S104  compared, not bound


def _still_good(path: Path, names: Sequence[str]) -> bool:
    if not path.is_file():
        return False
    certificate = x509.load_pem_x509_certificate(path.read_bytes())
    if certificate.not_valid_after_utc - datetime.now(UTC) < timedelta(days=_RENEW_DAYS):
        return False
    held = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return set(held) == {_general(name) for name in names}


def _authority(folder: Path) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    path, key_path = folder / "ca.pem", folder / "ca.key"
    if path.is_file() and key_path.is_file():
        key = serialization.load_pem_private_key(key_path.read_bytes(), password=None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        return x509.load_pem_x509_certificate(path.read_bytes()), key
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name(
        [x509.NameAttribute(NameOID.COMMON_NAME, f"Holdfast on {socket.gethostname()}"[:64])]
    )
    usage = x509.KeyUsage(
        digital_signature=False, content_commitment=False, key_encipherment=False,
        data_encipherment=False, key_agreement=False, key_cert_sign=True, crl_sign=True,
        encipher_only=False, decipher_only=False,
    )  # fmt: skip
    made = (
        _builder(name, name, key, _AUTHORITY_DAYS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .sign(key, hashes.SHA256())
    )
    _write(key_path, _pem(key), 0o600)
    _write(path, made.public_bytes(serialization.Encoding.PEM), 0o644)
    return made, key


def _server_certificate(
    authority: x509.Certificate,
    authority_key: ec.EllipticCurvePrivateKey,
    key: ec.EllipticCurvePrivateKey,
    names: Sequence[str],
) -> x509.Certificate:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0][:64])])
    alternatives = x509.SubjectAlternativeName([_general(name) for name in names])
    issuer_key = x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key())
    return (
        _builder(subject, authority.subject, key, _CERTIFICATE_DAYS)
        .add_extension(alternatives, critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(issuer_key, critical=False)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(authority_key, hashes.SHA256())
    )


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, days: int
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BACKDATED)
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def _write(path: Path, content: bytes, mode: int) -> None:
    """Whole or not at all."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    try:
        os.write(descriptor, content)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    temporary.replace(path)
