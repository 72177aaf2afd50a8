"""A repository in an S3 bucket: Amazon's, MinIO, Garage, Ceph and whoever else speaks it."""

from __future__ import annotations

import os
import re
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from ipaddress import ip_address
from threading import Lock
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import obstore
from obstore.exceptions import BaseError
from obstore.store import S3Store as Bucket

from holdfast import __version__
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
from holdfast.net.egress import OWN_MACHINE, reachable
from holdfast.net.http import read_bundle
from holdfast.store.contract import CONFIG_NAME, FileKind, Properties, Stat
from holdfast.store.layout import describe, is_name, relative_path

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from datetime import datetime

    from obstore.store import ClientConfig, S3Credential

    from holdfast.core.secret import Secret
    from holdfast.net.egress import Egress

CONNECTIONS: Final = 5
MULTIPART_FROM: Final = 64 << 20
"""Bytes from which an object is sent in parts. Parts cannot be made to depend on a free name."""
PART: Final = 16 << 20

_REQUEST: Final = timedelta(minutes=15)
_CONNECT: Final = timedelta(seconds=15)
_DEFAULT_REGION: Final = "us-east-1"
_AMAZON = re.compile(r"s3(?:[.-](?P<region>[a-z0-9-]+))?\.amazonaws\.com(?:\.cn)?")
_STATUS = re.compile(r"status code: (\d{3})")
_CODE = re.compile(r"<Code>([^<]+)</Code>")

_PASSING: Final = {408, 409, 425, 429, 500, 502, 503, 504}
_PASSING_CODES: Final = {"RequestTimeout", "SlowDown", "ServiceUnavailable", "InternalError"}
_FULL: Final = {413, 507}
_FULL_CODES: Final = {"QuotaExceeded", "XMinioStorageFull", "InsufficientStorage"}
_DENIED: Final = {401, 403}
_TOO_SHORT: Final = 416
_NOT_FOUND: Final = 404
_TAKEN: Final = 412


@dataclass(frozen=True, slots=True)
class S3Options:
    """What the address does not tell. Where empty, the AWS_* variables of the environment hold."""

    region: str = ""
    access_key: str = ""
    secret_key: Secret | None = None
    session_token: Secret | None = None
    path_style: bool = True
    """`host/bucket/...` instead of `bucket.host/...`; every server takes the former."""
    allow_http: bool = False
    """Plain HTTP to another machine (to this one it is always allowed)."""


@dataclass(frozen=True, slots=True)
class S3Address:
    endpoint: str
    """Scheme, host and port; empty where the address names no host."""
    bucket: str
    prefix: str


def parse_address(text: str) -> S3Address:
    """From what follows `s3:`, which is `https://host/bucket/folder`, or `host/bucket/folder`, or
    `bucket/folder`. A first part with a dot or a port in it is a host.

    Raises:
        UnsupportedStoreError: there is no bucket in it.
    """
    scheme, separator, rest = text.rpartition("://")
    if scheme not in {"", "http", "https", "s3"}:
        raise UnsupportedStoreError(f"s3:{text} begins with neither http:// nor https://")
    host, _, path = rest.strip("/").partition("/")
    named = scheme in {"http", "https"} or "." in host or ":" in host or host == "localhost"
    if not named:
        host, path = "", rest.strip("/")
    bucket, _, prefix = path.partition("/")
    if not bucket or "@" in host:
        raise UnsupportedStoreError("an S3 address has the form s3:https://host/bucket/folder")
    endpoint = f"{scheme if separator and scheme != 's3' else 'https'}://{host}" if host else ""
    return S3Address(endpoint, bucket, prefix.strip("/"))


