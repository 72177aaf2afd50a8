"""`holdfast tag`: other tags on the same snapshots."""

from typing import TYPE_CHECKING, Annotated

import typer

from holdfast.cli import options, repository
from holdfast.cli import settings as settings_of
from holdfast.cli.output import Output
from holdfast.core.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

_LIST = "TAG[,TAG...]"


def tag(
    ctx: typer.Context,
    *,
    ids: Annotated[
        list[str] | None,
        typer.Argument(metavar="[SNAPSHOT]...", help="Only these; else all that fit."),
    ] = None,
    set_tags: Annotated[
        list[str] | None,
        typer.Option("--set", metavar=_LIST, help="Exactly these tags from now on."),
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
    """Changes tags. A snapshot is written anew and so gets another name; `original` keeps the first one."""
    import msgspec

    from holdfast.store.contract import FileKind

    if set_tags is not None and (add or remove):
        raise UsageError("--set cannot be given together with --add or --remove")
    if set_tags is None and not add and not remove:
        raise UsageError("nothing to change was given", remedy="Give --set, --add or --remove.")
    settings = settings_of.of(ctx)
    output = Output(settings)
    chosen = options.Chosen.of(host, tag, path)
    changed = 0
    with (
        repository.opened(settings, output) as opened,
        repository.locked(opened, settings, output, exclusive=True) as lock,
    ):
        for snapshot in options.named_or_fitting(opened.snapshots(), ids or [], chosen):
            tags = _changed(snapshot.tags, set_tags, add or [], remove or [])
            if tags == snapshot.tags:
                continue
            original = snapshot.file.original or snapshot.id
            file = msgspec.structs.replace(snapshot.file, tags=tags or None, original=original)
            assert lock is not None
            lock.prove()
            fresh = opened.save_snapshot(file)
            opened.store.remove(FileKind.SNAPSHOT, snapshot.id)
            changed += 1
            if output.json:
                output.message("changed", old_snapshot_id=snapshot.id, new_snapshot_id=fresh.id)
            elif output.verbosity:
                output.line(f"{snapshot.short} is now {fresh.short}")
    if output.json:
        output.message("summary", changed_snapshots=changed)
    else:
        output.line(f"modified {changed} snapshots" if changed else "no snapshots were modified")


def _changed(
    old: "Sequence[str]",
    set_tags: "Sequence[str] | None",
    add: "Sequence[str]",
    remove: "Sequence[str]",
) -> list[str]:
    if set_tags is not None:
        return _names(set_tags)
    dropped = set(_names(remove))
    kept = [name for name in old if name not in dropped]
    return kept + [name for name in _names(add) if name not in kept]


def _names(texts: "Sequence[str]") -> list[str]:
    return list(dict.fromkeys(name for text in texts for name in text.split(",") if name))
