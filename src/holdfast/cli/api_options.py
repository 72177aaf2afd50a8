"""What the verbs of `holdfast api` share: where the project is, and how to speak."""

import gc
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from holdfast.cli.output import Output
from holdfast.cli.settings import Settings

if TYPE_CHECKING:
    from holdfast.sources.restapi.project.project import Project

ProjectPath = Annotated[
    str | None,
    typer.Option(
        "--projectpath", "-p", metavar="DIR", help="The project's folder (default: this one)."
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Speak JSON.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but results and errors.")]
Verbose = Annotated[int, typer.Option("--verbose", "-v", count=True, help="Say more.")]


def output_of(*, json: bool = False, quiet: bool = False, verbose: int = 0) -> Output:
    return Output(Settings(json=json, quiet=quiet, verbose=verbose))


def expect_many_records() -> None:
    """Lets the collector of cycles look less often: records are many, and none forms a cycle."""
    gc.set_threshold(50_000, 20, 100)


def project_at(path: str | None, *, asking: bool = False) -> "Project":
    """The project in a folder; without a name the one in this folder. `asking`: what it names
    outside its file must be there.

    Raises:
        NoProjectError, ProjectError: there is none, or it cannot be used.
    """
    from holdfast.sources.restapi.project.project import read_project, usable
    from holdfast.sources.restapi.project.references import broken_references

    reading = read_project(Path(path) if path else Path.cwd())
    return usable(reading, broken_references(reading) if asking else ())
