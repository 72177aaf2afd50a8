"""`holdfast repair`: the index from the packs, what can be read of damaged packs, and snapshots
without what is lost.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from holdfast.cli import options, repository
from holdfast.cli import settings as settings_of
from holdfast.cli.names import by_beginning
from holdfast.cli.output import Output
from holdfast.cli.progress import Meter
from holdfast.cli.settings import Settings
from holdfast.core.errors import DamagedError, PartialError
from holdfast.core.units import counted
from holdfast.repo.upkeep import advice

if TYPE_CHECKING:
    from holdfast.core.ids import ObjectId
    from holdfast.repo.lock import Lock
    from holdfast.repo.repository import Refused, Repository
    from holdfast.repo.upkeep.repair_snapshots import SnapshotRepair

app = typer.Typer(
    add_completion=False, no_args_is_help=True, help="Mend the index, snapshots or packs."
)


@app.command()
def index(
    ctx: typer.Context,
    *,
    read_all_packs: Annotated[
        bool, typer.Option("--read-all-packs", help="Read the header of every pack.")
    ] = False,
    dry_run: options.DryRun = False,
) -> None:
    """Makes the index anew from what is really there. Packs are not touched."""
    from holdfast.repo.upkeep.repair import repair_index

    settings = settings_of.of(ctx)
    output = Output(settings)
    with (
        repository.opened(settings, output) as opened,
        _locked(opened, settings, output, dry_run=dry_run) as lock,
        Meter(output) as meter,
    ):
        report = repair_index(
            opened,
            lock=lock,
            progress=meter,
            read_all=read_all_packs,
            dry_run=dry_run,
            workers=len(os.sched_getaffinity(0)),
        )
    for pack, why in report.unreadable:
        output.warn(f"pack {pack.hex()[:8]} has no readable header: {why}")
    if output.json:
        output.message(
            "summary",
            dry_run=dry_run,
            packs_added=[pack.hex() for pack in report.added],
            packs_dropped=[pack.hex() for pack in report.dropped],
            packs_unreadable=[
                {"id": pack.hex(), "message": why} for pack, why in report.unreadable
            ],
            index_files_replaced=report.files,
        )
    else:
        output.said(
            f"{'would add' if dry_run else 'added'} {counted(len(report.added), 'pack')}, "
            f"{'would drop' if dry_run else 'dropped'} {len(report.dropped)} that are gone"
        )
    if report.unreadable:
        raise PartialError(
            f"nobody can tell all that is in {counted(len(report.unreadable), 'pack')}",
            remedy="What was known of them stays in the index, as far as they reach. "
            f"{advice.PACKS}",
        )


@app.command()
def packs(
    ctx: typer.Context,
    *,
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="[PACK]...", help="These; else those that checks found damaged."),
    ] = None,
) -> None:
    """Moves what can be read of damaged packs into new ones, and lets the damaged ones go."""
    from holdfast.core.ids import PackId
    from holdfast.repo.upkeep.repair import repair_packs
    from holdfast.store.contract import FileKind

    settings = settings_of.of(ctx)
    output = Output(settings)
    with (
        repository.opened(settings, output) as opened,
        repository.locked(opened, settings, output, exclusive=True, refreshing=False) as lock,
        Meter(output) as meter,
    ):
        assert lock is not None
        chosen = None
        if names:
            known = [item.name for item in opened.store.list(FileKind.PACK)]
            chosen = [PackId(bytes.fromhex(by_beginning(known, name, "pack"))) for name in names]
        report = repair_packs(
            opened, chosen, lock=lock, progress=meter, workers=len(os.sched_getaffinity(0))
        )
    if output.json:
        output.message(
            "summary",
            packs_repaired=[pack.hex() for pack in report.packs],
            blobs_saved=report.saved,
            blobs_lost=[each.blob.hex() for each in report.lost],
        )
    else:
        output.said(
            f"took {counted(len(report.packs), 'pack')} apart and saved "
            f"{counted(report.saved, 'blob')}"
            if report.packs
            else "no pack is known to be damaged; `holdfast check --read-data` reads them all"
        )
    if report.lost:
        raise PartialError(
            f"lost for good: {counted(len(report.lost), 'blob')} of these packs",
            remedy=f"`holdfast check` names the files that are hit. {advice.BLOBS}",
        )


@app.command()
def snapshots(
    ctx: typer.Context,
    *,
    ids: options.SnapshotNames = None,
    forget: Annotated[
        bool, typer.Option("--forget", help="Remove the originals of mended snapshots.")
    ] = False,
    host: options.Hosts = None,
    tag: options.Tags = None,
    path: options.Paths = None,
    dry_run: options.DryRun = False,
) -> None:
    """Makes snapshots whole again by leaving out what is lost. Back up again first: that may bring
    it back.

    With --forget, snapshots of which nothing can be read are removed.
    """
    from holdfast.repo.upkeep.repair_snapshots import repair_snapshots

    settings = settings_of.of(ctx)
    output = Output(settings)
    chosen = options.Chosen.of(host, tag, path)
    refused: list[Refused] = []
    with (
        repository.opened(settings, output) as opened,
        _locked(opened, settings, output, dry_run=dry_run) as lock,
        Meter(output) as meter,
    ):
        readable = list(opened.snapshots(refused))
        damaged, others = _damaged(refused, ids or [], chosen)
        wanted = options.named_or_fitting(readable, others, chosen) if others or not ids else []
        repairs = repair_snapshots(
            opened,
            wanted,
            lock=lock,
            progress=meter,
            forget=forget,
            damaged=damaged,
            dry_run=dry_run,
        )
    for each in refused:
        output.warn(each.sentence)
    _tell(output, repairs, dry_run=dry_run)
    unsure = [each for each in refused if not isinstance(each.error, DamagedError)]
    if unsure:
        raise PartialError(
            f"{counted(len(unsure), 'snapshot')} could not be fetched",
            remedy="They were left alone, for they may be whole. Mend the cause and run again.",
        )


def _damaged(
    refused: Sequence["Refused"], names: Sequence[str], chosen: options.Chosen
) -> tuple[list["ObjectId"], list[str]]:
    """Damaged snapshots that are meant, and the names that mean others. Of which host or path they
    were nobody knows any more.
    """
    from holdfast.core.ids import ObjectId

    found = [ObjectId(each.name) for each in refused if isinstance(each.error, DamagedError)]
    if names:
        meant = [each for each in found if each.startswith(tuple(names))]
        return meant, [name for name in names if not any(each.startswith(name) for each in meant)]
    return ([] if chosen else found), []


def _tell(output: Output, repairs: Sequence["SnapshotRepair"], *, dry_run: bool) -> None:
    for repair in repairs:
        if output.json:
            output.message(
                "repaired",
                old_snapshot_id=repair.old,
                new_snapshot_id=repair.new,
                shortened=[each.decode(errors="replace") for each in repair.shortened],
                dropped=[each.decode(errors="replace") for each in repair.dropped],
                emptied=[each.decode(errors="replace") for each in repair.emptied],
                removed=repair.removed,
            )
            continue
        output.line(_sentence(repair, dry_run=dry_run))
        if repair.lost:
            continue
        for what, paths in (
            ("shortened", repair.shortened),
            ("dropped", repair.dropped),
            ("emptied", repair.emptied),
        ):
            for each in paths:
                output.line(f"  {what}: {output.shown(each)}")
    if output.json:
        output.message(
            "summary",
            dry_run=dry_run,
            snapshots_repaired=sum(not repair.lost for repair in repairs),
            snapshots_lost=sum(repair.lost for repair in repairs),
        )
    elif not repairs:
        output.said("no snapshot has lost anything")


def _sentence(repair: "SnapshotRepair", *, dry_run: bool) -> str:
    would = "would be " if dry_run else ""
    if repair.lost:
        fate = f"{would}removed" if repair.removed else "left; --forget removes it"
        return f"snapshot {repair.old[:8]} is lost as a whole: {fate}"
    new = f" as {repair.new[:8]}" if repair.new else ""
    old = f", the original {would}removed" if repair.removed else ""
    return f"snapshot {repair.old[:8]} {would}mended{new}{old}"


@contextmanager
def _locked(
    opened: "Repository", settings: Settings, output: Output, *, dry_run: bool
) -> Iterator["Lock | None"]:
    """The exclusive lock; none for a dry run, which writes nothing."""
    if dry_run:
        yield None
        return
    with repository.locked(opened, settings, output, exclusive=True, refreshing=False) as lock:
        yield lock
