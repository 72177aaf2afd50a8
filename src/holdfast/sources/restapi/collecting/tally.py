"""Counting what a run receives, to be held against what the API announced."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from holdfast.sources.restapi.asking.pages import keys_of
from holdfast.sources.restapi.collecting.keycount import KeyCount
from holdfast.sources.restapi.records.documents import MISSING, as_json, value_at

if TYPE_CHECKING:
    from datetime import datetime

    from holdfast.sources.restapi.asking.pages import Page
    from holdfast.sources.restapi.project.project import Project


@dataclass(slots=True)
class Tally:
    """Of one run, what went before it included."""

    project: Project
    pages: int = 0
    records: int = 0
    bytes: int = 0
    announced: int | None = None
    """What the API said last."""
    announced_pages: int | None = None
    announced_first: int | None = None
    disproved: int | None = None
    """An announced total that the records themselves have shown to be wrong."""
    shrank: bool = False
    """The announced total went down while the list was read: rows may have moved past us."""
    change: Any = None
    """The highest change_key seen. Any: as the API writes it."""
    _heard: datetime | None = None
    _keys: KeyCount = field(default_factory=KeyCount)
    _keyless: int = 0

    def hear(self, page: Page, when: datetime | None = None) -> None:
        """Takes over what a page announces, unless a later one has spoken already."""
        if when is not None and self._heard is not None and when < self._heard:
            return
        self._heard = when
        if page.pages is not None:
            self.announced_pages = page.pages
        if page.total is None or self.disproved is not None:
            return
        if page.total < len(page.records):
            self.disprove(page.total)
            return
        if self.announced_first is None:
            self.announced_first = page.total
        elif self.announced is not None and page.total < self.announced:
            self.shrank = True
        self.announced = page.total

    def disprove(self, total: int) -> None:
        """From now on nothing is announced, as far as this run is concerned."""
        self.disproved, self.announced, self.announced_first = total, None, None
        self.shrank = False

    def count(self, page: Page) -> None:
        """Adds a stored page's records."""
        self.pages += 1
        self.records += len(page.records)
        self.bytes += len(page.body)
        if self.project.data.item_key:
            for key in keys_of(self.project, page.records):
                if key is None:
                    self._keyless += 1
                else:
                    self._keys.add(key)
        self._watch_changes(page)

    def uncount(self, page: Page) -> None:
        """Takes a page back out; its keys stay, as the same records are counted again elsewhere."""
        self.pages -= 1
        self.records -= len(page.records)
        self.bytes -= len(page.body)

    def reset(self) -> None:
        """Begins to count anew; what was announced stays known."""
        self.pages = self.records = self.bytes = self._keyless = 0
        self.announced_first, self.shrank, self.change = self.announced, False, None
        self._keys.close()
        self._keys = KeyCount()

    def unique(self) -> int:
        """Records without repetitions of an item key; all of them where there is no item_key."""
        if not self.project.data.item_key:
            return self.records
        return self._keyless + self._keys.distinct()

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
