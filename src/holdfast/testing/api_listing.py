"""Imitated list endpoints: one collection of records behind any of the usual ways of paging."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, overload
from urllib.parse import urlencode

from holdfast.testing.loopback import Reply, Request, json_reply

if TYPE_CHECKING:
    from collections.abc import Callable

Style = Literal[
    "page", "skip", "range", "cursor", "cursor-header", "link", "next-url", "since-id", "window"
]
Record = dict[str, Any]


class Synthetic(Sequence[Record]):
    """`count` records made when asked for, so that millions cost no memory. Ids are 1, 2, ..."""

    def __init__(self, count: int, *, padding: int = 40) -> None:
        self._count = count
        self.padding = "x" * padding

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, index: int) -> Record: ...
    @overload
    def __getitem__(self, index: slice) -> list[Record]: ...
    def __getitem__(self, index: int | slice) -> Record | list[Record]:
        if isinstance(index, slice):
            return [self._make(number) for number in range(*index.indices(self._count))]
        if not 0 <= index < self._count:
            raise IndexError(index)
        return self._make(index)

    def _make(self, index: int) -> Record:
        number = index + 1
        return {
            "id": number,
            "name": f"record {number}",
            "amount": number * 1.25,
            "group": {"code": f"G{number % 17:02}", "title": "группа"},
            "updated": f"2026-{1 + number % 12:02}-{1 + number % 28:02}T00:00:00Z",
            "text": self.padding,
        }


@dataclass(slots=True)
class Listing:
    """One list endpoint. Whatever is changed here between two requests shows in the next answer.

    Parameter names may be dotted: then they are looked for inside a JSON body. The records of a
    page lie at the dotted
    key `data` (empty: the document is the list), the announced total at `total` (None: not
    announced).
    """

    records: Sequence[Record]
    style: Style = "page"
    data: str = "data"
    total: str | None = "total"
    pages: str | None = None
    page_param: str = "page"
    size_param: str = "size"
    skip_param: str = "skip"
    from_param: str = "from"
    to_param: str = "to"
    cursor_param: str = "cursor"
    cursor_key: str = "next"
    cursor_header: str = "X-Next-Cursor"
    since_param: str = "since_id"
    since_key: str = "id"
    window_key: str = "updated"
    first_page: int = 1
    default_size: int = 20
    largest_size: int = 1000
    """The server gives at most so many records, whatever is asked for."""
    past_end: Literal["empty", "repeat", "missing"] = "empty"
    short_pages: dict[int, int] = field(default_factory=dict)
    """Pages (by their number) that hold back records: so many are left out of the answer."""
    extra: Record = field(default_factory=dict)
    render: Callable[[Record], Reply] | None = None
    """Turns the finished document into an answer: XML, HTML; absent: JSON."""
    before: Callable[[int], None] | None = None
    """Called with the number of this request (from 1) before it is answered: the place to change
    the data.
    """
    served: int = 0
    cache: dict[str, bytes] | None = None
    """Answers by request, for benchmarks in which the server must not be the brake."""

    def answer(self, request: Request) -> Reply:
        self.served += 1
        if self.before:
            self.before(self.served)
        if self.cache is None or request.method != "GET":
            return self._compute(request)
        if request.target not in self.cache:
            reply = self._compute(request)
            if reply.status != 200 or reply.headers.keys() != {"Content-Type"}:  # noqa: PLR2004 - HTTP's own number
                return reply
            assert isinstance(reply.body, bytes)
            self.cache[request.target] = reply.body
        return Reply(200, self.cache[request.target], {"Content-Type": "application/json"})

    def _compute(self, request: Request) -> Reply:
        asked = _Asked(request, self)
        start, stop, rows = asked.slice()
        if self.past_end == "missing" and start >= len(self.records) and start > 0:
            return json_reply({"error": "no such page"}, status=404)
        if self.past_end == "repeat" and not rows and len(self.records):
            size = stop - start
            start = (len(self.records) - 1) // size * size
            rows = list(self.records[start : start + size])
        document: Record = dict(self.extra)
        headers = asked.signposts(document, start, stop, rows)
        if self.total is not None:
            place(document, self.total, asked.total)
        if self.pages is not None:
            place(document, self.pages, -(-asked.total // max(stop - start, 1)))
        if not self.data:
            reply = json_reply(rows)
        else:
            place(document, self.data, rows)
            reply = self.render(document) if self.render else json_reply(document)
        reply.headers.update(headers)
        return reply


class _Asked:
    """What one request asks of a listing."""

    def __init__(self, request: Request, listing: Listing) -> None:
        self.request = request
        self.listing = listing
        self.given: dict[str, Any] = dict(request.query)
        self.body: Any = None
        if request.method == "POST" and request.body[:1] in {b"{", b"["}:
            self.body = json.loads(request.body)
        self.total = len(listing.records)

    def value(self, name: str) -> Any:
        if self.body is not None:
            place_ = self.body
            for part in name.split("."):
                place_ = place_.get(part) if isinstance(place_, dict) else None
            if place_ is not None:
                return place_
        return self.given.get(name)

    def number(self, name: str, default: int) -> int:
        value = self.value(name)
        return default if value in {None, ""} else int(value)

    def slice(self) -> tuple[int, int, list[Record]]:
        """Start, stop (uncapped by the end of the data) and the records between."""
        listing = self.listing
        size = min(self.number(listing.size_param, listing.default_size), listing.largest_size)
        records: Sequence[Record] = listing.records
        page = start = 0
        match listing.style:
            case "page" | "link" | "next-url":
                page = self.number(listing.page_param, listing.first_page)
                start = (page - listing.first_page) * size
            case "skip":
                start = self.number(listing.skip_param, 0)
            case "range":
                start = self.number(listing.from_param, 0)
                size = min(self.number(listing.to_param, start + size) - start, size)
            case "cursor" | "cursor-header":
                start = int(str(self.value(listing.cursor_param) or "c0")[1:])
            case "since-id":
                since = self.number(listing.since_param, 0)
                records = [row for row in records if row[listing.since_key] > since]
            case "window":
                low = str(self.value(listing.from_param) or "")
                high = str(self.value(listing.to_param) or "\uffff")
                records = [row for row in records if low <= row[listing.window_key] < high]
                self.total = len(records)
                start = (self.number(listing.page_param, 1) - 1) * size
        rows = list(records[max(start, 0) : max(start, 0) + size])
        if held := listing.short_pages.get(page or start // max(size, 1) + 1):
            rows = rows[: max(len(rows) - held, 0)]
        return start, start + size, rows

    def signposts(
        self, document: Record, start: int, stop: int, rows: list[Record]
    ) -> dict[str, str]:
        """Writes the way to the next page into the document, or gives it as headers."""
        listing, more = self.listing, stop < self.total and bool(rows)
        match listing.style:
            case "cursor":
                place(document, listing.cursor_key, f"c{stop}" if more else None)
            case "cursor-header":
                return {listing.cursor_header: f"c{stop}"} if more else {}
            case "next-url":
                place(
                    document,
                    listing.cursor_key,
                    self._page_url(stop, stop - start) if more else None,
                )
            case "link":
                return {"Link": self._links(start, stop, more=more)}
            case _:
                pass
        return {}

    def _links(self, start: int, stop: int, *, more: bool) -> str:
        size = stop - start
        links = [f'<{self._page_url(0, size)}>; rel="first"']
        if more:
            links.append(f'<{self._page_url(stop, size)}>; title="a, b"; rel="next"')
        return ", ".join(links)

    def _page_url(self, start: int, size: int) -> str:
        listing = self.listing
        query = dict(self.request.query)
        query[listing.page_param] = str(start // size + listing.first_page)
        host = self.request.headers.get("host", "127.0.0.1")
        return f"http://{host}{self.request.path}?{urlencode(query)}"


def place(document: Record, key: str, value: object) -> None:
    """Puts a value at a dotted key, making the objects on the way."""
    *parents, last = key.split(".")
    for part in parents:
        document = document.setdefault(part, {})
    document[last] = value
