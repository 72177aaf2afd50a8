"""Finding out how an API lists its records, from one request and a second one that proves it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from holdfast.core.errors import AnswerError, FetchError
from holdfast.net.addresses import led_to
from holdfast.net.egress import OWN_MACHINE
from holdfast.sources.restapi.asking import clues
from holdfast.sources.restapi.asking.paging import next_link
from holdfast.sources.restapi.asking.request import (
    Draft,
    SideFiles,
    complete_request,
    draft_request,
    read_side_files,
)
from holdfast.sources.restapi.asking.session import (
    Answer,
    Session,
    Wanting,
    only_looking,
    open_session,
)
from holdfast.sources.restapi.records.documents import parse, value_at

if TYPE_CHECKING:
    from collections.abc import Callable

    from holdfast.net.egress import Egress
    from holdfast.sources.restapi.project.project import Project

_GUESSES = (("page", "page"), ("skip", "offset"), ("skip", "skip"))
"""Tried when nothing tells how to go on."""
_FURTHER_GUESSES = (
    ("skip", "$skip"), ("page", "pageNumber"), ("page", "pageNo"), ("page", "pageNum"),
    ("page", "p"), ("skip", "start"), ("since", "starting_after"), ("since", "since_id"),
    ("since", "after_id"),
)  # fmt: skip
"""Tried, too, when it is certain that there is more."""
_DEFAULT_SIZE = 100
_LED_BY = {
    "data_key", "total_number_key", "pages_number_key", "next_url_key", "next_cursor_key",
    "next_cursor_header", "has_more_key",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Detection:
    """What to write into a project, by section and key, and what a test read has shown. Any: YAML
    values.
    """

    found: dict[str, dict[str, Any]]
    records: int
    """On the first page."""
    test_read: str
    proved: bool
    """The second page really was another one."""
    replaces: frozenset[str] = frozenset()
    """Keys of the project, as section.key, that say nothing yet of how it pages."""

    def lines(self) -> list[str]:
        """One `key: value` for each thing found, then the test read."""
        listed = [
            f"{word}: {value}" for values in self.found.values() for word, value in values.items()
        ]
        return [*listed, self.test_read]


def detect_project(
    project: Project,
    *,
    say: Callable[[str], None] = lambda _: None,
    egress: Egress = OWN_MACHINE,
) -> Detection:
    """Asks for the first page and, where there seems to be a second, for that. `say` and `egress`
    as in `asking.session.open_session`.

    Raises:
        FetchError: the API does not answer.
        AnswerError: it answers with something that is not JSON.
    """
    with only_looking():
        return asyncio.run(_detect(project, read_side_files(project), say=say, egress=egress))


async def _detect(
    project: Project, side: SideFiles, *, say: Callable[[str], None], egress: Egress
) -> Detection:
    async with open_session(project, say=say, egress=egress) as session:
        answer = await session.fetch(
            complete_request(project, draft_request(project, side, _size_only(project))), _parsed
        )
        return await _Detective(project, side, session, answer).investigate()


class _Detective:
    def __init__(self, project: Project, side: SideFiles, session: Session, answer: Answer) -> None:
        self._project = project
        self._side = side
        self._session = session
        self._answer = answer
        self._document = answer.judged
        self._found: dict[str, dict[str, Any]] = {
            "project": {},
            "params": {},
            "data": {},
            "settings": {},
        }

    async def investigate(self) -> Detection:
        listed = clues.find_records(self._document)
        self._records: list[Any] = listed.value if listed else []
        paths = {"data_key": listed.path if listed else ()}
        total = clues.find_total(self._document, len(self._records))
        if total:
            paths["total_number_key"] = total.path
        elif pages := clues.find_page_count(self._document):
            paths["pages_number_key"] = pages.path
        self._write_paths(paths)
        if key := clues.find_item_key(self._records):
            self._found["data"]["item_key"] = key
        if key := clues.find_change_key(self._records):
            self._found["data"]["change_key"] = key
        self._one_page = total is not None and int(total.value) <= len(self._records)
        self._announces_more = total is not None and not self._one_page
        test_read, proved = await self._find_paging()
        if self._one_page and proved:
            # the number is how many records this page has, not how many there are
            self._found["data"].pop("total_number_key", None)
        elif self._one_page:
            test_read = f"test read: all {len(self._records)} records are on one page"
            proved = True
        found = {section: values for section, values in self._found.items() if values}
        open_keys = _open_keys(self._project)
        return Detection(found, len(self._records), test_read, proved, open_keys)

    def _write_paths(self, paths: dict[str, tuple[str, ...]]) -> None:
        """As keys with the project's splitter, or with another where a name itself has a dot in
        it.
        """
        splitter = self._splitter(paths)
        for word, path in paths.items():
            if path:
                self._found["data"][word] = splitter.join(path)

    def _splitter(self, paths: dict[str, tuple[str, ...]]) -> str:
        splitter = self._found["settings"].get("splitter", self._project.settings.splitter)
        if any(splitter in name and len(path) > 1 for path in paths.values() for name in path):
            splitter = "|"
            self._found["settings"]["splitter"] = splitter
        return str(splitter)

    async def _find_paging(self) -> tuple[str, bool]:
        """Sets how to go on; what the second page showed."""
        if clues.has_next_link(self._answer.headers):
            self._found["project"]["iterate_by"] = "link"
            link = next(
                next_link(value) for name, value in self._answer.headers if name.lower() == "link"
            )
            return await self._try({}, url=led_to(self._answer.url, link))
        if found := clues.find_next_url(self._document):
            self._found["project"]["iterate_by"] = "next_url"
            self._write_paths({"next_url_key": found.path})
            return await self._try({}, url=led_to(self._answer.url, str(found.value)))
        if header := clues.find_cursor_header(self._answer.headers):
            self._found["data"]["next_cursor_header"] = header
            return await self._try_cursor("cursor", self._answer.header(header))
        if cursor := clues.find_cursor(self._document):
            self._write_paths({"next_cursor_key": cursor[0].path})
            if more := clues.find_more(self._document):
                self._write_paths({"has_more_key": more.path})
            return await self._try_cursor(cursor[1], cursor[0].value)
        known = clues.known_params(
            self._project.source.url, self._side.url_params, self._side.params
        ) | dict.fromkeys(self._configured(), "")
        return await self._find_numbers(known)

    async def _find_numbers(self, known: dict[str, Any]) -> tuple[str, bool]:
        size = clues.pick(known, "size")
        since, low, high = (clues.pick(known, kind) for kind in ("since", "from", "to"))
        if since and self._records and "item_key" in self._found["data"]:
            return await self._try_since(since)
        if low and high and clues.is_date(known[low]):
            self._found["project"]["iterate_by"] = "window"
            self._found["params"] |= {
                "window_from_param": low, "window_to_param": high, "window_start": known[low],
                "window_size": "1d",
                "window_format": "iso" if "T" in known[low] else "%Y-%m-%d",
            }  # fmt: skip
            return "test read: not done for time windows", False
        if low and high and str(known[low]).isdigit() and str(known[high]).isdigit():
            return await self._try_range(low, high, first=int(known[low]))
        echoed = clues.echoed_params(self._document)
        size = size or clues.pick(echoed, "size")
        self._set_size(size, known, echoed)
        for kind in ("page", "skip"):
            if name := clues.pick(known, kind) or clues.pick(echoed, kind):
                zero = {**known, **echoed}.get(name) in {0, "0"}
                return await self._try_number(kind, name, zero_based=zero)
        return await self._guess()

    async def _guess(self) -> tuple[str, bool]:
        more = clues.find_more(self._document)
        certain = self._announces_more or bool(more and more.value)
        for kind, name in (*_GUESSES, *(_FURTHER_GUESSES if certain else ())):
            if kind != "since":
                shown, proved = await self._try_number(kind, name, zero_based=False)
            elif "item_key" in self._found["data"]:
                shown, proved = await self._try_since(name)
            else:
                continue
            if proved:
                if more and kind == "since":
                    self._write_paths({"has_more_key": more.path})
                return shown, proved
            for word in ("page_number_param", "count_skip_param", "since_id_param"):
                self._found["params"].pop(word, None)
        self._found["project"].pop("iterate_by", None)
        if certain:
            return (
                "test read: found no way to a second page, though there is one: say in [params]"
                " what leads to it"
            ), False
        return "test read: found no way to a second page; it may be the only one", False

    async def _try_since(self, name: str) -> tuple[str, bool]:
        self._found["project"]["iterate_by"] = "since_id"
        self._found["params"]["since_id_param"] = name
        newest = value_at(self._records[-1], self._found["data"]["item_key"])
        return await self._try({name: newest})

    async def _try_number(self, kind: str, name: str, *, zero_based: bool) -> tuple[str, bool]:
        self._found["project"]["iterate_by"] = kind
        params = self._found["params"]
        params.setdefault("page_size_limit", len(self._records) or _DEFAULT_SIZE)
        if kind == "skip":
            params["count_skip_param"] = name
            return await self._try({name: len(self._records)})
        params["page_number_param"] = name
        if zero_based:
            params["start_page"] = 0
        return await self._try({name: 1 if zero_based else 2})

    async def _try_range(self, low: str, high: str, *, first: int) -> tuple[str, bool]:
        size = len(self._records) or _DEFAULT_SIZE
        self._found["project"]["iterate_by"] = "range"
        self._found["params"] |= {
            "count_from_param": low, "count_to_param": high, "page_size_limit": size,
        }  # fmt: skip
        return await self._try({low: first + size, high: first + 2 * size})

    async def _try_cursor(self, param: str, value: object) -> tuple[str, bool]:
        self._found["project"]["iterate_by"] = "cursor"
        self._found["params"]["cursor_param"] = param
        return await self._try({param: value})

    async def _try(self, changes: dict[str, Any], *, url: str | None = None) -> tuple[str, bool]:
        draft = draft_request(self._project, self._side, {**_size_only(self._project), **changes})
        if url is not None:
            draft = Draft(url, {}, draft.headers)
        try:
            answer = await self._session.fetch(complete_request(self._project, draft), _parsed)
        except FetchError as error:
            return f"test read: page 2 failed: {error.message}", False
        listed = clues.find_records(answer.judged)
        second = listed.value if listed else []
        seen = {repr(record) for record in self._records}
        fresh = sum(repr(record) not in seen for record in second)
        shown = f"test read: page 2 gives {len(second)} records, {fresh} of them not on page 1"
        return shown, fresh > 0

    def _set_size(self, size: str | None, known: dict[str, Any], echoed: dict[str, Any]) -> None:
        if size is None:
            return
        value = known.get(size) or echoed.get(size)
        self._found["params"]["page_size_param"] = size
        if isinstance(value, (int, str)) and str(value).isdigit() and int(value):
            self._found["params"]["page_size_limit"] = int(value)

    def _configured(self) -> list[str]:
        params = self._project.params
        given = (params.page_number_param, params.count_skip_param, params.page_size_param)
        return [name for name in given if name]


def completed(
    project: Project,
    *,
    say: Callable[[str], None] = lambda _: None,
    egress: Egress = OWN_MACHINE,
) -> Project:
    """The project with what its file leaves open filled in from a look at the API.

    Raises:
        FetchError: the API does not answer.
    """
    found = detect_project(project, say=say, egress=egress).found
    data, source = found.get("data", {}), found.get("project", {})
    given = {
        word: value
        for word, value in data.items()
        if word in _LED_BY and getattr(project.data, word) is None
    }
    told = not _open_keys(project)
    kind = project.source.iterate_by if told else source.get("iterate_by", "page")
    params = {
        word: value
        for word, value in found.get("params", {}).items()
        if not told and not getattr(project.params, word)
    }
    return replace(
        project,
        data=replace(project.data, **given),
        source=replace(project.source, iterate_by=kind),
        params=replace(project.params, **params),
    )


def _open_keys(project: Project) -> frozenset[str]:
    """Keys that a new project has, and that no person has settled: without a parameter for its
    number, page after page is one page.
    """
    params = project.params
    if project.source.iterate_by != "page" or params.page_number_param:
        return frozenset()
    keys = {"project.iterate_by"}
    return frozenset(keys if params.page_size_param else keys | {"params.page_size_limit"})


def with_url(project: Project, url: str) -> Project:
    """The same project at another address."""
    return replace(project, source=replace(project.source, url=url))


def _size_only(project: Project) -> dict[str, Any]:
    params = project.params
    if params.page_size_param and params.page_size_limit:
        return {params.page_size_param: params.page_size_limit}
    return {}


def _parsed(answer: Answer) -> Any:
    try:
        return parse(answer.body)
    except ValueError:
        if answer.body.lstrip().startswith(b"<"):
            raise AnswerError(
                "the API answers with HTML or XML, not JSON: set project.resp_type"
            ) from None
        raise Wanting("answered with JSON that is cut off or malformed") from None
