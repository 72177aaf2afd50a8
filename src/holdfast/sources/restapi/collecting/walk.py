"""Walking through a whole listing, and knowing by evidence when it has ended.

A short page is never the end. The end is an announced total that was reached, a page without
records, a page that comes
again, an address that leads nowhere, or the absence of a next one.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from holdfast.core.errors import AuthError, FetchError
from holdfast.sources.restapi.asking.paging import (
    Chain,
    Mark,
    mark_from,
    number_param,
    numbered_changes,
    sent,
)

if TYPE_CHECKING:
    from holdfast.sources.restapi.asking.pages import Page
    from holdfast.sources.restapi.asking.session import Answer
    from holdfast.sources.restapi.collecting.intake import Intake

_GONE = frozenset({404, 410, 416})
_REFUSED = frozenset({400, 422})
_PATIENCE = 3
"""Pages without news after which an announcement of more is not believed."""
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


class NumberedWalk:
    """Pages side by side. `digests` maps the records of stored pages to their numbers."""

    def __init__(self, intake: Intake, *, digests: dict[int, int] | None = None) -> None:
        project = intake.project
        notes = intake.collector.run.notes or {}
        self._intake = intake
        self._tally = intake.tally
        self._first = project.params.start_page
        self._limit = max(project.params.page_size_limit, 1)
        self._stride: int = notes.get("stride", self._limit)
        self._size: int = notes.get("size", self._limit)
        self._digests = digests if digests is not None else {}
        self._nothing: dict[int, str] = {}
        """Pages that hold nothing new, and why."""
        self._streak = 0
        self._stop = False
        self._ending = Ending()

    async def run(self) -> Ending:
        """Raises what the first page fails with; later failures are in the ending."""
        if self._first not in self._intake.stored:
            answer, page = await self._fetch(self._first)
            await self.begin(answer, page)
        elif (stored := self._intake.stored_page(self._first)) is not None:
            if "stride" not in (self._intake.collector.run.notes or {}):
                await self._learn(stored)
            else:
                await self._doubt(stored)
        if number_param(self._intake.project) is None:
            self._ending.reason = "the only page"
        elif self._first in self._nothing:
            self._ending.reason = "the first page is empty"
        else:
            await self._all()
            await self._fill_holes()
            self._ending.reason = self._why()
        if len(self._digests) == 1 < len(self._intake.stored):
            self._ending.notes.append("all pages are alike: does the API heed the page's number?")
        if self._tally.disproved is not None:
            await self._intake.note(disproved=self._tally.disproved)
            self._ending.notes.append(
                f"the API announced {self._tally.disproved} records but has more, so its total was"
                " not believed: does data.total_number_key count the records of a page?"
            )
        return self._ending

    async def begin(self, answer: Answer, page: Page) -> None:
        """Takes the first page and learns from it how far one page moves on."""
        await self._take(self._first, answer, page)
        await self._learn(page)

    async def _doubt(self, first: Page) -> None:
        """A total that equals the first page may be that page's own count: the second page
        tells.
        """
        received, second = len(first.records), self._first + 1
        if not received or self._tally.announced != received or second in self._intake.stored:
            return
        if number_param(self._intake.project) is None:
            return
        stride, self._stride = self._stride, received
        try:
            answer, page = await self._fetch(second)
        except FetchError:
            return  # by what is announced there is no such page
        finally:
            self._stride = stride
        if page.records and page.digest != first.digest:
            await self._take(second, answer, page)
            self._disprove_by_count()

    def _disprove_by_count(self) -> None:
        """More different records than announced. Stored pages of earlier runs prove nothing: what
        they hold may be gone.
        """
        announced, mode = self._tally.announced, self._intake.mode
        if announced is None or self._tally.shrank or self._tally.records <= announced:
            return
        if mode != "incremental" and self._tally.unique() > announced:
            self._tally.disprove(announced)

    async def _learn(self, page: Page) -> None:
        """How far one page moves on; kept, so that a run that goes on later knows it too."""
        await self._doubt(page)
        received, announced = len(page.records), self._tally.announced
        more = announced is None or announced > received
        if received and received != self._limit and more:
            self._size = received
            if self._intake.project.source.iterate_by != "page" and number_param(
                self._intake.project
            ):
                await self._find_stride(page)
        await self._intake.note(stride=self._stride, size=self._size)

    async def _find_stride(self, first: Page) -> None:
        """A short first page: either the API caps its pages, or it hides some records of each.
        The second page tells.
        """
        received = len(first.records)
        self._stride = received
        if received > self._limit:
            return
        answer, second = await self._fetch(self._first + 1)
        seen = {repr(record) for record in first.records}
        overlap = any(repr(record) in seen for record in second.records)
        fresh = self._first + 1 not in self._intake.stored
        if second.records and not overlap:
            if fresh:
                await self._take(self._first + 1, answer, second)
            return
        if fresh and not second.records and self._tally.announced is None:
            await self._take(self._first + 1, answer, second)
        self._stride = self._size = self._limit

    async def _all(self) -> None:
        tasks: dict[asyncio.Task[tuple[Answer, Page] | FetchError], int] = {}
        number = self._first
        try:
            while True:
                horizon = self._horizon(busy=bool(tasks))
                while number <= horizon and len(tasks) < self._intake.session.width + _QUEUED:
                    if number not in self._intake.stored and number not in self._nothing:
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

    def _horizon(self, *, busy: bool) -> int:
        """The highest page that may be asked for, by what is known now."""
        last = self._intake.last
        self._disprove_by_count()
        expected = self._expected()
        ahead = last + min(self._intake.session.width, len(self._intake.stored))
        proof = [number for number in self._nothing if number > last]
        if self._stop:
            return -1
        if expected is None:
            return -1 if proof else ahead
        if len(proof) >= _PATIENCE or (proof and last >= expected):
            return -1
        if last < expected:
            return expected
        announced = self._tally.announced
        settled = {*self._intake.stored, *self._nothing, *self._ending.failed}
        if announced is None or not settled.issuperset(range(self._first, expected + 1)):
            return expected
        wanted = announced - len(self._ending.failed) * self._size
        if self._tally.records < wanted:
            return ahead
        return expected if busy or self._tally.unique() >= wanted else ahead

    def _expected(self) -> int | None:
        """The last page by what the API announces; None where it announces nothing."""
        if self._tally.announced is not None:
            return self._first + max(1, -(-self._tally.announced // self._size)) - 1
        if self._tally.announced_pages is not None:
            return self._first + max(1, self._tally.announced_pages) - 1
        return None

    async def _fetch(self, number: int) -> tuple[Answer, Page]:
        changes = numbered_changes(self._intake.project, number, stride=self._stride)
        return await self._intake.fetch(number, changes)

    async def _try(self, number: int) -> tuple[Answer, Page] | FetchError:
        try:
            return await self._fetch(number)
        except FetchError as error:
            return error

    async def _finish(self, number: int, result: tuple[Answer, Page] | FetchError) -> None:
        if not isinstance(result, FetchError):
            self._streak = 0
            await self._take(number, *result)
            return
        last, expected = self._intake.last, self._expected()
        beyond = number > last and (expected is None or number > expected)
        if beyond and (result.status in _GONE or result.status in _REFUSED):
            self._nothing[number] = f"page {number} answers HTTP {result.status}"
            if result.status in _REFUSED:
                self._ending.notes.append(
                    f"page {number} was refused with HTTP {result.status}: there may be more"
                )
            return
        self._ending.failed[number] = result
        self._streak += 1
        errors = self._intake.project.errors
        patience = errors.max_consecutive_errors
        if (
            isinstance(result, AuthError)
            or not errors.continue_on_error
            or (patience and self._streak >= patience)
        ):
            self._stop = True

    async def _take(self, number: int, answer: Answer, page: Page) -> None:
        if not page.records:
            self._nothing[number] = f"page {number} is empty"
            return
        known = self._digests.get(page.digest)
        if known is not None and self._may_be_alike(max(known, number)):
            await self._intake.store(number, answer, page)
            return
        if known is not None and known < number:
            self._nothing[number] = f"page {number} repeats page {known}"
            return
        if known is not None and known != number:
            # the later page came first; it is the one that repeats
            self._nothing[known] = f"page {known} repeats page {number}"
            await self._intake.forget(known)
            self._tally.uncount(page)
        self._digests[page.digest] = number
        await self._intake.store(number, answer, page)

    def _may_be_alike(self, number: int) -> bool:
        """Records that nothing tells apart may fill two pages alike; inside the announced list
        that is no sign of its end.
        """
        project, expected = self._intake.project, self._expected()
        if project.data.item_key or project.data.total_is_estimate:
            return False
        announced = self._tally.announced
        return announced is not None and expected is not None and number <= expected

    async def _fill_holes(self) -> None:
        """Asks again for pages that held nothing new though later ones do. One that stays so while
        records are missing has failed.
        """
        announced = self._tally.announced
        if announced is None or self._stop or self._is_estimate():
            return
        holes = sorted(number for number in self._nothing if number < self._intake.last)
        for number in holes:
            if self._tally.unique() >= announced:
                return
            why = self._nothing.pop(number)
            changes = numbered_changes(self._intake.project, number, stride=self._stride)
            result = await self._intake.fetch_again(number, changes, known=self._digests, why=why)
            if isinstance(result, FetchError):
                self._ending.failed[number] = result
            else:
                await self._take(number, *result)

    def _is_estimate(self) -> bool:
        return self._intake.project.data.total_is_estimate

    def _why(self) -> str:
        last = self._intake.last
        proof = sorted(number for number in self._nothing if number > last)
        if proof:
            return self._nothing[proof[0]]
        announced = self._tally.announced
        if announced is not None and self._tally.unique() >= announced:
            return "the announced total is reached"
        if self._ending.failed:
            return "every announced page was asked for, and not all could be had"
        if announced is not None:
            return "every announced page was asked for"
        return "the announced number of pages is reached"


async def walk_chain(intake: Intake, chain: Chain, *, number: int, mark: Mark) -> Ending:
    """Page after page from `mark`, whose page gets `number`."""
    ending = Ending()
    empty = 0
    before: int | None = None
    while True:
        try:
            answer, page = await intake.fetch(number, sent(mark), url=mark.url)
        except FetchError as error:
            ending.failed[number] = error
            return ending
        header = chain.cursor_header()
        step = chain.after(
            mark, document=page.document, records=page.records, url=answer.url,
            link=", ".join(value for name, value in answer.headers if name.lower() == "link"),
            cursor_header=answer.header(header) if header else None,
        )  # fmt: skip
        if page.records and page.digest == before:
            ending.reason = f"page {number} repeats page {number - 1}"
            return ending
        before = page.digest
        empty = 0 if page.records else empty + 1
        if page.records or step.mark:
            await intake.store(number, answer, page, mark=mark, following=step.mark)
        if step.mark is None or empty > _EMPTY_CHAIN:
            ending.reason = step.reason or "nothing but empty pages"
            return ending
        mark = step.mark
        number += 1


def chain_position(evidence: dict[str, Any]) -> tuple[Mark | None, Mark | None]:
    """Where a stored page of a chained listing stood, and where it leads. Any: JSON."""
    return mark_from(evidence.get("mark")), mark_from(evidence.get("next"))