class S3Store:
    """Keeps the promises of `Store` as far as its server does.

    Whether the server refuses to overwrite is tried out with the first put, with an object of its
    own beside the repository. What an interrupted upload in parts left behind is invisible here: a
    life-cycle rule of the bucket clears it. The library has threads that a fork does not survive,
    so forked processes are refused.
    """

    def __init__(
        self,
        address: str,
        *,
        options: S3Options | None = None,
        egress: Egress = OWN_MACHINE,
        ca_bundle: str | None = None,
        connections: int = CONNECTIONS,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        """`address` is what follows `s3:`.

        Raises:
            UnsupportedStoreError: not an S3 address, or plain HTTP where that was not asked for.
            StoreDeniedError: `egress` forbids the host.
        """
        options = options or S3Options()
        environ = os.environ if environ is None else environ
        place = parse_address(address)
        region = _region(place, options, environ)
        endpoint = _endpoint(place, region, environ)
        _judge(endpoint, egress, asked=options.allow_http or _true(environ.get("AWS_ALLOW_HTTP")))
        self.address = f"s3:{endpoint}/{'/'.join(filter(None, (place.bucket, place.prefix)))}"
        if not options.path_style:
            endpoint = endpoint.replace("://", f"://{place.bucket}.")
        self._bucket = Bucket(
            place.bucket,
            prefix=place.prefix or None,
            config={
                "endpoint": endpoint,
                "aws_endpoint_url_s3": endpoint,  # would come from the environment and win
                "region": region,
                "virtual_hosted_style_request": not options.path_style,
                "disable_bulk_delete": True,
            },
            client_options=_client_options(endpoint, ca_bundle),
            retry_config={"max_retries": 0, "retry_timeout": _REQUEST},
            credential_provider=(lambda: _credential(options)) if options.access_key else None,
        )
        self._connections = connections
        self._process = os.getpid()
        self._probing = Lock()
        self._put_if_absent = True if _AMAZON.fullmatch(_host(endpoint)) else None

    @property
    def properties(self) -> Properties:
        return Properties(
            put_if_absent=self._put_if_absent is not False,
            local=False,
            connections=self._connections,
            forkable=False,
        )

    def create(self) -> None:
        """A bucket has no folders to make."""

    def put(self, kind: FileKind, name: str, data: bytes | memoryview) -> None:
        key = relative_path(kind, name)
        with self._translated(f"write {describe(kind, name)}"):
            if len(data) < MULTIPART_FROM and self._refuses_overwriting():
                obstore.put(self._bucket, key, data, mode="create", use_multipart=False)
                return
            if self._exists(key):
                raise ObjectExistsError(f"{describe(kind, name)} is there already")
            obstore.put(
                self._bucket,
                key,
                data,
                use_multipart=len(data) >= MULTIPART_FROM,
                chunk_size=PART,
                max_concurrency=self._connections,
            )

    def get(self, kind: FileKind, name: str) -> bytes:
        with self._translated(f"read {describe(kind, name)}"):
            return obstore.get(self._bucket, relative_path(kind, name)).bytes().to_bytes()

    def get_range(self, kind: FileKind, name: str, offset: int, length: int) -> bytes:
        key = relative_path(kind, name)
        short = StoreError(f"{describe(kind, name)} is too short for {length} bytes from {offset}")
        if not length:  # HTTP has no empty ranges
            if abs(offset) > self.stat(kind, name).size:
                raise short
            return b""
        with self._translated(f"read {describe(kind, name)}"):
            if offset < 0:
                found = obstore.get(self._bucket, key, options={"range": {"suffix": -offset}})
                part = found.bytes().to_bytes()
                complete = len(part) == -offset
                part = part[:length]
            else:
                part = obstore.get_range(self._bucket, key, start=offset, length=length).to_bytes()
                complete = True
        if not complete or len(part) < length:
            raise short
        return part

    def stat(self, kind: FileKind, name: str) -> Stat:
        with self._translated(f"find {describe(kind, name)}"):
            found = obstore.head(self._bucket, relative_path(kind, name))
        return Stat(name, found["size"], _nanoseconds(found["last_modified"]))

    def list(self, kind: FileKind) -> Iterator[Stat]:
        if kind is FileKind.CONFIG:
            try:
                yield self.stat(kind, CONFIG_NAME)
            except ObjectNotFoundError:
                pass
            return
        with self._translated(f"list {kind}"):
            for page in obstore.list(self._bucket, f"{kind}/", chunk_size=1000):
                for found in page:
                    name = found["path"].rpartition("/")[2]
                    if is_name(kind, name) and found["path"] == relative_path(kind, name):
                        yield Stat(name, found["size"], _nanoseconds(found["last_modified"]))

    def remove(self, kind: FileKind, name: str) -> None:
        key = relative_path(kind, name)
        with self._translated(f"remove {describe(kind, name)}"):
            obstore.head(self._bucket, key)  # removing what is not there succeeds in S3
            obstore.delete(self._bucket, key)

    def sweep(self, older_than: float) -> int:  # noqa: ARG002  see the class
        return 0

    def reserve(self, size: int) -> int:  # noqa: ARG002  there is no disk of ours
        return 0

    def close(self) -> None:
        """The library closes its connections with the last reference."""

    def _exists(self, key: str) -> bool:
        try:
            obstore.head(self._bucket, key)
        except FileNotFoundError:
            return False
        return True

    def _refuses_overwriting(self) -> bool:
        with self._probing:
            if self._put_if_absent is None:
                self._put_if_absent = self._try_overwriting()
            return self._put_if_absent

    def _try_overwriting(self) -> bool:
        key = f".holdfast-{os.urandom(8).hex()}"
        try:
            obstore.put(self._bucket, key, b"1", mode="create", use_multipart=False)
            try:
                obstore.put(self._bucket, key, b"2", mode="create", use_multipart=False)
            except BaseError as error:
                return isinstance(_explain(error, "try"), ObjectExistsError)
            finally:
                obstore.delete(self._bucket, key)
        except BaseError as error:
            reason = _explain(error, "try")
            if reason.retryable or isinstance(reason, StorageFullError):
                raise  # no verdict
        return False

    @contextmanager
    def _translated(self, what: str) -> Iterator[None]:
        if os.getpid() != self._process:
            raise StoreError(f"{self.address} was opened by the parent of this process")
        try:
            yield
        except (BaseError, FileNotFoundError) as error:
            raise _explain(error, f"{self.address} does not {what}") from None  # may quote keys


def _explain(error: Exception, sentence: str) -> StoreError:
    """The library tells statuses and codes in its text alone; whatever else it says stays out."""
    text = str(error).partition("Debug source")[0]
    found = _STATUS.search(text)
    status = int(found[1]) if found else 0
    found = _CODE.search(text)
    code = found[1] if found else ""
    detail = " ".join(filter(None, (f"status {status}" if status else "", code)))
    sentence = f"{sentence}: {detail or _without_status(text)}"
    if code == "NoSuchBucket":
        return StoreError(sentence, remedy="Make the bucket first, or check its name.")
    if status == _NOT_FOUND:
        return ObjectNotFoundError(sentence)
    if status == _TAKEN:
        return ObjectExistsError(sentence)
    if status in _FULL or code in _FULL_CODES:
        return StorageFullError(sentence)
    if status in _DENIED:
        return StoreDeniedError(sentence)
    if status in _PASSING or code in _PASSING_CODES or (not status and "HTTP error" in text):
        return StoreBusyError(sentence)
    return StoreError(sentence)


def _without_status(text: str) -> str:
    if "HTTP error" in text:
        return "the connection failed or broke"
    if "region" in text:
        return "the bucket lies in another region"
    return "an answer that is none of S3"


def _region(place: S3Address, options: S3Options, environ: Mapping[str, str]) -> str:
    named = _AMAZON.fullmatch(_host(place.endpoint)) if place.endpoint else None
    return (
        options.region
        or (named and named["region"])
        or environ.get("AWS_REGION")
        or environ.get("AWS_DEFAULT_REGION")
        or _DEFAULT_REGION
    )


def _endpoint(place: S3Address, region: str, environ: Mapping[str, str]) -> str:
    if place.endpoint and not _AMAZON.fullmatch(_host(place.endpoint)):
        return place.endpoint
    given = environ.get("AWS_ENDPOINT_URL_S3") or environ.get("AWS_ENDPOINT_URL")
    if given and not place.endpoint:
        return given.rstrip("/")
    domain = "amazonaws.com.cn" if region.startswith("cn-") else "amazonaws.com"
    return f"https://s3.{region}.{domain}"


def _judge(endpoint: str, egress: Egress, *, asked: bool) -> None:
    place = urlsplit(endpoint)
    try:
        addresses = reachable(egress, place.hostname or "", place.port or 443)
    except EgressDeniedError as error:
        raise StoreDeniedError(error.message, remedy=error.advice) from error
    except NetworkError as error:
        if egress != OWN_MACHINE:
            raise StoreError(error.message, remedy=error.advice) from error
        addresses = []  # a proxy may know the name
    here = bool(addresses) and all(ip_address(address).is_loopback for address in addresses)
    if place.scheme == "http" and not (here or asked):
        raise UnsupportedStoreError(
            f"{endpoint} is plain HTTP to another machine",
            remedy="Write https://, or set AWS_ALLOW_HTTP=true if the network is your own.",
        )


def _client_options(endpoint: str, ca_bundle: str | None) -> ClientConfig:
    options: ClientConfig = {
        "allow_http": endpoint.startswith("http://"),
        "connect_timeout": _CONNECT,
        "timeout": _REQUEST,
        "user_agent": f"holdfast/{__version__}",
    }
    if ca_bundle:
        options["root_certificate"] = read_bundle(ca_bundle)
    return options


def _credential(options: S3Options) -> S3Credential:
    """Given as a whole: the environment's session token must not join another's key."""
    return {
        "access_key_id": options.access_key,
        "secret_access_key": options.secret_key.reveal() if options.secret_key else "",
        "token": options.session_token.reveal() if options.session_token else None,
        "expires_at": None,
    }


def _host(endpoint: str) -> str:
    return urlsplit(endpoint).hostname or ""


def _true(value: str | None) -> bool:
    return (value or "").lower() in {"1", "true", "yes", "on"}


def _nanoseconds(moment: datetime) -> int:
    return int(moment.timestamp()) * 1_000_000_000 + moment.microsecond * 1000
