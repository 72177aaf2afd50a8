"""What `holdfast api run` shows while it works and says at the end."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import typer

from holdfast.cli.api_log import log_of
from holdfast.cli.api_options import expect_many_records
from holdfast.cli.progress import Display
from holdfast.core.errors import NoProjectError
from holdfast.core.outcome import EXIT_CODES
from holdfast.core.units import format_duration, format_size
from holdfast.sources.restapi.asking.paging import is_numbered, number_param
from holdfast.sources.restapi.asking.redact import public_url
from holdfast.sources.restapi.collecting.run import Orders, Report, run_project
from holdfast.sources.restapi.project.project import load_project

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from holdfast.cli.output import Output
    from holdfast.sources.restapi.asking.session import Traffic
    from holdfast.sources.restapi.collecting.detect import Detection
    from holdfast.sources.restapi.collecting.tally import Tally
    from holdfast.sources.restapi.project.project import Project

_LISTED = 20
"""Failed pages that are named one by one."""


class Progress:
    """Counts of a run as people want to see them: records, bytes, rate, and how long it still
    takes.
    """

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._before: int | None = None
        self._tally: Tally | None = None
        self._traffic: Traffic | None = None

    def take(self, tally: Tally, traffic: Traffic) -> None:
        if self._before is None:
            self._before = tally.records
        self._tally, self._traffic = tally, traffic

    def status(self) -> dict[str, Any]:
        """Any: JSON."""
        if self._tally is None or self._traffic is None:
            return {"records": 0, "bytes": 0}
        elapsed = max(time.monotonic() - self._began, 1e-6)
        rate = (self._tally.records - (self._before or 0)) / elapsed
        announced = self._tally.announced
        left = None if announced is None or rate <= 0 else (announced - self._tally.records) / rate
        return {
            "records": self._tally.records, "announced": announced, "pages": self._tally.pages,
            "bytes": self._tally.bytes, "requests": self._traffic.requests,
            "retries": self._traffic.retries, "seconds_elapsed": round(elapsed, 1),
            "records_per_second": round(rate, 1),
            "seconds_remaining": None if left is None else round(max(left, 0), 1),
        }  # fmt: skip

    def lines(self) -> list[str]:
        status = self.status()
        if "pages" not in status:
            return ["waiting for the first page"]
        whole = f" of {status['announced']}" if status["announced"] is not None else ""
        line = (
            f"{status['records']}{whole} records, {format_size(status['bytes'])},"
            f" {status['records_per_second']:.0f} records/s"
        )
        if status["seconds_remaining"] is not None:
            line += f", {format_duration(status['seconds_remaining'])} left"
        if status["retries"]:
            line += f", {status['retries']} tries repeated"
        return [line]


def run_and_report(
    project: Project, mode: str, out: Output, *, restart: bool, allow_empty: bool, verbose: bool
) -> None:
    """Runs and prints; ends the command with the exit code of the outcome."""
    expect_many_records()
    progress = Progress()
    with (
        Display(out, lines=progress.lines, status=progress.status) as display,
        log_of(project, display.say if verbose else None) as log,
    ):
        display.wake()
        report = run_project(
            project, mode,
            Orders(restart=restart, allow_empty=allow_empty, on_page=progress.take, log=log,
                   say=display.say),
        )  # fmt: skip
    if out.json:
        out.message("summary", **_as_json(report))
    else:
        for line in _summary(project, report):
            out.said(line)
        for line in _remarks(report):
            out.warn(line)
    if report.published and project.storage.storage_type == "repository":
        from holdfast.cli.api_keep import keep_in_repository

        keep_in_repository(project, out)
    raise typer.Exit(EXIT_CODES[report.outcome])


def plan(project: Project, mode: str) -> dict[str, Any]:
    """What a run would do, without a request. Any: JSON."""
    return {
        "mode": mode,
        "project": project.name,
        "url": public_url(project.source.url),
        "http_mode": project.source.http_mode,
        "iterate_by": project.source.iterate_by,
        "side_by_side": is_numbered(project) and number_param(project) is not None,
        "page_size": project.params.page_size_limit or None,
        "first_page": project.params.start_page,
        "storage": str(project.place.pages),
    }


def detect_in(folder: Path, url: str | None, *, say: Callable[[str], None]) -> Detection:
    """Detects with a folder's project, or at a bare address where there is none. `say` hears of
    long waits.

    Raises:
        NoProjectError: neither project nor address.
    """
    from holdfast.sources.restapi.collecting.detect import detect_project, with_url

    try:
        project = load_project(folder)
    except NoProjectError:
        if url is None:
            raise
        return detect_project(_bare_project(folder, url), say=say)
    return detect_project(with_url(project, url) if url else project, say=say)


def _bare_project(folder: Path, url: str) -> Project:
    import tempfile
    from dataclasses import replace
    from pathlib import Path as Folder

    from holdfast.sources.restapi.project.create import create_project

    with tempfile.TemporaryDirectory() as scratch:
        create_project(Folder(scratch), {"project": {"url": url}})
        return replace(load_project(Folder(scratch)), folder=folder)


def _summary(project: Project, report: Report) -> list[str]:
    took = max(report.elapsed, 1e-6)
    what = f"{report.records} records in {report.pages} pages ({format_size(report.bytes)})"
    lines = [f"{report.mode}: {what}, {report.requests} requests in {took:.1f} s"]
    if report.resumed:
        lines.append(f"went on with {report.resumed} pages of a run that was cut off")
    if report.unique != report.records:
        lines.append(f"{report.unique} of them different by item_key")
    if report.announced is not None:
        lines.append(f"announced by the API: {report.announced}")
    if report.ended_by:
        lines.append(f"ended by: {report.ended_by}")
    if report.published:
        lines.append(f"kept in {project.place.pages}")
    elif not report.failed and not report.lacking:
        lines.append("nothing has changed")
    return lines


def _remarks(report: Report) -> list[str]:
    lines = list(report.notes)
    lines += [f"page {number}: {text}" for number, text in list(report.failed.items())[:_LISTED]]
    if len(report.failed) > _LISTED:
        lines.append(f"and {len(report.failed) - _LISTED} pages more")
    if report.failed:
        lines.append("Not all pages could be had, so the archive is as it was.")
    if report.failed or report.held_back:
        lines.append("What came is kept: run again, and only what is missing is fetched.")
    return lines


def _as_json(report: Report) -> dict[str, Any]:
    return {
        "mode": report.mode, "outcome": str(report.outcome), "published": report.published,
        "pages": report.pages, "records": report.records, "unique": report.unique,
        "announced": report.announced, "bytes": report.bytes, "requests": report.requests,
        "retries": report.retries, "resumed_pages": report.resumed,
        "seconds": round(report.elapsed, 3), "ended_by": report.ended_by, "notes": report.notes,
        "lacking": report.lacking, "held_back": report.held_back,
        "failed": [{"page": number, "message": text} for number, text in report.failed.items()],
    }  # fmt: skip
