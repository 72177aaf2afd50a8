"""Whom to believe over TLS, where that is not whom the system believes."""

from __future__ import annotations

import ssl
from typing import Final

from holdfast.core.errors import CertificateError

_NO_CHECK_TIME: Final = 0x200000
"""OpenSSL's X509_V_FLAG_NO_CHECK_TIME, which Python gives no name."""


def authority(path: str) -> ssl.SSLContext:
    """Believes what one authority has signed, and no other: its certificates stand in a PEM file.

    The dates of certificates are not looked at: a machine whose clock is years off must still reach
    its backups, and whoever holds a key of one's own authority is known.

    Raises:
        CertificateError: the file cannot be read, or holds no certificate.
    """
    context = _believing(path)
    context.verify_flags = ssl.VerifyFlags(context.verify_flags | _NO_CHECK_TIME)
    return context


def very(path: str) -> ssl.SSLContext:
    """Believes the very certificate in this file, whatever its names and dates: for a server whose
    files one can read.

    Raises:
        CertificateError: the file cannot be read, or holds no certificate.
    """
    context = _believing(path)
    context.check_hostname = False
    partial = ssl.VERIFY_X509_PARTIAL_CHAIN | _NO_CHECK_TIME
    context.verify_flags = ssl.VerifyFlags(context.verify_flags | partial)
    return context


def _believing(path: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        context.load_verify_locations(path)
    except (OSError, ssl.SSLError) as error:
        said = error.strerror if type(error) is not ssl.SSLError and error.strerror else "no PEM"
        raise CertificateError(
            f"the certificates in {path} cannot be read: {said}",
            remedy="Nothing was sent. Name a PEM file that you may read.",
        ) from error
    return context


def anybody() -> ssl.SSLContext:
    """Believes whoever answers: what is sent is safe from listeners only, not from a liar."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
