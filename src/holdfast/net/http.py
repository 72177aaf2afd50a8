"""The one way to speak HTTP from synchronous code.

Every request has time-outs, a capped number of redirects and an address that `egress` has judged.
Nothing is tried again here: whoever asks knows what may be asked twice.
"""

from __future__ import annotations

import os
import ssl
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self, cast
from urllib.parse import unquote, urljoin, urlsplit
from urllib.request import getproxies_environment, proxy_bypass

import urllib3
from urllib3.exceptions import (
    ConnectTimeoutError,
    HTTPError,
    NewConnectionError,
    ReadTimeoutError,
    SSLError,
)
from urllib3.util import Timeout, make_headers
from urllib3.util.ssl_match_hostname import CertificateError as NameMismatchError

from holdfast import __version__
from holdfast.core.clock import SystemClock
from holdfast.core.errors import CertificateError, NetworkError, RedirectError
from holdfast.net.attentive import POOLS
from holdfast.net.egress import OWN_MACHINE, reachable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from urllib.parse import SplitResult

    from urllib3 import BaseHTTPResponse, HTTPConnectionPool

    from holdfast.core.clock import Clock
    from holdfast.net.egress import Egress

LARGEST_BODY: Final = 1 << 30
"""Bytes; no answer that we ask for is larger."""

_PIECE: Final = 256 * 1024
_REDIRECTS: Final = {301, 302, 303, 307, 308}
_REDIRECTS_WITH_BODY: Final = {307, 308}
_PORTS: Final = {"http": 80, "https": 443}
_ADDRESSES_LAST: Final = 60.0
_PRIVATE_HEADERS: Final = {"authorization", "cookie"}


def read_bundle(path: str) -> bytes:
    """The certificates of the authorities to trust, as one file holds them.

    Raises:
        CertificateError: it cannot be read.
    """
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise CertificateError(
            f"the certificates in {path} cannot be read: {error.strerror}",
            remedy="Nothing was sent. Name a PEM file that you may read.",
        ) from error


@dataclass(frozen=True, slots=True)
class Response:
    status: int
    headers: Mapping[str, str]
    """Found under any spelling of their names."""
    body: bytes


class Incoming:
    """An answer whose body is on its way. Its connection is free for others once that is read to
    its end, or closed.
    """

    def __init__(self, raw: BaseHTTPResponse, place: SplitResult) -> None:
        self.status = raw.status
        self.reason = raw.reason or ""
        self.headers: Mapping[str, str] = raw.headers
        """Found under any spelling of their names."""
        self._raw = raw
        self._place = place

    def read(self, size: int | None = None) -> bytes:
        """Up to `size` bytes as they were sent, nothing at the end; without a size all that is
        left.

        Raises:
            NetworkError: the connection broke, or less came than was announced.
        """
        try:
            return self._raw.read(size, decode_content=False)
        except HTTPError as error:
            raise _explain(error, self._place) from error

    def close(self) -> None:
        """Breaks off what was not read."""
        self._raw.close()
        self._raw.release_conn()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()  # who forgets one must not wait for a free connection later


