"""`holdfast dump`: a file, or a folder as one archive, to standard output."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, BinaryIO

import typer

from holdfast.cli import options, repository
from holdfast.cli import settings as settings_of
from holdfast.cli.output import Output
from holdfast.cli.progress import Meter
from holdfast.core.errors import PartialError, RestoreError, UsageError
from holdfast.core.progress import Silence

ARCHIVES = ("tar", "zip")


def dump(
    ctx: typer.Context,
    *,
    name: Annotated[
        str,
        typer.Argument(
            metavar="SNAPSHOT[:FOLDER]", help="`latest`, a name, or the beginning of one."
        ),
    ],
    file: Annotated[str, typer.Argument(metavar="PATH", help="File or folder of the snapshot.")],
    archive: Annotated[
        str, typer.Option("--archive", "-a", metavar="FORMAT", help="Of folders: tar or zip.")
    ] = "tar",
    target: Annotated[
        str, typer.Option("--target", "-t", metavar="FILE", help="Write into this file instead.")
    ] = "",
    host: options.Hosts = None,
    tag: options.Tags = None,
    path: options.Paths = None,
) -> None:
    """Writes the content of a file, or an archive of a folder."""
    from holdfast.repo.browsing.dump import Archive
    from holdfast.repo.browsing.dump import dump as write
    from holdfast.repo.browsing.walk import resolve

    if archive not in ARCHIVES:
        raise UsageError(f"there is no archive {archive!r}", remedy="Known are tar and zip.")
    settings = settings_of.of(ctx)
    output = Output(settings)
    chosen = options.Chosen.of(host, tag, path)
    left_out: list[bytes] = []

    with repository.opened(settings, output) as opened, _shown(output, target) as meter:

        def note(path: bytes, message: str) -> None:
            left_out.append(path)
            say = output.warn if meter is None else meter.note
            say(f"{output.shown(path)}: {message}")

        snapshot, below = repository.choose_snapshot(opened, output, name, chosen)
        with repository.locked(opened, settings, output):
            top = resolve(opened, snapshot.tree, os.fsencode(below))
            if top.tree is None:
                raise UsageError(f"{below} is no folder", remedy="Name a folder of the snapshot.")
            wanted = os.fsencode(file)
            is_folder = resolve(opened, top.tree, wanted).tree is not None
            if is_folder and not target and output.to_terminal:
                raise UsageError(
                    "an archive would be written to the terminal",
                    remedy="Send it on with > or |, or name a file with --target.",
                )
            with _told(target), _opened(target) as out:
                write(
                    opened, top.tree, wanted, out,
                    archive=Archive(archive), on_problem=note, progress=meter or Silence(),
                )  # fmt: skip
    if left_out:
        raise PartialError(
            f"{len(left_out)} entries are not in the archive",
            remedy="The rest is there. What is left out is listed above.",
        )


@contextmanager
def _shown(output: Output, target: str) -> Iterator[Meter | None]:
    """How far it is, on a terminal that is not full of the content itself."""
    elsewhere = bool(target) or not output.to_terminal
    if output.json or output.quiet or not elsewhere or not output.stderr.isatty():
        yield None
        return
    with Meter(output) as meter:
        yield meter


def _opened(target: str) -> BinaryIO:
    """Standard output, or a new file; either is closed by the caller."""
    if target:
        return Path(target).open("wb")
    sys.stdout.flush()
    return os.fdopen(os.dup(sys.stdout.fileno()), "wb")


@contextmanager
def _told(target: str) -> Iterator[None]:
    """Says what the system refuses to write."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise RestoreError(
            f"{target or 'standard output'} cannot be written: {error.strerror or error}",
            remedy="What is there is cut short: do not use it. Make room or choose another place, "
            "and run again.",
        ) from error
