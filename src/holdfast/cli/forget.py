"""`holdfast forget`: snapshots go by rules, each with its reason, or by name."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from holdfast.cli import options, prune, repository, stopping
from holdfast.cli import settings as settings_of
from holdfast.cli.output import Output
from holdfast.cli.progress import Meter
from holdfast.cli.settings import Settings
from holdfast.cli.snapshots import describe, local_time, states
from holdfast.core.errors import UsageError
from holdfast.core.units import counted, parse_duration

if TYPE_CHECKING:
    from holdfast.core.ids import ObjectId
    from holdfast.core.retention import Decision, Group, Rules
    from holdfast.repo.format.snapshot import Snapshot
    from holdfast.repo.repository import Repository
    from holdfast.repo.upkeep.prune_plan import PruneOptions


def _count(name: str, letter: str, what: str) -> Any:
    return typer.Option(f"--keep-{name}", f"-{letter}", metavar="N", help=f"Keep the last N{what}.")


def _within(name: str, what: str) -> Any:
    return typer.Option(
        f"--keep-within{name}",
        metavar="PERIOD",
        help=f"Keep {what} of the last PERIOD before the newest, like 1y5m7d2h.",
    )


def forget(
    ctx: typer.Context,
    *,
    ids: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[SNAPSHOT]...", help="Forget exactly these; else the rules decide."
        ),
    ] = None,
    keep_last: Annotated[str, _count("last", "l", " snapshots; -1 or unlimited: all")] = "0",
    keep_hourly: Annotated[str, _count("hourly", "H", " hourly ones")] = "0",
    keep_daily: Annotated[str, _count("daily", "d", " daily ones")] = "0",
    keep_weekly: Annotated[str, _count("weekly", "w", " weekly ones")] = "0",
    keep_monthly: Annotated[str, _count("monthly", "m", " monthly ones")] = "0",
    keep_yearly: Annotated[str, _count("yearly", "y", " yearly ones")] = "0",
    keep_within: Annotated[str, _within("", "all")] = "",
    keep_within_hourly: Annotated[str, _within("-hourly", "hourly ones")] = "",
    keep_within_daily: Annotated[str, _within("-daily", "daily ones")] = "",
    keep_within_weekly: Annotated[str, _within("-weekly", "weekly ones")] = "",
    keep_within_monthly: Annotated[str, _within("-monthly", "monthly ones")] = "",
    keep_within_yearly: Annotated[str, _within("-yearly", "yearly ones")] = "",
    keep_tag: Annotated[
        list[str] | None,
        typer.Option(metavar="TAG[,TAG...]", help="Keep all with these tags."),
    ] = None,
    host: options.HostsLong = None,
    tag: options.Tags = None,
    path: options.Paths = None,
    compact: Annotated[bool, typer.Option("--compact", "-c", help="Fewer columns.")] = False,
    group_by: Annotated[
        str,
        typer.Option("--group-by", "-g", metavar="GROUP", help="Rules count within each group."),
    ] = "host,paths",
    unsafe_allow_remove_all: Annotated[
        bool,
        typer.Option(
            "--unsafe-allow-remove-all",
            help="Without any rule forget all that fit --host, --tag and --path.",
        ),
    ] = False,
    prune_after: Annotated[
        bool, typer.Option("--prune", help="Prune afterwards, if any snapshot was forgotten.")
    ] = False,
    max_unused: prune.MaxUnused = "5%",
    max_repack_size: prune.MaxRepackSize = "",
    repack_cacheable_only: prune.RepackCacheableOnly = False,
    repack_small: prune.RepackSmall = False,
    repack_uncompressed: prune.RepackUncompressed = False,
    grace: prune.Grace = "0s",
    dry_run: options.DryRun = False,
) -> None:
    """Forgets snapshots. The newest of a group always stays; what they held goes with the next
    prune.
    """
    settings = settings_of.of(ctx)
    output = Output(settings)
    rules = _rules(
        counts={
            "last": keep_last,
            "hourly": keep_hourly,
            "daily": keep_daily,
            "weekly": keep_weekly,
            "monthly": keep_monthly,
            "yearly": keep_yearly,
        },
        periods={
            "within": keep_within,
            "within_hourly": keep_within_hourly,
            "within_daily": keep_within_daily,
            "within_weekly": keep_within_weekly,
            "within_monthly": keep_within_monthly,
            "within_yearly": keep_within_yearly,
        },
        tags=keep_tag or (),
    )
    chosen = options.Chosen.of(host, tag, path)
    if unsafe_allow_remove_all and not chosen:
        raise UsageError(
            "--unsafe-allow-remove-all needs --host, --tag or --path",
            remedy="Nothing was forgotten. Say which snapshots are meant.",
        )
    freeing = prune.parse_options(
        settings,
        max_unused=max_unused,
        max_repack_size=max_repack_size,
        cacheable_only=repack_cacheable_only,
        small=repack_small,
        uncompressed=repack_uncompressed,
        grace=grace,
        dry_run=dry_run,
    )
    by = options.parse_group_by(group_by)
    with repository.opened(settings, output) as opened:
        everything = repository.readable_snapshots(opened, output)
        if ids:
            going = [snapshot.id for snapshot in options.named_or_fitting(everything, ids, chosen)]
            _tell_named(output, going, dry_run=dry_run)
        elif rules or unsafe_allow_remove_all:
            groups = _decide(opened, chosen.among(everything), rules, by)
            _tell(output, groups, by, everything, compact=compact, dry_run=dry_run)
            going = [
                decision.snapshot.id
                for group in groups
                for decision in group.decisions
                if not decision.keep
            ]
        else:
            output.line("[]") if output.json else output.said(
                "no rule was given, nothing is forgotten"
            )
            return
        _carry_out(
            opened, settings, output, going, freeing if prune_after else None, dry_run=dry_run
        )


def _rules(*, counts: dict[str, str], periods: dict[str, str], tags: Sequence[str]) -> "Rules":
    from holdfast.core.retention import UNLIMITED, Period, Rules
    from holdfast.repo.format.snapshot import parse_tag_lists

    try:
        numbers = {
            name: UNLIMITED if text == "unlimited" else _whole(text)
            for name, text in counts.items()
        }
        spans = {name: Period.parse(text) for name, text in periods.items() if text}
        lists = tuple(tuple(names) for names in parse_tag_lists(tags))
        return Rules(**numbers, **spans, tags=lists)  # type: ignore[arg-type]  # the names tell which is which
    except ValueError as error:
        raise UsageError(
            f"a rule cannot be read: {error}", remedy="Nothing was forgotten."
        ) from error


def _whole(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"{text!r} is not a number; write for example 7, or unlimited") from None


def _decide(
    opened: "Repository", snapshots: Sequence["Snapshot"], rules: "Rules", by: frozenset[str]
) -> list["Group"]:
    from dataclasses import replace

    from holdfast.core.retention import decide
    from holdfast.repo.upkeep.forget import dated

    groups = decide(map(dated, snapshots), rules, now=opened.clock.now(), group_by=by)
    if rules:
        return groups
    return [  # without a rule, and told to: all that were chosen
        replace(
            group,
            decisions=tuple(
                replace(each, keep=False, reasons=(), counters={}) for each in group.decisions
            ),
        )
        for group in groups
    ]


def _carry_out(
    opened: "Repository",
    settings: Settings,
    output: Output,
    going: Sequence["ObjectId"],
    freeing: "PruneOptions | None",
    *,
    dry_run: bool,
) -> None:
    """Forgets and, where wanted and anything was forgotten, prunes."""
    from holdfast.repo.upkeep.forget import forget as forget_snapshots
    from holdfast.repo.upkeep.forget import lock_to_forget
    from holdfast.repo.upkeep.prune import prune as free_space

    if not going:
        return
    if dry_run:
        if freeing:
            with Meter(output) as meter:
                report = free_space(opened, freeing, lock=None, progress=meter, ignore=set(going))
            prune.tell(output, report, dry_run=True)
        return
    lock = lock_to_forget(opened, wait=parse_duration(settings.retry_lock), on_wait=output.note)

    def let_go() -> None:
        if lock is not None:
            lock.release()

    with stopping.letting_go(let_go):
        try:
            with Meter(output) as meter:
                removed = forget_snapshots(opened, going, lock=lock, progress=meter)
            output.said(f"forgot {counted(len(removed), 'snapshot')}")
            if freeing and lock is None:  # there is room for a lock now
                lock = lock_to_forget(opened, on_wait=output.note)
            if freeing:
                with Meter(output) as meter:
                    report = free_space(opened, freeing, lock=lock, progress=meter)
                prune.tell(output, report, dry_run=False)
        finally:
            let_go()


def _tell_named(output: Output, going: Sequence["ObjectId"], *, dry_run: bool) -> None:
    if output.json:
        output.document([])
        return
    verb = "would remove" if dry_run else "removing"
    for name in going:
        output.said(f"{verb} snapshot {name[:8]}")


def _tell(
    output: Output,
    groups: Sequence["Group"],
    by: frozenset[str],
    everything: Sequence["Snapshot"],
    *,
    compact: bool,
    dry_run: bool,
) -> None:
    snapshots = {snapshot.id: snapshot for snapshot in everything}
    if output.json:
        output.document([_group_json(group, snapshots) for group in groups])
        return
    if output.quiet:
        return
    for group in groups:
        key = (group.host or "", group.paths or (), group.tags or ())
        output.line(f"snapshots for ({describe(key, by)}):" if by else "all snapshots:")
        kept = [decision for decision in group.decisions if decision.keep]
        going = [decision for decision in group.decisions if not decision.keep]
        if kept:
            output.line(f"keep {len(kept)} snapshots:")
            _table(output, kept, snapshots, compact=compact)
        if going:
            output.line(f"{'would remove' if dry_run else 'remove'} {len(going)} snapshots:")
            _table(output, going, snapshots, compact=compact)
        output.line()


def _table(
    output: Output,
    decisions: Sequence["Decision"],
    snapshots: dict["ObjectId", "Snapshot"],
    *,
    compact: bool,
) -> None:
    rows = []
    listed = [snapshots[decision.snapshot.id] for decision in decisions]
    for decision in sorted(decisions, key=lambda each: each.snapshot.time):
        file = snapshots[decision.snapshot.id].file
        row = [decision.snapshot.id[:8], local_time(decision.snapshot.time)]
        row += states([snapshots[decision.snapshot.id]], listed)
        row.append(file.hostname)
        row.append("\n".join(file.tags or []))
        row.append("\n".join(decision.reasons))
        if not compact:
            row.append("\n".join(map(output.shown, file.paths)))
        rows.append(row)
    heads = ["ID", "Time", *states([], listed), "Host", "Tags", "Reasons"]
    output.table(heads + ([] if compact else ["Paths"]), rows)


def _group_json(group: "Group", snapshots: dict["ObjectId", "Snapshot"]) -> dict[str, Any]:
    """restic's object."""

    def listed(*, keep: bool) -> list[Any] | None:
        return [
            options.snapshot_json(snapshots[decision.snapshot.id])
            for decision in group.decisions
            if decision.keep is keep
        ] or None

    return {
        "tags": None if group.tags is None else list(group.tags),
        "host": group.host or "",
        "paths": None if group.paths is None else list(group.paths),
        "keep": listed(keep=True),
        "remove": listed(keep=False),
        "reasons": [
            {
                "snapshot": options.snapshot_json(snapshots[decision.snapshot.id]),
                "matches": list(decision.reasons),
                "counters": decision.counters,
            }
            for decision in group.decisions
            if decision.keep
        ],
    }
