"""RestBackup's Backup API, by the names of its library `restbackup`.

A file is uploaded once and never replaced. What fails for a moment is tried again: 5xx answers,
and broken connections where a request may be repeated. A download goes on where it broke off.
"""

from __future__ import annotations

import sys
from base64 import b64encode
from email.utils import parsedate_to_datetime
from random import Random
from typing import TYPE_CHECKING, Final
from urllib.parse import quote, urlencode

import msgspec

from holdfast.client.access import check_name, is_loopback, parse_access_url
from holdfast.client.bodies import (
    HttpResponseReader,
    Sending,
    SourceFault,
    broken,
    content_length,
    explanation,
    read_text,
)
from holdfast.client.errors import (
    InvalidAccessUrl,
    InvalidName,
    RestBackup401NotAuthorizedException,
    RestBackup404NotFoundException,
    RestBackup405MethodNotAllowed,
    RestBackupException,
    RestBackupNetworkException,
)
from holdfast.client.streams import (
    FileObjectReader,
    FileReader,
    InputStream,
    RewindableSizedInputStream,
    SizedInputStream,
    StringReader,
    rewound,
)
from holdfast.core.clock import SystemClock
from holdfast.core.errors import EgressDeniedError, NetworkError
from holdfast.core.secret import Secret
from holdfast.net.http import HttpClient

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from holdfast.client.chlorocrypt import DecryptingReader, Passphrase
    from holdfast.client.streams import Readable
    from holdfast.core.clock import Clock
    from holdfast.net.http import Incoming

__all__ = [
    "FIRST_RETRY_DELAY_SECONDS",
    "MAX_ATTEMPTS",
    "MAX_FILE_SIZE",
    "BackupApiCaller",
    "FileObjectReader",
    "FileReader",
    "HttpCaller",
    "HttpResponseReader",
    "InputStream",
    "InvalidAccessUrl",
    "InvalidName",
    "RestBackup401NotAuthorizedException",
    "RestBackup404NotFoundException",
    "RestBackup405MethodNotAllowed",
    "RestBackupException",
    "RestBackupNetworkException",
    "RewindableSizedInputStream",
    "SizedInputStream",
    "StringReader",
    "parse_access_url",
]

__version__ = "1.4"
"""Of the library whose names these are."""

MAX_ATTEMPTS = 5
FIRST_RETRY_DELAY_SECONDS = 1
"""Doubles with each attempt; up to half of each wait is left to chance."""
MAX_FILE_SIZE: Final = 5_368_709_120
"""Bytes."""
_LONGEST_WAIT: Final = 60.0
_FINAL: Final = {501, 505, 507}
"""5xx that no other try changes."""
_REPEATABLE: Final = {"GET", "HEAD", "PUT"}
"""PUT, because files are never replaced: a second one changes nothing."""
_LARGEST_LISTING: Final = 256 << 20
_SECOND: Final = 2.0
"""What two times of a clock that shows whole seconds may differ by."""
_MAYBE_STORED: Final = (
    "It may have been stored all the same: list the account before you send it again."
)
_KNOWN: Final[dict[int, type[RestBackupException]]] = {
    401: RestBackup401NotAuthorizedException,
    404: RestBackup404NotFoundException,
    405: RestBackup405MethodNotAllowed,
}


class Listed(msgspec.Struct, frozen=True):
    """A file as the listing shows it. Times are seconds since 1970."""

    name: str
    size: int
    createtime: int
    deletetime: int | None = None
    """When its retention period ends, where the service says so."""


Files = list[Listed]
Rows = list[tuple[str, int, int]]


