"""`holdfast snapshots`: what was kept, and when."""

from collections.abc import Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Annotated, Any

import typer

from holdfast.cli import options, repository
from holdfast.cli import settings as settings_of
from holdfast.cli.output import Output
from holdfast.core.units import format_size

if TYPE_CHECKING:
    from holdfast.repo.format.snapshot import Snapshot

Key = tuple[str, tuple[str, ...], tuple[str, ...]]
"""Host, paths and tags of a group; empty where snapshots are not grouped by it."""


def snapshots(
    ctx: typer.Context,
    *,
    ids: options.SnapshotNames = None,
    host: options.Hosts = None,
    tag: options.Tags = None,
    path: options.Paths = None,
    compact: Annotated[bool, typer.Option("--compact", "-c", help="Fewer columns.")] = False,
    group_by: Annotated[
        str,
        typer.Option("--group-by", "-g", metavar="GROUP", help="Group by host, paths and/or tags."),
    ] = "",
    latest: Annotated[
        int, typer.Option(metavar="N", help="Only the last N of each host and paths.")
    ] = 0,
) -> None:
    """Lists snapshots, oldest first."""
    settings = settings_of.of(ctx)
    output = Output(settings)
    chosen = options.Chosen.of(host, tag, path)
    with repository.opened(settings, output) as opened:
        found = options.named_or_fitting(
            repository.readable_snapshots(opened, output), ids or [], chosen
        )
    by = options.parse_group_by(group_by)
    if latest > 0:
        found = _last_of_each(found, latest)
    groups = _grouped(found, by)
    if output.json:
        output.document(_as_json(groups, grouped=bool(by)))
        return
    for key, members in groups:
        if by:
            output.line(f"snapshots for {describe(key, by)}:")
        _table(output, members, compact=compact)
        output.line(f"{len(members)} snapshots")


def _key(snapshot: "Snapshot", by: frozenset[str]) -> Key:
    return (
        snapshot.file.hostname if "host" in by else "",
        tuple(sorted(snapshot.file.paths)) if "paths" in by else (),
        tuple(sorted(snapshot.tags)) if "tags" in by else (),
    )


def _grouped(found: Sequence["Snapshot"], by: frozenset[str]) -> list[tuple[Key, list["Snapshot"]]]:
    if not by:
        return [(("", (), ()), list(found))]
    ordered = sorted(found, key=lambda snapshot: _key(snapshot, by))  # stable: stays oldest first
    return [
        (key, list(each)) for key, each in groupby(ordered, lambda snapshot: _key(snapshot, by))
    ]


def _last_of_each(found: Sequence["Snapshot"], count: int) -> list["Snapshot"]:
    groups = _grouped(found, frozenset({"host", "paths"}))
    kept = {snapshot.id for _, members in groups for snapshot in members[-count:]}
    return [snapshot for snapshot in found if snapshot.id in kept]


def describe(key: Key, by: frozenset[str]) -> str:
    host, paths, tags = key
    parts = [f"host {host}"] if "host" in by else []
    parts += [f"tags [{', '.join(tags)}]"] if "tags" in by else []
    parts += [f"paths [{', '.join(paths)}]"] if "paths" in by else []
    return ", ".join(parts)


def _as_json(groups: Sequence[tuple[Key, list["Snapshot"]]], *, grouped: bool) -> list[Any]:
    if not grouped:
        return [options.snapshot_json(snapshot) for _, members in groups for snapshot in members]
    return [
        {
            "group_key": {
                "hostname": host,
                "paths": list(paths) or None,
                "tags": list(tags) or None,
            },
            "snapshots": [options.snapshot_json(snapshot) for snapshot in members],
        }
        for (host, paths, tags), members in groups
    ]


def local_time(nanoseconds: int) -> str:
    """As restic's tables show it: local, to the second."""
    import time

    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(nanoseconds // 1_000_000_000))


def states(shown: Sequence["Snapshot"], listed: Sequence["Snapshot"]) -> list[str]:
    """What a table has of a column for partial snapshots, which is there only where some of those
    listed are: its head, or the cells of those shown.
    """
    if not any(snapshot.partial for snapshot in listed):
        return []
    return ["partial" if each.partial else "" for each in shown] if shown else ["State"]


def _table(output: Output, members: Sequence["Snapshot"], *, compact: bool) -> None:
    heads = ["ID", "Time", *states([], members), "Host", "Tags"]
    heads += [] if compact else ["Paths", "Size"]
    rows = []
    for snapshot in members:
        file = snapshot.file
        row = [snapshot.short, local_time(snapshot.time), *states([snapshot], members)]
        row.append(file.hostname)
        row.append((", " if compact else "\n").join(snapshot.tags))
        if not compact:
            row.append("\n".join(map(output.shown, file.paths)))
            row.append(format_size(file.summary.total_bytes_processed) if file.summary else "")
        rows.append(row)
    output.table(heads, rows)