class HttpClient:
    """Keeps connections open for the next request; for all threads and forked processes.

    Proxies come from the environment (`HTTPS_PROXY`, `NO_PROXY`, ...). A proxy makes connections of
    its own: its rules hold beside `egress`, which then judges what the name means here.
    Times are seconds; `read_timeout` is between two pieces of an answer. `tls` replaces what is
    trusted otherwise, see `net.trust`.

    Raises:
        CertificateError: `ca_bundle` cannot be read.
    """

    def __init__(
        self,
        *,
        egress: Egress = OWN_MACHINE,
        ca_bundle: str | None = None,
        tls: ssl.SSLContext | None = None,
        connect_timeout: float = 15,
        read_timeout: float = 60,
        connections: int = 8,
        redirects: int = 5,
        clock: Clock | None = None,
    ) -> None:
        if ca_bundle:
            read_bundle(ca_bundle)  # now, and not with each request
        self._egress = egress
        self._redirects = redirects
        self._clock = clock or SystemClock()
        self._names_count = tls is None or tls.check_hostname
        if tls is not None and tls.verify_mode is ssl.CERT_NONE:  # somebody has asked for it
            warnings.simplefilter("ignore", urllib3.exceptions.InsecureRequestWarning)
        self._pool_options: dict[str, Any] = {  # urllib3 types each of them apart
            "maxsize": connections,
            "block": True,
            "ca_certs": ca_bundle,
            **({} if tls is None else {"ssl_context": tls}),
            "timeout": Timeout(connect=connect_timeout, read=read_timeout),
        }
        self._start()

    def _start(self) -> None:
        self._process = os.getpid()
        self._direct = urllib3.PoolManager(**self._pool_options)
        self._direct.pool_classes_by_scheme = POOLS
        self._proxied: dict[str, urllib3.ProxyManager] = {}
        self._judged: dict[tuple[str, int], tuple[float, list[str]]] = {}

    def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | memoryview | None = None,
    ) -> Response:
        """The answer, whatever its status, after redirects (of GET and HEAD, and 307 and 308).

        Raises:
            NetworkError: no whole answer; `retryable` unless it is about certificates or redirects.
            EgressDeniedError: the address, or one it redirects to, is not allowed.
        """
        if os.getpid() != self._process:
            self._start()  # connections shared with a parent would mix up two conversations
        asked = {"User-Agent": f"holdfast/{__version__}", **(headers or {})}
        for _ in range(self._redirects + 1):
            place = urlsplit(url)
            response = self._answer(method, place, asked, body)
            target = response.headers.get("Location")
            if response.status not in _REDIRECTS or not target:
                return response
            if method not in {"GET", "HEAD"} and response.status not in _REDIRECTS_WITH_BODY:
                return response
            url = urljoin(url, target)
            asked = _headers_for(asked, place, urlsplit(url))
        raise RedirectError(f"{place.hostname} redirects more than {self._redirects} times")

    def exchange(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str],
        body: Iterable[bytes] | None = None,
        length: int = 0,
    ) -> Incoming:
        """The beginning of the answer, whatever its status; no redirect is followed.

        `body` is `length` bytes in pieces of any size, sent as they are made. Sending ends early
        where the server answers before it has all. What `body` raises is passed on, unless it is
        an `OSError`.

        Raises:
            NetworkError: no answer.
            EgressDeniedError: the address is not allowed.
        """
        if os.getpid() != self._process:
            self._start()
        place = urlsplit(url)
        asked = {
            "User-Agent": f"holdfast/{__version__}",
            "Accept-Encoding": "identity",
            **({} if body is None else {"Content-Length": str(length)}),
            **headers,
        }
        try:
            return Incoming(self._send(method, place, asked, body), place)
        except HTTPError as error:
            raise _explain(error, place) from error

    def close(self) -> None:
        self._direct.clear()
        for manager in self._proxied.values():
            manager.clear()

    def _answer(
        self,
        method: str,
        place: SplitResult,
        headers: dict[str, str],
        body: bytes | memoryview | None,
    ) -> Response:
        if body is not None:
            headers = {**headers, "Content-Length": str(len(body))}
        try:
            raw = self._send(method, place, headers, _pieces(body))
            content = raw.read(LARGEST_BODY + 1)
            if len(content) > LARGEST_BODY:
                raw.close()
                raise NetworkError(f"{place.hostname} answers without an end")
            raw.release_conn()
        except HTTPError as error:
            raise _explain(error, place) from error
        return Response(raw.status, raw.headers, content)

    def _send(
        self,
        method: str,
        place: SplitResult,
        headers: dict[str, str],
        body: Iterable[bytes] | None,
    ) -> BaseHTTPResponse:
        proxy = _proxy_for(place)
        if proxy:
            self._judge_behind_proxy(place)
            return self._manager_for(proxy).urlopen(
                method,
                _without_credentials(place).geturl(),
                headers=headers,
                body=body,
                redirect=False,
                retries=False,
                preload_content=False,
            )
        refused: HTTPError | None = None
        for address in self._addresses(place):
            try:
                return self._pool(place, address).urlopen(
                    method,
                    (place.path or "/") + (f"?{place.query}" if place.query else ""),
                    headers={"Host": _without_credentials(place).netloc, **headers},
                    body=body,
                    redirect=False,
                    retries=False,
                    preload_content=False,
                )
            except (NewConnectionError, ConnectTimeoutError) as error:
                refused = error
        assert refused is not None
        raise refused

    def _pool(self, place: SplitResult, address: str) -> HTTPConnectionPool:
        asserted = place.hostname if self._names_count else False
        named: dict[str, Any] = {"server_hostname": place.hostname, "assert_hostname": asserted}
        return self._direct.connection_from_host(
            address,
            _port(place),
            place.scheme,
            pool_kwargs=named if place.scheme == "https" else None,
        )

    def _addresses(self, place: SplitResult) -> list[str]:
        key = (place.hostname or "", _port(place))
        until, addresses = self._judged.get(key, (0.0, []))
        now = self._clock.monotonic()
        if now >= until:
            addresses = reachable(self._egress, *key)
            self._judged[key] = now + _ADDRESSES_LAST, addresses
        return addresses

    def _judge_behind_proxy(self, place: SplitResult) -> None:
        try:
            self._addresses(place)
        except NetworkError:
            if self._egress != OWN_MACHINE:
                raise  # a name that nothing here can judge

    def _manager_for(self, proxy: str) -> urllib3.ProxyManager:
        if proxy not in self._proxied:
            address = urlsplit(proxy)
            user = f"{unquote(address.username or '')}:{unquote(address.password or '')}"
            manager = urllib3.ProxyManager(
                _without_credentials(address).geturl(),
                proxy_headers=make_headers(proxy_basic_auth=user) if address.username else None,
                **self._pool_options,
            )
            manager.pool_classes_by_scheme = POOLS
            self._proxied[proxy] = manager
        return self._proxied[proxy]


