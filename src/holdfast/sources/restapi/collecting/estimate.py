"""How long a run will take and how much it will bring, from one real page."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from holdfast.net.egress import OWN_MACHINE
from holdfast.sources.restapi.asking.manners import limits_of
from holdfast.sources.restapi.asking.pages import Page, PageReader
from holdfast.sources.restapi.asking.paging import Chain, is_numbered, numbered_changes, sent
from holdfast.sources.restapi.asking.request import (
    Draft,
    complete_request,
    draft_request,
    read_side_files,
)
from holdfast.sources.restapi.asking.scripts import Script
from holdfast.sources.restapi.asking.session import only_looking, open_session
from holdfast.sources.restapi.project.sections import DEFAULT_PARALLEL
from holdfast.sources.restapi.records.documents import as_json

if TYPE_CHECKING:
    from collections.abc import Callable

    from holdfast.net.egress import Egress
    from holdfast.sources.restapi.asking.session import Answer
    from holdfast.sources.restapi.project.project import Project


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """Seconds and bytes. None where the API announces no total."""

    total_records: int | None
    records_per_request: int
    total_requests: int | None
    average_record_size: float
    estimated_size: float | None
    request_time: float
    sequential_time: float | None
    """All requests one after the other."""
    expected_time: float | None
    """As a run makes them: side by side, within the limits."""

    def lines(self) -> list[str]:
        """As they are documented."""
        lines = []
        if self.total_records is not None:
            lines.append(f"Total records: {self.total_records}")
        lines.append(f"Records per request: {self.records_per_request}")
        if self.total_requests is not None:
            lines.append(f"Total requests: {self.total_requests}")
        lines.append(f"Average record size {self.average_record_size:.2f} bytes")
        if self.estimated_size is not None:
            lines.append(f"Estimated size (json lines) {self.estimated_size / 1e6:.2f} MB")
        lines.append(f"Avg request time, seconds {self.request_time:.4f}")
        if self.sequential_time is not None:
            lines.append(f"Estimated all requests time, seconds {self.sequential_time:.4f}")
        if self.expected_time is not None:
            lines.append(f"Expected time of a run, seconds {self.expected_time:.1f}")
        if self.total_records is None:
            lines.append("The API announces no total: set data.total_number_key if it does.")
        return lines


def estimate_project(
    project: Project,
    *,
    say: Callable[[str], None] = lambda _: None,
    egress: Egress = OWN_MACHINE,
) -> Estimate:
    """Measures the first page as a run would ask for it. `say` and `egress` as in
    `asking.session.open_session`.

    Raises:
        FetchError: it cannot be had.
    """
    with only_looking():
        answer, page = asyncio.run(_fetch_first(project, say=say, egress=egress))
    count = len(page.records)
    limit = project.params.page_size_limit
    total = page.total
    capped = count and total is not None and count < min(total, limit or count)
    per_request = count if capped or not limit else limit
    requests = page.pages
    if total is not None:
        requests = max(1, -(-total // max(per_request, 1)))
    size = sum(len(as_json(record).encode(errors="surrogatepass")) + 1 for record in page.records)
    average = size / count if count else 0.0
    sequential = requests * answer.elapsed if requests is not None else None
    return Estimate(
        total_records=total,
        records_per_request=per_request,
        total_requests=requests,
        average_record_size=average,
        estimated_size=average * total if total is not None else None,
        request_time=answer.elapsed,
        sequential_time=sequential,
        expected_time=_expected(project, requests, answer.elapsed),
    )


async def _fetch_first(
    project: Project, *, say: Callable[[str], None], egress: Egress
) -> tuple[Answer, Page]:
    """The first page, judged as a run would.

    Raises:
        FetchError: it cannot be had.
    """
    side = read_side_files(project)
    if is_numbered(project):
        first = project.params.start_page
        changes = numbered_changes(project, first, stride=project.params.page_size_limit)
    else:
        changes = sent(Chain(project).first())
    draft: Draft = draft_request(project, side, changes)
    script = None
    if project.code.postfetch:
        script = Script(
            project.folder / project.code.postfetch, folder=project.folder,
            functions=("process",), raw=True, limit=project.hooks.timeout,
        )  # fmt: skip
    try:
        reader = PageReader(project, script=script.ask if script else None)
        async with open_session(project, say=say, egress=egress) as session:
            answer = await session.fetch(complete_request(project, draft), reader.judge)
            return answer, answer.judged
    finally:
        if script:
            await asyncio.to_thread(script.close)


def _expected(project: Project, requests: int | None, elapsed: float) -> float | None:
    if requests is None:
        return None
    width = 1 if not is_numbered(project) else project.request.parallelism or DEFAULT_PARALLEL
    limits = limits_of(project)
    times = [elapsed, requests * elapsed / min(width, requests), requests * limits.spacing]
    if limits.per_second:
        times.append(max(0, requests - limits.burst) / limits.per_second)
    for length, most in ((60, limits.per_minute), (3600, limits.per_hour)):
        if most:
            times.append((requests - 1) // most * float(length))
    return max(times)
