"""Counting what a run receives, to be held against what the API announced."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from holdfast.sources.restapi.asking.pages import keys_of
from holdfast.sources.restapi.kept.keycount import KeyCount
from holdfast.sources.restapi.records.documents import MISSING, as_json, value_at

if TYPE_CHECKING:
    from datetime import datetime

    from holdfast.sources.restapi.asking.pages import Page
    from holdfast.sources.restapi.project.project import Project

_FIELDS = 12


@dataclass(slots=True)
class Tally:
    """Of one run, what went before it included."""

    project: Project
    pages: int = 0
    records: int = 0
    bytes: int = 0
    announced_pages: int | None = None
    disproved: int | None = None
    """An announced total that the records themselves have shown to be wrong."""
    disproved_pages: int | None = None
    """An announced number of pages after which there was another."""
    shrank: bool = False
    """The announced total went down while the list was read: rows may have moved past us."""
    change: Any = None
    """The highest change_key seen. Any: as the API writes it."""
    keyless: int = 0
    """Records without item_key."""
    fields: dict[str, None] = field(default_factory=dict)
    """Names of fields that records have, some of them."""
    heard_total: bool = False
    """Some answer had a number where the project says the total is."""
    heard_pages: bool = False
    _totals: dict[str, int] = field(default_factory=dict)
    """What the API said last, by part of the list."""
    _heard: datetime | None = None
    _told: datetime | None = None
    """When the announcement came that is believed now."""
    _keys: KeyCount = field(default_factory=KeyCount)

    @property
    def announced(self) -> int | None:
        """What the API said last, of all parts together."""
        return sum(self._totals.values()) if self._totals else None

    def hear(
        self, page: Page, when: datetime | None = None, *, elapsed: float = 0.0, part: str = ""
    ) -> None:
        """Takes over what a page announces, unless a later one has spoken already.

        Args:
            when: it came.
            elapsed: seconds since it was asked for.
            part: of the list that the page's total is about.
        """
        if when is not None and self._heard is not None and when < self._heard:
            return
        self._heard = when
        if page.pages is not None:
            self.heard_pages = True
            if self.disproved_pages is None:
                self.announced_pages = page.pages
        if page.total is None:
            return
        self.heard_total = True
        if self.disproved is not None:
            return
        if page.total < len(page.records):
            self.disprove(page.total)
            return
        before = self._totals.get(part, 0)
        if page.total < before:
            if self.project.source.iterate_by == "since_id":
                return  # it counts what is left after the id that was sent
            if when and self._told and when - timedelta(seconds=elapsed) < self._told:
                return  # it was asked for before the higher number came: they may have crossed
            self.shrank = True
        self._totals[part] = page.total
        self._told = when

    def disprove(self, total: int) -> None:
        """From now on no total is announced, as far as this run is concerned."""
        self.disproved = total
        self._totals.clear()
        self.shrank = False

    def disprove_pages(self, pages: int) -> None:
        """As `disprove`, for the number of pages."""
        self.disproved_pages, self.announced_pages = pages, None

    def count(self, page: Page) -> None:
        """Adds a stored page's records."""
        self.pages += 1
        self.records += len(page.records)
        self.bytes += len(page.body)
        if self.project.data.item_key:
            keys = keys_of(self.project, page.records)
            present = [key for key in keys if key is not None]
            self.keyless += len(keys) - len(present)
            self._keys.add(present)
        if len(self.fields) < _FIELDS:
            for record in page.records[:1]:
                self.fields.update(dict.fromkeys(record if isinstance(record, dict) else ()))
        self._watch_changes(page)

    def uncount(self, page: Page) -> None:
        """Takes a page back out; its keys stay, as the same records are counted again elsewhere."""
        self.pages -= 1
        self.records -= len(page.records)
        self.bytes -= len(page.body)
        if self.project.data.item_key:
            self.keyless -= sum(key is None for key in keys_of(self.project, page.records))

    def reset(self) -> None:
        """Begins to count anew; what was announced stays known."""
        self.pages = self.records = self.bytes = self.keyless = 0
        self.shrank, self.change = False, None
        self._keys.close()
        self._keys = KeyCount()

    def unique(self) -> int:
        """Records without repetitions of an item key; all of them where there is no item_key."""
        if not self.project.data.item_key:
            return self.records
        return self.keyless + self._keys.distinct()

    def close(self) -> None:
        """Gives up what counting needs on disk."""
        self._keys.close()

    def _watch_changes(self, page: Page) -> None:
        data, splitter = self.project.data, self.project.settings.splitter
        if not data.change_key:
            return
        for record in page.records:
            value = value_at(record, data.change_key[0], splitter)
            if value is not MISSING and value is not None and later(value, self.change):
                self.change = value


def later(value: Any, than: Any) -> bool:
    """Whether one change mark comes after another: as numbers where both are, else as text. Any:
    JSON.
    """
    if than is None:
        return True
    if isinstance(value, (int, float)) and isinstance(than, (int, float)):
        return value > than
    return _text(value) > _text(than)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else as_json(value)
