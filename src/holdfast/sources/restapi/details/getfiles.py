"""Downloading the files that records or their details name."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from holdfast.core.errors import AddressError, FetchError, ProjectError
from holdfast.core.progress import Silence
from holdfast.net.egress import OWN_MACHINE
from holdfast.sources.restapi.asking.redact import holds_secret
from holdfast.sources.restapi.asking.session import Request, open_session
from holdfast.sources.restapi.details.keys import check_keys
from holdfast.sources.restapi.details.misses import Miss, Misses, Patience
from holdfast.sources.restapi.details.window import spread
from holdfast.sources.restapi.kept.archive import open_archive
from holdfast.sources.restapi.kept.latest import state
from holdfast.sources.restapi.kept.members import details, followed
from holdfast.sources.restapi.kept.shelf import open_shelf
from holdfast.sources.restapi.project.place import writing
from holdfast.sources.restapi.records.filters import split_key, values_at
from holdfast.sources.restapi.records.naming import filled, joined, key_name, path_name

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    from holdfast.core.progress import Progress
    from holdfast.net.egress import Egress
    from holdfast.sources.restapi.asking.session import Answer, Session
    from holdfast.sources.restapi.kept.archive import Archive
    from holdfast.sources.restapi.kept.shelf import Shelf
    from holdfast.sources.restapi.project.project import Project
    from holdfast.sources.restapi.project.sections import Files

_BREATH: Final = 256


@dataclass(frozen=True, slots=True)
class Wanted:
    """A file to have: the value that names it, its address, the name it is kept under."""

    value: str
    url: str
    name: str
    flaw: AddressError | None = None
    """Why the value makes no address."""


@dataclass(slots=True)
class Gotten:
    """What a run did."""

    fetched: int = 0
    present: int = 0
    bytes: int = 0
    misses: int = 0
    first_misses: list[Miss] = field(default_factory=list)
    misses_file: str | None = None


def getfiles(
    project: Project,
    *,
    progress: Progress | None = None,
    log: Callable[[str], None] | None = None,
    say: Callable[[str], None] = lambda _: None,
    egress: Egress = OWN_MACHINE,
) -> Gotten:
    """Downloads every file that is named and not there yet. What fails is listed, the rest goes on.
    `log`, `say` and `egress` as in `asking.session.open_session`.

    The names come from the details where the project follows and has some, from the records
    otherwise, each time anew, so
    that new records bring new files. A file that was broken off goes on where the server can do
    that.

    Raises:
        ProjectError: the project has no files section.
        NothingStoredError: there are no records yet.
        FetchError: too much failed in a row, or everything did.
    """
    if project.files is None:
        raise ProjectError("the project has no [files] section", remedy="There are none to get.")
    with contextlib.ExitStack() as closing:
        archive = closing.enter_context(open_archive(project.place))
        check_keys(
            _batches(project, archive), project.files.keys, word="files.keys",
            splitter=project.settings.splitter,
        )  # fmt: skip
        shelf = closing.enter_context(open_shelf(project))
        if shelf.rebuilt:
            say(shelf.rebuilt)
        misses = closing.enter_context(Misses(project.place.folder / "files_skipped.list"))
        wanted = closing.enter_context(contextlib.closing(wanted_files(project, archive)))
        work = _Getting(
            project, wanted, shelf, misses, progress or Silence(), Patience(project.errors)
        )
        work.progress.stage("getting files")
        asyncio.run(work.run(open_session(project, log=log, say=say, egress=egress)))
    return work.report


def wanted_files(project: Project, archive: Archive) -> Generator[Wanted, None, None]:
    """Every file that records name, in their order; the same may come again."""
    assert project.files is not None
    paths = [split_key(key, project.settings.splitter) for key in project.files.keys]
    for batch in _batches(project, archive):
        for record in batch:
            for path in paths:
                for value in values_at(record, path):
                    named = isinstance(value, str | int) and not isinstance(value, bool)
                    if named and str(value).strip():
                        yield _wanted(project, project.files, str(value).strip())


def _batches(project: Project, archive: Archive) -> Iterator[list[Any]]:
    stored = followed(project)
    return details(project, stored) if stored else state(project, archive)


def _wanted(project: Project, files: Files, value: str) -> Wanted:
    start = project.source.url
    try:
        if "{" in files.root_url or files.fetch_mode == "pattern":
            url = filled(files.root_url, value, start)
        else:
            url = joined(files.root_url, value, start)
    except AddressError as error:
        return Wanted(value, value, key_name(value, files.default_ext), error)
    if files.storage_mode == "id":
        return Wanted(value, url, key_name(value, files.default_ext))
    return Wanted(value, url, path_name(url, secret=holds_secret(files.root_url)))


@dataclass(slots=True)
class _Getting:
    project: Project
    wanted: Iterator[Wanted]
    shelf: Shelf
    misses: Misses
    progress: Progress
    patience: Patience
    report: Gotten = field(default_factory=Gotten)
    flying: set[str] = field(default_factory=set)

    async def run(self, opening: AbstractAsyncContextManager[Session]) -> None:
        headers = self.project.json_file("headers.json")
        fixed = tuple((name, str(value)) for name, value in headers.items() if value is not None)
        failed: FetchError | None = None
        try:
            async with opening as session:
                await self._get_all(session, fixed)
        except FetchError as error:
            failed = error
        report, misses = self.report, self.misses
        report.misses, report.first_misses = misses.count, misses.first
        report.misses_file = str(misses.path) if misses.count else None
        self.shelf.publish("partial" if misses.count else "succeeded")
        if failed:
            raise failed
        if misses.count and not report.fetched and not report.present:
            first = misses.first[0].reason
            raise FetchError(f"none of {misses.count} files could be fetched; the first: {first}")

    async def _get_all(self, session: Session, headers: tuple[tuple[str, str], ...]) -> None:
        async def work(wanted: Wanted) -> Answer:
            if wanted.flaw:
                raise wanted.flaw
            draft = self._draft(wanted)
            with writing(draft):
                return await session.download(Request(url=wanted.url, headers=headers), draft)

        results = spread(self._take, work, width=lambda: 2 * session.width, ordered=False)
        # one thread of its own, since packing a large file takes long and the rest must go on
        with ThreadPoolExecutor(1) as packing:
            async with contextlib.aclosing(results):
                async for wanted, task in results:
                    self.flying.discard(wanted.name)
                    try:
                        await self._keep(session, wanted, task.result(), packing)
                    except FetchError as error:
                        self._missed(session, wanted, error)

    async def _take(self) -> Wanted | None:
        for passed, wanted in enumerate(self.wanted, start=1):
            if wanted.name not in self.flying:
                if not self.shelf.has(wanted.name):
                    self.flying.add(wanted.name)
                    return wanted
                self.report.present += 1
            if passed % _BREATH == 0:
                await asyncio.sleep(0)
        return None

    async def _keep(
        self, session: Session, wanted: Wanted, answer: Answer, packing: ThreadPoolExecutor
    ) -> None:
        self.patience.succeeded()
        draft = self._draft(wanted)
        size = draft.stat().st_size
        evidence = session.evidence(answer)
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(packing, self.shelf.add, wanted.name, draft, evidence)
        self.report.fetched += 1
        self.report.bytes += size
        self.progress.add(items=1, bytes=size)
        with (self.project.place.folder / "files.list").open("a", encoding="utf-8") as done:
            done.write(session.redactor.url(wanted.url) + "\n")

    def _missed(self, session: Session, wanted: Wanted, error: FetchError) -> None:
        url = session.redactor.url(wanted.url)
        self.misses.add(Miss(wanted.name, url, error.message, error.status))
        self.progress.add(items=1)
        self.patience.failed(error)

    def _draft(self, wanted: Wanted) -> Path:
        """Where a download lies until it is whole: the same place at the next try."""
        digest = hashlib.sha256(wanted.url.encode()).hexdigest()[:32]
        return self.project.place.state / f"files-{digest}.part"