class HttpCaller:
    """Performs requests with the credentials of an access url; BackupApiCaller is for use.

    `timeout` is seconds: for a piece of what is sent to be taken, and for the next piece of an
    answer. `on_note` gets a sentence whenever something is tried again.
    """

    def __init__(
        self,
        access_url: str | Secret,
        user_agent: str,
        *,
        timeout: float = 300.0,
        ca_bundle: str | None = None,
        allow_http: bool = False,
        on_note: Callable[[str], None] | None = None,
        clock: Clock | None = None,
    ) -> None:
        """Raises:
        InvalidAccessUrl: it is malformed; or it is http to another machine, which shows the
            password to the network, without `allow_http`.
        CertificateError: `ca_bundle` cannot be read.
        """
        text = access_url.reveal() if isinstance(access_url, Secret) else access_url
        self.scheme, user, password, self.host = parse_access_url(text).groups()
        if self.scheme == "http" and not allow_http and not is_loopback(self.host):
            raise InvalidAccessUrl(
                f"http:// would send the password for {self.host} readable through the network",
                remedy="Nothing was sent. Write https://, or allow http in a network of your own.",
            )
        self.endpoint = f"{self.scheme}://{self.host}/"
        """The access url without its credentials."""
        python = ".".join(map(str, sys.version_info[:3]))
        self._headers = {
            "User-Agent": f"{user_agent} restbackup-python/{__version__} Python/{python} "
            f"{sys.platform}"
        }
        self.set_user_pass(user, password)
        self._http = HttpClient(ca_bundle=ca_bundle, read_timeout=timeout)
        self._on_note = on_note or (lambda _: None)
        self._clock = clock or SystemClock()
        self._random = Random()  # noqa: S311  spreads waits, keeps no secret

    def set_user_pass(self, username: str, password: str) -> None:
        """Other credentials from now on."""
        pair = b64encode(f"{username}:{password}".encode()).decode()
        self._headers["Authorization"] = f"Basic {pair}"

    def get_http_connection(self) -> HttpClient:
        """What requests go through."""
        return self._http

    def call(
        self,
        method: str,
        uri: str,
        body: bytes | RewindableSizedInputStream | None = None,
        extra_headers: Mapping[str, str] | None = None,
    ) -> Incoming:
        """A 2xx answer, to be read or closed. `uri` is the path as it is meant, not yet quoted.

        Raises:
            RestBackupException: another answer, or none; `status` and `attempts` tell more.
            OSError: what reading `body` raises.
        """
        headers = {**self._headers, **(extra_headers or {})}
        attempt = 1
        while True:
            try:
                return self._try(method, uri, body, headers)
            except RestBackupException as failure:
                failure.attempts = attempt
                if not _may_pass(failure, method):
                    raise
                if attempt >= MAX_ATTEMPTS:
                    failure.add(f" ({attempt} tries)")
                    raise
                if not (body is None or isinstance(body, bytes) or rewound(body)):
                    raise
                self._pause(attempt, failure, f"{method} {uri}")
            attempt += 1

    def post(self, uri: str, params_dict: Mapping[str, str]) -> Incoming:
        """Sends a form; see `call`."""
        form = {"Content-Type": "application/x-www-form-urlencoded"}
        return self.call("POST", uri, urlencode(params_dict).encode(), form)

    def close(self) -> None:
        """Lets go of connections that are kept for the next request."""
        self._http.close()

    def _try(
        self,
        method: str,
        uri: str,
        body: bytes | RewindableSizedInputStream | None,
        headers: Mapping[str, str],
    ) -> Incoming:
        sending = None if body is None else Sending(body)
        try:
            answer = self.get_http_connection().exchange(
                method,
                self.endpoint + quote(uri).removeprefix("/"),
                headers=headers,
                body=None if sending is None else iter(sending),
                length=0 if sending is None else sending.length,
            )
        except SourceFault as fault:
            raise fault.error from None
        except (NetworkError, EgressDeniedError) as error:
            raise broken(error) from error
        if answer.status // 100 != 2:  # noqa: PLR2004  2xx
            with answer:
                raise self._refusal(method, uri, answer)
        if sending is not None and sending.left:
            answer.close()
            raise RestBackupException(f"{self.host} answered {answer.status} before it had all")
        return answer

    def _refusal(self, method: str, uri: str, answer: Incoming) -> RestBackupException:
        said = f"{answer.status} {answer.reason}{explanation(answer)}"
        kind = _KNOWN.get(answer.status, RestBackupException)
        if answer.status == 401:  # noqa: PLR2004
            message = f"{self.host} refuses the user name and password: {said}"
        elif answer.status == 404:  # noqa: PLR2004
            message = f"there is no {uri} in the account: {said}"
        elif answer.status == 405 and method == "PUT":  # noqa: PLR2004
            message = f"there is a {uri} in the account already: {said}"
        else:
            message = f"{self.host} answered {method} {uri} with {said}"
        failure = kind(message)
        failure.status = answer.status
        failure.retry_after = _seconds(answer.headers.get("Retry-After", ""))
        return failure

    def _pause(self, attempt: int, failure: RestBackupException, what: str) -> None:
        wait = FIRST_RETRY_DELAY_SECONDS * 2.0 ** (attempt - 1) * self._random.uniform(0.5, 1)
        wait = min(max(wait, failure.retry_after), _LONGEST_WAIT)
        self._on_note(f"{failure.message}; trying again in {wait:.0f} s ({what})")
        self._clock.sleep(wait)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.endpoint!r})"

    __str__ = __repr__


