"""`holdfast prune`: space that no snapshot needs becomes free."""

import os
from typing import TYPE_CHECKING, Annotated

import typer

from holdfast.cli import options, repository
from holdfast.cli import settings as settings_of
from holdfast.cli.output import Output
from holdfast.cli.progress import Meter
from holdfast.cli.settings import Settings
from holdfast.core.errors import PartialError, UsageError
from holdfast.core.units import counted, format_size, parse_duration, parse_size

if TYPE_CHECKING:
    from holdfast.repo.upkeep.prune import PruneReport
    from holdfast.repo.upkeep.prune_plan import PruneOptions

MaxUnused = Annotated[
    str,
    typer.Option(metavar="LIMIT", help="Unneeded data that may stay: 5%, 200M or unlimited."),
]
MaxRepackSize = Annotated[
    str, typer.Option(metavar="SIZE", help="Most to move in this run, like 10G.")
]
RepackCacheableOnly = Annotated[
    bool, typer.Option("--repack-cacheable-only", help="Move only what holds trees.")
]
RepackSmall = Annotated[bool, typer.Option("--repack-small", help="Put small packs together.")]
RepackUncompressed = Annotated[
    bool, typer.Option("--repack-uncompressed", help="Compress what is not compressed yet.")
]
Grace = Annotated[
    str,
    typer.Option(
        metavar="DURATION",
        help="Take packs out of use now; a prune that comes later than this deletes them.",
    ),
]


def prune(
    ctx: typer.Context,
    *,
    max_unused: MaxUnused = "5%",
    max_repack_size: MaxRepackSize = "",
    repack_cacheable_only: RepackCacheableOnly = False,
    repack_small: RepackSmall = False,
    repack_uncompressed: RepackUncompressed = False,
    grace: Grace = "0s",
    unsafe_recover_no_free_space: Annotated[
        str,
        typer.Option(
            metavar="TEXT", help="Taken for restic's sake: a full disk needs no option here."
        ),
    ] = "",
    dry_run: options.DryRun = False,
) -> None:
    """Deletes data that no snapshot needs. Works on a full disk, too."""
    settings = settings_of.of(ctx)
    output = Output(settings)
    del unsafe_recover_no_free_space
    wanted = parse_options(
        settings,
        max_unused=max_unused,
        max_repack_size=max_repack_size,
        cacheable_only=repack_cacheable_only,
        small=repack_small,
        uncompressed=repack_uncompressed,
        grace=grace,
        dry_run=dry_run,
    )
    from holdfast.repo.upkeep.prune import prune as free_space

    with repository.opened(settings, output) as opened, Meter(output) as meter:
        if dry_run:
            report = free_space(opened, wanted, lock=None, progress=meter, workers=_workers())
        else:
            with repository.locked(
                opened, settings, output, exclusive=True, refreshing=False
            ) as lock:
                report = free_space(opened, wanted, lock=lock, progress=meter, workers=_workers())
    tell(output, report, dry_run=dry_run)


def _workers() -> int:
    return len(os.sched_getaffinity(0))


def parse_options(
    settings: Settings,
    *,
    max_unused: str,
    max_repack_size: str,
    cacheable_only: bool,
    small: bool,
    uncompressed: bool,
    grace: str = "0s",
    dry_run: bool,
) -> "PruneOptions":
    """Raises UsageError where one of them is not what it must be."""
    from holdfast.repo.format.pack import DEFAULT_PACK_SIZE
    from holdfast.repo.upkeep.prune_plan import PruneOptions, UnusedLimit

    try:
        return PruneOptions(
            max_unused=UnusedLimit.parse(max_unused),
            max_repack=parse_size(max_repack_size) if max_repack_size else None,
            cacheable_only=cacheable_only,
            small=small,
            uncompressed=uncompressed,
            grace=parse_duration(grace),
            dry_run=dry_run,
            pack_size=settings.pack_size << 20 if settings.pack_size else DEFAULT_PACK_SIZE,
        )
    except ValueError as error:
        raise UsageError(str(error)) from error


def tell(output: Output, report: "PruneReport", *, dry_run: bool) -> None:
    """The plan and what came of it.

    Raises:
        PartialError: something needed could not be moved; it was kept where it is.
    """
    counts = report.counts
    if output.json:
        output.message(
            "prune_summary",
            dry_run=dry_run,
            **{
                name: {"blobs": amount.blobs, "bytes": amount.bytes}
                for name, amount in (
                    ("used", counts.used),
                    ("duplicate", counts.duplicate),
                    ("unused", counts.unused),
                    ("remove", counts.remove),
                    ("repack", counts.repack),
                    ("repack_drop", counts.repack_drop),
                )
            },
            packs_keep=counts.packs_keep,
            packs_repack=counts.packs_repack,
            packs_remove=counts.packs_remove,
            packs_unreferenced=counts.packs_orphan,
            packs_removed=report.removed,
            bytes_removed=report.removed_bytes,
            packs_added=report.added,
            packs_waiting=report.waiting,
            packs_rescued=report.rescued,
            blobs_damaged=len(report.damaged),
            disk_full=report.crowded,
        )
    else:
        _tell_in_words(output, report, dry_run=dry_run)
    if report.damaged:
        raise PartialError(
            f"left where they are: {counted(len(report.damaged), 'damaged blob')} that snapshots"
            " need",
            remedy="Everything else was done. `holdfast check --read-data` names what is hit; the "
            "next backup writes again what the source still has.",
        )


def _tell_in_words(output: Output, report: "PruneReport", *, dry_run: bool) -> None:
    counts = report.counts
    whole = counts.remove.bytes + counts.orphan_bytes + counts.remnant_bytes
    blobs = counts.remove.blobs + counts.repack_drop.blobs
    rows = [
        ("to repack", counts.repack.blobs, counts.repack.bytes),
        ("this removes", counts.repack_drop.blobs, counts.repack_drop.bytes),
        ("to delete", counts.remove.blobs, whole),
        ("total prune", blobs, counts.repack_drop.bytes + whole),
    ]
    for what, blobs, size in rows:
        output.said(f"{what + ':':16}{counted(blobs, 'blob'):>16} / {format_size(size)}")
    if dry_run:
        output.said("nothing was changed")
        return
    output.said(
        f"removed {counted(report.removed, 'pack')} ({format_size(report.removed_bytes)}), "
        f"wrote {report.added} new"
    )
    if report.waiting:
        output.said(f"waiting for their grace to end: {counted(report.waiting, 'pack')}")
    if report.rescued:
        output.said(f"needed again and taken back: {counted(report.rescued, 'waiting pack')}")
    if report.crowded:
        output.said("the disk is full: only what could go without moving anything went")
