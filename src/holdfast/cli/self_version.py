"""`holdfast self version` and `holdfast version`."""

import platform

import typer

from holdfast import __version__
from holdfast.cli import settings as settings_of
from holdfast.cli.output import Output

app = typer.Typer(add_completion=False, no_args_is_help=True, help="About this program.")


@app.callback()
def group() -> None:
    """About this program."""


@app.command()
def version(ctx: typer.Context) -> None:
    """Prints the version of this program and of the Python that runs it."""
    output = Output(settings_of.of(ctx))
    if output.json:
        output.message("version", version=__version__, python_version=platform.python_version())
    else:
        output.line(
            f"holdfast {__version__} on Python {platform.python_version()}, {platform.platform()}"
        )
