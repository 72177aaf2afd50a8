"""`holdfast api`: collect what lies behind a REST API, on projects of apibackuper as they are."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from holdfast.cli import api_give
from holdfast.cli.api_options import Json, ProjectPath, Quiet, Verbose, output_of

if TYPE_CHECKING:
    from holdfast.cli.output import Output
    from holdfast.sources.restapi.project.project import Project

app = typer.Typer(
    help="Collect what lies behind REST APIs, and give it back as files.",
    no_args_is_help=True,
    add_completion=False,
)
Mode = Annotated[
    str, typer.Argument(metavar="[MODE]", help="full, incremental (or continue), update.")
]


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="Name of the project and of its new folder.")],
    *,
    url: Annotated[str | None, typer.Option("--url", "-u", help="Address of the API.")] = None,
    config: Annotated[
        Path | None, typer.Option("--config", "-c", metavar="FILE", help="Begin with this file.")
    ] = None,
    pagekey: Annotated[
        str | None, typer.Option("--pagekey", "-k", help="Parameter with the page's number.")
    ] = None,
    pagesize: Annotated[
        int | None, typer.Option("--pagesize", "-s", min=1, help="Records per page.")
    ] = None,
    datakey: Annotated[
        str | None, typer.Option("--datakey", "-d", help="Key of the list of records.")
    ] = None,
    itemkey: Annotated[
        str | None, typer.Option("--itemkey", "-i", help="Key that tells records apart.")
    ] = None,
    changekey: Annotated[
        str | None, typer.Option("--changekey", "-e", help="Key that tells of changes.")
    ] = None,
    iterateby: Annotated[
        str | None, typer.Option("--iterateby", "-b", help="page, skip, range, cursor, link, ...")
    ] = None,
    http_mode: Annotated[str | None, typer.Option("--http-mode", "-m", help="GET or POST.")] = None,
    work_modes: Annotated[
        str | None, typer.Option("--work-modes", "-w", help="Modes that are allowed.")
    ] = None,
    json: Json = False,
    verbose: Verbose = 0,  # noqa: ARG001 - taken wherever apibackuper takes it
) -> None:
    """Make a new project."""
    from holdfast.core.errors import UsageError
    from holdfast.sources.restapi.project.create import create_project

    choices: dict[str, dict[str, object]] = {
        "project": {
            "url": url, "http_mode": http_mode, "work_modes": work_modes,
            "iterate_by": "page" if iterateby == "number" else iterateby,
        },
        "params": {"page_number_param": pagekey, "page_size_limit": pagesize},
        "data": {"data_key": datakey, "item_key": itemkey, "change_key": changekey},
    }  # fmt: skip
    given = {
        section: {word: value for word, value in values.items() if value is not None}
        for section, values in choices.items()
    }
    if not name.strip():
        raise UsageError("a project needs a name", remedy="Nothing was made.")
    file, fresh = create_project(Path(name), given, copy_of=config)
    out = output_of(json=json)
    if json:
        out.message("created", project=str(file.parent), file=str(file), new=fresh)
    elif fresh:
        out.line(f"Project {file.parent} made. Now edit {file}.")
    else:
        out.line(f"Project {file.parent} is there already; nothing was changed.")


@app.command("validate-config")
def validate_config(
    projectpath: ProjectPath = None,
    strict: Annotated[bool, typer.Option("--strict", help="Notes are mistakes too.")] = False,
    json: Json = False,
    verbose: Verbose = 0,
) -> None:
    """Find every mistake of a project's file, with its line."""
    from holdfast.sources.restapi.asking.redact import public_url
    from holdfast.sources.restapi.project.project import described, read_project
    from holdfast.sources.restapi.project.references import broken_references

    reading = read_project(folder_of(projectpath))
    wrong = [*reading.mistakes, *reading.unknown, *broken_references(reading)]
    wrong.sort(key=lambda mistake: mistake.line)
    out = output_of(json=json)
    if json:
        for kind, mistakes in (("mistake", wrong), ("note", reading.notes)):
            for mistake in mistakes:
                out.message(kind, line=mistake.line, text=mistake.text)
        out.message("summary", file=str(reading.file), valid=not wrong, mistakes=len(wrong))
    else:
        for mistake in wrong:
            out.line(f"{reading.file}: {described(mistake)}")
        for note in reading.notes:
            out.line(f"{reading.file}: note: {described(note)}")
        if wrong:
            out.line(f"{len(wrong)} mistake{'s' if len(wrong) > 1 else ''}")
        else:
            out.line(f"Configuration is valid: {reading.file}")
            if verbose and reading.project:
                out.line(f"url: {public_url(reading.project.source.url)}")
    if wrong or (strict and reading.notes):
        raise typer.Exit(1)


