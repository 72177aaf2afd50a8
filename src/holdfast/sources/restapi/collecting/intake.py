"""Where the fetch loop meets the disk: one page at a time is asked for, judged, stored and counted.

Storing happens in a thread of its own, in the order of calls; the loop goes on meanwhile.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any

from holdfast.core.errors import FetchError
from holdfast.sources.restapi.asking.pages import Page
from holdfast.sources.restapi.asking.request import Draft, complete_request, draft_request
from holdfast.sources.restapi.asking.session import Wanting
from holdfast.sources.restapi.kept.archive import UPDATE

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from collections.abc import Set as AbstractSet
    from concurrent.futures import Executor

    from holdfast.sources.restapi.asking.hooks import HookScripts
    from holdfast.sources.restapi.asking.pages import PageReader
    from holdfast.sources.restapi.asking.paging import Mark
    from holdfast.sources.restapi.asking.request import SideFiles
    from holdfast.sources.restapi.asking.session import Answer, Session
    from holdfast.sources.restapi.collecting.tally import Tally
    from holdfast.sources.restapi.kept.collector import Collector
    from holdfast.sources.restapi.project.project import Project


class Intake:
    """Everything a walk needs to get and keep pages."""

    def __init__(
        self,
        project: Project,
        *,
        side: SideFiles,
        session: Session,
        reader: PageReader,
        collector: Collector,
        writer: Executor,
        hooks: HookScripts,
        tally: Tally,
        mode: str,
        extra: Mapping[str, Any],
        on_page: Callable[[Tally], None],
    ) -> None:
        self.project = project
        self.session = session
        self.collector = collector
        self.reader = reader
        self.tally = tally
        self.mode = mode
        self.counts: dict[int, int] = {}
        """Records of each page that need not be asked for, by the page's number."""
        self.last = project.params.start_page
        """The highest of them."""
        self.alike: dict[int, int] = {}
        """Of them, pages that hold record for record what an earlier one holds, and which."""
        self._side = side
        self._writer = writer
        self._hooks = hooks
        self._extra = extra
        self._on_page = on_page
        self._earlier: Callable[[int, bytes], str | None] = lambda _number, _body: None

    @property
    def wants_changes(self) -> bool:
        """The API is asked for what changed, not for the whole list."""
        return bool(self._extra)

    @property
    def stored(self) -> AbstractSet[int]:
        """Numbers of pages that need not be asked for."""
        return self.counts.keys()

    def stored_page(self, number: int) -> Page | None:
        """A page as this run, or one before it, has stored it."""
        body = self.collector.read(self.name(number))
        return None if body is None else self.reader.read_stored(body)

    def take_over(self, number: int, page: Page) -> None:
        """Counts a page that is stored already."""
        self.tally.count(page)
        self.counts[number] = len(page.records)
        self.last = max(self.last, number)

    def begin_again(self) -> None:
        """As if nothing had been stored."""
        self.counts.clear()
        self.alike.clear()
        self.last = self.project.params.start_page
        self.tally.reset()

    def compare_with(self, earlier: Callable[[int, bytes], str | None]) -> None:
        """From now on a page whose bytes an earlier member holds is recorded without storing them
        again.
        """
        self._earlier = earlier

    def name(self, number: int) -> str:
        """The archive's member for a page."""
        folder = f"runs/{self.collector.run.id}/" if self.mode == UPDATE else ""
        return f"{folder}page_{number}.json"

    async def fetch(
        self, number: int, changes: Mapping[str, Any], *, url: str | None = None,
        judge: Callable[[Answer], Any] | None = None, tries: int | None = None, part: str = "",
    ) -> tuple[Answer, Page]:  # fmt: skip
        """One page, judged and counted for what it announces. Any: JSON.

        Args:
            tries: at most so many more, where the project's number is too patient.
            part: of the list, where each part has a total of its own.

        Raises:
            FetchError: it cannot be had.
            HookError: a script of the project failed.
        """
        draft = draft_request(self.project, self._side, {**self._extra, **changes})
        if url is not None:
            draft = Draft(
                url, draft.params if self.project.source.http_mode == "POST" else {}, draft.headers
            )
        draft = await self._hooks.before_request(draft, number)
        answer = await self.session.fetch(
            complete_request(self.project, draft), judge or self.reader.judge, tries=tries
        )
        await self._hooks.after_response(draft, number, answer)
        page: Page = answer.judged
        self.tally.hear(page, answer.time, elapsed=answer.elapsed, part=part)
        return answer, page

    async def fetch_again(
        self, number: int, changes: Mapping[str, Any], *, known: Mapping[int, int], why: str,
        tries: int | None = None,
    ) -> tuple[Answer, Page] | FetchError:  # fmt: skip
        """A page that must hold records other than the `known` ones, with so many more tries, or
        with as many as any. Any: JSON.
        """

        async def insist(answer: Answer) -> Page:
            judged = self.reader.judge(answer)
            page = judged if isinstance(judged, Page) else await judged
            if not page.records or page.digest in known:
                raise Wanting(f"gives no records of its own ({why})", tries=tries)
            return page

        try:
            return await self.fetch(number, changes, judge=insist)
        except FetchError as error:
            return error

    async def store(
        self, number: int, answer: Answer, page: Page, *, mark: Mark | None = None,
        following: Mark | None = None,
    ) -> None:  # fmt: skip
        """Keeps a page for good and counts it.

        Args:
            mark: where a chained listing stood for this page.
            following: and where it goes on.
        """
        evidence = self.session.evidence(answer)
        if mark is not None:
            evidence["mark"] = self.session.redactor.tree(mark.as_json())
            evidence["next"] = (
                self.session.redactor.tree(following.as_json()) if following else None
            )
        body = self.session.redactor.body(page.body)
        if body is not page.body:
            evidence["redacted"] = True
        await self._in_writer(self._keep, number, body, evidence, len(page.records), page.digest)
        self.counts[number] = len(page.records)
        self.last = max(self.last, number)
        self.tally.count(page)
        await self._hooks.after_page(number, self.tally.records, len(body))
        self._on_page(self.tally)

    async def keep_aside(self, number: int, body: bytes) -> None:
        """Keeps what a page was before this run replaces it, where no listing looks."""
        name = f"replaced/{self.collector.run.id}/page_{number}.json"
        await self._in_writer(self.collector.add, name, body, {})

    async def note(self, **notes: Any) -> None:
        """Remembers something about the run. Any: JSON."""
        await self._in_writer(partial(self.collector.note, **notes))

    async def forget(self, number: int) -> None:
        """Drops a page that turned out to be none."""
        self.counts.pop(number, None)
        self.last = max(self.stored, default=self.project.params.start_page)
        await self._in_writer(
            self.collector.ledger.forget, self.collector.run.id, self.name(number)
        )

    def _keep(
        self, number: int, body: bytes, evidence: dict[str, Any], records: int, digest: int
    ) -> None:
        name = self.name(number)
        same = self._earlier(number, body)
        if same is None:
            self.collector.add(name, body, evidence, number=number, records=records, digest=digest)
        else:
            self.collector.add_same(
                name, same, evidence, body=body, number=number, records=records, digest=digest
            )

    async def _in_writer(self, function: Callable[..., object], *arguments: object) -> None:
        await asyncio.get_running_loop().run_in_executor(self._writer, function, *arguments)
