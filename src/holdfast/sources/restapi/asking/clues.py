"""What an answer gives away about its listing: where the records are, how many there are, and how
to go on.

Names are those that public APIs use; a name alone is never believed without a value that fits it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

from holdfast.sources.restapi.asking.paging import next_link

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_LISTS = (
    "results", "items", "data", "records", "rows", "value", "values", "content", "objects", "hits",
    "entries", "list", "elements", "docs", "result", "response",
)  # fmt: skip
_TOTALS = (
    "total", "totalcount", "total_count", "count", "totalelements", "total_elements", "totalitems",
    "total_items", "totalrecords", "total_records", "recordstotal", "recordcount", "record_count",
    "numfound", "found", "@odata.count", "totalresults", "total_results", "totalhits", "rowcount",
)  # fmt: skip
_PAGE_COUNTS = (
    "pages", "totalpages", "total_pages", "pagecount", "page_count", "pagescount", "lastpage",
    "last_page", "num_pages",
)  # fmt: skip
_NEXT_URLS = (
    "next", "nexturl", "next_url", "nextlink", "next_link", "@odata.nextlink", "next_page_url",
    "nextpageurl", "nextpage", "next_page", "href",
)  # fmt: skip
_CURSORS = {
    "next_cursor": "cursor", "nextcursor": "cursor", "cursor": "cursor", "end_cursor": "after",
    "endcursor": "after", "next_page_token": "page_token", "nextpagetoken": "pageToken",
    "next_token": "next_token", "nexttoken": "nextToken", "continuation": "continuation",
    "continuation_token": "continuation_token", "continuationtoken": "continuationToken",
    "scroll_id": "scroll_id", "after": "after", "next": "cursor", "next_offset": "offset",
    "resumptiontoken": "resumptionToken", "bookmark": "bookmark", "nextmarker": "marker",
    "marker": "marker",
}  # fmt: skip
_CURSOR_HEADERS = (
    "x-next-cursor", "x-cursor", "next-cursor", "x-next-page-token", "x-next-token",
    "x-continuation-token", "x-ms-continuation",
)  # fmt: skip
_MORE = ("has_more", "hasmore", "has_next", "hasnext", "hasnextpage", "more", "ismore")
_PAGE_PARAMS = ("page", "pagenumber", "page_number", "pageno", "pageindex", "p", "pagenum", "pg")
_SKIP_PARAMS = ("skip", "offset", "start", "$skip", "startat", "firstresult", "startindex", "first")
_SIZE_PARAMS = (
    "per_page", "perpage", "page_size", "pagesize", "limit", "size", "$top", "top", "rows", "take",
    "recordsonpage", "maxresults", "max_results", "itemsperpage", "pagelimit",
)  # fmt: skip
_SINCE_PARAMS = ("since_id", "sinceid", "after_id", "afterid", "last_id", "lastid", "min_id")
_FROM_PARAMS = ("from", "date_from", "datefrom", "start_date", "startdate", "since", "start_time",
                "starttime", "updated_from", "begin", "created_after", "updated_after")  # fmt: skip
_TO_PARAMS = ("to", "date_to", "dateto", "end_date", "enddate", "until", "end_time", "endtime",
              "updated_to", "end", "created_before", "updated_before")  # fmt: skip
_IDS = ("id", "_id", "uuid", "guid", "uid", "key", "code", "pk", "identifier")
_CHANGES = ("updated_at", "updatedat", "updated", "modified", "modified_at", "lastmodified",
            "last_modified", "changed", "changed_at", "lastupdated", "dateupdate")  # fmt: skip
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")
_DEPTH = 3


@dataclass(frozen=True, slots=True)
class Found:
    """A value inside a document, by the names that lead to it. Any: JSON."""

    path: tuple[str, ...]
    value: Any

    @property
    def name(self) -> str:
        return self.path[-1].lower()


def find_records(document: Any) -> Found | None:
    """The list of records; its path is empty when the document is the list. Any: JSON."""
    if isinstance(document, list):
        return Found((), document)
    lists = [found for found in _walk(document) if isinstance(found.value, list)]
    objects = [found for found in lists if found.value and isinstance(found.value[0], dict)]

    def rank(found: Found) -> tuple[int, int, int]:
        named = _LISTS.index(found.name) if found.name in _LISTS else len(_LISTS)
        return (len(found.path), named, -len(found.value))

    named = [found for found in lists if found.name in _LISTS]
    candidates = objects or named or lists
    return min(candidates, key=rank) if candidates else None


def find_total(document: Any, count: int) -> Found | None:
    """An announced number of records, at least as many as there are here. Any: JSON."""
    return _number(document, _TOTALS, at_least=count)


def find_page_count(document: Any) -> Found | None:
    """An announced number of pages. Any: JSON."""
    return _number(document, _PAGE_COUNTS, at_least=1)


def find_next_url(document: Any) -> Found | None:
    """An address of the next page inside the body. Any: JSON."""
    for found in _walk(document):
        name = (
            found.path[-2].lower() if found.name == "href" and len(found.path) > 1 else found.name
        )
        is_address = isinstance(found.value, str) and (
            found.value.startswith(("http://", "https://", "/", "?"))
        )
        if is_address and name in _NEXT_URLS and name != "href":
            return found
    return None


def find_cursor(document: Any) -> tuple[Found, str] | None:
    """A cursor in the body, and the parameter that such APIs take it by. Any: JSON."""
    ranked = []
    for found in _walk(document):
        fits = isinstance(found.value, (str, int)) and not isinstance(found.value, bool)
        if fits and found.value != "" and found.name in _CURSORS:
            ranked.append((list(_CURSORS).index(found.name), found))
    if not ranked:
        return None
    best = min(ranked, key=lambda pair: pair[0])[1]
    return best, _CURSORS[best.name]


def find_cursor_header(headers: tuple[tuple[str, str], ...]) -> str | None:
    return next(
        (name for name, value in headers if name.lower() in _CURSOR_HEADERS and value), None
    )


def find_more(document: Any) -> Found | None:
    """A flag that says whether there is more. Any: JSON."""
    for found in _walk(document):
        if found.name in _MORE and isinstance(found.value, bool):
            return found
    return None


def has_next_link(headers: tuple[tuple[str, str], ...]) -> bool:
    return any(next_link(value) for name, value in headers if name.lower() == "link")


def known_params(url: str, *sources: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters that the person's own request already has, dotted where they are nested. Any:
    JSON.
    """
    known: dict[str, Any] = dict(parse_qsl(urlsplit(url).query))
    for source in sources:
        known |= dict(_flat(source))
    return known


