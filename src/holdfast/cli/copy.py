"""`holdfast copy`: snapshots of another repository come into this one."""

import os
from typing import Annotated

import typer

from holdfast.cli import options, repository
from holdfast.cli import settings as settings_of
from holdfast.cli.output import Output
from holdfast.cli.progress import Meter
from holdfast.cli.second import Second, opened_second, with_second
from holdfast.core.units import counted, format_size


@with_second
def copy(
    ctx: typer.Context,
    *,
    ids: Annotated[
        list[str] | None,
        typer.Argument(metavar="[SNAPSHOT]...", help="Only these; else all that fit."),
    ] = None,
    host: options.Hosts = None,
    tag: options.Tags = None,
    path: options.Paths = None,
    second: Second,
) -> None:
    """Copies snapshots from --from-repo into -r, with all that they need. What is there already is
    skipped.
    """
    from holdfast.repo.format.pack import DEFAULT_PACK_SIZE
    from holdfast.repo.upkeep.copy import copy_snapshots, same_polynomial

    settings = settings_of.of(ctx)
    output = Output(settings)
    chosen = options.Chosen.of(host, tag, path)
    with (
        opened_second(settings, second, output) as source,
        repository.opened(settings, output) as destination,
    ):
        if not same_polynomial(source, destination):
            output.note(
                "the repositories cut files differently: what is backed up into both is not "
                "deduplicated (`init --copy-chunker-params` makes one that does)"
            )
        wanted = options.named_or_fitting(
            repository.readable_snapshots(source, output), ids or [], chosen
        )
        with (
            repository.locked(source, settings, output, refreshing=False) as source_lock,
            repository.locked(
                destination, settings, output, writing=True, refreshing=False
            ) as lock,
            Meter(output) as meter,
        ):
            report = copy_snapshots(
                source,
                destination,
                wanted,
                lock=lock,
                source_lock=source_lock,
                progress=meter,
                pack_size=settings.pack_size << 20 if settings.pack_size else DEFAULT_PACK_SIZE,
                workers=len(os.sched_getaffinity(0)),
            )
    copied = [each for each in report.snapshots if not each.skipped]
    if output.json:
        for each in report.snapshots:
            output.message(
                "copied",
                source_snapshot_id=each.source,
                snapshot_id=each.copy,
                skipped=each.skipped,
            )
        output.message(
            "summary",
            snapshots_copied=len(copied),
            snapshots_skipped=len(report.snapshots) - len(copied),
            blobs_copied=report.blobs,
            bytes_stored=report.bytes,
        )
        return
    for each in report.snapshots:
        end = "is there already" if each.skipped else "copied"
        output.said(f"snapshot {each.source[:8]} {end} as {each.copy[:8]}")
    output.said(
        f"copied {counted(len(copied), 'snapshot')}: {counted(report.blobs, 'blob')}, "
        f"{format_size(report.bytes)} stored"
    )
