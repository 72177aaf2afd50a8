"""What the published runs were, in a small file beside the ledger: what no archive tells, should
the ledger be lost.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from holdfast.sources.restapi.kept.archive import UPDATE
from holdfast.sources.restapi.kept.ledger import Run, State

if TYPE_CHECKING:
    from collections.abc import Iterable

    from holdfast.sources.restapi.kept.ledger import Ledger
    from holdfast.sources.restapi.project.place import Place

_NAME = "runs.json"


def write_runs(place: Place, ledger: Ledger) -> None:
    """Writes down the published runs; of updates that cover the whole list also which pages it
    had.

    Raises OSError.
    """
    _, known = read_runs(place)
    runs = []
    for run in ledger.runs(state=State.PUBLISHED):
        told: dict[str, Any] = asdict(run)
        if run.mode == UPDATE and run.whole:
            numbers = known.get(run.id)
            if numbers is None:
                numbers = [response.number for response in ledger.responses(run.id)]
            told["numbers"] = _ranges(numbers)
        runs.append(told)
    path = place.state / _NAME
    draft = path.with_name(path.name + ".new")
    with draft.open("w", encoding="utf-8") as out:
        json.dump(runs, out, ensure_ascii=False)
        out.flush()
        os.fsync(out.fileno())
    draft.replace(path)


def read_runs(place: Place) -> tuple[list[Run], dict[str, list[int]]]:
    """Published runs, and by run the pages that a whole update covered; nothing where the file
    cannot be read.
    """
    runs: list[Run] = []
    numbers: dict[str, list[int]] = {}
    with suppress(OSError, ValueError, TypeError, KeyError):
        for told in json.loads((place.state / _NAME).read_text("utf-8")):
            ranges = told.pop("numbers", None)
            run = Run(**{**told, "state": State(told["state"])})
            runs.append(run)
            if ranges is not None:
                numbers[run.id] = [n for low, high in ranges for n in range(low, high + 1)]
    return runs, numbers


def _ranges(numbers: Iterable[int]) -> list[list[int]]:
    """First and last of each stretch without a gap."""
    found: list[list[int]] = []
    for number in sorted(numbers):
        if found and number == found[-1][1] + 1:
            found[-1][1] = number
        else:
            found.append([number, number])
    return found
