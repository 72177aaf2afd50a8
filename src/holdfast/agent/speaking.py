"""How an agent speaks to its server: requests outward, nothing else."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeVar
from urllib.parse import urlsplit

import msgspec

from holdfast.core.errors import (
    AgentError,
    ConfigurationError,
    HoldfastError,
    NetworkError,
    of_code,
)
from holdfast.core.orders import (
    HOLD,
    Announcement,
    Ask,
    Due,
    Heard,
    Hello,
    Opening,
    Poll,
    Report,
    Standing,
)
from holdfast.net.http import HttpClient
from holdfast.net.trust import anybody, authority, very

if TYPE_CHECKING:
    from ssl import SSLContext

    from holdfast.core.secret import Secret

T = TypeVar("T")
_OK: Final = 200
_PASSING: Final = {408, 425, 429, 500, 502, 503, 504}
_MARGIN: Final = 20.0
"""Seconds that an answer may take beyond the time that a poll is held."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where the server is, and how it is believed: by the authority in the file `ca`, by the very
    certificate in the file `pin`, by nothing (`insecure`), or as the system does.
    """

    url: str
    ca: str = ""
    pin: str = ""
    insecure: bool = False

    def check(self) -> None:
        """Secrets go over TLS, or stay on this machine. Raises ConfigurationError."""
        place = urlsplit(self.url)
        if place.scheme not in {"http", "https"} or not place.hostname:
            raise ConfigurationError(f"{self.url} is no address of a server")
        if place.scheme == "http" and not _is_here(place.hostname):
            raise ConfigurationError(
                f"{self.url} is not encrypted",
                remedy="Nothing was sent. Write https://; the server makes itself a certificate "
                "with --tls auto.",
            )

    def tls(self) -> SSLContext | None:
        """Raises CertificateError."""
        if self.insecure:
            return anybody()
        if self.pin:
            return very(self.pin)
        return authority(self.ca) if self.ca else None


class Server:
    """Every call raises NetworkError where there was no answer, or one that says to come again;
    other errors are the server's own. Safe for threads.
    """

    def __init__(self, address: Address, secret: Secret) -> None:
        address.check()
        self._url = address.url.rstrip("/")
        self._secret = secret
        self._client = HttpClient(
            tls=address.tls(), read_timeout=HOLD + _MARGIN, redirects=0, connections=8
        )

    def enrol(self, hello: Hello) -> Standing:
        return self._ask("enrol", hello, Standing)

    def poll(self, poll: Poll) -> Due:
        return self._ask("poll", poll, Due)

    def report(self, report: Report) -> Heard:
        return self._ask("report", report, Heard)

    def announce(self, said: Announcement) -> Heard:
        return self._ask("announce", said, Heard)

    def key(self, order: str) -> Opening:
        return self._ask("key", Ask(order=order), Opening)

    def leave(self) -> None:
        self._ask("leave", {}, dict)

    def close(self) -> None:
        self._client.close()

    def _ask(self, what: str, value: object, kind: type[T]) -> T:
        answer = self._client.request(
            "POST",
            f"{self._url}/agent/{what}",
            headers={
                "Authorization": f"Bearer {self._secret.reveal()}",
                "Content-Type": "application/json",
            },
            body=msgspec.json.encode(value),
        )
        if answer.status in _PASSING:
            raise NetworkError(f"the server answers with status {answer.status}")
        try:
            if answer.status != _OK:
                raise _told(msgspec.json.decode(answer.body, type=dict[str, Any]))
            return msgspec.json.decode(answer.body, type=kind)
        except msgspec.DecodeError as error:
            raise AgentError(
                f"{self._url} does not answer as a server of Holdfast (status {answer.status})",
                remedy="Nothing was done. Is that its address?",
            ) from error


def _told(said: dict[str, Any]) -> HoldfastError:
    message = said.get("message") or "the server refuses, and does not say why"
    return of_code(said.get("code"), str(message), str(said.get("remedy") or ""))


def _is_here(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
