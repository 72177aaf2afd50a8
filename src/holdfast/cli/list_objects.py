"""`holdfast list`: names of stored objects."""

from typing import Annotated

import typer

from holdfast.cli import repository
from holdfast.cli import settings as settings_of
from holdfast.cli.output import Output
from holdfast.core.errors import UsageError

KINDS = ("blobs", "packs", "index", "snapshots", "keys", "locks")


def list_objects(
    ctx: typer.Context,
    *,
    kind: Annotated[str, typer.Argument(metavar="KIND", help=", ".join(KINDS))],
) -> None:
    """Lists the names of all objects of one kind."""
    from holdfast.repo.format.pack import BlobKind
    from holdfast.store.contract import FileKind

    settings = settings_of.of(ctx)
    output = Output(settings)
    if kind not in KINDS:
        raise UsageError(f"there is no kind {kind!r}", remedy=f"Known are {', '.join(KINDS)}.")
    with repository.opened(settings, output) as opened:
        if kind == "blobs":
            for _, blobs in opened.index.by_pack():
                for blob in blobs:
                    output.line(f"{BlobKind(blob.kind).word} {blob.id.hex()}")
            return
        place = {
            "packs": FileKind.PACK,
            "index": FileKind.INDEX,
            "snapshots": FileKind.SNAPSHOT,
            "keys": FileKind.KEY,
            "locks": FileKind.LOCK,
        }[kind]
        for item in opened.store.list(place):
            output.line(item.name)
