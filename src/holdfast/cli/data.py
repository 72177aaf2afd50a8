"""What the administration commands take: which data folder, which configuration file."""

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from holdfast.core.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from holdfast.service.ground import Ground
    from holdfast.service.server import Service

Data = Annotated[
    Path,
    typer.Option("--data", metavar="DIR", envvar="HOLDFAST_DATA", help="The server's data folder."),
]
ConfigFile = Annotated[
    Path | None,
    typer.Option(
        "--config",
        metavar="FILE",
        envvar="HOLDFAST_CONFIG",
        help="Configuration file (default: holdfast.yaml in the data folder).",
    ),
]


@contextmanager
def service_of(data: Path, config: Path | None = None) -> "Iterator[Service]":
    """The service of a data folder that exists; works beside a running server."""
    _must_exist(data)
    from holdfast.service.server import open_service

    service = open_service(data, config)
    try:
        yield service
    finally:
        service.close()


@contextmanager
def ground_of(data: Path, config: Path | None = None) -> "Iterator[Ground]":
    """The same for commands about one noun, which start faster so."""
    _must_exist(data)
    from holdfast.service.opening import open_ground

    ground = open_ground(data, config)
    try:
        yield ground
    finally:
        ground.catalog.close()


def _must_exist(data: Path) -> None:
    if not data.is_dir():
        raise UsageError(
            f"there is no data folder {data}",
            remedy="Name the one of `holdfast serve` with --data or HOLDFAST_DATA.",
        )
