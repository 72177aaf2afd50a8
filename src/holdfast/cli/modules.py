"""Modules on the command line: `postgres:app` names a module and what is meant by it."""

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from holdfast.core.errors import UsageError

if TYPE_CHECKING:
    from holdfast.core.clock import Clock
    from holdfast.core.source import Source
    from holdfast.repo.format.snapshot import Snapshot
    from holdfast.repo.repository import Repository
    from holdfast.sources.modules import Asked, Module

Parameters = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="NAME=VALUE",
        help="A parameter of --source or --into, like user=backup; see docs/guide/databases.md.",
    ),
]


@contextmanager
def source_of(
    place: str, parameters: Sequence[str], clock: "Clock", skip: tuple[bytes, ...]
) -> "Iterator[Source]":
    """What a module reads."""
    with _asked(place, parameters, clock, skip) as (module, asked), module.open(asked) as source:
        yield source


def put_back(
    place: str, parameters: Sequence[str], opened: "Repository", snapshot: "Snapshot"
) -> str:
    """Has a module put back what a snapshot of its own holds; what it says.

    Raises:
        UsageError: the snapshot is none of a module.
    """
    from holdfast.repo.browsing.kept import KeptFiles
    from holdfast.repo.browsing.streaming import ReadPool

    paths = snapshot.file.paths
    if len(paths) != 1:
        raise UsageError(
            "the snapshot was not made by --source", remedy="Restore it with --target."
        )
    with (
        _asked(place, parameters, opened.clock, ()) as (module, asked),
        ReadPool(opened) as pool,
    ):
        return module.put_back(asked, KeptFiles(pool, snapshot.tree, paths[0].encode()))


@contextmanager
def _asked(
    place: str, parameters: Sequence[str], clock: "Clock", skip: tuple[bytes, ...]
) -> "Iterator[tuple[Module, Asked]]":
    from holdfast.sources.modules import MODULES, Asked, module
    from holdfast.sources.parameters import closest

    name, colon, resource = place.partition(":")
    if not colon or name not in MODULES:
        raise UsageError(
            f"{place!r} names no module{closest(name, MODULES)}",
            remedy="Nothing was done. Write MODULE:WHAT, like postgres:app or sqlite:/var/app.db.",
        )
    given = {}
    for each in parameters:
        word, equals, value = each.partition("=")
        if not equals:
            raise UsageError(f"--set {each}: there is no value", remedy="Write --set NAME=VALUE.")
        given[word] = value
    with tempfile.TemporaryDirectory(prefix="holdfast-") as scratch:
        yield (
            module(name),
            Asked(
                resource=resource, parameters=given, scratch=Path(scratch), clock=clock, skip=skip
            ),
        )
