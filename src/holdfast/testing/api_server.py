"""Imitations of REST APIs on the loopback: paging, authentication, rate limits, faults, details
and files.

As a context manager in tests::

    with ApiServer() as api:
        api.listings["/items"] = Listing(Synthetic(45), style="cursor")
        api.script("/items", too_many("2"), server_error(), when=on_page(3))

or as a program, `python -m holdfast.testing.api_server --records 1000 --latency 0.05`, which
prints its address and
serves one collection at `/<style>` in every style, with details at `/items/<id>` and files at
`/files/<id>`.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import time
from collections import Counter, deque
from dataclasses import dataclass, field
from email.utils import formatdate
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Literal, get_args

from holdfast.testing.api_listing import Listing, Record, Style, Synthetic
from holdfast.testing.loopback import Loopback, Reply, Request, json_reply

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

_BLOCK = bytes(range(256)) * 256


# --- faults --------------------


def too_many(after: str | None = "1") -> Reply:
    """429, with `Retry-After` as given: seconds, or a date made by `http_date`."""
    headers = {"Retry-After": after} if after is not None else {}
    return json_reply({"error": "too many requests"}, status=429, **headers)


def unavailable(after: str | None = None) -> Reply:
    headers = {"Retry-After": after} if after is not None else {}
    return json_reply({"error": "busy"}, status=503, **headers)


def http_date(seconds: float) -> str:
    """The moment so many seconds from now, as HTTP writes it (whole seconds, rounded down)."""
    return formatdate(time.time() + seconds, usegmt=True)


def server_error(status: int = 500) -> Reply:
    return Reply(status, b"something broke", {"Content-Type": "text/plain"})


def cut_body(after: int = 10) -> Reply:
    """Announces a long JSON body and resets the connection after so many bytes."""
    return Reply(body=b'{"data":[' + b" " * 5000, headers=_JSON, cut=after)


def malformed() -> Reply:
    return Reply(body=b'{"data": [{"id": 1}, {"id"', headers=_JSON)


def error_object() -> Reply:
    return json_reply({"error": {"code": 17, "message": "try again"}})


def login_page() -> Reply:
    page = (
        "<!doctype html><html><head><title>Sign in</title></head><body><form></form></body></html>"
    )
    return Reply(body=page.encode(), headers={"Content-Type": "text/html; charset=utf-8"})


_JSON = {"Content-Type": "application/json"}


def on_page(number: int, *, param: str = "page") -> Callable[[Request], bool]:
    """Chooses the requests for one page, for `ApiServer.script`."""
    return lambda request: request.query.get(param) == str(number)


@dataclass(slots=True)
class _Script:
    replies: deque[Reply]
    when: Callable[[Request], bool] | None
    forever: bool

    def take(self, request: Request) -> Reply | None:
        if not self.replies or (self.when and not self.when(request)):
            return None
        return self.replies[0] if self.forever else self.replies.popleft()


# --- who may --------------------


@dataclass(slots=True)
class Guard:
    """What a request must carry; `kind` is the auth type of a project."""

    kind: Literal["basic", "bearer", "apikey"]
    secret: str
    """`user:password`, the token, or the key."""
    name: str = "X-API-Key"
    where: Literal["header", "query"] = "header"

    def admits(self, request: Request) -> bool:
        given = request.headers.get("authorization", "")
        match self.kind:
            case "basic":
                return given == "Basic " + base64.b64encode(self.secret.encode()).decode()
            case "bearer":
                return given == "Bearer " + self.secret
            case "apikey":
                carried = request.query if self.where == "query" else request.headers
                name = self.name if self.where == "query" else self.name.lower()
                return carried.get(name) == self.secret


@dataclass(slots=True)
class TokenDesk:
    """An OAuth2 token endpoint. Access tokens serve `uses` requests, then they have expired.

    With `rotate`, each refresh gives a new refresh token and the old one is worth nothing any more.
    """

    refresh_token: str = "refresh-1"
    client: tuple[str, str] | None = None
    """Id and secret that token requests must carry, as Basic or in the form."""
    uses: int = 1000
    rotate: bool = True
    issued: int = 0
    left: dict[str, int] = field(default_factory=dict)

    def answer(self, request: Request) -> Reply:
        form = request.form()
        if self.client and not self._knows(request, form):
            return json_reply({"error": "invalid_client"}, status=401)
        grant = form.get("grant_type")
        if grant == "refresh_token" and form.get("refresh_token") == self.refresh_token:
            if self.rotate:
                self.refresh_token = f"refresh-{self.issued + 2}"
            return self._issue({"refresh_token": self.refresh_token} if self.rotate else {})
        if grant == "client_credentials" and self.client:
            return self._issue({})
        return json_reply({"error": "invalid_grant"}, status=400)

    def admits(self, request: Request) -> bool:
        token = request.headers.get("authorization", "").removeprefix("Bearer ")
        if self.left.get(token, 0) <= 0:
            return False
        self.left[token] -= 1
        return True

    def _knows(self, request: Request, form: dict[str, str]) -> bool:
        assert self.client
        plain = ":".join(self.client)
        basic = "Basic " + base64.b64encode(plain.encode()).decode()
        in_form = (form.get("client_id"), form.get("client_secret")) == self.client
        return in_form or request.headers.get("authorization") == basic

    def _issue(self, more: dict[str, str]) -> Reply:
        self.issued += 1
        token = f"access-{self.issued}"
        self.left[token] = self.uses
        return json_reply(
            {"access_token": token, "token_type": "Bearer", "expires_in": 3600, **more}
        )


# --- files --------------------


@dataclass(slots=True)
class ServedFile:
    """A file of `size` bytes that repeats one block, so that it costs no memory; `seed` makes
    files differ.
    """

    size: int
    seed: int = 0
    ranges: bool = True
    content_type: str = "application/octet-stream"
    cuts: int = 0
    """So many answers break off halfway."""

    def sha256(self) -> str:
        digest = hashlib.sha256()
        for piece in self.pieces(0):
            digest.update(piece)
        return digest.hexdigest()

    def pieces(self, start: int) -> Iterator[bytes]:
        block = _BLOCK[self.seed % 256 :] + _BLOCK[: self.seed % 256]
        at = start
        while at < self.size:
            offset = at % len(block)
            piece = block[offset : offset + self.size - at]
            yield piece
            at += len(piece)

    def answer(self, request: Request) -> Reply:
        start, status = 0, 200
        headers = {"Content-Type": self.content_type, "ETag": f'"{self.size}-{self.seed}"'}
        asked = request.headers.get("range", "")
        if self.ranges:
            headers["Accept-Ranges"] = "bytes"
            if asked.startswith("bytes=") and asked.endswith("-"):
                start, status = int(asked[6:-1]), 206
                if start >= self.size:
                    return Reply(416, headers={"Content-Range": f"bytes */{self.size}"})
                headers["Content-Range"] = f"bytes {start}-{self.size - 1}/{self.size}"
        length = self.size - start
        cut = None
        if self.cuts:
            self.cuts -= 1
            cut = max(length // 2, 1)
        return Reply(status, self.pieces(start), headers, length=length, cut=cut)


# --- the server --------------------


class ApiServer(Loopback):
    """Everything is answered by path: scripted faults first, then guards, then what is registered;
    else 404.

    `listings` by path; `details`: path prefix -> document by key; `files` by path with query
    (`/get?id=3`) or path;
    `routes`: any other function by path; `fallbacks`: by path prefix. `/loop` redirects to itself
    and `/moved/x` to `/x`.
    """

    def __init__(self, *, latency: float = 0.0, port: int = 0) -> None:
        super().__init__(self._answer, latency=latency, port=port)
        self.listings: dict[str, Listing] = {}
        self.details: dict[str, Callable[[str], object | None]] = {}
        self.files: dict[str, ServedFile] = {}
        self.routes: dict[str, Callable[[Request], Reply]] = {}
        self.fallbacks: dict[str, Callable[[Request], Reply]] = {}
        self.guard: Guard | TokenDesk | None = None
        self.token_path = "/oauth/token"
        self._scripts: list[tuple[str, _Script]] = []

    def script(
        self,
        path: str,
        *replies: Reply,
        when: Callable[[Request], bool] | None = None,
        forever: bool = False,
    ) -> None:
        """Answers the next requests for `path` (that `when` chooses) with these, one each, before
        the real thing.
        """
        self._scripts.append((path, _Script(deque(replies), when, forever)))

    def requests_to(self, path: str) -> list[Request]:
        return [request for request in self.requests if request.path == path]

    def counts(self) -> Counter[str]:
        """Requests by target."""
        return Counter(request.target for request in self.requests)

    def most_within(self, seconds: float) -> int:
        """The most requests that arrived within any window of so many seconds."""
        times = sorted(request.at for request in self.requests)
        most = first = 0
        for last, at in enumerate(times):
            while at - times[first] >= seconds:
                first += 1
            most = max(most, last - first + 1)
        return most

    def _answer(self, request: Request) -> Reply:
        if request.path == self.token_path and isinstance(self.guard, TokenDesk):
            return self.guard.answer(request)
        for path, script in self._scripts:
            if path == request.path and (reply := script.take(request)):
                return reply
        if self.guard and not self.guard.admits(request):
            return json_reply({"error": "unauthorized"}, status=401, WWW_Authenticate="Bearer")
        return self._find(request)

    def _find(self, request: Request) -> Reply:
        path = request.path
        if listing := self.listings.get(path):
            return listing.answer(request)
        if route := self.routes.get(path):
            return route(request)
        if served := self.files.get(request.target) or self.files.get(path):
            return served.answer(request)
        if path == "/loop":
            return Reply(302, headers={"Location": "/loop"})
        if path.startswith("/moved/"):
            return Reply(302, headers={"Location": request.target.removeprefix("/moved")})
        for prefix, find in self.details.items():
            if (
                path.startswith(prefix)
                and (document := find(path.removeprefix(prefix))) is not None
            ):
                return json_reply(document)
        for prefix, answer in self.fallbacks.items():
            if path.startswith(prefix):
                return answer(request)
        return json_reply({"error": "not found"}, status=404)


def tree(
    children: dict[str, Sequence[str]], *, list_key: str = "children", item_key: str = "code"
) -> Callable[[str], Record]:
    """Details for drilldown: the node asked for with the list of its children; leaves have an
    empty list.
    """

    def node(key: str) -> Record:
        return {"code": key, list_key: [{item_key: child} for child in children.get(key, ())]}

    return node


def collection(records: Sequence[Record], *, cached: bool = False) -> dict[str, Listing]:
    """One listing for each style over the same records, by path `/<style>`."""
    return {
        f"/{style}": Listing(records, style=style, cache={} if cached else None)
        for style in get_args(Style)
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Serves until interrupted; the address is the first line of output."""
    parser = argparse.ArgumentParser(prog="python -m holdfast.testing.api_server")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--records", type=int, default=1000)
    parser.add_argument("--latency", type=float, default=0.0, help="seconds before each answer")
    parser.add_argument("--file-size", type=int, default=10_000, help="bytes of each file")
    parser.add_argument("--padding", type=int, default=40, help="characters added to each record")
    parser.add_argument("--examples", action="store_true", help="the ten APIs of examples/api too")
    chosen = parser.parse_args(arguments)
    records = Synthetic(chosen.records, padding=chosen.padding)
    api = ApiServer(latency=chosen.latency, port=chosen.port)
    api.listings.update(collection(records, cached=True))
    if chosen.examples:
        from holdfast.testing.api_examples import imitate  # it builds on this module

        imitate(api)
    api.details["/items/"] = lambda key: _numbered(records, key)
    api.details["/empty/"] = lambda key: {"key": key}
    api.routes["/size"] = lambda request: ServedFile(int(request.query["bytes"])).answer(request)
    for number in range(1, min(chosen.records, 100_000) + 1):
        api.files[f"/files/{number}.bin"] = ServedFile(chosen.file_size, seed=number)
    with api:
        print(api.url, flush=True)  # noqa: T201 - a program's output
        try:
            while True:
                time.sleep(3600)
        except KeyboardInterrupt:
            pass


def _numbered(records: Sequence[Record], key: str) -> Record | None:
    name = PurePosixPath(key).stem
    return records[int(name) - 1] if name.isdigit() and 0 < int(name) <= len(records) else None


if __name__ == "__main__":
    main()
