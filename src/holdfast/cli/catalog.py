"""`holdfast catalog`: what the server knows, kept safe and made anew."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from holdfast.cli import moments
from holdfast.cli.api_options import Json, output_of
from holdfast.cli.data import ConfigFile, Data, ground_of
from holdfast.cli.progress import Meter
from holdfast.core.access import SHELL
from holdfast.core.errors import CatalogError, PartialError, UsageError
from holdfast.core.units import format_duration, format_size

if TYPE_CHECKING:
    from holdfast.cli.output import Output
    from holdfast.service.rebuilding import Rebuilt
    from holdfast.service.recovery_kit import Kit

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    help="Take care of what the server knows about its backups.",
)
_SHOWN = 20


@app.command()
def rebuild(
    *,
    data: Data,
    kit: Annotated[
        Path | None,
        typer.Option("--kit", metavar="FILE", help="Recovery kit: where pools are, and the key."),
    ] = None,
    pool: Annotated[
        list[str] | None,
        typer.Option(
            "--pool",
            metavar="NAME=LOCATION",
            help="A pool, where neither the data folder nor a kit knows it; may be repeated.",
        ),
    ] = None,
    copy: Annotated[
        Path | None,
        typer.Option(
            "--from",
            metavar="FILE",
            help="Copy of the catalog to begin from (default: the newest in the data folder).",
        ),
    ] = None,
    config: ConfigFile = None,
    json: Json = False,
) -> None:
    """Makes a damaged or lost catalog anew from its copies and the pools.

    A sound catalog is only added to. A damaged one is set aside, never deleted. Run it again after
    an interruption or where a pool could not be reached: it goes on.
    """
    output = output_of(json=json)
    if not data.is_dir() and kit is None:
        raise UsageError(
            f"there is no data folder {data}",
            remedy="Name the one of `holdfast serve`; with --kit it is made.",
        )
    from holdfast.service.rebuilding import rebuild as rebuilt

    with Meter(output) as meter:
        done = rebuilt(
            data,
            config,
            kit=_kit(kit),
            pools=dict(map(_pool, pool or [])),
            copy=copy.absolute() if copy else None,
            progress=meter,
        )
    _tell(output, done)
    if done.problems:
        raise PartialError(
            f"{len(done.problems)} places could not be read",
            remedy="What was found is in the catalog. Make the others reachable, and run this "
            "again.",
        )


def _kit(path: Path | None) -> "Kit | None":
    if path is None:
        return None
    from holdfast.service.recovery_kit import read_kit

    try:
        return read_kit(path.read_text())
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(
            f"{path} cannot be read: {error}", remedy="Nothing was changed."
        ) from error


def _pool(text: str) -> tuple[str, str]:
    name, found, location = text.partition("=")
    if not name or not found or not location:
        raise UsageError(
            f"--pool {text!r} is not NAME=LOCATION",
            remedy="Nothing was changed. Write it like main=/srv/backups.",
        )
    is_address = ":" in location.partition("/")[0]
    return name, location if is_address else str(Path(location).absolute())


def _tell(output: "Output", done: "Rebuilt") -> None:
    if output.json:
        for each in done.missing:
            output.message("missing", name=each.name, id=each.uid)
        for problem in done.problems:
            output.message("problem", message=problem)
        output.message(
            "summary",
            anew=done.anew,
            base=done.base,
            set_aside=list(map(str, done.set_aside)),
            recorded=done.backups,
            seconds=round(done.seconds, 3),
            **done.totals,
        )
        return
    for path in done.set_aside:
        output.said(f"what was there is {path} now")
    if done.base:
        output.said(f"began from {output.shown(done.base)}")
        output.note(
            "Users, settings and, where they are there, tokens and accounts are those of then. "
            "What was revoked or removed since is to be revoked and removed again."
        )
    for each in done.missing[:_SHOWN]:
        output.said(f"not in its pool any more: {output.shown(each.name)} ({each.uid})")
    if len(done.missing) > _SHOWN:
        output.said(f"and {len(done.missing) - _SHOWN} more")
    for problem in done.problems:
        output.warn(f"error: {output.shown(problem)}")
    known = ", ".join(f"{number} {noun}" for noun, number in done.totals.items())
    output.said(
        f"recorded {done.backups} backups in {format_duration(done.seconds)}; there are {known}"
    )


@app.command()
def backup(
    *,
    data: Data,
    to: Annotated[
        Path | None,
        typer.Option("--to", metavar="FILE", help="A new file (default: in the data folder)."),
    ] = None,
    config: ConfigFile = None,
    json: Json = False,
) -> None:
    """Copies the catalog while the server works, and looks the copy through.

    Secrets in a copy are sealed by the master key, which is not in it. The server makes one every
    hour; in the data folder the newest three stay, and the newest of each of three days.
    """
    output = output_of(json=json)
    with ground_of(data, config) as ground:
        from holdfast.service.catalog_backup import copy_catalog

        made = copy_catalog(ground, SHELL, to.absolute() if to else None)
    if output.json:
        output.message(
            "copy", path=str(made.path), form=str(made.form), size=made.size, note=made.note
        )
    output.said(f"copied the catalog to {made.path}, {format_size(made.size)}")
    if made.note:
        output.note(f"It holds settings, users, plans and targets only, as {made.note}.")


@app.command()
def check(*, data: Data, config: ConfigFile = None, json: Json = False) -> None:
    """Looks the catalog through: its file, its references, and whether the audit is as it was
    written. Ends with 1 where something is wrong. Changes nothing.
    """
    output = output_of(json=json)
    with ground_of(data, config) as ground:
        from holdfast.service.catalog_check import check as look

        found = look(ground, SHELL)
    for problem in found.problems:
        if output.json:
            output.message("problem", message=problem)
        else:
            output.warn(f"error: {output.shown(problem)}")
    if output.json:
        output.message(
            "summary",
            num_errors=len(found.problems),
            audit_records=found.records,
            audit_digest=found.digest,
        )
    if found.problems:
        raise CatalogError(
            f"{len(found.problems)} things are wrong in the catalog",
            remedy="Backups are untouched. `holdfast catalog rebuild` makes a damaged catalog "
            "anew; where only the audit is broken, find out who else can write the database.",
        )
    output.said(
        f"no errors were found; the audit has {found.records} records, the newest with the digest\n"
        f"{found.digest or 'none'}"
    )


@app.command()
def audit(
    *,
    data: Data,
    since: Annotated[
        str, typer.Option("--since", metavar="TIME", help="Only records from then on.")
    ] = "",
    config: ConfigFile = None,
) -> None:
    """Prints the audit as JSON lines, oldest first, with the digests that chain the records."""
    begin = moments.parse_moment(since) if since else 0
    output = output_of(json=True)
    with ground_of(data, config) as ground:
        from holdfast.service.catalog_check import audit_lines

        for line in audit_lines(ground, SHELL, since=begin):
            output.document(line, flush=False)
    sys.stdout.flush()