@app.command()
def run(
    mode: Mode = "full",
    *,
    projectpath: ProjectPath = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Taken for old scripts; runs always go on.")
    ] = False,
    restart: Annotated[
        bool, typer.Option("--restart", help="Do not go on with a run that was cut off.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only tell what would be done.")
    ] = False,
    profile: Annotated[
        bool, typer.Option("--profile", hidden=True, help="The same, for old scripts.")
    ] = False,
    allow_empty: Annotated[
        bool, typer.Option("--allow-empty", help="An API without records is no failure.")
    ] = False,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = 0,
) -> None:
    """Collect: everything (full), what is new (incremental), or what changed (update)."""
    del resume
    from holdfast.cli.api_run import plan, run_and_report

    only_telling = dry_run or profile
    project = load(projectpath, notes=True, asking=not only_telling)
    out = output_of(json=json, quiet=quiet)
    if only_telling:
        out.document(plan(project, mode))
        return
    run_and_report(
        project, mode, out, restart=restart, allow_empty=allow_empty, verbose=bool(verbose)
    )


@app.command()
def update(
    *,
    projectpath: ProjectPath = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Taken for old scripts; runs always go on.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only tell what would be done.")
    ] = False,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = 0,
) -> None:
    """Collect what changed since the last run. Same as `run update`."""
    run(
        "update", projectpath=projectpath, resume=resume, restart=False, dry_run=dry_run,
        allow_empty=False, json=json, quiet=quiet, verbose=verbose,
    )  # fmt: skip


@app.command()
def detect(
    projectpath: ProjectPath = None,
    url: Annotated[str | None, typer.Option("--url", "-u", help="Look at this address.")] = None,
    write_config: Annotated[
        bool, typer.Option("--write-config", help="Write what is missing into the project.")
    ] = False,
    json: Json = False,
    verbose: Verbose = 0,  # noqa: ARG001 - taken wherever apibackuper takes it
) -> None:
    """Find out where an API has its records and how it pages."""
    from holdfast.cli.api_run import detect_in
    from holdfast.sources.restapi.project.create import amend_project

    out = output_of(json=json)
    detection = detect_in(folder_of(projectpath), url, say=out.warn)
    if json:
        out.document({"found": detection.found, "test_read": detection.test_read,
                      "records": detection.records, "proved": detection.proved})  # fmt: skip
    else:
        for line in detection.lines():
            out.line(line)
    if write_config:
        found = {**detection.found}
        if url:
            found["project"] = {"url": url, **found.get("project", {})}
        names = amend_project(folder_of(projectpath), found, replacing=detection.replaces)
        out.said(f"written: {', '.join(names)}" if names else "nothing was missing")


@app.command()
def estimate(
    mode: Mode = "full",  # noqa: ARG001 - every mode begins with the same page
    projectpath: ProjectPath = None,
    json: Json = False,
) -> None:
    """Tell from one real page how long a run takes and how much it brings."""
    from dataclasses import asdict

    from holdfast.sources.restapi.collecting.estimate import estimate_project

    out = output_of(json=json)
    found = estimate_project(load(projectpath, asking=True), say=out.warn)
    if json:
        out.document(asdict(found))
        return
    for line in found.lines():
        out.line(line)


@app.command()
def info(projectpath: ProjectPath = None, json: Json = False) -> None:
    """Tell everything about a project: configuration, what is stored, how runs went."""
    from holdfast.sources.restapi.giving.info import describe

    described = describe(load(projectpath))
    out = output_of(json=json)
    if json:
        from json import dumps

        out.line(dumps(described, ensure_ascii=False, indent=2))
        return
    _print_tree(out, described)


def folder_of(path: str | None) -> Path:
    return Path(path) if path else Path()


def load(path: str | None, *, notes: bool = False, asking: bool = False) -> "Project":
    """The project of a folder; keys that nothing reads are remarked on standard error, with
    `notes` those without effect, too. `asking`: what it names outside its file must be there.

    Raises:
        NoProjectError: there is none.
        ProjectError: it cannot be used.
    """
    import sys

    from holdfast.sources.restapi.project.project import described, read_project, usable
    from holdfast.sources.restapi.project.references import broken_references

    reading = read_project(folder_of(path))
    project = usable(reading, broken_references(reading) if asking else ())
    for mistake in [*reading.unknown, *(reading.notes if notes else ())]:
        sys.stderr.write(f"{reading.file}: {described(mistake)}\n")
    return project


def _print_tree(out: "Output", tree: dict[str, Any], depth: int = 0) -> None:
    """Any: JSON."""
    for name, value in tree.items():
        if isinstance(value, dict):
            out.line(f"{'  ' * depth}{name}:")
            _print_tree(out, value, depth + 1)
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            for entry in value:
                out.line(f"{'  ' * depth}{name}:")
                _print_tree(out, entry, depth + 1)
        elif value not in (None, [], ""):
            out.line(f"{'  ' * depth}{name}: {value}")


api_give.register(app)
