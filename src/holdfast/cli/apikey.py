"""`holdfast apikey`: the one key of the Backup-chan API."""

from typing import Annotated

import typer

from holdfast.cli.api_options import Json, output_of
from holdfast.cli.data import ConfigFile, Data, ground_of
from holdfast.core.access import SHELL

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    help="Manage the key of the Backup-chan API. A running server notices at once.",
)


@app.command()
def new(
    *,
    data: Data,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the key that there is; it is void then.")
    ] = False,
    config: ConfigFile = None,
    json: Json = False,
) -> None:
    """Makes the key and prints it, this once."""
    output = output_of(json=json)
    with ground_of(data, config) as ground:
        from holdfast.service.tokens import Tokens

        key = Tokens(ground).new_api_key(SHELL, overwrite=overwrite)
    if output.json:
        output.message("api_key", api_key=key.reveal())
        return
    output.line(key.reveal())
    output.note("Keep it safe: the server has only its digest and will not show it again.")


@app.command()
def remove(*, data: Data, config: ConfigFile = None, json: Json = False) -> None:
    """Removes the key, so that nobody comes in by it any more."""
    output = output_of(json=json)
    with ground_of(data, config) as ground:
        from holdfast.service.tokens import Tokens

        Tokens(ground).remove_api_key(SHELL)
    if output.json:
        output.message("removed", name="api-key")
    output.said("removed the API key")
