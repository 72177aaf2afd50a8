"""A repository behind restic's REST protocol, versions 1 and 2: rest-server, rclone, Holdfast."""

from __future__ import annotations

from base64 import b64encode
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote, urlsplit

import msgspec

from holdfast.core.errors import (
    EgressDeniedError,
    NetworkError,
    ObjectExistsError,
    ObjectNotFoundError,
    StorageFullError,
    StoreBusyError,
    StoreDeniedError,
    StoreError,
    UnsupportedStoreError,
)
from holdfast.core.secret import Secret
from holdfast.net.egress import OWN_MACHINE
from holdfast.net.http import HttpClient
from holdfast.store.contract import CONFIG_NAME, FileKind, Properties, Stat
from holdfast.store.layout import check_name, describe, is_name

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from ssl import SSLContext

    from holdfast.net.egress import Egress
    from holdfast.net.http import Response

CONNECTIONS: Final = 5

_V2: Final = "application/vnd.x.restic.rest.v2"
_DONE: Final = {200, 201, 204}
_PART, _WHOLE = 206, 200
_DENIED: Final = {401, 403}
_GONE: Final = 404
_TAKEN: Final = {403, 409, 412}
_TOO_SHORT: Final = 416
_FULL: Final = {413, 507}
_PASSING: Final = {408, 425, 429, 500, 502, 503, 504}


class _Listed(msgspec.Struct, frozen=True):
    name: str
    size: int


