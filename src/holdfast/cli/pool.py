"""`holdfast pool`: where a server keeps backups."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from holdfast.cli.api_options import Json, output_of
from holdfast.cli.data import ConfigFile, Data, ground_of
from holdfast.cli.progress import Meter
from holdfast.core.access import SHELL
from holdfast.core.errors import DamagedError, UsageError
from holdfast.core.records import PoolKind
from holdfast.core.units import format_size, parse_size

if TYPE_CHECKING:
    from holdfast.cli.output import Output
    from holdfast.service.pools import PoolState

app = typer.Typer(add_completion=False, no_args_is_help=True, help="Manage where backups are kept.")

Name = Annotated[str, typer.Argument(metavar="NAME", help="The pool's name.")]


@app.command()
def add(
    name: Name,
    locations: Annotated[
        list[str],
        typer.Argument(
            metavar="LOCATION...", help="Directories, or an s3:... or rest:... address."
        ),
    ],
    *,
    data: Data,
    plain: Annotated[
        bool,
        typer.Option("--plain", help="Keep ordinary files in one directory, not a repository."),
    ] = False,
    quota: Annotated[
        str,
        typer.Option("--quota", metavar="SIZE", help="Most that a host's repository may take."),
    ] = "",
    append_only: Annotated[
        bool, typer.Option("--append-only", help="Hosts may remove nothing from it.")
    ] = False,
    credentials_file: Annotated[
        Path | None,
        typer.Option(
            "--credentials-file",
            metavar="FILE",
            help="Lines like access_key=... and secret_key=..., or user=... and password=...",
        ),
    ] = None,
    note: Annotated[
        str, typer.Option("--note", metavar="TEXT", help="What people should know of it.")
    ] = "",
    config: ConfigFile = None,
    json: Json = False,
) -> None:
    """Adds a pool. Its directories need not exist yet: they are made when it is first used.

    Backups go into an encrypted repository that stock restic can read, too; its password is in the
    recovery kit.
    """
    output = output_of(json=json)
    options: dict[str, object] = {"append_only": True} if append_only else {}
    if quota:
        options["quota"] = _size(quota)
    with ground_of(data, config) as ground:
        from holdfast.service.pools import Pools

        pools = Pools(ground)
        pools.add(
            SHELL,
            name,
            [_absolute(each) for each in locations],
            kind=PoolKind.PLAIN if plain else PoolKind.REPOSITORY,
            options=options,
            credentials=_credentials(credentials_file),
            note=note,
        )
        state = pools.get(SHELL, name)
    if output.json:
        output.message("pool", **_plain(state))
    output.said(f"added pool {name} in {', '.join(state.pool.locations)}")


@app.command("list")
def list_all(*, data: Data, config: ConfigFile = None, json: Json = False) -> None:
    """Lists pools, each as it is right now."""
    output = output_of(json=json)
    with ground_of(data, config) as ground:
        from holdfast.service.pools import Pools

        states = Pools(ground).list(SHELL)
    if output.json:
        for each in states:
            output.message("pool", **_plain(each))
        return
    rows = [
        [
            output.shown(each.pool.name),
            each.pool.kind,
            str(each.backups),
            format_size(each.stored),
            "" if each.free is None else format_size(each.free),
            "\n".join(_told(output, each)),
        ]
        for each in states
    ]
    output.table(["Name", "Kind", "Backups", "Stored", "Free", "Where"], rows)


@app.command()
def check(
    name: Name,
    *,
    data: Data,
    read_data: Annotated[
        bool, typer.Option("--read-data", help="Read every byte and compare it.")
    ] = False,
    config: ConfigFile = None,
    json: Json = False,
) -> None:
    """Looks for damage. Ends with 1 where something is damaged or missing. Changes nothing."""
    output = output_of(json=json)
    with ground_of(data, config) as ground, Meter(output) as meter:
        from holdfast.service.pools import Pools

        pools = Pools(ground)
        try:
            problems = pools.check(SHELL, name, read_data=read_data, progress=meter)
        finally:
            pools.close()
    for problem in problems:
        if output.json:
            output.message("problem", message=problem)
        else:
            output.warn(f"error: {output.shown(problem)}")
    if output.json:
        output.message("summary", name=name, num_errors=len(problems))
    if problems:
        raise DamagedError(
            f"{len(problems)} things are wrong in pool {name}",
            remedy="What is not named above can be restored. Back up again what is hit, or bring "
            "it back from another copy.",
        )
    output.said("no errors were found")


@app.command()
def remove(name: Name, *, data: Data, config: ConfigFile = None, json: Json = False) -> None:
    """Forgets a pool that no backup, target or host uses. What lies in its storage stays there."""
    output = output_of(json=json)
    with ground_of(data, config) as ground:
        from holdfast.service.pools import Pools

        Pools(ground).remove(SHELL, name)
    if output.json:
        output.message("removed", name=name)
    output.said(f"removed pool {name}; its storage was left as it is")


def _absolute(location: str) -> str:
    """A directory as seen from here; the server may run elsewhere."""
    if ":" in location.partition("/")[0]:
        return location
    return str(Path(location).absolute())


def _size(text: str) -> int:
    try:
        return parse_size(text)
    except ValueError as error:
        raise UsageError(f"--quota: {error}", remedy="Nothing was changed.") from error


def _credentials(path: Path | None) -> dict[str, str]:
    if path is None:
        return {}
    try:
        lines = path.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(
            f"{path} cannot be read: {error}", remedy="Nothing was changed."
        ) from error
    pairs = [line.partition("=") for line in lines if line.strip()]
    if not all(found for _, found, _ in pairs):
        raise UsageError(
            f"{path} must have lines like access_key=...", remedy="Nothing was changed."
        )
    return {name.strip(): value.strip() for name, _, value in pairs}


def _told(output: "Output", state: "PoolState") -> list[str]:
    return [
        output.shown(place.address) + ("" if place.reachable else f" ({place.problem})")
        for place in state.locations
    ]


def _plain(state: "PoolState") -> dict[str, object]:
    return {
        "name": state.pool.name,
        "kind": str(state.pool.kind),
        "note": state.pool.note,
        "reachable": state.reachable,
        "repositories": state.repositories,
        "backups": state.backups,
        "stored": state.stored,
        "free": state.free,
        "locations": [
            {
                "address": place.address,
                "reachable": place.reachable,
                "problem": place.problem,
                "free": place.free,
                "total": place.total,
            }
            for place in state.locations
        ],
    }
