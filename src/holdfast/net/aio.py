"""HTTP for asynchronous callers: one session, kept alive, that follows redirects by our rules and
explains its failures.
"""

from __future__ import annotations

import asyncio
import os
import ssl
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlsplit
from urllib.request import getproxies_environment, proxy_bypass

import aiohttp
from yarl import URL

from holdfast.core.errors import (
    AddressError,
    EgressDeniedError,
    FetchError,
    NetworkError,
    ProjectError,
    TlsError,
    UnreachableError,
)
from holdfast.core.secret import without_password
from holdfast.net.addresses import led_to, not_an_address
from holdfast.net.egress import OWN_MACHINE, Egress, reachable

if TYPE_CHECKING:
    import socket
    from collections.abc import AsyncIterator, Iterable, Mapping
    from types import TracebackType

_REDIRECTS = {301, 302, 303, 307, 308}
_SEE_OTHER = {301, 302, 303}
_ADDRESSES_LAST = 60
"""Seconds after which a name is looked up again."""
_PRIVATE = {"authorization", "cookie", "proxy-authorization"}


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientOptions:
    """Times in seconds; 0 means no limit."""

    timeout: float = 120.0
    """Of one request from start to end, except for downloads."""
    connect_timeout: float = 30.0
    read_timeout: float = 120.0
    """Between two pieces of an answer."""
    verify: bool | Path = True
    """Whether to verify certificates, or a bundle of trusted ones."""
    proxies: Mapping[str, str] = field(default_factory=dict)
    """By scheme or `all`; where none is given the environment decides."""
    user_agent: str = "holdfast"
    max_redirects: int = 5
    allow_redirects: bool = True
    connections: int = 32
    largest_body: int = 1 << 30
    egress: Egress = OWN_MACHINE


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One request as it goes over the wire."""

    method: str
    url: str
    """Complete and encoded."""
    headers: Mapping[str, str] = field(default_factory=dict)
    private: frozenset[str] = frozenset()
    """Lower-case names of headers that must not follow a redirect to another host."""
    body: bytes | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """A whole answer. `headers` keep their order and repetition."""

    status: int
    url: str
    """Where it came from in the end."""
    headers: tuple[tuple[str, str], ...]
    body: bytes
    elapsed: float

    def header(self, name: str) -> str | None:
        wanted = name.lower()
        return next((value for word, value in self.headers if word.lower() == wanted), None)


class AsyncClient:
    """Use as an asynchronous context manager. Makes one attempt per call; who calls decides about
    more.
    """

    def __init__(self, options: ClientOptions) -> None:
        self._options = options
        self._session: aiohttp.ClientSession | None = None
        self._environment = getproxies_environment()
        self._judged: dict[tuple[str, int], float] = {}
        self._judging = asyncio.Lock()
        self._timeout = aiohttp.ClientTimeout(
            total=options.timeout or None,
            sock_connect=options.connect_timeout or None,
            sock_read=options.read_timeout or None,
        )

    async def __aenter__(self) -> Self:
        options = self._options
        connector = aiohttp.TCPConnector(
            limit=options.connections,
            ssl=_context(verify=options.verify),
            resolver=_Resolver(options.egress, own_proxies=_places(self._environment)),
            ttl_dns_cache=_ADDRESSES_LAST,
        )
        self._session = aiohttp.ClientSession(
            connector=connector,
            headers={"User-Agent": options.user_agent, "Accept-Encoding": "gzip, deflate"},
            # beside proxies, which are chosen here, this is about .netrc; a policy means requests
            # of somebody else, which are not signed with our own
            trust_env=options.egress == OWN_MACHINE and _has_netrc(),
            timeout=self._timeout,
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._session:
            await self._session.close()

    async def send(self, call: Call) -> Reply:
        """The answer, whatever its status.

        Raises:
            UnreachableError: no connection, a cut or overlong wait; another try may help.
            TlsError: the certificate is not trusted.
            FetchError: too many redirects, or a body beyond every measure.
        """
        begun = time.monotonic()
        async with self._answer(call, times=self._timeout) as answer:
            body = await self._whole(answer)
            headers = _plain(answer.headers.items())
            return Reply(
                status=answer.status, url=str(answer.url), headers=headers, body=body,
                elapsed=time.monotonic() - begun,
            )  # fmt: skip

    @asynccontextmanager
    async def stream(self, call: Call) -> AsyncIterator[tuple[Reply, AsyncIterator[bytes]]]:
        """An answer without its body, and the body in pieces; no limit of time but between pieces.

        Raises:
            UnreachableError, TlsError, FetchError: as `send`; also while pieces come.
        """
        begun = time.monotonic()
        patient = aiohttp.ClientTimeout(
            total=None, sock_connect=self._timeout.sock_connect, sock_read=self._timeout.sock_read
        )
        async with self._answer(call, times=patient) as answer:
            headers = _plain(answer.headers.items())
            head = Reply(
                status=answer.status, url=str(answer.url), headers=headers, body=b"",
                elapsed=time.monotonic() - begun,
            )  # fmt: skip
            yield head, self._pieces(answer)

    @asynccontextmanager
    async def _answer(
        self, call: Call, *, times: aiohttp.ClientTimeout
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        assert self._session is not None, "used outside its context"
        seen: list[str] = []
        while True:
            try:
                target = URL(call.url, encoded=True)
                proxy = self._proxy(call.url)
                await self._judge(target, proxy)
                answer = await self._session.request(
                    call.method, target, headers=call.headers, data=call.body,
                    allow_redirects=False, proxy=proxy, timeout=times,
                )  # fmt: skip
            except (aiohttp.ClientError, OSError, ValueError) as error:
                raise explained(error, call.url) from error
            except EgressDeniedError as error:
                raise FetchError(error.message, remedy=error.advice) from None
            except NetworkError as error:
                raise UnreachableError(f"{shown(call.url)} cannot be reached: {error}") from None
            try:
                location = answer.headers.get("Location")
                if (
                    self._options.allow_redirects
                    and answer.status in _REDIRECTS
                    and location is not None
                ):
                    await answer.read()
                    seen.append(call.url)
                    call = self._redirected(call, answer.status, location, seen)
                    continue
                try:
                    yield answer
                except (aiohttp.ClientError, OSError) as error:
                    raise explained(error, call.url) from error
                return
            finally:
                answer.release()

    def _redirected(self, call: Call, status: int, location: str, seen: list[str]) -> Call:
        target = led_to(call.url, location)
        if target in seen and call.method == "GET":
            raise FetchError(
                f"{shown(call.url)} redirects in a circle", status=status,
                remedy="Check project.url; a login may be needed. The archive is untouched.",
            )  # fmt: skip
        if len(seen) > self._options.max_redirects:
            raise FetchError(
                f"{shown(seen[0])} redirects more than {self._options.max_redirects} times",
                status=status,
                remedy="Check project.url or raise request.max_redirects. Nothing is damaged.",
            )
        drop = set()
        if _origin(target) != _origin(call.url):
            drop = _PRIVATE | call.private
        method, body = call.method, call.body
        if status in _SEE_OTHER and method == "POST":
            method, body = "GET", None
            drop = drop | {"content-type"}
        headers = {name: value for name, value in call.headers.items() if name.lower() not in drop}
        return Call(method=method, url=target, headers=headers, private=call.private, body=body)

    async def _judge(self, target: URL, proxy: str | None) -> None:
        """What never reaches the resolver: addresses written as numbers, and names that a proxy
        resolves.
        """
        policy = self._options.egress
        if _is_literal(target.raw_host) or (proxy and policy != OWN_MACHINE):
            await self._reach(target)
        if proxy and _is_literal(URL(proxy).raw_host) and self._options.proxies:
            await self._reach(URL(proxy))

    async def _reach(self, target: URL) -> None:
        """Raises EgressDeniedError where the policy has something against an address."""
        place = (target.raw_host or "", target.port or 0)
        if time.monotonic() < self._judged.get(place, 0.0):
            return
        async with self._judging:  # many requests begin at once, and one look is enough
            if time.monotonic() >= self._judged.get(place, 0.0):
                await asyncio.to_thread(reachable, self._options.egress, *place)
                self._judged[place] = time.monotonic() + _ADDRESSES_LAST

    def _proxy(self, url: str) -> str | None:
        """The project's proxy, else that of the environment, which is trusted as our own."""
        proxies = self._options.proxies or self._environment
        if not proxies:
            return None
        parts = urlsplit(url)
        if not self._options.proxies and proxy_bypass(parts.netloc.rpartition("@")[2]):
            return None
        return _as_url(proxies.get(parts.scheme) or proxies.get("all"))

    async def _whole(self, answer: aiohttp.ClientResponse) -> bytes:
        pieces = []
        length = 0
        async for piece in answer.content.iter_any():
            length += len(piece)
            if length > self._options.largest_body:
                raise FetchError(
                    f"{shown(str(answer.url))} answered with more than"
                    f" {self._options.largest_body >> 20} MiB in one piece",
                    status=answer.status,
                )
            pieces.append(piece)
        return b"".join(pieces)

    async def _pieces(self, answer: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
        try:
            async for piece in answer.content.iter_chunked(1 << 18):
                yield piece
        except (aiohttp.ClientError, OSError) as error:
            raise explained(error, str(answer.url)) from error


class _Resolver(aiohttp.abc.AbstractResolver):
    """Names lead only where the policy lets them, and the connection goes to the very address
    that was judged. How long an answer is good for is the connector's business.
    """

    def __init__(self, egress: Egress, *, own_proxies: frozenset[tuple[str, int]]) -> None:
        self._egress = egress
        self._own_proxies = own_proxies

    async def resolve(
        self,
        host: str,
        port: int = 0,
        family: socket.AddressFamily | int = 0,  # noqa: ARG002 - the library's signature
    ) -> list[aiohttp.abc.ResolveResult]:
        egress = OWN_MACHINE if (host, port) in self._own_proxies else self._egress
        found = await asyncio.to_thread(reachable, egress, host, port)
        return [
            aiohttp.abc.ResolveResult(
                hostname=host, host=address, port=port,
                family=_family(address), proto=0, flags=0,
            )
            for address in found
        ]  # fmt: skip

    async def close(self) -> None:
        """Holds nothing open."""


def explained(error: Exception, url: str) -> FetchError:
    """What a library's error means for a person."""
    place = shown(url)
    tls = isinstance(error, (aiohttp.ClientSSLError, ssl.SSLError))
    if isinstance(error, aiohttp.ClientConnectorCertificateError) or (
        tls and "CERTIFICATE_VERIFY_FAILED" in str(error)
    ):
        return TlsError(
            f"SSL certificate verification failed for URL {place}.{_reason_of(error)}",
            remedy="Update the project configuration [request] section to set 'verify_ssl = False'"
            " or provide a path to a trusted certificate bundle.",
        )
    if tls:
        return TlsError(
            f"no secure connection to {place}: {error}", remedy="Check https and the port."
        )
    if isinstance(error, (aiohttp.InvalidURL, ValueError)):
        return AddressError(f"{place} is not an address that can be asked")
    if isinstance(error, TimeoutError):
        return UnreachableError(f"{place} did not answer in time")
    if isinstance(error, aiohttp.ClientPayloadError):
        return UnreachableError(f"the answer of {place} was cut off")
    if isinstance(error, aiohttp.ClientHttpProxyError):
        return UnreachableError(
            f"the proxy refused to reach {place}: {error.status} {error.message}"
        )
    if isinstance(error, aiohttp.ClientConnectorError):
        cause = error.os_error
        number = cause.errno or 0
        # resolvers have negative numbers, and words, of their own
        reason = os.strerror(number) if number > 0 else cause.strerror or str(cause)
        return UnreachableError(f"{place} cannot be reached: {reason}")
    if isinstance(error, (aiohttp.ServerDisconnectedError, OSError)):
        return UnreachableError(f"{place} closed the connection")
    return UnreachableError(f"{place} did not answer properly: {error}")


def _plain(headers: Iterable[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    """The library's names are text that equals other text, and that nothing else can write down."""
    return tuple((str(name), value) for name, value in headers)


def _reason_of(error: Exception) -> str:
    """What is wrong with a certificate, where that is known."""
    inner = getattr(error, "certificate_error", error)
    reason = getattr(inner, "verify_message", "")
    return f" The reason: {reason.rstrip('.')}." if reason else ""


def shown(url: str) -> str:
    """An address as people may see it: without user, password, query and fragment."""
    try:
        parts = urlsplit(url)
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        return without_password(url)
    return f"{parts.scheme}://{parts.hostname or ''}{port}{parts.path}"


def encoded(url: str, query: Iterable[tuple[str, str]] = ()) -> str:
    """The address with everything percent-encoded that must be, and a query added to its own.

    Raises:
        AddressError: it is none.
    """
    try:
        built = URL(url)
    except ValueError:
        raise not_an_address(url) from None
    pairs = list(query)
    return str(built.extend_query(pairs) if pairs else built)


def _context(*, verify: bool | Path) -> ssl.SSLContext | bool:
    if isinstance(verify, bool):
        return verify
    try:
        if verify.is_dir():
            return ssl.create_default_context(capath=str(verify))
        return ssl.create_default_context(cafile=str(verify))
    except (OSError, ssl.SSLError) as error:
        raise ProjectError(
            f"request.verify_ssl: {verify} is no bundle of certificates: {error}"
        ) from None


def _places(proxies: Mapping[str, str]) -> frozenset[tuple[str, int]]:
    """Host and port of proxies."""
    addresses = (URL(_as_url(proxy) or "") for proxy in proxies.values() if proxy)
    return frozenset((url.raw_host or "", url.port or 0) for url in addresses)


def _has_netrc() -> bool:
    return Path(os.environ.get("NETRC", "~/.netrc")).expanduser().is_file()


def _as_url(proxy: str | None) -> str | None:
    return f"http://{proxy}" if proxy and "://" not in proxy else proxy


def _is_literal(host: str | None) -> bool:
    """Whether the library takes it for an address, and connects without asking the resolver."""
    return host is not None and (":" in host or host.replace(".", "").isdigit())


def _origin(url: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port


def _family(address: str) -> Any:
    """Any: the enumeration has another type on each platform."""
    import socket

    return socket.AF_INET6 if ":" in address else socket.AF_INET
