"""What `follow` asks about: one target for each key that the records name, never all in memory."""

from __future__ import annotations

import string
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from holdfast.core.errors import AddressError
from holdfast.sources.restapi.asking.request import query_pairs
from holdfast.sources.restapi.asking.session import Request
from holdfast.sources.restapi.kept.latest import state
from holdfast.sources.restapi.records.documents import MISSING, value_at, with_value
from holdfast.sources.restapi.records.filters import split_key, values_at
from holdfast.sources.restapi.records.naming import escaped, joined

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from holdfast.sources.restapi.kept.archive import Archive
    from holdfast.sources.restapi.project.project import Project
    from holdfast.sources.restapi.project.sections import FollowRule


@dataclass(frozen=True, slots=True)
class Target:
    """Something to ask. `key` names the answer; `params` are laid over follow_params.json."""

    key: str
    url: str
    params: dict[str, Any] = field(default_factory=dict)
    flaw: AddressError | None = None
    """Why the record's own words make no address."""


class Targets:
    """Makes the targets of one rule."""

    def __init__(self, project: Project, rule: FollowRule) -> None:
        self._project = project
        self._rule = rule
        self._splitter = project.settings.splitter
        self._params = project.json_file("follow_params.json")
        self._headers = tuple(
            (name, str(value)) for name, value in project.json_file("headers.json").items()
        )

    def of_records(self, archive: Archive) -> Generator[Target, None, None]:
        """One for each record that has what the rule needs; the same key may come again."""
        for batch in state(self._project, archive):
            for record in batch:
                yield from self.of_record(record)

    def of_record(self, record: Any) -> Iterator[Target]:
        """Those of one record: none, one, or one for each value where the key leads to a list."""
        rule = self._rule
        if rule.follow_mode == "url":
            yield from self._of_links(record)
            return
        for key in self._keys(record):
            if rule.follow_mode == "item":
                yield self._of_item(record, key)
            else:
                yield self.of_key(str(key))

    def of_key(self, key: str) -> Target:
        """That of a key appended to `follow_pattern`."""
        return self._joined(key, self._rule.follow_pattern or "", key)

    def children(self, document: Any) -> Iterator[str]:
        """Keys of the members of the list at `follow_data_key`, for drilldown."""
        path = self._path(self._rule.follow_data_key)
        member_key = self._path(self._rule.follow_item_key)
        for member in values_at(document, path):
            for key in values_at(member, member_key):
                if _names(key):
                    yield str(key)

    def request(self, target: Target, *, page: int | None = None) -> Request:
        """The request for a target, or for one page of it. Raises AddressError where its record
        names none.
        """
        if target.flaw:
            raise target.flaw
        params = dict(self._params)
        changes = target.params | self._paging(page)
        if self._rule.follow_http_mode == "POST":
            for name, value in changes.items():
                params = with_value(params, name, value)
            return Request(url=target.url, method="POST", json=params, headers=self._headers)
        query = tuple(query_pairs(params | changes))
        return Request(url=target.url, query=query, headers=self._headers)

    def _of_item(self, record: Any, key: Any) -> Target:
        params = {self._rule.follow_param: key} if self._rule.follow_param else {}
        try:
            return Target(str(key), self._filled(record), params)
        except AddressError as error:
            return Target(str(key), self._rule.follow_pattern or "", flaw=error)

    def _joined(self, key: str, prefix: str, value: str) -> Target:
        try:
            return Target(key, joined(prefix, value, self._project.source.url))
        except AddressError as error:
            return Target(key, value, flaw=error)

    def _paging(self, page: int | None) -> dict[str, Any]:
        params = self._rule.params
        if page is None:
            return {}
        paging: dict[str, Any] = {}
        if params.page_size_param:
            paging[params.page_size_param] = params.page_size_limit
        if params.page_number_param and self._rule.iterate_by != "skip":
            paging[params.page_number_param] = page
        if params.count_skip_param and self._rule.iterate_by == "skip":
            paging[params.count_skip_param] = (page - params.start_page) * params.page_size_limit
        return paging

    def _of_links(self, record: Any) -> Iterator[Target]:
        links = [link for link in values_at(record, self._path(self._rule.follow_url_key)) if link]
        keys = list(self._keys(record)) if self._rule.follow_item_key else []
        for number, link in enumerate(links):
            # one key and one link is the rule; of several links each needs a name of its own
            key = str(keys[number]) if len(keys) == len(links) else str(link)
            yield self._joined(key, "", str(link))

    def _keys(self, record: Any) -> Iterator[Any]:
        if self._rule.follow_item_key:
            keys = list(values_at(record, self._path(self._rule.follow_item_key)))
            yield from (key for key in keys if _names(key))
            if keys or self._rule.follow_mode != "drilldown":
                return  # else the members of its lists have another key than the records
        for name in self._project.data.item_key[:1]:
            key = value_at(record, name, self._splitter)
            if key is not MISSING and _names(key):
                yield key

    def _filled(self, record: Any) -> str:
        """`follow_pattern` with each {field} taken from the record and escaped."""
        pattern = self._rule.follow_pattern or self._project.source.url
        return _Filler(self._splitter).vformat(pattern, (), record) if "{" in pattern else pattern

    def _path(self, key: str | None) -> tuple[str, ...]:
        return split_key(key, self._splitter) if key else ()


class _Filler(string.Formatter):
    """Fills in values of a record by dotted name; what they hold cannot change the address."""

    def __init__(self, splitter: str) -> None:
        self._splitter = splitter

    def get_field(self, field_name: str, args: Any, kwargs: Any) -> tuple[Any, str]:  # noqa: ARG002 - the library's signature
        value = value_at(kwargs, field_name, self._splitter)
        if value is MISSING:
            raise AddressError(f"follow_pattern asks for {{{field_name}}}, which the record lacks")
        return value, field_name

    def format_field(self, value: Any, format_spec: str) -> str:
        return escaped(str(super().format_field(value, format_spec)))


def _names(key: Any) -> bool:
    """Whether a value can name something to ask for."""
    return isinstance(key, str | int | float) and not isinstance(key, bool) and key != ""
