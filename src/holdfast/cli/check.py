"""`holdfast check`: is everything there, and is it what was written?"""

import os
from typing import TYPE_CHECKING, Annotated

import typer

from holdfast.cli import repository
from holdfast.cli import settings as settings_of
from holdfast.cli.output import Output
from holdfast.cli.progress import Meter
from holdfast.core.errors import DamagedError, UsageError
from holdfast.core.units import counted, format_duration, format_size

if TYPE_CHECKING:
    from holdfast.repo.upkeep.check import CheckReport, Finding, Subset

_SHOWN = 20
"""Files that the text names for one finding; JSON names all."""


def check(
    ctx: typer.Context,
    *,
    read_data: Annotated[
        bool, typer.Option("--read-data", help="Read every pack and compare every blob.")
    ] = False,
    read_data_subset: Annotated[
        str,
        typer.Option(metavar="SUBSET", help="Read a part: n/t, x%, or a size of random packs."),
    ] = "",
    with_cache: Annotated[
        bool, typer.Option("--with-cache", help="Taken for restic's sake: packs are never cached.")
    ] = False,
) -> None:
    """Looks for damage. Whatever it finds is named, with every file of every snapshot that it hits.

    Ends with 1 where a snapshot cannot be restored whole. Changes nothing.
    """
    from holdfast.repo.upkeep.check import check as look

    del with_cache
    settings = settings_of.of(ctx)
    output = Output(settings)
    subset = _subset(read_data, read_data_subset)
    with (
        repository.opened(settings, output) as opened,
        repository.locked(opened, settings, output, refreshing=False) as lock,
        Meter(output) as meter,
    ):
        report = look(
            opened,
            read=subset,
            lock=lock,
            progress=meter,
            workers=len(os.sched_getaffinity(0)),
        )
        elapsed = meter.elapsed
    _tell(output, report, elapsed)
    if not report.sound:
        hit = len(report.affected)
        raise DamagedError(
            f"the repository is damaged; of {counted(report.snapshots, 'snapshot')} it hits {hit}"
            if hit
            else "the repository is damaged; no snapshot is known to be hit",
            remedy=f"Files that are not named above can be restored. {report.advice}",
        )


def _subset(everything: bool, part: str) -> "Subset | None":
    from holdfast.repo.upkeep.check import ALL, Subset

    if everything and part:
        raise UsageError("--read-data and --read-data-subset cannot be given together")
    if not part:
        return ALL if everything else None
    try:
        return Subset.parse(part)
    except ValueError as error:
        raise UsageError(f"--read-data-subset: {error}") from error


def _tell(output: Output, report: "CheckReport", elapsed: float) -> None:
    for finding in report.findings:
        if output.json:
            output.message(
                "error" if finding.harmful else "note",
                message=finding.message,
                kind=finding.kind,
                id=finding.name,
                hits=[
                    {"path": hit.path.decode(errors="replace"), "snapshots": list(hit.snapshots)}
                    for hit in finding.hits
                ],
            )
        else:
            _tell_finding(output, finding)
    harmful = [finding for finding in report.findings if finding.harmful]
    index_damaged = any(finding.kind == "index" for finding in harmful)
    harmless = 0 if index_damaged else len(report.findings) - len(harmful)
    if output.json:
        output.message(
            "summary",
            num_errors=len(harmful),
            broken_packs=[finding.name for finding in harmful if finding.kind == "data"] or None,
            suggest_repair_index=index_damaged,
            suggest_prune=harmless > 0,
            snapshots=report.snapshots,
            trees=report.trees,
            packs=report.packs,
            packs_read=report.packs_read,
            bytes_read=report.bytes_read,
            affected_snapshots=report.affected,
        )
        return
    read = f", {report.packs_read} of them read ({format_size(report.bytes_read)})"
    output.said(
        f"checked {counted(report.snapshots, 'snapshot')}, {counted(report.trees, 'tree')},"
        f" {counted(report.packs, 'pack')}"
        f"{read if report.packs_read else ''} in {format_duration(elapsed)}"
    )
    if not harmful:
        output.said("no errors were found")
    if harmless:
        output.said(f"{counted(harmless, 'thing')} to tidy up: `holdfast prune` does")


def _tell_finding(output: Output, finding: "Finding") -> None:
    if finding.harmful:
        output.warn(f"error: {finding.message}")
    else:
        output.note(f"note: {finding.message}")
    for hit in finding.hits[:_SHOWN]:
        names = ", ".join(name[:8] for name in hit.snapshots)
        output.warn(f"  hits {output.shown(hit.path)} in {names}")
    if len(finding.hits) > _SHOWN:
        output.warn(f"  and {len(finding.hits) - _SHOWN} more; --json names them all")