def _proxy_for(place: SplitResult) -> str | None:
    proxies = getproxies_environment()
    if not proxies or proxy_bypass(f"{place.hostname}:{_port(place)}"):
        return None
    proxy = proxies.get(place.scheme) or proxies.get("all")
    return f"http://{proxy}" if proxy and "://" not in proxy else proxy


def _headers_for(
    headers: dict[str, str], place: SplitResult, target: SplitResult
) -> dict[str, str]:
    """What may be sent on to where a redirect points: no credentials to another host."""
    if target.scheme not in _PORTS:
        raise RedirectError(f"{place.hostname} redirects to something that is not HTTP")
    if place.scheme == "https" and target.scheme == "http":
        raise RedirectError(f"{place.hostname} redirects from HTTPS to plain HTTP")
    if (place.hostname, _port(place)) == (target.hostname, _port(target)):
        return headers
    return {name: value for name, value in headers.items() if name.lower() not in _PRIVATE_HEADERS}


def _port(place: SplitResult) -> int:
    return place.port or _PORTS[place.scheme]


def _without_credentials(place: SplitResult) -> SplitResult:
    return place._replace(netloc=place.netloc.rpartition("@")[2], fragment="")


def _pieces(body: bytes | memoryview | None) -> Iterator[bytes] | None:
    """In pieces, since a time-out on a socket is for the whole of what is sent at once."""
    if body is None:
        return None
    view = cast("bytes", memoryview(body))  # sockets take any buffer, urllib3 does not say so
    return (view[start : start + _PIECE] for start in range(0, len(view), _PIECE))


def _explain(error: HTTPError, place: SplitResult) -> NetworkError:
    reason = error.args[0] if isinstance(error, SSLError) and error.args else error
    if isinstance(reason, ssl.SSLCertVerificationError):
        return CertificateError(
            f"the certificate of {place.hostname} is not trusted: {reason.verify_message}"
        )
    if isinstance(reason, NameMismatchError):
        return CertificateError(f"the certificate of {place.hostname} is for another name")
    if isinstance(error, NewConnectionError):  # is a ConnectTimeoutError too
        return NetworkError(f"{place.hostname} refuses connections at port {_port(place)}")
    if isinstance(error, ConnectTimeoutError):
        return NetworkError(f"{place.hostname} does not accept connections in time")
    if isinstance(error, ReadTimeoutError):
        return NetworkError(f"{place.hostname} stopped answering")
    if any(isinstance(each, TimeoutError) for each in error.args):
        return NetworkError(f"{place.hostname} takes no more of what is sent")
    return NetworkError(f"the connection to {place.hostname} broke: {type(error).__name__}")
