"""Roots of several base directories, side by side at the top of one tree."""

from __future__ import annotations

import heapq
import os
import stat
from typing import TYPE_CHECKING

from holdfast.core.errors import UsageError
from holdfast.core.source import UP, Problem
from holdfast.sources.files.roots import Root
from holdfast.sources.files.scan import Scan

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from holdfast.sources.files.filters import Exclusion, Filters
    from holdfast.sources.files.scan import Steps, Visit

Head = tuple[bytes, int, "Visit"]
"""The next name at the top of a scan, the number of the scan, and what it says of the name."""


def refuse_clashes(roots: Iterable[Root], exclusion: Exclusion) -> None:
    """Raises UsageError where two bases would need the same name at the top of the tree."""
    groups = _by_base(roots)
    if len(groups) == 1:
        return
    taken: dict[bytes, bytes] = {}
    for base, group in groups.items():
        for name in sorted(_top_names(base, group, exclusion)):
            other = taken.setdefault(name, base)
            if other != base:
                one, two = (os.fsdecode(Root(each, name).path) for each in (other, base))
                raise UsageError(
                    f"{one} and {two} would both be /{os.fsdecode(name)} in the snapshot",
                    remedy="Name all of them by absolute paths, or make a snapshot of each.",
                )


def visits(roots: Iterable[Root], filters: Filters) -> Steps:
    """One walk over all roots, in the order of the tree they make."""
    groups = _by_base(roots)
    scans = [iter(Scan(group, filters)) for group in groups.values()]
    if len(scans) == 1:
        return scans[0]
    return _side_by_side([_told(scan, base) for base, scan in zip(groups, scans, strict=True)])


def _by_base(roots: Iterable[Root]) -> dict[bytes, list[Root]]:
    groups: dict[bytes, list[Root]] = {}
    for root in roots:
        groups.setdefault(root.base, []).append(root)
    return groups


def _top_names(base: bytes, group: Iterable[Root], exclusion: Exclusion) -> set[bytes]:
    """The names that one base puts at the top of the tree."""
    names = {root.below.partition(b"/")[0] for root in group}
    if b"" not in names:
        return names
    names.remove(b"")
    try:
        listed = [] if exclusion.covers(base) else os.listdir(base)
    except OSError:
        return names  # the walk tells of it
    return names.union(
        name for name in listed if not exclusion.leaves_out(Root(base, name).path, name)
    )


def _told(scan: Steps, base: bytes) -> Steps:
    """The same, but not silent where there is nothing: beside others an empty base leaves no trace,
    and more likely its disk is not mounted.
    """
    first = next(scan, None)
    if first is None:
        yield Problem(base, "scan", "nothing is in it that could be kept", root=True)
        return
    yield first
    yield from scan


def _side_by_side(scans: Sequence[Steps]) -> Steps:
    """Scans that each are in order become one that is: only their topmost names interleave."""
    heads: list[Head] = []
    for number, scan in enumerate(scans):
        yield from _advance(scan, number, heads)
    while heads:
        _, number, visit = heapq.heappop(heads)
        yield visit
        if _is_folder(visit):
            yield from _inside(scans[number])
        yield from _advance(scans[number], number, heads)


def _advance(scan: Steps, number: int, heads: list[Head]) -> Steps:
    """Takes a scan to its next topmost name; the problems it meets before."""
    for step in scan:
        if isinstance(step, tuple):
            heapq.heappush(heads, (step[1], number, step))
            return
        yield step


def _inside(scan: Steps) -> Steps:
    """What a scan has of the folder that it has just entered, with the `UP` that closes it."""
    depth = 1
    for step in scan:
        yield step
        if step is UP:
            depth -= 1
            if not depth:
                return
        elif isinstance(step, tuple) and _is_folder(step):
            depth += 1


def _is_folder(visit: Visit) -> bool:
    return stat.S_ISDIR(visit[2].st_mode)
