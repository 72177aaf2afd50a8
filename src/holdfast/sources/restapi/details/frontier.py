"""Which requests a rule still has to make: a stream that grows while answers come in."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from holdfast.sources.restapi.kept.latest import digest
from holdfast.sources.restapi.kept.scratch import scratch
from holdfast.sources.restapi.records.documents import MISSING, value_at
from holdfast.sources.restapi.records.naming import detail_name

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator
    from contextlib import ExitStack

    from holdfast.sources.restapi.details.targets import Target, Targets
    from holdfast.sources.restapi.project.sections import FollowRule


@dataclass(frozen=True, slots=True)
class Job:
    """One request to make, or made already. `before` is the digest of the page before."""

    target: Target
    page: int | None = None
    before: bytes | None = None

    @property
    def name(self) -> str:
        return detail_name(self.target.key, page=self.page)


class Frontier(Protocol):
    def next(self) -> Job | None:
        """The next job; None when there is none now."""
        ...

    def answered(self, job: Job, document: Any) -> bool:
        """Takes in an answer, new or stored earlier, and whether it is one worth storing. Any:
        JSON.
        """
        ...


class Flat:
    """Each target once."""

    def __init__(self, targets: Iterator[Target]) -> None:
        self._targets = targets

    def next(self) -> Job | None:
        target = next(self._targets, None)
        return Job(target) if target else None

    def answered(self, job: Job, document: Any) -> bool:  # noqa: ARG002 - an answer brings nothing new
        return True


class Paged:
    """Each target page by page, until a page has no items, comes again, or there are too many."""

    def __init__(self, targets: Iterator[Target], rule: FollowRule, *, splitter: str) -> None:
        self._targets = targets
        self._rule = rule
        self._splitter = splitter
        self._next_pages: deque[Job] = deque()

    def next(self) -> Job | None:
        if self._next_pages:
            return self._next_pages.popleft()
        target = next(self._targets, None)
        return Job(target, self._rule.params.start_page) if target else None

    def answered(self, job: Job, document: Any) -> bool:
        key, params = self._rule.follow_data_key, self._rule.params
        items = value_at(document, key, self._splitter) if key else document
        if items is MISSING or not items:
            return True
        seen = digest(items)
        if seen == job.before:
            return False
        page = (job.page or 0) + 1
        if page < params.start_page + params.max_pages:
            self._next_pages.append(Job(job.target, page, seen))
        return True


class Drilldown:
    """A tree from the records' keys downwards, every node once; it waits on disk."""

    def __init__(
        self, roots: Iterator[Target], targets: Targets, database: sqlite3.Connection
    ) -> None:
        self._roots = roots
        self._targets = targets
        self._database = database
        self._at = 0
        database.execute("CREATE TABLE node (place INTEGER PRIMARY KEY, key TEXT UNIQUE)")

    def next(self) -> Job | None:
        while True:
            row = self._database.execute(
                "SELECT place, key FROM node WHERE place > ? LIMIT 1", (self._at,)
            ).fetchone()
            if row:
                self._at = row[0]
                return Job(self._targets.of_key(row[1]))
            root = next(self._roots, None)
            if root is None:
                return None
            self._add([root.key])

    def answered(self, job: Job, document: Any) -> bool:  # noqa: ARG002 - a child names itself
        self._add(list(self._targets.children(document)))
        return True

    def _add(self, keys: list[str]) -> None:
        self._database.executemany(
            "INSERT OR IGNORE INTO node (key) VALUES (?)", ((key,) for key in keys)
        )


def frontier_of(
    rule: FollowRule,
    targets: Targets,
    roots: Iterator[Target],
    *,
    splitter: str,
    closing: ExitStack,
) -> Frontier:
    """What a rule asks about. `closing` ends what the frontier needs on disk."""
    if rule.follow_mode == "drilldown":
        return Drilldown(roots, targets, closing.enter_context(scratch()))
    if rule.iterate_by:
        return Paged(roots, rule, splitter=splitter)
    return Flat(roots)
