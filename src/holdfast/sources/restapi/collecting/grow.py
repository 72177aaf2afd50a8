"""Incremental runs: add what is new to what is stored, and find out whether adding is enough.

The last page may have been half full, so it is read again. If records that stood at its beginning
are gone from it, or
the first page begins differently, rows have moved, and what moved is read again too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from holdfast.core.errors import ProjectError
from holdfast.sources.restapi.asking.paging import (
    Chain,
    Mark,
    number_param,
    numbered_changes,
    part_of,
)
from holdfast.sources.restapi.collecting.walk import (
    Ending,
    NumberedWalk,
    chain_position,
    walk_chain,
)
from holdfast.sources.restapi.kept.archive import UPDATE
from holdfast.sources.restapi.kept.ledger import State
from holdfast.sources.restapi.project.place import PAGES
from holdfast.sources.restapi.records.documents import identity

if TYPE_CHECKING:
    from holdfast.sources.restapi.asking.pages import Page
    from holdfast.sources.restapi.asking.session import Answer
    from holdfast.sources.restapi.collecting.intake import Intake


async def grow_numbered(intake: Intake, digests: dict[int, int], notes: list[str]) -> Ending:
    """Raises FetchError where the first or the last page cannot be had."""
    first = intake.project.params.start_page
    await _remember(intake)
    published = _published(intake)
    known = set(intake.stored)
    """Pages that this very run had stored before it was cut off."""
    walk = NumberedWalk(intake, digests=digests)
    fresh = published - known
    if first in fresh:
        old = _stored_page(intake, first)
        answer, page = await _refreshed(intake, first, old)
        if not page.records:
            return Ending(f"page {first} is empty")
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
    if number_param(intake.project) and not ending.failed and walk.is_lacking():
        notes.append("what is missing lies within stored pages: collect with `run full`")
    return ending


async def _settle_tail(intake: Intake, fresh: set[int], first: int) -> int:
    """Reads the last page again, and those before it until one still begins as it is stored; how
    many.
    """
    moved = 0
    for number in sorted(fresh, reverse=True):
        if number == first:
            break
        old = _stored_page(intake, number)
        answer, page = await _refreshed(intake, number, old)
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
    if _has_lost(intake, old, page):
        await intake.keep_aside(number, old.body)
    await intake.store(number, answer, page)


async def grow_chain(intake: Intake, digests: dict[int, int], notes: list[str]) -> Ending:
    """Goes on from the last stored page, which is read again.

    Raises:
        ProjectError: the archive does not tell where it stood.
    """
    del notes
    await _remember(intake)
    published = _published(intake)
    for number in sorted(published - intake.stored):
        page = _stored_page(intake, number)
        intake.tally.count(page)
        intake.tally.hear(page, part=part_of(_mark(intake, number)))
        digests[page.digest] = number
    last = max(published | intake.stored)
    mark = _mark(intake, last)
    if mark is None:
        raise ProjectError(
            f"nothing tells where page {last} stood in the list",
            remedy="Collect anew with `holdfast api run full`. The archive is untouched.",
        )
    digest = None
    if last in published:
        old = _stored_page(intake, last)
        digest = old.digest
        intake.tally.uncount(old)
    chain = Chain(intake.project)
    return await walk_chain(intake, chain, number=last, mark=mark, stored=digest)


def _mark(intake: Intake, number: int) -> Mark | None:
    """Where a stored page of a chained listing stood; None where nothing tells."""
    name = f"page_{number}.json"
    response = intake.collector.collected(name) or intake.collector.ledger.latest(PAGES, name)
    return chain_position(response.proof())[0] if response else None


async def _remember(intake: Intake) -> None:
    """How far one page moves on, and whether the total can be believed, is what the run before
    has found out.
    """
    runs = intake.collector.ledger.runs(PAGES, state=State.PUBLISHED)
    notes = next((run.notes for run in reversed(runs) if run.notes and run.mode != UPDATE), {})
    if "stride" in notes:
        await intake.note(stride=notes["stride"], size=notes["size"])
    if (total := notes.get("disproved")) is not None:
        intake.tally.disprove(total)


async def _refreshed(intake: Intake, number: int, old: Page) -> tuple[Answer, Page]:
    """A stored page as it is now. That it has lost records is asked twice: a slip must not cost
    what is stored.
    """
    answer, page = await _ask(intake, number)
    if _has_lost(intake, old, page):
        return await _ask(intake, number)
    return answer, page


def _has_lost(intake: Intake, old: Page, new: Page) -> bool:
    now = {identity(intake.project, record) for record in new.records}
    return any(identity(intake.project, record) not in now for record in old.records)


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
    project = intake.project
    return identity(project, old.records[0]) == identity(project, new.records[0])
