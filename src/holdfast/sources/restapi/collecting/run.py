"""One run of a project: collect, hold against what was announced, publish, say how it went."""

from __future__ import annotations

import asyncio
import json
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from holdfast.core.errors import NothingStoredError, ProjectError, SourceEmptyError
from holdfast.core.outcome import Outcome
from holdfast.net.egress import OWN_MACHINE
from holdfast.sources.restapi.asking.hooks import HookScripts
from holdfast.sources.restapi.asking.pages import PageReader
from holdfast.sources.restapi.asking.paging import Chain, is_numbered, part_of
from holdfast.sources.restapi.asking.redact import Redactor, sensitive
from holdfast.sources.restapi.asking.request import SideFiles, read_side_files
from holdfast.sources.restapi.asking.scripts import Script
from holdfast.sources.restapi.asking.session import Session, Traffic, open_session
from holdfast.sources.restapi.collecting.changes import Changes, find_changes
from holdfast.sources.restapi.collecting.gaps import lacking_in, wrong_keys
from holdfast.sources.restapi.collecting.grow import grow_chain, grow_numbered
from holdfast.sources.restapi.collecting.intake import Intake
from holdfast.sources.restapi.collecting.statefile import write_state
from holdfast.sources.restapi.collecting.tally import Tally
from holdfast.sources.restapi.collecting.walk import (
    Ending,
    NumberedWalk,
    chain_position,
    walk_chain,
)
from holdfast.sources.restapi.kept.archive import UPDATE, open_archive
from holdfast.sources.restapi.kept.collector import Collector, mend, open_collector
from holdfast.sources.restapi.kept.earlier import same_as_earlier
from holdfast.sources.restapi.kept.latest import state
from holdfast.sources.restapi.project.place import PAGES

if TYPE_CHECKING:
    from collections.abc import Callable

    from holdfast.net.egress import Egress
    from holdfast.sources.restapi.kept.ledger import Run
    from holdfast.sources.restapi.project.project import Project

