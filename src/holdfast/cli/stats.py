"""`holdfast stats`: how much snapshots hold."""

import os
from typing import Annotated

import typer

from holdfast.cli import options, repository
from holdfast.cli import settings as settings_of
from holdfast.cli.output import Output
from holdfast.cli.progress import Meter
from holdfast.core.errors import UsageError
from holdfast.core.units import format_size

MODES = ("restore-size", "files-by-contents", "blobs-per-file", "raw-data")


def stats(
    ctx: typer.Context,
    *,
    ids: options.SnapshotNames = None,
    mode: Annotated[
        str, typer.Option("--mode", metavar="MODE", help=f"What to count: {', '.join(MODES)}.")
    ] = "restore-size",
    host: options.Hosts = None,
    tag: options.Tags = None,
    path: options.Paths = None,
) -> None:
    """Counts files and bytes of snapshots; with --mode raw-data what they take in store."""
    from holdfast.repo.upkeep.stats import CountMode
    from holdfast.repo.upkeep.stats import stats as count

    if mode not in MODES:
        raise UsageError(f"there is no --mode {mode!r}", remedy=f"Known are {', '.join(MODES)}.")
    settings = settings_of.of(ctx)
    output = Output(settings)
    chosen = options.Chosen.of(host, tag, path)
    with (
        repository.opened(settings, output) as opened,
        repository.locked(opened, settings, output),
        Meter(output) as meter,
    ):
        wanted = options.named_or_fitting(
            repository.readable_snapshots(opened, output), ids or [], chosen
        )
        result = count(
            opened,
            wanted,
            CountMode(mode),
            progress=meter,
            workers=len(os.sched_getaffinity(0)),
        )
    if output.json:
        output.document(result.as_json())
        return
    output.line(f"Snapshots counted:  {result.snapshots_count}")
    if result.total_file_count:
        output.line(f"  Total File Count:  {result.total_file_count}")
    if result.total_blob_count:
        output.line(f"  Total Blob Count:  {result.total_blob_count}")
    if result.uncompressed:
        output.line(f"Total Uncompressed:  {format_size(result.uncompressed)}")
    output.line(f"        Total Size:  {format_size(result.total_size)}")
