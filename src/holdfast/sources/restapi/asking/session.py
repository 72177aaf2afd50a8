"""Asking an API politely: bounded, paced, authorised, tried again where that can help.

Any number of tasks may call `fetch`; the session decides how many requests are under way. It
starts with a few, takes more
while answers stay quick, and halves when the API shows that it is too much.
"""

from __future__ import annotations

import asyncio
import inspect
import random
import time
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from holdfast.core.errors import AnswerError, AuthError, FetchError, UnreachableError
from holdfast.net.aio import AsyncClient, Call, Reply, encoded, shown
from holdfast.net.egress import OWN_MACHINE
from holdfast.net.pace import Limits, Pace
from holdfast.sources.restapi.asking.credentials import Credentials, open_credentials
from holdfast.sources.restapi.asking.gate import FIRST_WIDTH, Gate
from holdfast.sources.restapi.asking.manners import (
    Retrying,
    client_options,
    limits_of,
    origin,
    retry_after,
    retrying_of,
    trusted_origins,
)
from holdfast.sources.restapi.asking.redact import Redactor, sensitive
from holdfast.sources.restapi.project.sections import DEFAULT_PARALLEL
from holdfast.sources.restapi.records.documents import as_json

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Iterator
    from pathlib import Path

    from holdfast.net.egress import Egress
    from holdfast.sources.restapi.project.project import Project

_THROTTLED = frozenset({429, 503})
_OK = range(200, 300)
_UNAUTHORISED = 401
_FORBIDDEN = 403
_PARTIAL_CONTENT = 206
_RANGE_REFUSED = 416
_LONG_WAIT = 60.0
"""Seconds; a longer wait is said in any case."""
_THROTTLE_TRIES = 50
"""How often one request may be told to wait before that counts as failure."""


