"""Asking about each record: what `follow` fetches and keeps as details."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from holdfast.core.errors import FetchError, ProjectError, UsageError
from holdfast.core.progress import Silence
from holdfast.net.egress import OWN_MACHINE
from holdfast.sources.restapi.asking.pages import PageReader
from holdfast.sources.restapi.asking.redact import public_url
from holdfast.sources.restapi.asking.scripts import Script
from holdfast.sources.restapi.asking.session import open_session
from holdfast.sources.restapi.details.frontier import frontier_of
from holdfast.sources.restapi.details.keys import check_keys
from holdfast.sources.restapi.details.misses import Miss, Misses, Patience
from holdfast.sources.restapi.details.targets import Targets
from holdfast.sources.restapi.details.window import spread
from holdfast.sources.restapi.kept.archive import open_archive
from holdfast.sources.restapi.kept.collector import open_collector
from holdfast.sources.restapi.kept.latest import state
from holdfast.sources.restapi.kept.members import details_label
from holdfast.sources.restapi.project.sections import Data
from holdfast.sources.restapi.records.documents import parse

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractAsyncContextManager

    from holdfast.core.progress import Progress
    from holdfast.net.egress import Egress
    from holdfast.sources.restapi.asking.session import Answer, Session
    from holdfast.sources.restapi.details.frontier import Frontier, Job
    from holdfast.sources.restapi.kept.archive import Archive
    from holdfast.sources.restapi.kept.collector import Collector
    from holdfast.sources.restapi.project.project import Project
    from holdfast.sources.restapi.project.sections import FollowRule

FULL: Final = "full"
CONTINUE: Final = "continue"
_BREATH: Final = 256
"""Jobs that are passed over, because they are done, before other work gets its turn."""


@dataclass(slots=True)
class Followed:
    """What one rule did. `label` is the archive it went to."""

    label: str
    expected: int | None = None
    """Records that there are to ask about, where that is known."""
    fetched: int = 0
    present: int = 0
    """Answers that were there already."""
    bytes: int = 0
    misses: int = 0
    first_misses: list[Miss] = field(default_factory=list)
    misses_file: str | None = None


def follow(
    project: Project,
    *,
    mode: str = FULL,
    progress: Progress | None = None,
    log: Callable[[str], None] | None = None,
    say: Callable[[str], None] = lambda _: None,
    egress: Egress = OWN_MACHINE,
) -> list[Followed]:
    """Fetches what the project's rules say about each record, one archive for each rule. `log`,
    `say` and `egress` as in `asking.session.open_session`.

    "full" fetches everything anew and replaces the archive at the end; "continue" adds what is
    missing. Either goes on
    where it was killed. What cannot be fetched is listed; an earlier answer about it is kept.

    Raises:
        UsageError: another mode. ProjectError: there is no rule.
        NothingStoredError: there are no records yet.
        FetchError: too much failed in a row, or everything; what was fetched waits for the next
        try.
    """
    if mode not in {FULL, CONTINUE}:
        raise UsageError(f"follow has no mode {mode!r}", remedy="Say full or continue.")
    if not project.follow:
        raise ProjectError("the project has no [follow] section", remedy="Nothing is to follow.")

    def opening() -> AbstractAsyncContextManager[Session]:
        return open_session(project, log=log, say=say, egress=egress)

    return [
        _follow_rule(
            project, rule, mode=mode, progress=progress or Silence(), opening=opening, say=say
        )
        for rule in project.follow
    ]


def _follow_rule(
    project: Project,
    rule: FollowRule,
    *,
    mode: str,
    progress: Progress,
    opening: Callable[[], AbstractAsyncContextManager[Session]],
    say: Callable[[str], None],
) -> Followed:
    label = details_label(rule)
    with contextlib.ExitStack() as closing:
        archive = closing.enter_context(open_archive(project.place))
        by_url = rule.follow_mode == "url"
        key = rule.follow_url_key if by_url else rule.follow_item_key
        if key:
            word = "follow_url_key" if by_url else "follow_item_key"
            keys = [key, *project.data.item_key[:1]] if rule.follow_mode == "drilldown" else [key]
            check_keys(
                state(project, archive), keys, word=f"follow.{word}",
                splitter=project.settings.splitter,
            )  # fmt: skip
        collector = open_collector(
            project.place, label, keep=mode == CONTINUE, mode=mode,
            fingerprint=_fingerprint(project, rule), level=project.storage.level,
        )  # fmt: skip
        closing.enter_context(collector)
        if collector.rebuilt:
            say(collector.rebuilt)
        misses = closing.enter_context(Misses(project.place.folder / f"{label}_skipped.list"))
        targets = Targets(project, rule)
        roots = closing.enter_context(contextlib.closing(targets.of_records(archive)))
        frontier = frontier_of(
            rule, targets, roots, splitter=project.settings.splitter, closing=closing
        )
        script = closing.enter_context(_script(project)).ask if _is_html(project) else None
        report = Followed(label, _expected(archive))
        work = _Following(
            project, rule, targets, frontier, collector, misses, report, script, progress,
            Patience(project.errors),
        )  # fmt: skip
        progress.stage(f"following into {label}", items=report.expected)
        asyncio.run(work.run(opening()))
    return report


def plan(project: Project, *, mode: str = FULL) -> dict[str, Any]:
    """What `follow` would do, without a request. Any: JSON."""
    rules = []
    for rule in project.follow:
        with open_archive(project.place) as archive:
            rules.append(
                {
                    "archive": details_label(rule),
                    "follow_mode": rule.follow_mode,
                    "pattern": public_url(rule.follow_pattern or "") or None,
                    "records": _expected(archive),
                }
            )
    return {"mode": mode, "rules": rules}


@dataclass(slots=True)
class _Following:
    """One rule at work."""

    project: Project
    rule: FollowRule
    targets: Targets
    frontier: Frontier
    collector: Collector
    misses: Misses
    report: Followed
    script: Callable[[bytes], Any] | None
    progress: Progress
    patience: Patience
    flying: set[str] = field(default_factory=set)

    async def run(self, opening: AbstractAsyncContextManager[Session]) -> None:
        try:
            async with opening as session:
                await self._fetch_all(session)
        except FetchError:
            if self.collector.keep and self.collector.count:
                self.collector.publish(outcome="partial")
            raise
        finally:
            self.report.misses = self.misses.count
            self.report.first_misses = self.misses.first
            self.report.misses_file = str(self.misses.path) if self.misses.count else None
        self._publish()

    async def _fetch_all(self, session: Session) -> None:
        async def work(job: Job) -> Answer:
            request = self.targets.request(job.target, page=job.page)
            return await session.fetch(request, self._reader().judge)

        results = spread(self._take, work, width=lambda: 2 * session.width, ordered=True)
        async with contextlib.aclosing(results):
            async for job, task in results:
                self.flying.discard(job.name)
                try:
                    self._keep(session, job, task.result())
                except FetchError as error:
                    self._missed(session, job, error)

    async def _take(self) -> Job | None:
        passed = 0
        while (job := self.frontier.next()) is not None:
            if job.name in self.flying:
                continue
            if not self.collector.has(job.name):
                self.flying.add(job.name)
                return job
            self.report.present += 1
            self.progress.add(items=1)
            self._grow(job, self.collector.read(job.name) or b"null")
            passed += 1
            if passed % _BREATH == 0:
                await asyncio.sleep(0)
        return None

    def _grow(self, job: Job, body: bytes) -> None:
        """What a stored answer says about further requests."""
        if self.rule.follow_mode == "drilldown" or self.rule.iterate_by:
            self.frontier.answered(job, parse(body))

    def _keep(self, session: Session, job: Job, answer: Answer) -> None:
        self.patience.succeeded()
        page = answer.judged
        if self.frontier.answered(job, page.document):
            body = session.redactor.body(page.body)
            self.collector.add(job.name, body, session.evidence(answer), records=1)
            self.report.fetched += 1
            self.report.bytes += len(body)
            self.progress.add(items=1, bytes=len(body))

    def _missed(self, session: Session, job: Job, error: FetchError) -> None:
        kept = self._keep_earlier(job, error)
        url = session.redactor.url(job.target.url)
        self.misses.add(Miss(job.name, url, error.message, error.status, kept))
        self.progress.add(items=1)
        self.patience.failed(error)

    def _keep_earlier(self, job: Job, error: FetchError) -> bool:
        """Takes over the published answer about something that cannot be fetched any more."""
        earlier = self.collector.published
        if self.collector.keep or not earlier.has(job.name):
            return False
        body = earlier.read(job.name)
        known = self.collector.ledger.latest(self.report.label, job.name)
        evidence = json.loads(known.evidence) if known else {}
        self.collector.add(job.name, body, {**evidence, "kept_because": error.message}, records=1)
        self._grow(job, body)
        return True

    def _publish(self) -> None:
        report, misses = self.report, self.misses
        if self.collector.count or not (self.collector.keep or misses.count):
            outcome = "partial" if misses.count else "succeeded"
            self.collector.publish(outcome=outcome, whole=not misses.count)
            return
        self.collector.discard()
        if misses.count and not report.present:
            raise FetchError(
                f"none of {misses.count} requests of {report.label} succeeded; the first:"
                f" {misses.first[0].reason}"
            )

    def _reader(self) -> PageReader:
        """A detail is a whole document; details need not look like one another."""
        return PageReader(replace(self.project, data=Data()), script=self.script)


def _expected(archive: Archive) -> int | None:
    return sum(run.records for run in archive.current()) or None


def _fingerprint(project: Project, rule: FollowRule) -> str:
    text = repr((rule, project.json_file("follow_params.json")))
    return hashlib.sha256(text.encode()).hexdigest()


def _is_html(project: Project) -> bool:
    return project.source.resp_type == "html"


def _script(project: Project) -> Script:
    if not project.code.follow:
        raise ProjectError("code.follow is missing; it reads the HTML that is followed")
    return Script(
        project.folder / project.code.follow, folder=project.folder, functions=("process",),
        raw=True, limit=project.hooks.timeout,
    )  # fmt: skip
