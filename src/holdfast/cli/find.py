"""`holdfast find`: names, and what refers to a blob, a tree or a pack, through all snapshots."""

from itertools import groupby
from typing import TYPE_CHECKING, Annotated, Any

import typer

from holdfast.cli import options, repository
from holdfast.cli import settings as settings_of
from holdfast.cli.moments import parse_moment
from holdfast.cli.output import Output
from holdfast.cli.snapshots import local_time
from holdfast.core.errors import PartialError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from holdfast.repo.browsing.find import NameMatch, ObjectMatch
    from holdfast.repo.browsing.walk import Trouble


def find(
    ctx: typer.Context,
    *,
    patterns: Annotated[list[str], typer.Argument(metavar="PATTERN...", help="Names to look for.")],
    ignore_case: Annotated[
        bool, typer.Option("--ignore-case", "-i", help="Whatever the case.")
    ] = False,
    oldest: Annotated[
        str, typer.Option("--oldest", "-O", metavar="TIME", help="Changed then or later.")
    ] = "",
    newest: Annotated[
        str, typer.Option("--newest", "-N", metavar="TIME", help="Changed then or earlier.")
    ] = "",
    blob: Annotated[bool, typer.Option("--blob", help="The patterns are names of blobs.")] = False,
    tree: Annotated[bool, typer.Option("--tree", help="The patterns are names of trees.")] = False,
    pack: Annotated[bool, typer.Option("--pack", help="The patterns are names of packs.")] = False,
    show_pack_id: Annotated[
        bool, typer.Option("--show-pack-id", help="With --blob and --tree: where they lie.")
    ] = False,
    long: Annotated[
        bool, typer.Option("--long", "-l", help="Mode, owner, size and time, too.")
    ] = False,
    reverse: Annotated[
        bool, typer.Option("--reverse", "-R", help="Oldest snapshot first.")
    ] = False,
    snapshot: Annotated[
        list[str] | None,
        typer.Option("--snapshot", "-s", metavar="SNAPSHOT", help="Look in this one only."),
    ] = None,
    host: options.Hosts = None,
    tag: options.Tags = None,
    path: options.Paths = None,
) -> None:
    """Looks through snapshots, newest first, for file names by pattern, or for who needs a blob, a
    tree or a pack.
    """
    from holdfast.core.patterns import Patterns
    from holdfast.repo.browsing.find import NameQuery, ObjectQuery, find_names, find_objects

    if blob + tree + pack > 1:
        raise UsageError("--blob, --tree and --pack cannot be given together")
    settings = settings_of.of(ctx)
    output = Output(settings)
    chosen = options.Chosen.of(host, tag, path)
    unreadable: list[bytes] = []

    def note(folder: bytes, error: "Trouble") -> None:
        unreadable.append(folder)
        output.warn(f"{output.shown(folder)}: {error.message}")

    with (
        repository.opened(settings, output) as opened,
        repository.locked(opened, settings, output),
    ):
        wanted = options.named_or_fitting(
            repository.readable_snapshots(opened, output), snapshot or [], chosen
        )
        wanted.sort(key=lambda each: each.time, reverse=not reverse)
        if blob or tree or pack:
            names = tuple(patterns)
            objects = ObjectQuery(
                blobs=names if blob else (),
                trees=names if tree else (),
                packs=names if pack else (),
            )
            matches = find_objects(opened, wanted, objects, unreadable=note)
            _tell_objects(output, matches, show_packs=show_pack_id)
        else:
            query = NameQuery(
                Patterns(patterns, ignore_case=ignore_case),
                oldest=parse_moment(oldest) if oldest else None,
                newest=parse_moment(newest) if newest else None,
            )
            _tell_names(output, find_names(opened, wanted, query, unreadable=note), long=long)
    if unreadable:
        raise PartialError(
            f"{len(unreadable)} folders could not be looked into",
            remedy="What was found is right. Run `holdfast check` for what is damaged.",
        )


def _tell_names(output: Output, matches: "Iterator[NameMatch]", *, long: bool) -> None:
    from holdfast.cli.nodes import found_json, long_line

    groups = groupby(matches, key=lambda match: match.snapshot)
    if output.json:
        found = []
        for snapshot, members in groups:
            each = [found_json(match.path, match.node) for match in members]
            found.append({"matches": each, "hits": len(each), "snapshot": snapshot.id})
        output.document(found)
        return
    for number, (snapshot, members) in enumerate(groups):
        if number:
            output.line()
        output.said(
            f"Found matching entries in snapshot {snapshot.short} from {local_time(snapshot.time)}"
        )
        for match in members:
            shown = long_line(output, match.path, match.node) if long else output.shown(match.path)
            output.line(shown)


def _tell_objects(output: Output, matches: "Iterator[ObjectMatch]", *, show_packs: bool) -> None:
    found = []
    for match in matches:
        kind = "tree" if match.kind.word == "tree" else "blob"
        if output.json:
            found.append(_object_json(match, kind, show_packs=show_packs))
            continue
        output.line(f"Found {kind} {match.id.hex()}")
        what = "path" if kind == "tree" else "file"
        output.line(f" ... in {what} {output.shown(match.path)}")
        if match.parent_tree:
            output.line(f"     (tree {match.parent_tree.hex()})")
        output.line(f" ... in snapshot {match.snapshot.short} ({local_time(match.snapshot.time)})")
        for pack in match.packs if show_packs else ():
            output.line(f" ... in pack {pack.hex()}")
    if output.json:
        output.document(found)


def _object_json(match: "ObjectMatch", kind: str, *, show_packs: bool) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "object_type": kind,
        "id": match.id.hex(),
        "path": match.path.decode(errors="replace"),
    }
    if match.parent_tree:
        fields["parent_tree"] = match.parent_tree.hex()
    fields |= {"snapshot": match.snapshot.id, "time": match.snapshot.file.time}
    if show_packs:
        fields["packs"] = [pack.hex() for pack in match.packs]
    return fields