class BackupApiCaller(HttpCaller):
    """Uploads, downloads and lists the files of one backup account."""

    def put(self, name: str, data: bytes | str | RewindableSizedInputStream) -> str:
        """Stores `data` under a name that is not taken; what the service says to that.

        An acknowledgement that was lost is looked for in the listing: a file of this size that
        came during this call is the one.

        Raises:
            RestBackup405MethodNotAllowed: the name is taken.
            RestBackupException: it was not stored, or, after a broken connection, may have been.
        """
        return self.store(name, data)

    def put_encrypted(
        self, passphrase: Passphrase, name: str, data: bytes | str | RewindableSizedInputStream
    ) -> str:
        """The same with the encrypted stream of `data`."""
        from holdfast.client import chlorocrypt

        encrypted = chlorocrypt.EncryptingReader(_stream(data), passphrase)
        return self.store(name, encrypted, encrypted=True)

    def get(self, name: str) -> HttpResponseReader:
        """The content of a file, to be read.

        Raises:
            RestBackup404NotFoundException: there is none of that name.
        """
        return self.fetch(name)

    def get_encrypted(self, passphrase: Passphrase, name: str) -> DecryptingReader:
        """The same, decrypted; see DecryptingReader for what that promises."""
        from holdfast.client import chlorocrypt

        reader = self.fetch(name, encrypted=True)
        try:
            return chlorocrypt.DecryptingReader(reader, passphrase)
        except BaseException:
            reader.close()
            raise

    def list(self) -> Rows:
        """Name, size in bytes and time of creation in seconds since 1970, of each file."""
        return [(each.name, each.size, each.createtime) for each in self.files()]

    def files(self) -> Files:
        """What the listing says of each file.

        Raises:
            RestBackupException: it is no listing.
        """
        return self._listing()[0]

    def size(self, name: str) -> int:
        """Bytes of a file.

        Raises:
            RestBackup404NotFoundException: there is none of that name.
        """
        with self.call("HEAD", check_name(name)) as answer:
            return content_length(answer)

    def make_session(self) -> str:
        """An address for a browser, which lists the account and gives its files to whoever knows
        it, for 24 hours.
        """
        with self.call("POST", "/", b"", {"X-HTTP-Method-Override": "MAKESESSION"}) as answer:
            place = answer.headers.get("Location")
            if not place:
                raise RestBackupException(f"{self.host} made no session")
            return place

    def store(
        self,
        name: str,
        data: bytes | str | RewindableSizedInputStream,
        *,
        encrypted: bool = False,
    ) -> str:
        """As `put`; `encrypted` tells the service that `data` is an encrypted stream."""
        name = check_name(name)
        headers = self._encrypting() if encrypted else {}
        data = data.encode() if isinstance(data, str) else data
        if len(data) > MAX_FILE_SIZE:
            raise RestBackupException(
                f"{name} would have {len(data)} bytes; a file has at most {MAX_FILE_SIZE}",
                remedy="Nothing was sent. Store it in several parts.",
            )
        began = self._clock.monotonic()
        try:
            with self.call("PUT", name, data, headers) as answer:
                return read_text(answer)
        except RestBackup405MethodNotAllowed as refused:
            if refused.attempts == 1:
                raise
            more = self._doubt(name, len(data), self._clock.monotonic() - began)
            if more:
                refused.add(f"; {more}")
                raise
            said = f"the acknowledgement was lost, but the listing shows {len(data)} bytes"
            self._on_note(f"{name}: {said}; it is stored")
            return f"Stored {name} ({said})\n"
        except RestBackupNetworkException as failure:
            failure.add("", remedy=_MAYBE_STORED)
            raise

    def _doubt(self, name: str, length: int, spent: float) -> str:
        """Why a name that is taken on another try is not what was sent in the last `spent` seconds;
        nothing where it is.
        """
        files, now = self._listing()
        found = next((each for each in files if each.name == name), None)
        if found is None:
            return "the listing does not show it"
        if found.size != length:
            return f"that file has {found.size} bytes, and {length} were sent"
        if now is not None and found.createtime < now - spent - _SECOND:
            return "that file is older than this upload"
        return ""

    def fetch(self, name: str, *, encrypted: bool = False) -> HttpResponseReader:
        """As `get`; `encrypted` tells the service that the content will be decrypted."""
        name = check_name(name)
        headers = self._encrypting() if encrypted else {}

        def go_on(offset: int, tries: int, failure: RestBackupException) -> Incoming:
            if tries >= MAX_ATTEMPTS or not _may_pass(failure, "GET"):
                raise failure
            self._pause(tries, failure, f"GET {name} from byte {offset}")
            return self.call("GET", name, None, {**headers, "Range": f"bytes={offset}-"})

        return HttpResponseReader(self.call("GET", name, None, headers), go_on)

    def _listing(self) -> tuple[Files, float | None]:
        """All files, and the service's own time in seconds since 1970 where it tells it."""
        with self.call("GET", "/", None, {"Accept": "application/json"}) as answer:
            try:
                text = answer.read(_LARGEST_LISTING + 1)
                return msgspec.json.decode(text, type=Files), _date(answer)
            except NetworkError as error:
                raise broken(error) from error
            except msgspec.MsgspecError as error:
                raise RestBackupException(
                    f"{self.host} did not answer with a listing: {error}"
                ) from error

    def _encrypting(self) -> dict[str, str]:
        from holdfast.client import chlorocrypt

        return {
            "User-Agent": f"{self._headers['User-Agent']} chlorocrypt/{chlorocrypt.__version__}"
        }


def _may_pass(failure: RestBackupException, method: str) -> bool:
    """Whether another try may help, and harms nothing."""
    if isinstance(failure, RestBackupNetworkException):
        return failure.passing and method in _REPEATABLE
    status = failure.status or 0
    return status // 100 == 5 and status not in _FINAL  # noqa: PLR2004


def _seconds(text: str) -> float:
    """Of a Retry-After header; a date there is not waited for."""
    return float(text) if text.isdecimal() else 0.0


def _date(answer: Incoming) -> float | None:
    try:
        return parsedate_to_datetime(answer.headers.get("Date", "")).timestamp()
    except (TypeError, ValueError):
        return None


def _stream(data: bytes | str | RewindableSizedInputStream) -> Readable:
    if isinstance(data, str):
        data = data.encode()
    return StringReader(data) if isinstance(data, bytes) else data