def echoed_params(document: Any) -> dict[str, Any]:
    """Numbers in the answer that repeat what was asked: page, offset, limit. Any: JSON."""
    wanted = (*_PAGE_PARAMS, *_SKIP_PARAMS, *_SIZE_PARAMS)
    return {
        found.path[-1]: found.value
        for found in _walk(document)
        if found.name in wanted
        and isinstance(found.value, int)
        and not isinstance(found.value, bool)
    }


def pick(params: Mapping[str, Any], kind: str) -> str | None:
    """The parameter of a kind: page, skip, size, since, from, to."""
    names = {
        "page": _PAGE_PARAMS, "skip": _SKIP_PARAMS, "size": _SIZE_PARAMS, "since": _SINCE_PARAMS,
        "from": _FROM_PARAMS, "to": _TO_PARAMS,
    }[kind]  # fmt: skip
    ranked = [
        (names.index(leaf), name)
        for name in params
        if (leaf := name.rsplit(".", 1)[-1].lower()) in names
    ]
    return min(ranked)[1] if ranked else None


def is_date(value: Any) -> bool:
    """Any: JSON."""
    return isinstance(value, str) and _DATE.match(value) is not None


def find_item_key(records: list[Any]) -> str | None:
    """A key whose values tell all these records apart. Any: JSON."""
    rows = [record for record in records if isinstance(record, dict)]
    if not rows or len(rows) != len(records):
        return None
    names = [name for name in rows[0] if all(name in row for row in rows)]

    def rank(name: str) -> tuple[int, int]:
        lower = name.lower()
        known = _IDS.index(lower) if lower in _IDS else len(_IDS)
        return (known, 0 if lower.endswith("id") else 1)

    for name in sorted(names, key=rank):
        values = [row[name] for row in rows]
        plain = all(
            isinstance(value, (str, int)) and not isinstance(value, bool) for value in values
        )
        if rank(name) == (len(_IDS), 1):
            return None
        if plain and len(set(values)) == len(values):
            return str(name)
    return None


def find_change_key(records: list[Any]) -> str | None:
    """A key that tells when a record changed. Any: JSON."""
    row = records[0] if records and isinstance(records[0], dict) else {}
    return next((str(name) for name in row if name.lower() in _CHANGES), None)


def _number(document: Any, names: tuple[str, ...], *, at_least: int) -> Found | None:
    ranked = []
    for found in _walk(document):
        value = found.value
        if isinstance(value, str) and value.isdigit():
            value = int(value)
        fits = isinstance(value, int) and not isinstance(value, bool) and value >= at_least
        if fits and found.name in names:
            ranked.append((len(found.path), names.index(found.name), found))
        elif (
            fits
            and found.name == "value"
            and len(found.path) > 1
            and found.path[-2].lower() in names
        ):
            ranked.append((len(found.path), len(names), found))
    return min(ranked, key=lambda entry: entry[:2])[2] if ranked else None


def _walk(document: Any, path: tuple[str, ...] = ()) -> Iterator[Found]:
    """Values of nested objects, not of what lies inside lists. Any: JSON."""
    if not isinstance(document, dict) or len(path) >= _DEPTH:
        return
    for name, value in document.items():
        yield Found((*path, str(name)), value)
    for name, value in document.items():
        yield from _walk(value, (*path, str(name)))


def _flat(source: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in source.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{before}{name}.")
        else:
            yield f"{before}{name}", value