class Wanting(Exception):  # noqa: N818 - never leaves this package; says "not yet", not "wrong"
    """Raised by a judge: the answer is not what it should be, and another try may bring it."""

    def __init__(self, reason: str, *, tries: int | None = None, remedy: str | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.remedy = remedy
        self.tries = tries
        """At most so many more, where the ordinary number is too patient."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What to ask. `query` is added to the address; `json` is the body of a POST. Any: JSON."""

    url: str
    method: str = "GET"
    query: tuple[tuple[str, str], ...] = ()
    json: Any = None
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A good answer, after however many attempts. `judged` is what the judge made of it (Any: its
    business).
    """

    request: Request
    status: int
    url: str
    headers: tuple[tuple[str, str], ...]
    body: bytes
    time: datetime
    elapsed: float
    attempts: int
    judged: Any = None

    def header(self, name: str) -> str | None:
        wanted = name.lower()
        return next((value for word, value in self.headers if word.lower() == wanted), None)


@dataclass(slots=True)
class Traffic:
    """What went over the wire so far."""

    requests: int = 0
    retries: int = 0
    bytes: int = 0
    waited: float = 0.0


class Session:
    """Made by `open_session`."""

    def __init__(
        self,
        client: AsyncClient,
        credentials: Credentials,
        redactor: Redactor,
        *,
        limits: Limits,
        retrying: Retrying,
        most: int,
        trusted: frozenset[str],
        log: Callable[[str], None] | None,
        say: Callable[[str], None],
    ) -> None:
        self.redactor = redactor
        self.traffic = Traffic()
        self._client = client
        self._credentials = credentials
        self._pace = Pace(limits)
        self._retrying = retrying
        self._gate = Gate(most=most, width=min(FIRST_WIDTH, most))
        self._trusted = trusted
        self._not_before = 0.0
        self._log = log
        self._say = say
        self._ready = False
        self._begin = asyncio.Lock()

    @property
    def width(self) -> int:
        """How many requests may be under way now."""
        return int(self._gate.width)

    def recall(self, ages: Iterable[float]) -> None:
        """Counts requests that an earlier run made, so many seconds ago, in the limits per hour."""
        self._pace.recall(ages, time.monotonic())

    async def fetch(
        self,
        request: Request,
        judge: Callable[[Answer], Any] | None = None,
        *,
        tries: int | None = None,
    ) -> Answer:
        """A good answer. `judge` looks at each with status 2xx and returns what to keep as
        `judged`. `tries` is for what is not worth as many more as the project allows.

        Any: what the judge returns.

        Raises:
            FetchError: permanent, or still failing after all tries; `status` tells which.
        """
        failures = throttled = 0
        most = self._retrying.tries if tries is None else min(tries, self._retrying.tries)
        while True:
            begun = time.monotonic()
            wait: float | None = None
            try:
                reply = await self._attempt(request)
                if reply.status in _OK:
                    answer = self._answer(request, reply, failures + throttled + 1)
                    judged = judge(answer) if judge else None
                    if inspect.isawaitable(judged):
                        judged = await judged
                    self._gate.went_well(reply.elapsed)
                    return replace(answer, judged=judged)
                error = self._refusal(request, reply)
                if reply.status not in self._retrying.statuses:
                    raise error
                wait = retry_after(reply.header("Retry-After"))
                if reply.status in _THROTTLED:
                    self._gate.was_too_much(begun, time.monotonic())
                    throttled += wait is not None
            except Wanting as wanting:
                said = self.redactor.text(wanting.reason)
                error = AnswerError(f"{self._name(request)} {said}", remedy=wanting.remedy)
                if wanting.tries is not None and failures >= wanting.tries:
                    raise error from None
            except UnreachableError as unreachable:
                error = unreachable
                self._gate.was_too_much(begun, time.monotonic())
            if wait is None or throttled > _THROTTLE_TRIES:
                failures += 1
            if failures > most:
                raise error from None
            self.traffic.retries += 1
            await self._rest(wait, failures, error)

    @asynccontextmanager
    async def streamed(
        self, request: Request, headers: tuple[tuple[str, str], ...] = ()
    ) -> AsyncIterator[tuple[Reply, AsyncIterator[bytes]]]:
        """One attempt at an answer whose body comes in pieces; statuses are not judged."""
        await self._prepare()
        await self._gate.enter()
        try:
            await self._start()
            call = self._call(request)
            call = replace(call, headers={**call.headers, **dict(headers)})
            async with self._client.stream(call) as streamed:
                yield streamed
        finally:
            self._gate.leave()

    async def download(self, request: Request, path: Path) -> Answer:
        """Streams a body of any size into a file; what is there of an earlier try is gone on with
        by range.

        The answer's body is empty. The file beside it, `.meta`, ties a part to the version that
        it is a part of.

        Raises:
            FetchError: as `fetch`.
        """
        failures = throttled = 0
        while True:
            begun = time.monotonic()
            wait: float | None = None
            had = _length(path)
            try:
                reply = await self._download_once(request, path)
                if reply.status in _OK:
                    self._gate.went_well(reply.elapsed)
                    return self._answer(request, reply, failures + throttled + 1)
                error = self._refusal(request, reply)
                if reply.status not in self._retrying.statuses:
                    raise error
                wait = retry_after(reply.header("Retry-After"))
                if reply.status in _THROTTLED:
                    self._gate.was_too_much(begun, time.monotonic())
                    throttled += wait is not None
            except UnreachableError as unreachable:
                error = unreachable
                if _length(path) > had:
                    failures = 0  # a bad line that still brings something is worth staying on
            if wait is None or throttled > _THROTTLE_TRIES:
                failures += 1
            if failures > self._retrying.tries:
                raise error from None
            self.traffic.retries += 1
            await self._rest(wait, failures, error)

    def evidence(self, answer: Answer) -> dict[str, Any]:
        """What is kept beside a response, without secrets. Any: JSON."""
        request = answer.request
        told = {
            "url": self.redactor.url(answer.url),
            "method": request.method,
            "status": answer.status,
            "time": answer.time.isoformat(timespec="milliseconds"),
            "elapsed": round(answer.elapsed, 4),
            "attempts": answer.attempts,
            "headers": self.redactor.headers(answer.headers),
        }
        if request.json is not None:
            told["request_json"] = self.redactor.tree(request.json)
        if request.headers:
            told["request_headers"] = self.redactor.headers(request.headers)
        return told

    async def _attempt(self, request: Request) -> Reply:
        await self._prepare()
        reply = await self._send(request)
        if reply.status == _UNAUTHORISED and origin(request.url) in self._trusted:
            refused = self._credentials.headers()
            if await self._credentials.renew(self._client, refused=refused):
                reply = await self._send(request)
        return reply

    async def _prepare(self) -> None:
        if not self._ready:
            async with self._begin:
                await self._credentials.prepare(self._client)
                self._ready = True

    async def _send(self, request: Request) -> Reply:
        await self._gate.enter()
        try:
            await self._start()
            self.traffic.requests += 1
            reply = await self._client.send(self._call(request))
            self.traffic.bytes += len(reply.body)
        finally:
            self._gate.leave()
        if self._log:
            url = self.redactor.url(reply.url)
            self._log(f"{request.method} {url} {reply.status} {reply.elapsed:.3f}s")
        return reply

    async def _start(self) -> None:
        """Waits for whatever the limits and the API's own wishes say."""
        while True:
            now = time.monotonic()
            if self._not_before > now:
                await asyncio.sleep(self._not_before - now)
                continue
            start = self._pace.book(now)
            if start > now:
                self.traffic.waited += start - now
                await asyncio.sleep(start - now)
            if self._not_before <= time.monotonic():
                return

    async def _rest(self, wait: float | None, failures: int, error: FetchError) -> None:
        """Raises the error itself where the API asks for a longer wait than the project allows."""
        if wait is None:
            wait = self._retrying.delay(max(failures, 1))
        else:
            if wait > self._retrying.patience:
                self._say(f"{error.message}; it asks to wait {wait:.0f} s: not waited for")
                raise error
            if wait > _LONG_WAIT:
                self._say(f"{error.message}; it asks to wait {wait:.0f} s")
            # everybody was told to wait, not only this request
            self._not_before = max(self._not_before, time.monotonic() + wait)
            wait += random.uniform(0, 0.1)  # noqa: S311 - spread, not secrecy
        if self._log:
            self._log(f"{error.message}; trying again in {wait:.1f} s")
        self.traffic.waited += wait
        await asyncio.sleep(wait)

    def _call(self, request: Request) -> Call:
        """Credentials go only where the person has written an address, never where mere data
        points.
        """
        trusted = origin(request.url) in self._trusted
        query = list(request.query)
        url = request.url
        if own := self._credentials.query():
            url = _without_param(url, own[0])
            query = [pair for pair in query if pair[0] != own[0]] + ([own] if trusted else [])
        headers = {"Accept": "application/json, */*;q=0.5"}
        headers |= {
            name: value for name, value in request.headers if trusted or not sensitive(name)
        }
        if trusted:
            headers |= self._credentials.headers()
        body = None
        if request.json is not None:
            headers.setdefault("Content-Type", "application/json")
            body = as_json(request.json).encode()
        private = self._credentials.private | {
            name.lower() for name, _ in request.headers if sensitive(name)
        }
        return Call(
            method=request.method,
            url=encoded(url, query),
            headers=headers,
            private=private,
            body=body,
        )

    async def _download_once(self, request: Request, path: Path) -> Reply:
        meta = path.with_name(path.name + ".meta")
        offset, version = _progress(path, meta)
        resume = (("Range", f"bytes={offset}-"), ("If-Range", version)) if offset else ()
        resume = (*resume, ("Accept-Encoding", "identity"))
        async with self.streamed(request, resume) as (head, pieces):
            self.traffic.requests += 1
            if self._log:
                self._log(f"{request.method} {self.redactor.url(head.url)} {head.status}")
            if head.status == _RANGE_REFUSED and offset:
                await asyncio.to_thread(path.unlink)
                return replace(head, status=503)
            if head.status not in _OK:
                return head
            goes_on = head.status == _PARTIAL_CONTENT and offset
            meta.write_text(head.header("ETag") or head.header("Last-Modified") or "")
            with open(path, "ab" if goes_on else "wb") as out:  # noqa: ASYNC230, PTH123 - opening is quick; writing goes to a thread
                async for piece in pieces:
                    self.traffic.bytes += len(piece)
                    await asyncio.to_thread(out.write, piece)
            meta.unlink()
            return replace(head, status=200) if goes_on else head

    def _answer(self, request: Request, reply: Reply, attempts: int) -> Answer:
        return Answer(
            request=request, status=reply.status, url=reply.url, headers=reply.headers,
            body=reply.body, time=datetime.now(UTC), elapsed=reply.elapsed, attempts=attempts,
        )  # fmt: skip

    def _refusal(self, request: Request, reply: Reply) -> FetchError:
        said = _first_words(self.redactor.body(reply.body))
        text = f"{self._name(request)} answered HTTP {reply.status}{said}"
        if reply.status in {_UNAUTHORISED, _FORBIDDEN}:
            return AuthError(text, status=reply.status)
        return FetchError(text, status=reply.status)

    def _name(self, request: Request) -> str:
        return self.redactor.text(shown(request.url))


@asynccontextmanager
async def open_session(
    project: Project,
    *,
    redactor: Redactor | None = None,
    log: Callable[[str], None] | None = None,
    say: Callable[[str], None] = lambda _: None,
    egress: Egress = OWN_MACHINE,
) -> AsyncIterator[Session]:
    """A session with everything that the project says about requests, limits, retries and
    credentials.

    Args:
        log: gets a line for each request.
        say: gets what a person wants to know at once, such as a long wait.
        egress: where requests, redirects and proxies of the project may lead. It guards addresses
            alone: a project's hooks, scripts, commands and files are read and run as ours.

    Raises:
        ProjectError: a secret or a bundle of certificates cannot be found.
    """
    redactor = redactor or Redactor()
    credentials = open_credentials(project, redactor)
    most = project.request.parallelism or DEFAULT_PARALLEL
    options = client_options(project, connections=most, egress=egress)
    async with AsyncClient(options) as client:
        yield Session(
            client, credentials, redactor, limits=limits_of(project), retrying=retrying_of(project),
            most=most, trusted=trusted_origins(project), log=log, say=say,
        )  # fmt: skip


@contextmanager
def only_looking() -> Iterator[None]:
    """Says with a failure that nothing was collected, where that was not meant either."""
    try:
        yield
    except FetchError as error:
        if error.advice == FetchError.remedy:
            error.advice = "Nothing was stored or changed. Check the address and try again."
        raise


def _progress(path: Path, meta: Path) -> tuple[int, str]:
    """How much of a download is there, and of which version; (0, "") where it must begin anew."""
    try:
        version = meta.read_text()
        return (path.stat().st_size, version) if version else (0, "")
    except OSError:
        return 0, ""


def _length(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _without_param(url: str, name: str) -> str:
    base, mark, query = url.partition("?")
    kept = "&".join(part for part in query.split("&") if part.partition("=")[0] != name)
    return base + mark + kept if kept else base


def _first_words(body: bytes) -> str:
    text = " ".join(body[:400].decode(errors="replace").split())
    if not text or text.startswith("<"):
        return ""
    return f": {text[:160]}"
