"""`holdfast diff`: what differs between two snapshots."""

import os
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from holdfast.cli import repository
from holdfast.cli import settings as settings_of
from holdfast.cli.output import Output
from holdfast.core.errors import UsageError
from holdfast.core.units import format_size

if TYPE_CHECKING:
    from collections.abc import Iterable

    from holdfast.core.ids import BlobId
    from holdfast.repo.browsing.diff import Difference, DiffStatistics
    from holdfast.repo.format.snapshot import Snapshot
    from holdfast.repo.repository import Repository

_NAME = "SNAPSHOT[:FOLDER]"


def diff(
    ctx: typer.Context,
    *,
    first: Annotated[str, typer.Argument(metavar=_NAME, help="The earlier one.")],
    second: Annotated[str, typer.Argument(metavar=_NAME, help="The later one.")],
    metadata: Annotated[
        bool, typer.Option("--metadata", help="Show what changed in nothing but metadata, too.")
    ] = False,
) -> None:
    """Shows what was added (+), removed (-), changed in content (M), type (T) or metadata (U) from
    one to the other.

    A question mark (?) is a file whose content differs although nothing else of it does: it may
    have rotted.
    """
    from holdfast.repo.browsing.diff import compare

    settings = settings_of.of(ctx)
    output = Output(settings)

    def tell(difference: "Difference") -> None:
        if output.json:
            path = difference.path.decode(errors="replace")
            output.document(
                {"message_type": "change", "path": path, "modifier": difference.modifier},
                flush=False,
            )
        else:
            output.line(f"{difference.modifier:<5}{output.shown(difference.path)}")

    with (
        repository.opened(settings, output) as opened,
        repository.locked(opened, settings, output),
    ):
        snapshots = repository.readable_snapshots(opened, output)
        before, first_tree = _tree(opened, snapshots, first)
        after, second_tree = _tree(opened, snapshots, second)
        output.said(f"comparing snapshot {before.short} to {after.short}:\n")
        counted = compare(opened, first_tree, second_tree, metadata=metadata, on_difference=tell)
    if output.json:
        output.message(
            "statistics",
            source_snapshot=before.id,
            target_snapshot=after.id,
            changed_files=counted.changed_files,
            added=asdict(counted.added),
            removed=asdict(counted.removed),
        )
    else:
        _tell_counts(output, counted)


def _tree(
    opened: "Repository", snapshots: "Iterable[Snapshot]", name: str
) -> "tuple[Snapshot, BlobId]":
    from holdfast.repo.browsing.walk import resolve
    from holdfast.repo.format.snapshot import choose

    snapshot, folder = choose(snapshots, name)
    place = resolve(opened, snapshot.tree, os.fsencode(folder))
    if place.tree is None:
        raise UsageError(f"{folder} is no folder", remedy="Name a folder of the snapshot.")
    return snapshot, place.tree


def _tell_counts(output: Output, counted: "DiffStatistics") -> None:
    added, removed = counted.added, counted.removed
    output.said("")
    output.said(
        f"Files:       {added.files:5} new, {removed.files:5} removed, "
        f"{counted.changed_files:5} changed"
    )
    output.said(f"Dirs:        {added.dirs:5} new, {removed.dirs:5} removed")
    output.said(f"Others:      {added.others:5} new, {removed.others:5} removed")
    output.said(f"Data Blobs:  {added.data_blobs:5} new, {removed.data_blobs:5} removed")
    output.said(f"Tree Blobs:  {added.tree_blobs:5} new, {removed.tree_blobs:5} removed")
    output.said(f"  Added:   {format_size(added.bytes)}")
    output.said(f"  Removed: {format_size(removed.bytes)}")
