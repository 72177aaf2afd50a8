"""Finding the way through a listing: what to change in the request for each page, and what the
next one is.

Numbered listings know every page's place in advance, so their pages can be fetched side by side.
Chained ones are told by each
page where the next is.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from holdfast.core.errors import ProjectError
from holdfast.net.addresses import led_to
from holdfast.sources.restapi.records.documents import MISSING, value_at

if TYPE_CHECKING:
    from collections.abc import Sequence

    from holdfast.sources.restapi.project.project import Project

_LINK = re.compile(r"<(?P<url>[^>]*)>(?P<params>[^<]*)")
_NEXT = re.compile(r"""(?i);\s*rel\s*=\s*(?:"[^"]*\bnext\b[^"]*"|'[^']*\bnext\b[^']*'|next\b)""")
NUMBERED = frozenset({"page", "skip", "range"})


@dataclass(frozen=True, slots=True)
class Mark:
    """Where a chained listing stands: parameters to send, or a whole address. JSON, kept beside
    each page. Any: JSON.
    """

    params: dict[str, Any]
    url: str | None = None

    def as_json(self) -> dict[str, Any]:
        return {"params": self.params, "url": self.url}


@dataclass(frozen=True, slots=True)
class Step:
    """Where to go on, or why not."""

    mark: Mark | None
    reason: str = ""


def mark_from(kept: dict[str, Any] | None) -> Mark | None:
    """The inverse of `Mark.as_json`."""
    return Mark(kept["params"], kept.get("url")) if kept else None


def is_numbered(project: Project) -> bool:
    return project.source.iterate_by in NUMBERED


def number_param(project: Project) -> str | None:
    """The parameter that tells one page of a numbered listing from another; None: there is one
    page only.
    """
    params = project.params
    return {
        "page": params.page_number_param,
        "skip": params.count_skip_param,
        "range": params.count_from_param,
    }.get(project.source.iterate_by)


def numbered_changes(project: Project, number: int, *, stride: int) -> dict[str, Any]:
    """What to send for page `number`; `stride` is how many records one page really moves on. Any:
    JSON.
    """
    params = project.params
    changes: dict[str, Any] = {}
    if params.page_size_param:
        changes[params.page_size_param] = params.page_size_limit
    offset = (number - min(params.start_page, 1)) * stride
    match project.source.iterate_by:
        case "page" if params.page_number_param:
            changes[params.page_number_param] = number
        case "skip" if params.count_skip_param:
            changes[params.count_skip_param] = offset
        case "range" if params.count_from_param and params.count_to_param:
            changes[params.count_from_param] = offset
            changes[params.count_to_param] = offset + params.page_size_limit
    return changes


class Chain:
    """A listing in which each page tells the next. `now` is the end of the last time window."""

    def __init__(self, project: Project, *, now: datetime | None = None) -> None:
        self._project = project
        self._now = now or datetime.now(UTC)

    def first(self) -> Mark:
        params = self._project.params
        changes: dict[str, Any] = {}
        if params.page_size_param and params.page_size_limit:
            changes[params.page_size_param] = params.page_size_limit
        match self._project.source.iterate_by:
            case "since_id" if params.since_id_param and params.since_id_start is not None:
                changes[params.since_id_param] = params.since_id_start
            case "window":
                changes |= self._window(self._moment(params.window_start), page=0)
            case "link" | "next_url" if params.page_number_param:
                changes[params.page_number_param] = params.start_page
        return Mark(changes)

    def after(
        self, mark: Mark, *, document: Any, records: Sequence[Any], link: str, url: str,
        cursor_header: str | None,
    ) -> Step:  # fmt: skip
        """The page after one. Any: JSON.

        Args:
            link: the answer's Link header, "" for none.
            url: where the answer came from.
            cursor_header: the value of the header that carries the cursor.

        Raises:
            AddressError: what is named as the next page is no address.
        """
        data, splitter = self._project.data, self._project.settings.splitter
        kind = self._project.source.iterate_by
        if kind == "window":
            return self._after_window(mark, records)
        if data.has_more_key:
            more = value_at(document, data.has_more_key, splitter)
            if more in (False, None, 0, "false", "") and more is not MISSING:
                return Step(None, f"{data.has_more_key} says that there is no more")
        match kind:
            case "cursor":
                return self._after_cursor(mark, document, cursor_header)
            case "link":
                found = next_link(link)
                target = led_to(url, found) if found else ""
                return _follow(mark, target, url, "no next Link")
            case "next_url":
                found = value_at(document, data.next_url_key or "", splitter)
                target = led_to(url, found) if isinstance(found, str) and found else ""
                return _follow(mark, target, url, f"{data.next_url_key} is absent")
        return self._after_id(mark, records)

    def cursor_header(self) -> str | None:
        """Which header carries the next cursor, if one does."""
        return self._project.data.next_cursor_header

    def _after_cursor(self, mark: Mark, document: Any, header: str | None) -> Step:
        data, name = self._project.data, self._project.params.cursor_param or ""
        found = header
        if data.next_cursor_key:
            found = value_at(document, data.next_cursor_key, self._project.settings.splitter)
        if found in (MISSING, None, "", False):
            return Step(None, "no next cursor")
        if found == "0" and name in mark.params:
            return Step(None, "no next cursor")  # it would be the first page again
        if mark.params.get(name) == found:
            return Step(None, "the cursor repeats itself")
        return Step(Mark({**mark.params, name: found}))

    def _after_id(self, mark: Mark, records: Sequence[Any]) -> Step:
        if not records:
            return Step(None, "empty page")
        key, splitter = self._project.data.item_key[0], self._project.settings.splitter
        ids = [value_at(record, key, splitter) for record in records]
        ids = [found for found in ids if found is not MISSING and found is not None]
        if not ids:
            return Step(None, f"no record has {key}")
        numeric = all(isinstance(found, (int, float)) for found in ids)
        newest = max(ids) if numeric else ids[-1]
        name = self._project.params.since_id_param or ""
        if mark.params.get(name) == newest:
            return Step(None, "no newer id")
        return Step(Mark({**mark.params, name: newest}))

    def _after_window(self, mark: Mark, records: Sequence[Any]) -> Step:
        """The next page of the same window while there are records and pages are numbered, else
        the next window.
        """
        params = self._project.params
        inner = params.page_number_param or params.count_skip_param
        page, start = mark.params["#page"], datetime.fromisoformat(mark.params["#from"])
        size = mark.params.get(params.page_size_param or "", {})
        base = {params.page_size_param: size} if params.page_size_param and size else {}
        if inner and records:
            return Step(Mark({**base, **self._window(start, page=page + 1)}))
        following = start + timedelta(seconds=params.window_size)
        if following >= self._end():
            return Step(None, "the last window")
        return Step(Mark({**base, **self._window(following, page=0)}))

    def _window(self, start: datetime, *, page: int) -> dict[str, Any]:
        """Parameters of one window; names with # are for ourselves and never sent."""
        params = self._project.params
        end = min(start + timedelta(seconds=params.window_size), self._end())
        changes: dict[str, Any] = {
            "#from": start.isoformat(),
            "#page": page,
            params.window_from_param or "": self._written(start),
            params.window_to_param or "": self._written(end),
        }
        if params.page_number_param:
            changes[params.page_number_param] = params.start_page + page
        elif params.count_skip_param:
            changes[params.count_skip_param] = page * params.page_size_limit
        return changes

    def _end(self) -> datetime:
        text = self._project.params.window_end
        return self._moment(text) if text and text != "now" else self._now

    def _moment(self, text: str | None) -> datetime:
        try:
            moment = datetime.fromisoformat((text or "").strip())
        except ValueError:
            raise ProjectError(
                f"params.window_start and window_end are dates like 2026-01-31, not {text!r}"
            ) from None
        return moment if moment.tzinfo else moment.replace(tzinfo=UTC)

    def _written(self, moment: datetime) -> str | int:
        match self._project.params.window_format:
            case "iso":
                return moment.isoformat().replace("+00:00", "Z")
            case "unix":
                return int(moment.timestamp())
            case "unix_ms":
                return int(moment.timestamp() * 1000)
            case pattern:
                return moment.strftime(pattern)


def sent(mark: Mark) -> dict[str, Any]:
    """The parameters of a place that go over the wire. Any: JSON."""
    return {name: value for name, value in mark.params.items() if not name.startswith("#")}


def part_of(mark: Mark | None) -> str:
    """The part of the list that an announced total is about: a time window has one of its own."""
    return str(mark.params.get("#from", "")) if mark else ""


def next_link(header: str) -> str:
    """The address that a Link header calls next; "" for none."""
    for match in _LINK.finditer(header):
        if _NEXT.search(match["params"]):
            return match["url"]
    return ""


def timestamp(moment: float | None = None) -> str:
    """As apibackuper writes times: ISO with an offset."""
    return datetime.fromtimestamp(time.time() if moment is None else moment, UTC).isoformat()


def _follow(mark: Mark, target: str, url: str, reason: str) -> Step:
    if not target:
        return Step(None, reason)
    if target in {url, mark.url}:
        return Step(None, "the next page is the same page")
    return Step(Mark(mark.params, target))