class RestStore:
    """Keeps the promises of `Store` as far as its server does: durable is what the server calls so.

    The protocol tells no times: every `mtime` is 0. It has no way to sweep either: a server tidies
    up for itself.
    """

    def __init__(
        self,
        url: str,
        *,
        user: str = "",
        password: Secret | None = None,
        egress: Egress = OWN_MACHINE,
        ca_bundle: str | None = None,
        tls: SSLContext | None = None,
        connections: int = CONNECTIONS,
    ) -> None:
        """`url` may carry credentials, `http://user:password@host:8000/path/`; they go no further.

        Raises:
            UnsupportedStoreError: not an HTTP address.
        """
        place = urlsplit(url)
        if place.scheme not in {"http", "https"} or not place.hostname:
            raise UnsupportedStoreError(
                f"rest:{_without_credentials(url)} has no http:// or https:// address in it"
            )
        self._url = _without_credentials(url).rstrip("/") + "/"
        self.address = f"rest:{self._url}"
        # The protocol leaves it to the server whether taking a name is atomic.
        self.properties = Properties(put_if_absent=False, local=False, connections=connections)
        self._client = HttpClient(
            egress=egress, ca_bundle=ca_bundle, tls=tls, connections=connections
        )
        self._authorization = _authorization(
            unquote(place.username or "") or user,
            Secret(unquote(place.password)) if place.password else password,
        )

    def create(self) -> None:
        self._expect(self._ask("POST", "?create=true"), _DONE, "make a repository")

    def put(self, kind: FileKind, name: str, data: bytes | memoryview) -> None:
        path = _path(kind, name)
        if kind is FileKind.CONFIG and self._exists(path):
            # Some servers overwrite. For other kinds that is harmless: their names are digests.
            raise ObjectExistsError(f"{self.address} has a config already")
        response = self._ask(
            "POST", path, body=data, headers={"Content-Type": "application/octet-stream"}
        )
        # Servers refuse a taken name and a missing permission with the same answer.
        if response.status in _TAKEN and self._exists(path):
            raise ObjectExistsError(f"{describe(kind, name)} is there already")
        self._expect(response, _DONE, f"write {describe(kind, name)}")

    def get(self, kind: FileKind, name: str) -> bytes:
        response = self._ask("GET", _path(kind, name))
        self._expect(response, {_WHOLE}, f"read {describe(kind, name)}")
        return response.body

    def get_range(self, kind: FileKind, name: str, offset: int, length: int) -> bytes:
        path = _path(kind, name)
        short = StoreError(f"{describe(kind, name)} is too short for {length} bytes from {offset}")
        if not length:  # HTTP has no empty ranges
            if abs(offset) > self.stat(kind, name).size:
                raise short
            return b""
        wanted = f"bytes={offset}-{offset + length - 1}" if offset >= 0 else f"bytes={offset}"
        response = self._ask("GET", path, headers={"Range": wanted})
        if response.status == _TOO_SHORT:
            raise short
        self._expect(response, {_PART, _WHOLE}, f"read {describe(kind, name)}")
        if offset < 0:
            start = len(response.body) + offset
        else:
            start = offset if response.status == _WHOLE else 0  # some servers give no parts
        part = response.body[start : start + length] if start >= 0 else b""
        if len(part) < length:
            raise short
        return part

    def stat(self, kind: FileKind, name: str) -> Stat:
        response = self._ask("HEAD", _path(kind, name))
        self._expect(response, {_WHOLE}, f"find {describe(kind, name)}")
        size = response.headers.get("Content-Length", "")
        if not size.isdecimal():
            raise StoreError(f"{self.address} does not tell the size of {describe(kind, name)}")
        return Stat(name, int(size), 0)

    def list(self, kind: FileKind) -> Iterator[Stat]:
        if kind is FileKind.CONFIG:
            try:
                yield self.stat(kind, CONFIG_NAME)
            except ObjectNotFoundError:
                pass
            return
        response = self._ask("GET", f"{kind}/", headers={"Accept": _V2})
        if response.status == _GONE:
            return  # a folder that nothing was ever put into
        self._expect(response, {_WHOLE}, f"list {kind}")
        for name, size in _listed(response, self.address):
            if is_name(kind, name):
                yield Stat(name, size, 0) if size is not None else self.stat(kind, name)

    def remove(self, kind: FileKind, name: str) -> None:
        response = self._ask("DELETE", _path(kind, name))
        self._expect(response, _DONE, f"remove {describe(kind, name)}")

    def sweep(self, older_than: float) -> int:  # noqa: ARG002  see the class
        return 0

    def reserve(self, size: int) -> int:  # noqa: ARG002  there is no disk of ours
        return 0

    def close(self) -> None:
        self._client.close()

    def _ask(
        self,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | memoryview | None = None,
    ) -> Response:
        sent = dict(headers or {})
        if self._authorization:
            sent["Authorization"] = self._authorization.reveal()
        try:
            return self._client.request(method, self._url + path, headers=sent, body=body)
        except EgressDeniedError as error:
            raise StoreDeniedError(error.message, remedy=error.advice) from error
        except NetworkError as error:
            kind = StoreBusyError if error.retryable else StoreError
            raise kind(error.message, remedy=error.advice) from error

    def _exists(self, path: str) -> bool:
        return self._ask("HEAD", path).status == _WHOLE

    def _expect(self, response: Response, wanted: set[int], what: str) -> None:
        if response.status in wanted:
            return
        sentence = f"{self.address} does not {what}: status {response.status}"
        if response.status == _GONE:
            raise ObjectNotFoundError(sentence)
        if response.status in _DENIED:
            raise StoreDeniedError(sentence)
        if response.status in _FULL:
            raise StorageFullError(sentence)
        if response.status in _PASSING:
            raise StoreBusyError(sentence)
        raise StoreError(sentence)


def _path(kind: FileKind, name: str) -> str:
    check_name(kind, name)
    return CONFIG_NAME if kind is FileKind.CONFIG else f"{kind}/{name}"


def _listed(response: Response, address: str) -> list[tuple[str, int | None]]:
    """Version 1 of the protocol lists names alone."""
    try:
        if response.headers.get("Content-Type") == _V2:
            found = msgspec.json.decode(response.body, type=list[_Listed] | None)
            return [(each.name, each.size) for each in found or ()]
        names = msgspec.json.decode(response.body, type=list[str] | None)
        return [(name, None) for name in names or ()]
    except msgspec.DecodeError as error:
        raise StoreError(f"{address} gives no listing as the protocol has it") from error


def _without_credentials(url: str) -> str:
    place = urlsplit(url)
    return place._replace(netloc=place.netloc.rpartition("@")[2], query="", fragment="").geturl()


def _authorization(user: str, password: Secret | None) -> Secret | None:
    if not user:
        return None
    pair = f"{user}:{password.reveal() if password else ''}".encode()
    return Secret(f"Basic {b64encode(pair).decode()}")
