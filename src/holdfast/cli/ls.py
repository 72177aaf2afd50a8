"""`holdfast ls`: what a snapshot holds."""

import os
from collections.abc import Callable, Iterator
from collections.abc import Set as AbstractSet
from typing import TYPE_CHECKING, Annotated

import typer

from holdfast.cli import options, repository
from holdfast.cli import settings as settings_of
from holdfast.cli.output import Output
from holdfast.core.errors import PartialError, PathNotFoundError, UsageError

if TYPE_CHECKING:
    from holdfast.core.ids import BlobId
    from holdfast.repo.browsing.walk import Step, Trouble
    from holdfast.repo.repository import Repository

_SORTS = ("name", "size", "mtime", "atime", "ctime", "extension")


def ls(
    ctx: typer.Context,
    *,
    name: Annotated[
        str,
        typer.Argument(
            metavar="SNAPSHOT[:FOLDER]", help="`latest`, a name, or the beginning of one."
        ),
    ],
    folders: Annotated[
        list[str] | None,
        typer.Argument(metavar="[FOLDER]...", help="Only what lies directly in these."),
    ] = None,
    long: Annotated[
        bool, typer.Option("--long", "-l", help="Mode, owner, size and time, too.")
    ] = False,
    recursive: Annotated[
        bool, typer.Option("--recursive", help="With folders: everything below them.")
    ] = False,
    sort: Annotated[
        str, typer.Option("--sort", "-s", metavar="KEY", help=", ".join(_SORTS))
    ] = "name",
    reverse: Annotated[bool, typer.Option("--reverse", help="The other way round.")] = False,
    host: options.Hosts = None,
    tag: options.Tags = None,
    path: options.Paths = None,
) -> None:
    """Lists files and folders of a snapshot, sorted by name within each folder."""
    from holdfast.repo.browsing.walk import clean, resolve

    if sort not in _SORTS:
        raise UsageError(f"cannot sort by {sort!r}", remedy=f"Known are {', '.join(_SORTS)}.")
    settings = settings_of.of(ctx)
    output = Output(settings)
    chosen = options.Chosen.of(host, tag, path)
    with repository.opened(settings, output) as opened:
        snapshot, below = repository.choose_snapshot(opened, output, name, chosen)
        top = resolve(opened, snapshot.tree, os.fsencode(below))
        if top.tree is None:
            raise UsageError(f"{below} is no folder", remedy="Name a folder of the snapshot.")
        if output.json:
            fields = options.snapshot_json(snapshot)
            output.document({"message_type": "snapshot", "struct_type": "snapshot", **fields})
        else:
            output.note(
                f"snapshot {snapshot.short} of {', '.join(map(output.shown, snapshot.file.paths))}"
                f" at {snapshot.file.time}"
            )
        with repository.locked(opened, settings, output):
            unreadable: list[bytes] = []

            def note(folder: bytes, error: "Trouble") -> None:
                unreadable.append(folder)
                output.warn(f"{output.shown(folder)}: {error.message}")

            wanted = {clean(os.fsencode(folder)) for folder in folders or ()}
            missing = wanted - {b"/"}
            steps = _steps(opened, top.tree, wanted, recursive=recursive, unreadable=note)
            steps = _noting(steps, missing)
            _write(output, _sorted(steps, sort, reverse=reverse), long=long)
    if missing and not unreadable:
        names = ", ".join(map(output.shown, sorted(missing)))
        raise PathNotFoundError(f"snapshot {snapshot.short} does not hold {names}")
    if unreadable:
        raise PartialError(
            f"{len(unreadable)} folders of the snapshot cannot be read",
            remedy="What is listed can be restored. Run `holdfast check` for what is damaged.",
        )


def _steps(
    opened: "Repository",
    tree: "BlobId",
    wanted: AbstractSet[bytes],
    *,
    recursive: bool,
    unreadable: "Callable[[bytes, Trouble], None]",
) -> "Iterator[Step]":
    """The entries wanted: all, or the named ones with what lies directly in them."""
    from holdfast.repo.browsing.walk import walk

    if not wanted:
        yield from walk(opened, tree, unreadable=unreadable)
        return
    leading = {above for folder in wanted for above in _above(folder)}

    def is_within(path: bytes) -> bool:
        if recursive:
            return any(path == each or path.startswith(each.rstrip(b"/") + b"/") for each in wanted)
        return path in wanted or (path.rpartition(b"/")[0] or b"/") in wanted

    def enter(step: "Step") -> bool:
        return step.path in wanted or step.path in leading or (recursive and is_within(step.path))

    for step in walk(opened, tree, enter=enter, unreadable=unreadable):
        if is_within(step.path):
            yield step


def _noting(steps: "Iterator[Step]", missing: set[bytes]) -> "Iterator[Step]":
    """The steps as they are; each path is taken out of `missing`."""
    for step in steps:
        missing.discard(step.path)
        yield step


def _above(path: bytes) -> Iterator[bytes]:
    while path not in {b"/", b""}:
        path = path.rpartition(b"/")[0]
        yield path or b"/"


def _sorted(steps: "Iterator[Step]", sort: str, *, reverse: bool) -> "Iterator[Step]":
    """In the tree's own order where that is wanted: then nothing is held in memory."""
    if sort == "name" and not reverse:
        return steps
    keys: dict[str, Callable[[Step], object]] = {
        "name": lambda step: step.path,
        "size": lambda step: step.node.size,
        "mtime": lambda step: step.node.mtime,
        "atime": lambda step: step.node.atime,
        "ctime": lambda step: step.node.ctime,
        "extension": lambda step: step.path.rpartition(b"/")[2].rpartition(b".")[2],
    }
    return iter(sorted(steps, key=keys[sort], reverse=reverse))  # type: ignore[arg-type]  # each key gives one kind of value


def _write(output: Output, steps: "Iterator[Step]", *, long: bool) -> None:
    if output.json:
        from holdfast.cli.nodes import node_json

        for step in steps:
            fields = node_json(step.path, step.node)
            output.document({**fields, "message_type": "node", "struct_type": "node"}, flush=False)
    elif long:
        from holdfast.cli.nodes import long_line

        for step in steps:
            output.line(long_line(output, step.path, step.node))
    else:
        for step in steps:
            output.line(output.shown(step.path))