FULL = "full"
INCREMENTAL = "incremental"
_HOUR = 3600 * 10**9
MODES = (FULL, INCREMENTAL, "continue", UPDATE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Orders:
    """What the person wants of a run beyond the project's own words."""

    restart: bool = False
    """Forget what a run that was cut off has collected."""
    allow_empty: bool = False
    on_page: Callable[[Tally, Traffic], None] = lambda _tally, _traffic: None
    log: Callable[[str], None] | None = None
    say: Callable[[str], None] = lambda _line: None
    """For what a person wants to know at once, such as a long wait."""
    egress: Egress = OWN_MACHINE
    """Where requests may go; see `asking.session.open_session`."""


@dataclass(slots=True, kw_only=True)
class Report:
    """How a run went. Seconds and bytes."""

    mode: str
    outcome: Outcome = Outcome.SUCCEEDED
    published: bool = False
    resumed: int = 0
    """Pages that an earlier, cut-off run had stored."""
    pages: int = 0
    records: int = 0
    unique: int = 0
    announced: int | None = None
    bytes: int = 0
    requests: int = 0
    retries: int = 0
    elapsed: float = 0.0
    ended_by: str = ""
    failed: dict[int, str] = field(default_factory=dict)
    lacking: int = 0
    """Records that were announced, or that empty pages may have held, and that did not come."""
    held_back: bool = False
    """A better archive is stored, so what came waits for the run that brings what is missing."""
    notes: list[str] = field(default_factory=list)


def run_project(project: Project, mode: str, orders: Orders | None = None) -> Report:
    """Collects in a mode (full, incremental or continue, update) and publishes what came.

    Raises:
        ProjectError: the project does not allow the mode, or a side file or secret is unusable.
        ProjectBusyError: another run is at work.
        FetchError: the first page cannot be had.
        SourceEmptyError: the API gives nothing at all.
        HookError: a script of the project failed.
        StorageFullError: no room.
    """
    orders = orders or Orders()
    mode = INCREMENTAL if mode == "continue" else mode
    allowed = {word.lower().replace("continue", INCREMENTAL) for word in project.source.work_modes}
    if mode not in allowed:
        raise ProjectError(
            f"project.work_modes allows {', '.join(sorted(allowed))}, not {mode}",
            remedy="Add it to work_modes, or run another mode.",
        )
    if project.source.detect:
        from holdfast.sources.restapi.collecting.detect import completed

        project = completed(project, say=orders.say, egress=orders.egress)
    saved = mend(project.place)
    if mode != FULL and not _is_stored(project):
        mode = FULL
    with ExitStack() as stack:
        hooks = stack.enter_context(HookScripts(project, mode))
        script = _page_script(project, stack)
        changes = find_changes(project) if mode == UPDATE else Changes({}, whole=True)
        side = read_side_files(project)
        collector = stack.enter_context(
            open_collector(
                project.place, PAGES, keep=mode != FULL, mode=mode, restart=orders.restart,
                fingerprint=_fingerprint(project, side, changes), level=project.storage.level,
            )
        )  # fmt: skip
        writer = stack.enter_context(ThreadPoolExecutor(1, thread_name_prefix="storing"))
        run = _RunInProgress(
            project, mode, orders=orders, hooks=hooks, collector=collector, writer=writer,
            changes=changes, tally=stack.enter_context(closing(Tally(project))),
        )  # fmt: skip
        if collector.rebuilt:
            run.remark(collector.rebuilt)
        if saved is not None:
            run.remark(f"the archive was cut off by another program; {saved} members were saved")
        return asyncio.run(run.work(side, PageReader(project, script=script)))


class _RunInProgress:
    def __init__(
        self,
        project: Project,
        mode: str,
        *,
        orders: Orders,
        hooks: HookScripts,
        collector: Collector,
        writer: ThreadPoolExecutor,
        changes: Changes,
        tally: Tally,
    ) -> None:
        self._project = project
        self._mode = mode
        self._orders = orders
        self._hooks = hooks
        self._collector = collector
        self._writer = writer
        self._changes = changes
        self._report = Report(mode=mode)
        self._tally = tally
        self._whole = changes.whole
        """What this run does not bring is gone."""

    def remark(self, note: str) -> None:
        """For the report."""
        self._report.notes.append(note)

    async def work(self, side: SideFiles, reader: PageReader) -> Report:
        begun = time.monotonic()
        side = await self._hooks.before_run(side)
        orders = self._orders
        async with open_session(
            self._project, redactor=_redactor(side), log=orders.log, say=orders.say,
            egress=orders.egress,
        ) as session:  # fmt: skip
            if self._project.rate_limit.requests_per_hour:
                now = time.time_ns()
                recent = self._collector.ledger.times_since(now - _HOUR)
                session.recall((now - moment) / 10**9 for moment in recent)
            tally = self._tally
            intake = self._intake(side, session, reader, tally)
            self._report.resumed = self._collector.count if self._collector.resumed else 0
            ending = await self._collect(intake)
            self._sum_up(tally, session.traffic, ending, time.monotonic() - begun)
            if not ending.failed:
                await self._publish(intake)
        await self._hooks.after_run(_summary(self._report))
        return self._report

    def _intake(
        self, side: SideFiles, session: Session, reader: PageReader, tally: Tally
    ) -> Intake:
        intake = Intake(
            self._project, side=side, session=session, reader=reader, collector=self._collector,
            writer=self._writer, hooks=self._hooks, tally=tally, mode=self._mode,
            extra=self._changes.params,
            on_page=lambda counted: self._orders.on_page(counted, session.traffic),
        )  # fmt: skip
        if self._mode == UPDATE and self._changes.whole:
            intake.compare_with(same_as_earlier(self._collector))
        return intake

    async def _collect(self, intake: Intake) -> Ending:
        digests = _restore(intake)
        if self._mode == INCREMENTAL:
            grow = grow_numbered if is_numbered(self._project) else grow_chain
            return await grow(intake, digests, self._report.notes)
        if not is_numbered(self._project):
            return await self._collect_chain(intake)
        ending = await NumberedWalk(intake, digests=digests).run()
        if intake.tally.shrank and not ending.failed:
            self._report.notes.append(
                "the list became shorter while it was read, so it was read once more"
            )
            ending = await _walk_again(intake)
        return ending

    async def _collect_chain(self, intake: Intake) -> Ending:
        chain = Chain(self._project, now=_started(intake))
        number, mark = self._project.params.start_page, chain.first()
        while number in intake.stored:
            response = self._collector.collected(intake.name(number))
            following = chain_position(json.loads(response.evidence))[1] if response else None
            if following is None:
                return Ending("the end was reached before")
            number, mark = number + 1, following
        return await walk_chain(intake, chain, number=number, mark=mark)

    def _sum_up(self, tally: Tally, traffic: Traffic, ending: Ending, elapsed: float) -> None:
        report = self._report
        report.pages, report.records, report.bytes = tally.pages, tally.records, tally.bytes
        report.unique, report.announced = tally.unique(), tally.announced
        report.requests, report.retries = traffic.requests, traffic.retries
        report.elapsed, report.ended_by = elapsed, ending.reason
        report.failed = {number: error.message for number, error in sorted(ending.failed.items())}
        report.notes += ending.remarks + ending.notes
        if ending.failed:
            report.outcome = Outcome.PARTIAL if tally.pages else Outcome.FAILED
            return
        wrong = wrong_keys(self._project, tally)
        report.notes += wrong
        if self._mode == UPDATE and self._whole and not _is_complete(report, ending):
            self._whole = False
            report.notes.append("the list did not come whole, so no record was taken to be removed")
        if ending.notes or wrong:
            report.outcome = Outcome.PARTIAL
        self._compare(ending)

    def _compare(self, ending: Ending) -> None:
        """Holds what came against what was announced."""
        report, announced = self._report, self._report.announced
        exact = not self._project.data.total_is_estimate
        report.lacking = ending.holes * max(self._project.params.page_size_limit, 1)
        if announced is not None and report.unique < announced:
            report.notes.append(f"received {report.unique} records of {announced} announced")
            if exact:
                report.outcome, report.lacking = Outcome.PARTIAL, announced - report.unique
        elif announced is not None and report.unique > announced and not self._counts_the_rest():
            report.notes.append(
                f"received {report.unique} records, more than the {announced} announced"
            )

    def _counts_the_rest(self) -> bool:
        """An API that is asked for what follows an id may announce that alone."""
        return self._mode == INCREMENTAL and self._project.source.iterate_by == "since_id"

    def _brought_nothing(self) -> bool:
        """There is nothing to publish: no page of an incremental run differs, no record has
        changed.
        """
        if self._mode == INCREMENTAL:
            return self._collector.count == 0
        return self._mode == UPDATE and not self._changes.whole and not self._report.records

    def _cannot_be_laid_over(self) -> bool:
        """A list that is not whole, of records that nothing tells apart, would double them."""
        if self._whole or not self._changes.whole or self._project.data.item_key:
            return False
        self._report.notes.append("without data.item_key it cannot be added: nothing was kept")
        return True

    async def _publish(self, intake: Intake) -> None:
        report = self._report
        if not report.records and not self._orders.allow_empty and self._changes.whole:
            raise SourceEmptyError(
                f"{self._project.name}: the API gives no records ({report.ended_by})",
                remedy="The archive is untouched. If it is meant to be empty, say --allow-empty.",
            )
        loop = asyncio.get_running_loop()
        collector = self._collector
        if self._brought_nothing() or self._cannot_be_laid_over():
            await loop.run_in_executor(self._writer, collector.discard)
        elif self._mode != UPDATE and report.lacking > await self._lacking_before():
            await self._hold_back()
            return
        else:
            repeated = report.records - report.unique if self._project.data.item_key else None
            await intake.note(
                stored_records=report.records, change=intake.tally.change,
                since=self._changes.watermark, ended_by=report.ended_by, notes=report.notes,
                lacking=report.lacking,
            )  # fmt: skip
            run: Run = await loop.run_in_executor(
                self._writer,
                lambda: collector.publish(
                    outcome=report.outcome, whole=self._whole, announced=report.announced,
                    repeated=repeated, keep_runs=self._project.storage.keep_runs,
                ),
            )  # fmt: skip
            report.published = True
            if self._project.storage.warc:
                from holdfast.sources.restapi.collecting.warc import write_warc

                await loop.run_in_executor(self._writer, write_warc, self._project, run)
        write_state(self._project, report, intake.tally, self._changes)
        if self._mode == INCREMENTAL:
            standing = await loop.run_in_executor(self._writer, _standing, self._project)
            if standing is not None:
                self._hold_against_announced(standing)

    async def _lacking_before(self) -> float:
        """How many records the stored archive is known to lack; infinite where nothing is."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._writer, lacking_in, self._project)

    async def _hold_back(self) -> None:
        """What came stays where the next run goes on with it; of a chain, which has no places to
        ask for again, it does not.
        """
        report = self._report
        report.held_back = is_numbered(self._project)
        report.outcome = Outcome.PARTIAL
        report.notes.append(
            "the stored archive lacks less, so it stays as it is. If the API's total is no exact"
            " number, set data.total_is_estimate"
        )
        if not report.held_back:
            loop = asyncio.get_running_loop()
            await loop.run_in_executor(self._writer, self._collector.discard)

    def _hold_against_announced(self, standing: int) -> None:
        """An export gives the latest state; all stored pages together may hold more than that."""
        report = self._report
        if report.announced is None or standing >= min(report.announced, report.unique):
            return
        report.notes.append(
            f"the latest state has {standing} records of {report.announced} announced:"
            " collect anew with `holdfast api run full`"
        )
        if not self._project.data.total_is_estimate:
            report.outcome = Outcome.PARTIAL


def _restore(intake: Intake) -> dict[int, int]:
    """Takes over what an earlier, cut-off run has stored; digests of its pages by number."""
    collector, again = intake.collector, (intake.collector.run.notes or {}).get("again", 0)
    digests: dict[int, int] = {}
    for response in list(collector.ledger.responses(collector.run.id)):
        body = collector.read(response.name)
        if response.time < again or body is None or response.name != intake.name(response.number):
            continue
        page = intake.reader.read_stored(body)
        evidence = json.loads(response.evidence)
        mark, _ = chain_position(evidence)
        when = datetime.fromisoformat(evidence["time"]) if "time" in evidence else None
        elapsed = evidence.get("elapsed", 0.0)
        intake.tally.hear(page, when, elapsed=elapsed, part=part_of(mark))
        intake.take_over(response.number, page)
        if page.digest in digests:
            numbers = digests[page.digest], response.number
            intake.alike[max(numbers)] = min(numbers)
        digests[page.digest] = response.number
    return digests


async def _walk_again(intake: Intake) -> Ending:
    """Reads everything a second time; what is not found again is dropped."""
    before = set(intake.stored)
    await intake.note(again=time.time_ns())
    intake.begin_again()
    ending = await NumberedWalk(intake).run()
    if not ending.failed:
        for number in before - intake.stored:
            await intake.forget(number)
    return ending


def _is_complete(report: Report, ending: Ending) -> bool:
    """Everything that was announced is here; without an announcement the walk must have ended by
    evidence.
    """
    if report.announced is None:
        return not ending.notes
    return not ending.notes and report.unique >= report.announced


def _standing(project: Project) -> int | None:
    """How many records the latest state has; None where it is the base alone, which was counted."""
    with open_archive(project.place) as archive:
        if len(archive.current()) == 1:
            return None
        return sum(map(len, state(project, archive)))


def _started(intake: Intake) -> datetime:
    """When the run began, also when this only goes on with it: windows end there."""
    return datetime.fromtimestamp(intake.collector.run.started / 10**9, UTC)


def _is_stored(project: Project) -> bool:
    try:
        with open_archive(project.place) as archive:
            return not archive.unfinished
    except NothingStoredError:
        return False


def _page_script(project: Project, stack: ExitStack) -> Callable[[bytes], Any] | None:
    if not project.code.postfetch:
        return None
    script = stack.enter_context(
        Script(
            project.folder / project.code.postfetch, folder=project.folder,
            functions=("process",), raw=True, limit=project.hooks.timeout,
        )
    )  # fmt: skip
    return script.ask


def _redactor(side: SideFiles) -> Redactor:
    """Knows the secrets that stand in the side files."""
    redactor = Redactor()
    for values in (side.headers, side.params, side.url_params):
        for name, value in values.items():
            if isinstance(value, str) and sensitive(name):
                redactor.learn(value.removeprefix("Bearer ").removeprefix("Basic "))
    return redactor


def _fingerprint(project: Project, side: SideFiles, changes: Changes) -> str:
    """Of everything that decides what is fetched; a cut-off run is gone on with only when it is
    the same.
    """
    told = [
        project.source.url, project.source.http_mode, project.source.iterate_by,
        project.source.resp_type, repr(project.params), repr(project.data), side.params,
        side.url_params, changes.params,
    ]  # fmt: skip
    return sha256(json.dumps(told, sort_keys=True, default=str).encode()).hexdigest()


def _summary(report: Report) -> dict[str, Any]:
    return {
        "pages_processed": report.pages, "records_processed": report.records,
        "bytes_processed": report.bytes, "outcome": str(report.outcome), "notes": report.notes,
        "errors": {str(number): text for number, text in report.failed.items()},
    }  # fmt: skip
