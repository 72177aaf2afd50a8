"""Recognising that a page of an update is the very page that is stored already."""

from __future__ import annotations

from typing import TYPE_CHECKING

from holdfast.sources.restapi.kept.archive import UPDATE
from holdfast.sources.restapi.kept.ledger import State
from holdfast.sources.restapi.project.place import PAGES

if TYPE_CHECKING:
    from collections.abc import Callable

    from holdfast.sources.restapi.kept.collector import Collector


def same_as_earlier(collector: Collector) -> Callable[[int, bytes], str | None]:
    """A function from a page's number and bytes to the published member that holds just these, if
    there is one.
    """
    runs = collector.ledger.runs(PAGES, state=State.PUBLISHED)
    whole = [run.id for run in runs if run.mode == UPDATE and run.whole]

    def find(number: int, body: bytes) -> str | None:
        members = [f"page_{number}.json"]
        if whole:
            name = f"runs/{whole[-1]}/page_{number}.json"
            if row := collector.ledger.response(whole[-1], name):
                members.insert(0, row.member)
        for member in members:
            if collector.published.has(member) and collector.published.read(member) == body:
                return member
        return None

    return find
