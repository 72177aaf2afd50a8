"""Addresses to listen on, as people write them, and whether they are free."""

from __future__ import annotations

import socket
from errno import EADDRINUSE

from holdfast.core.errors import AddressInUseError, ConfigurationError

_PORTS = range(1, 65536)


def address(text: str) -> tuple[str, int]:
    """HOST:PORT. Raises ConfigurationError."""
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdecimal() or not host or int(port[:6]) not in _PORTS:
        raise ConfigurationError(f"{text!r} is no address to listen on; write 127.0.0.1:5656")
    return host.strip("[]"), int(port)


def check_free(place: tuple[str, int]) -> None:
    """The listener itself would not notice: it shares its port with whoever wants to, and the
    kernel would deal connections out between servers that do not know each other.

    Raises:
        AddressInUseError
        ConfigurationError: nobody can listen there.
    """
    host, port = place
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, protocol, _, there = found[0]
        with socket.socket(family, kind, protocol) as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            trial.bind(there)
    except OSError as error:
        if error.errno == EADDRINUSE:
            raise AddressInUseError(f"another process listens on {host}:{port}") from error
        raise ConfigurationError(f"cannot listen on {host}:{port}: {error.strerror}") from error
