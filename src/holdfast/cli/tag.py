"""`holdfast tag`: other tags on the same snapshots."""

from collections.abc import Sequence
from typing import Annotated

import typer

from holdfast.cli import options, repository
from holdfast.cli import settings as settings_of
from holdfast.cli.output import Output
from holdfast.core.errors import UsageError

_LIST = "TAG[,TAG...]"


def tag(
    ctx: typer.Context,
    *,
    ids: options.SnapshotNames = None,
    set_tags: Annotated[
        list[str] | None,
        typer.Option("--set", metavar=_LIST, help="Exactly these tags from now on; '' for none."),
    ] = None,
    add: Annotated[
        list[str] | None, typer.Option("--add", metavar=_LIST, help="These tags, too.")
    ] = None,
    remove: Annotated[
        list[str] | None, typer.Option("--remove", metavar=_LIST, help="These tags no more.")
    ] = None,
    host: options.Hosts = None,
    tag: options.Tags = None,
    path: options.Paths = None,
) -> None:
    """Changes tags. A snapshot gets another name by that; `original` keeps the first one."""
    from holdfast.repo.upkeep.forget import retag

    if set_tags is None and not add and not remove:
        raise UsageError("nothing to change was given", remedy="Give --set, --add or --remove.")
    settings = settings_of.of(ctx)
    output = Output(settings)
    chosen = options.Chosen.of(host, tag, path)
    with (
        repository.opened(settings, output) as opened,
        repository.locked(opened, settings, output, exclusive=True, refreshing=False) as lock,
    ):
        changed = retag(
            opened,
            options.named_or_fitting(
                repository.readable_snapshots(opened, output), ids or [], chosen
            ),
            lock=lock,
            set_tags=None if set_tags is None else _names(set_tags),
            add=_names(add or ()),
            remove=_names(remove or ()),
        )
    if output.json:
        for each in changed:
            output.message("changed", old_snapshot_id=each.old, new_snapshot_id=each.new.id)
        output.message("summary", changed_snapshots=len(changed))
        return
    if output.verbosity:
        for each in changed:
            output.line(f"{each.old[:8]} is now {each.new.short}")
    output.said(f"modified {len(changed)} snapshots" if changed else "no snapshots were modified")


def _names(texts: Sequence[str]) -> list[str]:
    return list(dict.fromkeys(name for text in texts for name in text.split(",") if name))
