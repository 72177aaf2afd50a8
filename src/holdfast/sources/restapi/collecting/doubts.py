"""What a walk does about pages that do not add up.

A total that ends on a full page is looked past, an empty page among full ones and a short page are
asked for again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from holdfast.core.errors import FetchError
from holdfast.sources.restapi.records.documents import identity

if TYPE_CHECKING:
    from holdfast.sources.restapi.asking.pages import Page
    from holdfast.sources.restapi.collecting.walk import NumberedWalk

_FEW = 2
"""Tries of a page of which nobody says that it must hold more."""
_IN_VAIN = 8
"""Short pages that stay short, after which the others are taken to stay so, too."""


async def settle(walk: NumberedWalk) -> None:
    """Goes on until nothing is in doubt any more, or what is has been asked for in vain. Where
    pages have failed that is left to the run that gets them.
    """
    while not walk.ending.failed and await _look_past(walk):
        await walk.go_on()
    for fill in (_fill_holes, _ask_alike, _fill_short):
        if not walk.ending.failed:
            await fill(walk)
    if not walk.ending.failed and await _fill_tail(walk):
        await walk.go_on()
        await settle(walk)


async def _look_past(walk: NumberedWalk) -> bool:
    """Where what is announced ends on a full page there may be one more; whether there is."""
    last, expected = walk.intake.last, walk.expected()
    if expected is None or last < expected:
        return False
    if walk.intake.counts.get(last, 0) < walk.size or last + 1 in walk.nothing:
        return False
    try:
        answer, page = await walk.fetch(last + 1, tries=1)
    except FetchError:
        walk.nothing[last + 1] = f"page {last + 1} cannot be had"
        return False  # by what is announced there is no such page
    await walk.take(last + 1, answer, page)
    if last + 1 not in walk.intake.stored:
        return False
    expected, announced = walk.expected(), walk.tally.announced
    if expected is not None and last + 1 > expected and not walk.tally.shrank:
        if announced is not None:
            walk.tally.disprove(announced)
        elif walk.tally.announced_pages is not None:
            walk.tally.disprove_pages(walk.tally.announced_pages)
    return True


async def _fill_tail(walk: NumberedWalk) -> bool:
    """Where the list ends before its total is reached, or without one, its end is asked for again;
    whether it goes on now.
    """
    end = walk.intake.last + 1
    if end not in walk.nothing or walk.is_gone(end):
        return False
    if walk.expected() is not None and not walk.is_lacking():
        return False
    tries = _FEW if walk.is_lacking() else 0
    result = await walk.intake.fetch_again(
        end, walk.changes(end), known=walk.digests, why=walk.nothing[end], tries=tries
    )
    if isinstance(result, FetchError):
        return False
    for number in [number for number in walk.nothing if number >= end]:
        del walk.nothing[number]
    await walk.take(end, *result)
    return end in walk.intake.stored


async def _fill_holes(walk: NumberedWalk) -> None:
    """Asks again for pages that held nothing new though later ones do. One that stays so has
    failed while records are missing; where nothing tells whether any are, that is said.
    """
    exact = walk.tally.announced is not None and not walk.intake.project.data.total_is_estimate
    for number in sorted(number for number in walk.nothing if number < walk.intake.last):
        if walk.is_complete():
            return
        why = walk.nothing.pop(number)
        result = await walk.intake.fetch_again(
            number, walk.changes(number), known=walk.digests,
            why=f"{why}, though later pages have some", tries=None if exact else _FEW,
        )  # fmt: skip
        if not isinstance(result, FetchError):
            await walk.take(number, *result)
        elif exact:
            walk.ending.failed[number] = result
        else:
            walk.nothing[number] = why
            walk.ending.holes += 1
            walk.ending.notes.append(f"{why}, though later pages have records")


async def _ask_alike(walk: NumberedWalk) -> None:
    """Asks again for pages that are wholly alike, though their records are not: one may have been
    given for the other, and a total that counts both cannot tell. Where they stay so that is said.
    """
    alike = [
        (number, other) for number, other in sorted(walk.intake.alike.items())
        if not _is_uniform(walk, number)
    ]  # fmt: skip
    if not alike or len(walk.digests) == 1:
        return
    stay: list[str] = []
    for number, other in alike:
        if len(stay) < _IN_VAIN and await _tell_apart(walk, number, other):
            del walk.intake.alike[number]
        else:
            stay.append(f"page {number} repeats page {other}")
    if stay:
        walk.ending.holes += len(stay)
        more = f", and {len(stay) - _FEW} more" if len(stay) > _FEW else ""
        walk.ending.notes.append(
            f"{', '.join(stay[:_FEW])}{more}: records of their own may be missing, which"
            " data.item_key would tell"
        )


async def _tell_apart(walk: NumberedWalk, *numbers: int) -> bool:
    """Whether one of two pages has records of its own at another look; it is stored then."""
    for number in numbers:
        old = walk.intake.stored_page(number)
        result = await walk.intake.fetch_again(
            number, walk.changes(number), known=walk.digests, why="it repeats a page", tries=_FEW
        )
        if old is not None and not isinstance(result, FetchError):
            walk.intake.tally.uncount(old)
            await walk.take(number, *result)
            return True
    return False


def _is_uniform(walk: NumberedWalk, number: int) -> bool:
    """Whether a page holds one record many times: then there may well be more of the same."""
    page = walk.intake.stored_page(number)
    return page is None or all(record == page.records[0] for record in page.records)


async def _fill_short(walk: NumberedWalk) -> None:
    """Unless all that is announced is here, asks again for pages that hold fewer than others, the
    shortest first, until it helps no more: they may have been cut.
    """
    counts, last = walk.intake.counts, walk.intake.last
    full = max(counts.values(), default=0)
    read = vain = 0
    for count, number in sorted((count, number) for number, count in counts.items()):
        if vain == _IN_VAIN or count == full or walk.is_complete():
            break
        if number == last and walk.tally.announced in {None, full * (last - walk.first) + count}:
            continue  # it has all that the list has left
        try:
            longer = await _read_longer(walk, number)
        except FetchError as error:
            walk.ending.failed[number] = error
            return
        read += 1
        vain = 0 if longer else vain + 1
    if read and walk.is_lacking():
        walk.ending.remarks.append(f"short pages that were read again and stay short: {vain}")
    elif read:
        walk.ending.remarks.append(f"short pages that were read again: {read}")


async def _read_longer(walk: NumberedWalk, number: int) -> bool:
    """Replaces a short page where it has grown to hold more now; whether it has."""
    intake = walk.intake
    old = intake.stored_page(number)
    answer, page = await walk.fetch(number)
    if old is None or not _adds_to(walk, old, page):
        return False
    intake.tally.uncount(old)
    walk.digests.pop(old.digest, None)
    walk.digests[page.digest] = number
    await intake.store(number, answer, page)
    return True


def _adds_to(walk: NumberedWalk, old: Page, new: Page) -> bool:
    """Whether a page has all that it had before, and more."""
    if len(new.records) <= len(old.records):
        return False
    project = walk.intake.project
    now = {identity(project, record) for record in new.records}
    return all(identity(project, record) in now for record in old.records)
