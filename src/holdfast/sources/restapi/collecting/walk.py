"""Walking through a whole listing, and knowing by evidence when it has ended.

A short page is never the end. The end is an announced total that was reached, a page without
records, a page that comes
again, an address that leads nowhere, or the absence of a next one.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from holdfast.core.errors import AuthError, FetchError
from holdfast.sources.restapi.asking.pages import keys_of
from holdfast.sources.restapi.asking.paging import (
    Chain,
    Mark,
    mark_from,
    number_param,
    numbered_changes,
    part_of,
    sent,
)
from holdfast.sources.restapi.collecting import doubts

if TYPE_CHECKING:
    from holdfast.sources.restapi.asking.pages import Page
    from holdfast.sources.restapi.asking.paging import Step
    from holdfast.sources.restapi.asking.session import Answer
    from holdfast.sources.restapi.collecting.intake import Intake
    from holdfast.sources.restapi.collecting.tally import Tally
    from holdfast.sources.restapi.project.project import Project

_GONE = frozenset({404, 410, 416})
_REFUSED = frozenset({400, 422})
_PATIENCE = 3
"""Pages without news after which an announcement of more is not believed."""
_TWICE = 2
"""Pages without news that end a list of which nothing is announced: one may be a slip."""
_QUEUED = 8
"""Pages that wait for their turn beside those that are under way."""
_EMPTY_CHAIN = 1000
"""Empty pages in a row, each with a next one, after which a chained listing is taken to run in a
circle.
"""


@dataclass(slots=True)
class Ending:
    """How a walk ended."""

    reason: str = ""
    failed: dict[int, FetchError] = field(default_factory=dict)
    """Pages that could not be had."""
    notes: list[str] = field(default_factory=list)
    """What makes the run a partial one."""
    remarks: list[str] = field(default_factory=list)
    """What is worth knowing."""
    holes: int = 0
    """Pages among others that hold nothing, where no total tells what is missing."""

    def disbelieve(self, tally: Tally) -> None:
        """Says which announcements the records have disproved."""
        told = self.remarks if tally.project.data.total_is_estimate else self.notes
        if tally.disproved is not None:
            told.append(
                f"the API announced {tally.disproved} records but has more, so its total was"
                " not believed: does data.total_number_key count the records of a page?"
            )
        if tally.disproved_pages is not None:
            told.append(
                f"the API announced {tally.disproved_pages} pages but has more, so that number"
                " was not believed: is data.pages_number_key the right one?"
            )


class NumberedWalk:
    """Pages side by side. `digests` maps the records of stored pages to their numbers."""

    def __init__(self, intake: Intake, *, digests: dict[int, int] | None = None) -> None:
        project = intake.project
        notes = intake.collector.run.notes or {}
        self.intake = intake
        self.tally = intake.tally
        self.first = project.params.start_page
        self.size: int = notes.get("size", max(project.params.page_size_limit, 1))
        """Records of a full page."""
        self.digests = digests if digests is not None else {}
        self.nothing: dict[int, str] = {}
        """Pages that hold nothing new, and why."""
        self.ending = Ending()
        self.stopped = False
        """So much failed that asking on is of no use."""
        self._limit = max(project.params.page_size_limit, 1)
        self._stride: int = notes.get("stride", self._limit)
        self._keys: dict[int, int] = {}
        """Of pages, by their records' keys: the first page that has them."""
        self._again: set[int] = set()
        """Pages whose keys are those of an earlier one."""
        self._gone: set[int] = set()
        """Those of `nothing` that the API itself says are not there."""
        self._streak = 0

    async def run(self) -> Ending:
        """Raises what the first page fails with; later failures are in the ending."""
        if self.first not in self.intake.stored:
            await self.begin(*await self._first_page())
        elif (stored := self.intake.stored_page(self.first)) is not None:
            if "stride" not in (self.intake.collector.run.notes or {}):
                await self._learn(stored)
            else:
                await self._doubt(stored)
        if number_param(self.intake.project) is None:
            self.ending.reason = "the only page"
        elif self.first in self.nothing:
            self.ending.reason = "the first page is empty"
        else:
            await self.go_on()
            await doubts.settle(self)
            self.ending.reason = self._why()
        if self.expected() is None and self._runs_on():
            self.ending.reason = "the last pages bring only records that came before"
            self.ending.notes.append(
                f"{self.ending.reason}, changed: is data.item_key what tells records apart?"
            )
        if len(self.digests) == 1 < len(self.intake.stored):
            self.ending.notes.append("all pages are alike: does the API heed the page's number?")
        if self.tally.disproved is not None:
            await self.intake.note(disproved=self.tally.disproved)
        self.ending.disbelieve(self.tally)
        return self.ending

    async def _first_page(self) -> tuple[Answer, Page]:
        """That the whole list is empty is asked twice."""
        answer, page = await self.fetch(self.first)
        if page.records or self.intake.wants_changes:
            return answer, page
        again = await self.intake.fetch_again(
            self.first, self.changes(self.first), known={}, why="it is empty", tries=_TWICE
        )
        return (answer, page) if isinstance(again, FetchError) else again

    async def begin(self, answer: Answer, page: Page) -> None:
        """Takes the first page and learns from it how far one page moves on."""
        await self.take(self.first, answer, page)
        await self._learn(page)

    async def go_on(self) -> None:
        """Asks for every page that may be there, by what is known now."""
        tasks: dict[asyncio.Task[tuple[Answer, Page] | FetchError], int] = {}
        number = self.first
        try:
            while True:
                horizon = self._horizon(busy=bool(tasks))
                while number <= horizon and len(tasks) < self.intake.session.width + _QUEUED:
                    if number not in self.intake.stored and number not in self.nothing:
                        tasks[asyncio.create_task(self._try(number))] = number
                    number += 1
                if not tasks:
                    if number > horizon:
                        return
                    continue
                done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    await self._finish(tasks.pop(task), task.result())
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def fetch(self, number: int, *, tries: int | None = None) -> tuple[Answer, Page]:
        """One page. Raises FetchError."""
        return await self.intake.fetch(number, self.changes(number), tries=tries)

    def changes(self, number: int) -> dict[str, Any]:
        """What to send for a page. Any: JSON."""
        return numbered_changes(self.intake.project, number, stride=self._stride)

    async def take(self, number: int, answer: Answer, page: Page) -> None:
        """Stores a page that holds something new."""
        if not page.records:
            self.nothing[number] = f"page {number} is empty"
            return
        known = self.digests.get(page.digest)
        if known is not None and self._may_be_alike(max(known, number)):
            if known != number:
                self.intake.alike[max(known, number)] = min(known, number)
            await self.intake.store(number, answer, page)
            return
        if known is not None and known < number:
            self.nothing[number] = f"page {number} repeats page {known}"
            return
        if known is not None and known != number:
            # the later page came first; it is the one that repeats
            self.nothing[known] = f"page {known} repeats page {number}"
            await self.intake.forget(known)
            self.tally.uncount(page)
        self.digests[page.digest] = number
        self._watch_keys(number, page)
        await self.intake.store(number, answer, page)

    def _watch_keys(self, number: int, page: Page) -> None:
        """Remembers, where no announcement ends the list, which pages have the very keys of another
        though not its very records.
        """
        project = self.intake.project
        if self.expected() is not None or not project.data.item_key:
            return
        keys = keys_of(project, page.records)
        if None in keys:
            return
        mark = hash(tuple(keys))
        known = self._keys.setdefault(mark, number)
        if known != number:
            self._again.add(max(known, number))
            self._keys[mark] = min(known, number)

    def _runs_on(self) -> bool:
        """The last pages bring nothing but records that came before."""
        last = self.intake.last
        return self._again.issuperset(range(last - _PATIENCE + 1, last + 1))

    def expected(self) -> int | None:
        """The last page by what the API announces; None where it announces nothing."""
        if self.tally.announced is not None:
            return self.first + max(1, -(-self.tally.announced // self.size)) - 1
        if self.tally.announced_pages is not None:
            return self.first + max(1, self.tally.announced_pages) - 1
        return None

    def is_lacking(self) -> bool:
        """Fewer records came than a total announces that claims to be exact."""
        return self._is_exact() and not self.is_complete()

    def is_complete(self) -> bool:
        """As many records came as a total announces that claims to be exact."""
        announced = self.tally.announced
        return self._is_exact() and announced is not None and self.tally.unique() >= announced

    def is_gone(self, number: int) -> bool:
        """The API itself says that there is no such page."""
        return number in self._gone

    async def _doubt(self, first: Page) -> None:
        """A total that equals the first page may be that page's own count: the second page
        tells.
        """
        received, second = len(first.records), self.first + 1
        if not received or self.tally.announced != received or second in self.intake.stored:
            return
        if number_param(self.intake.project) is None:
            return
        stride, self._stride = self._stride, received
        try:
            answer, page = await self.fetch(second, tries=1)
        except FetchError:
            self.nothing[second] = f"page {second} cannot be had"
            return  # by what is announced there is no such page
        finally:
            self._stride = stride
        await self.take(second, answer, page)
        self._disprove_by_count()

    def _disprove_by_count(self) -> None:
        """More different records than announced. Stored pages of earlier runs prove nothing: what
        they hold may be gone.
        """
        announced, mode = self.tally.announced, self.intake.mode
        if announced is None or self.tally.shrank or self.tally.records <= announced:
            return
        if mode != "incremental" and self.tally.unique() > announced:
            self.tally.disprove(announced)

    async def _learn(self, page: Page) -> None:
        """How far one page moves on; kept, so that a run that goes on later knows it too."""
        await self._doubt(page)
        received, announced = len(page.records), self.tally.announced
        more = announced is None or announced > received
        if received and received != self._limit and more:
            self.size = received
            if self.intake.project.source.iterate_by != "page" and number_param(
                self.intake.project
            ):
                await self._find_stride(page)
        await self.intake.note(stride=self._stride, size=self.size)

    async def _find_stride(self, first: Page) -> None:
        """A short first page: either the API caps its pages, or it hides some records of each.
        The second page tells.
        """
        received = len(first.records)
        self._stride = received
        if received > self._limit:
            return
        answer, second = await self.fetch(self.first + 1)
        seen = {repr(record) for record in first.records}
        overlap = any(repr(record) in seen for record in second.records)
        fresh = self.first + 1 not in self.intake.stored
        if second.records and not overlap:
            if fresh:
                await self.take(self.first + 1, answer, second)
            return
        if fresh and not second.records and self.tally.announced is None:
            await self.take(self.first + 1, answer, second)
        self._stride = self.size = self._limit

    def _horizon(self, *, busy: bool) -> int:
        """The highest page that may be asked for, by what is known now."""
        last = self.intake.last
        self._disprove_by_count()
        expected = self.expected()
        ahead = last + min(self.intake.session.width, len(self.intake.stored))
        proof = [number for number in self.nothing if number > last]
        if self.stopped:
            return -1
        if expected is None:
            # One page that is not there may be a slip, too: the one behind it tells.
            ended = len(proof) >= _TWICE or self._runs_on()
            return -1 if ended else max(ahead, last + len(proof) + 1)
        if len(proof) >= _PATIENCE or (proof and last >= expected):
            return -1
        if last < expected:
            return expected
        announced = self.tally.announced
        settled = {*self.intake.stored, *self.nothing, *self.ending.failed}
        if announced is None or not settled.issuperset(range(self.first, expected + 1)):
            return expected
        wanted = announced - len(self.ending.failed) * self.size
        if self.tally.records < wanted:
            return ahead
        return expected if busy or self.tally.unique() >= wanted else ahead

    async def _try(self, number: int) -> tuple[Answer, Page] | FetchError:
        try:
            return await self.fetch(number)
        except FetchError as error:
            return error

    async def _finish(self, number: int, result: tuple[Answer, Page] | FetchError) -> None:
        if not isinstance(result, FetchError):
            self._streak = 0
            await self.take(number, *result)
            return
        last, expected = self.intake.last, self.expected()
        beyond = number > last and (expected is None or number > expected)
        if beyond and (result.status in _GONE or result.status in _REFUSED):
            self.nothing[number] = f"page {number} answers HTTP {result.status}"
            self._gone.add(number)
            if result.status in _REFUSED:
                self.ending.notes.append(
                    f"page {number} was refused with HTTP {result.status}: there may be more"
                )
            return
        self.ending.failed[number] = result
        self._streak += 1
        errors = self.intake.project.errors
        patience = errors.max_consecutive_errors
        if (
            isinstance(result, AuthError)
            or not errors.continue_on_error
            or (patience and self._streak >= patience)
        ):
            self.stopped = True

    def _is_exact(self) -> bool:
        estimate = self.intake.project.data.total_is_estimate
        return self.tally.announced is not None and not estimate

    def _may_be_alike(self, number: int) -> bool:
        """Records that nothing tells apart may fill two pages alike; inside the announced list
        that is no sign of its end.
        """
        project, expected = self.intake.project, self.expected()
        if project.data.item_key or project.data.total_is_estimate:
            return False
        announced = self.tally.announced
        return announced is not None and expected is not None and number <= expected

    def _why(self) -> str:
        last = self.intake.last
        proof = sorted(number for number in self.nothing if number > last)
        announced = self.tally.announced
        reached = announced is not None and self.tally.unique() >= announced
        if proof and not reached:
            return self.nothing[proof[0]]
        if reached:
            return "the announced total is reached"
        if self.ending.failed:
            return "every announced page was asked for, and not all could be had"
        if announced is not None:
            return "every announced page was asked for"
        return "the announced number of pages is reached"


async def walk_chain(
    intake: Intake, chain: Chain, *, number: int, mark: Mark, stored: int | None = None
) -> Ending:
    """Page after page from `mark`, whose page gets `number`; `stored` is the digest of what is kept
    of that one already.
    """
    ending = await _follow(intake, chain, number=number, mark=mark, stored=stored)
    tally, announced = intake.tally, intake.tally.announced
    # stored pages of an incremental run may hold what is gone
    proves = intake.mode != "incremental" and not tally.shrank
    if announced is not None and proves and tally.unique() > announced:
        tally.disprove(announced)
    if tally.disproved is not None:
        await intake.note(disproved=tally.disproved)
    ending.disbelieve(tally)
    return ending


async def _follow(
    intake: Intake, chain: Chain, *, number: int, mark: Mark, stored: int | None
) -> Ending:
    ending = Ending()
    empty = 0
    before: int | None = None
    been = {_place(mark)}
    while True:
        try:
            answer, page = await intake.fetch(number, sent(mark), url=mark.url, part=part_of(mark))
            step = _after(chain, mark, answer, page)
        except FetchError as error:
            ending.failed[number] = error
            return ending
        if page.records and page.digest == before:
            ending.reason = f"page {number} repeats page {number - 1}"
            if not _tells_apart(intake.project, page) and not _all_came(intake.tally):
                ending.notes.append(f"{ending.reason}, of records that nothing tells apart")
            return ending
        before = page.digest
        empty = 0 if page.records else empty + 1
        if page.digest == stored:
            intake.take_over(number, page)
        elif page.records or step.mark:
            await intake.store(number, answer, page, mark=mark, following=step.mark)
        stored = None
        if step.mark is None or empty > _EMPTY_CHAIN:
            ending.reason = step.reason or "nothing but empty pages"
            return ending
        if (place := _place(step.mark)) in been:
            ending.reason = f"page {number} leads back to one that was read before"
            if not _all_came(intake.tally):
                ending.notes.append(f"{ending.reason}: there may be records that no page leads to")
            return ending
        been.add(place)
        mark = step.mark
        number += 1


def _after(chain: Chain, mark: Mark, answer: Answer, page: Page) -> Step:
    """Raises AddressError where the answer names a next page that is none."""
    header = chain.cursor_header()
    return chain.after(
        mark, document=page.document, records=page.records, url=answer.url,
        link=", ".join(value for name, value in answer.headers if name.lower() == "link"),
        cursor_header=answer.header(header) if header else None,
    )  # fmt: skip


def _tells_apart(project: Project, page: Page) -> bool:
    """Whether a page that comes again is no news: its records have keys, or differ at least."""
    return bool(project.data.item_key) or any(row != page.records[0] for row in page.records)


def _place(mark: Mark) -> int:
    """Tells marks apart, in little memory however long the listing is."""
    return hash(json.dumps(mark.as_json(), sort_keys=True))


def _all_came(tally: Tally) -> bool:
    return tally.announced is not None and tally.unique() >= tally.announced


def chain_position(evidence: dict[str, Any]) -> tuple[Mark | None, Mark | None]:
    """Where a stored page of a chained listing stood, and where it leads. Any: JSON."""
    return mark_from(evidence.get("mark")), mark_from(evidence.get("next"))
