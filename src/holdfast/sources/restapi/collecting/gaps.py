"""What is missing: from an archive against what was announced, and from records against what the
project says about them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from holdfast.core.errors import HoldfastError, NothingStoredError
from holdfast.sources.restapi.asking.pages import PageReader
from holdfast.sources.restapi.kept.archive import Archive, open_archive

if TYPE_CHECKING:
    from holdfast.sources.restapi.collecting.tally import Tally
    from holdfast.sources.restapi.kept.ledger import Run
    from holdfast.sources.restapi.project.project import Project

_SHOWN = 12


def lacking_in(project: Project) -> float:
    """How many announced records the published archive lacks; infinite where there is none, or none
    that can be read.
    """
    try:
        with open_archive(project.place) as archive:
            if archive.unfinished:
                return float("inf")
            complete = [run for run in archive.current() if run.whole or run.mode == "full"]
            return _lacking(project, archive, complete[-1] if complete else archive.base())
    except NothingStoredError:
        return float("inf")
    except HoldfastError:
        return float("inf")  # anything that can be read is better


def _lacking(project: Project, archive: Archive, run: Run) -> int:
    noted = (run.notes or {}).get("lacking")
    if noted is not None:
        return int(noted)
    records, announced = run.records - (run.repeated or 0), run.announced
    if not run.started:  # another program's, of which only the pages tell
        records, announced = 0, None
        reader = PageReader(project)
        for page in archive.pages(run):
            read = reader.read_stored(page.body)
            records += len(read.records)
            announced = read.total if read.total is not None else announced
    return 0 if announced is None else max(0, announced - records)


def wrong_keys(project: Project, tally: Tally) -> list[str]:
    """Sentences about keys of section data that lead nowhere in anything that came."""
    data = project.data
    told: list[str] = []
    if not tally.records:
        return told
    if data.item_key and tally.keyless == tally.records:
        key = ",".join(data.item_key)
        had = ", ".join(list(tally.fields)[:_SHOWN]) or "no fields"
        told.append(
            f"data.item_key: none of the {tally.records} records has {key!r} (they have {had}), so"
            " nothing tells them apart"
        )
    for word, heard in (
        ("total_number_key", tally.heard_total),
        ("pages_number_key", tally.heard_pages),
    ):
        key = getattr(data, word)
        if key and not heard:
            told.append(
                f"data.{word}: no answer has a number at {key!r}, so nothing tells whether all came"
            )
    return told
