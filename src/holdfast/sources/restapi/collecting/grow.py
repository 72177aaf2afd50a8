"""Incremental runs: add what is new to what is stored, and find out whether adding is enough.

The last page may have been half full, so it is read again. If records that stood at its beginning
are gone from it, or
the first page begins differently, rows have moved, and what moved is read again too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from holdfast.core.errors import FetchError, ProjectError
from holdfast.sources.restapi.asking.paging import Chain, number_param, numbered_changes
from holdfast.sources.restapi.collecting.walk import (
    Ending,
    NumberedWalk,
    chain_position,
    walk_chain,
)
from holdfast.sources.restapi.kept.ledger import State
from holdfast.sources.restapi.project.place import PAGES
from holdfast.sources.restapi.records.documents import as_json, key_of

if TYPE_CHECKING:
    from typing import Any

    from holdfast.sources.restapi.asking.pages import Page
    from holdfast.sources.restapi.asking.session import Answer
    from holdfast.sources.restapi.collecting.intake import Intake


async def grow_numbered(intake: Intake, digests: dict[int, int], notes: list[str]) -> Ending:
    """Raises FetchError where the first or the last page cannot be had."""
    first = intake.project.params.start_page
    await _remember_stride(intake)
    published = _published(intake)
    known = set(intake.stored)
    """Pages that this very run had stored before it was cut off."""
    walk = NumberedWalk(intake, digests=digests)
    fresh = published - known
    if first in fresh:
        answer, page = await _ask(intake, first)
        old = _stored_page(intake, first)
        if not _begins_alike(intake, old, page) and number_param(intake.project):
            notes.append("the list does not grow at its end, so all of it was read again")
            fresh = set()
            await walk.begin(answer, page)
        else:
            await _replace(intake, first, old, answer, page)
            fresh.discard(first)
    if fresh and number_param(intake.project):
        moved = await _settle_tail(intake, fresh, first)
        if moved > 1:
            notes.append(f"rows have moved, so the last {moved} pages were read again")
    for number in sorted(fresh):
        page = _stored_page(intake, number)
        intake.take_over(number, page)
        digests[page.digest] = number
    ending = await walk.run()
    if not ending.failed and number_param(intake.project):
        await _reread_short(intake, fresh, ending, notes)
    return ending


async def _reread_short(intake: Intake, stored: set[int], ending: Ending, notes: list[str]) -> None:
    """While records are missing, asks again for `stored` pages that are visibly short: they may
    have been cut when they were stored.
    """
    announced = intake.tally.announced
    size = (intake.collector.run.notes or {}).get("size", intake.project.params.page_size_limit)
    if announced is None or intake.project.data.total_is_estimate:
        return
    read = 0
    for number in sorted(stored):
        if intake.tally.unique() >= announced:
            break
        old = _stored_page(intake, number)
        if len(old.records) >= size:
            continue
        try:
            answer, page = await _ask(intake, number)
        except FetchError as error:
            ending.failed[number] = error
            return
        read += 1
        if len(page.records) > len(old.records):
            intake.tally.uncount(old)
            await _replace(intake, number, old, answer, page)
    if read:
        notes.append(f"records were missing, so {read} short pages were read again")
    if intake.tally.unique() < announced:
        notes.append("what is missing lies within stored pages: collect with `run full`")
    else:
        ending.reason = "the announced total is reached"


async def _settle_tail(intake: Intake, fresh: set[int], first: int) -> int:
    """Reads the last page again, and those before it until one still begins as it is stored; how
    many.
    """
    moved = 0
    for number in sorted(fresh, reverse=True):
        if number == first:
            break
        answer, page = await _ask(intake, number)
        old = _stored_page(intake, number)
        moved += 1
        fresh.discard(number)
        if page.records:
            await _replace(intake, number, old, answer, page)
        if _begins_alike(intake, old, page):
            break
    return moved


async def _replace(intake: Intake, number: int, old: Page, answer: Answer, page: Page) -> None:
    """Stores the page as it is now; what it has lost against the stored one stays in the archive
    aside.
    """
    if page.digest == old.digest:
        intake.take_over(number, page)
        return
    now = {_identity(intake, record) for record in page.records}
    if any(_identity(intake, record) not in now for record in old.records):
        await intake.keep_aside(number, old.body)
    await intake.store(number, answer, page)


async def grow_chain(intake: Intake, digests: dict[int, int], notes: list[str]) -> Ending:
    """Goes on from the last stored page, which is read again.

    Raises:
        ProjectError: the archive does not tell where it stood.
    """
    del notes
    published = _published(intake)
    for number in sorted(published - intake.stored):
        page = _stored_page(intake, number)
        intake.tally.count(page)
        digests[page.digest] = number
    last = max(published | intake.stored)
    response = intake.collector.collected(f"page_{last}.json")
    response = response or intake.collector.ledger.latest(PAGES, f"page_{last}.json")
    mark = chain_position(response.proof())[0] if response else None
    if mark is None:
        raise ProjectError(
            f"nothing tells where page {last} stood in the list",
            remedy="Collect anew with `holdfast api run full`. The archive is untouched.",
        )
    if last in published:
        intake.tally.uncount(_stored_page(intake, last))
    chain = Chain(intake.project)
    return await walk_chain(intake, chain, number=last, mark=mark)


async def _remember_stride(intake: Intake) -> None:
    """How far one page moves on, and whether the total can be believed, is what the runs before
    have found out.
    """
    ledger = intake.collector.ledger
    for run in reversed(ledger.runs(PAGES, state=State.PUBLISHED)):
        notes = run.notes or {}
        if "stride" in notes:
            await intake.note(stride=notes["stride"], size=notes["size"])
            if (total := notes.get("disproved")) is not None:
                intake.tally.disprove(total)
            return


async def _ask(intake: Intake, number: int) -> tuple[Answer, Page]:
    stride = (intake.collector.run.notes or {}).get("stride", intake.project.params.page_size_limit)
    return await intake.fetch(number, numbered_changes(intake.project, number, stride=stride))


def _published(intake: Intake) -> set[int]:
    numbers = set()
    for name in intake.collector.published.names():
        if name.startswith("page_") and name.endswith(".json") and name[5:-5].isdigit():
            numbers.add(int(name[5:-5]))
    return numbers


def _stored_page(intake: Intake, number: int) -> Page:
    return intake.reader.read_stored(intake.collector.published.read(f"page_{number}.json"))


def _begins_alike(intake: Intake, old: Page, new: Page) -> bool:
    """Whether the page still begins with what the stored one begins with: no row before it came
    or went.
    """
    if not old.records:
        return True
    if not new.records:
        return False
    return _identity(intake, old.records[0]) == _identity(intake, new.records[0])


def _identity(intake: Intake, record: Any) -> str:
    return key_of(intake.project, record) or as_json(record)
