"""`holdfast api`, the giving half: export, diff, verify, follow, getfiles."""

import json as jsonlib
from collections import Counter
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from holdfast.cli.api_options import (
    Json,
    ProjectPath,
    Quiet,
    Verbose,
    expect_many_records,
    output_of,
    project_at,
)
from holdfast.cli.output import Output
from holdfast.cli.progress import Meter
from holdfast.core.errors import DamagedError, PartialError, UsageError
from holdfast.core.units import format_size

if TYPE_CHECKING:
    from collections.abc import Sequence

    from holdfast.sources.restapi.details.misses import Miss
    from holdfast.sources.restapi.giving.export import Form
    from holdfast.sources.restapi.project.project import Project

_SHOWN = 20
_KEY_LENGTH = 120


def register(app: typer.Typer) -> None:
    """Adds these verbs to the group."""
    for verb in (export, diff, verify, follow, getfiles):
        app.command()(verb)


def export(
    file: Annotated[
        str, typer.Argument(metavar="FILE", help="Where to write; - is standard output.")
    ],
    *,
    projectpath: ProjectPath = None,
    form: Annotated[
        str | None,
        typer.Option(
            "--format",
            "-f",
            metavar="FORMAT",
            help="jsonl, json, csv, gzip, zstd, parquet, sqlite or duckdb (default: by the name).",
        ),
    ] = None,
    fields: Annotated[
        str | None,
        typer.Option(metavar="A,B.C", help="Only these fields, under their dotted names."),
    ] = None,
    where: Annotated[
        list[str] | None,
        typer.Option(
            metavar="CONDITION",
            help="Only records that satisfy it, like 'amount >= 100 and active == true'.",
        ),
    ] = None,
    history: Annotated[
        bool,
        typer.Option("--history", help="Every version of every record, not the latest state."),
    ] = False,
    part: Annotated[
        str | None,
        typer.Option(
            "--part",
            metavar="NAME",
            help="records, details or a follow rule (default: details, if any).",
        ),
    ] = None,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = 0,
) -> None:
    """Write what was collected to a file, in the order of the API, each record once."""
    from holdfast.sources.restapi.giving.export import STDOUT, Selection, export
    from holdfast.sources.restapi.kept.archive import open_archive

    expect_many_records()
    output = output_of(json=json, quiet=quiet or file == STDOUT, verbose=verbose)
    project = project_at(projectpath)
    names = tuple(name.strip() for name in (fields or "").split(",") if name.strip())
    selection = Selection(names, tuple(where or ()), history, part)
    with open_archive(project.place) as archive, Meter(output) as meter:
        if archive.unfinished:
            output.warn("the first run is not finished; this is what it has collected so far")
        if archive.lacks_ledger:
            output.warn(
                f"{project.place.ledger} is damaged; without it deletions are not known. The next"
                " run makes it anew"
            )
        if archive.replaced:
            output.warn(
                "another program has collected into this archive; its pages count as they are"
            )
        done = export(project, archive, file, form=_form(form), selection=selection, progress=meter)
    if file == STDOUT:
        return
    if json:
        output.message("summary", records=done.records, bytes=done.size, format=done.form)
    output.said(f"{done.records} records written to {file} ({done.form}, {format_size(done.size)})")


def _form(name: str | None) -> "Form | None":
    from holdfast.sources.restapi.giving.export import Form

    if name is None:
        return None
    try:
        return Form(name.lower())
    except ValueError:
        raise UsageError(
            f"there is no format {name!r}", remedy=f"There are: {', '.join(Form)}."
        ) from None


def diff(
    *,
    projectpath: ProjectPath = None,
    old: Annotated[
        str | None, typer.Option("--from", metavar="RUN", help="The earlier run.")
    ] = None,
    new: Annotated[str | None, typer.Option("--to", metavar="RUN", help="The later run.")] = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Show which records were added (+), changed (~) and removed (-) between two runs.

    Without names the last two are compared. A run's name may be cut short; `info` lists them.
    """
    from holdfast.sources.restapi.giving.diff import changes, choose_runs
    from holdfast.sources.restapi.kept.archive import open_archive

    output = output_of(json=json, quiet=quiet)
    project = project_at(projectpath)
    counts: Counter[str] = Counter()
    with open_archive(project.place) as archive:
        earlier, later = choose_runs(archive.runs(), old, new)
        for change in changes(project, archive, earlier, later):
            counts[change.kind] += 1
            if json:
                key = jsonlib.loads(change.key)
                output.message("change", kind=change.kind, key=key, fields=change.fields)
            else:
                fields = f"  {', '.join(change.fields)}" if change.fields else ""
                sign = {"added": "+", "changed": "~", "removed": "-"}[change.kind]
                output.line(f"{sign} {output.shown(_short(change.key))}{fields}")
    kinds = {kind: counts[kind] for kind in ("added", "changed", "removed")}
    runs = {"from": earlier.id, "to": later.id}
    if json:
        output.message("summary", **runs, **kinds)
    told = ", ".join(f"{count} {kind}" for kind, count in kinds.items())
    output.said(f"{told} between {earlier.id or 'the first run'} and {later.id}")


def verify(
    *,
    projectpath: ProjectPath = None,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = 0,
) -> None:
    """Read everything that is stored, compare digests, and count the records again.

    Ends with 1 and names each page, detail and file that is not as it was received.
    """
    from holdfast.sources.restapi.giving.verify import verify

    output = output_of(json=json, quiet=quiet, verbose=verbose)
    project = project_at(projectpath)
    with Meter(output) as meter:
        verdict = verify(project, progress=meter)
    for finding in verdict.findings:
        if json:
            kind = "note" if finding.kind == "earlier" else "error"
            output.message(kind, place=finding.place, message=finding.message)
        else:
            note = "note: earlier run " if finding.kind == "earlier" else ""
            output.line(f"{note}{output.shown(finding.place)}: {output.shown(finding.message)}")
    if json:
        output.message(
            "summary", findings=len(verdict.findings), members=verdict.members,
            records=verdict.records, bytes=verdict.bytes, without_evidence=verdict.unproven,
        )  # fmt: skip
    output.said(
        f"{verdict.members} stored responses and files read ({format_size(verdict.bytes)}),"
        f" {verdict.records} records"
    )
    if verdict.unproven:
        output.said(
            f"{verdict.unproven} of them were stored without a digest: only their form was checked"
        )
    kinds = Counter(finding.kind for finding in verdict.findings)
    if kinds["damaged"]:
        raise DamagedError(
            f"{kinds['damaged']} things are not as they were received",
            remedy="What is not named above is intact. Run `holdfast api run full` to collect anew;"
            " the archive is replaced only when that succeeds.",
        )
    if kinds["short"]:
        raise PartialError(
            "fewer records are stored than the API announced",
            remedy="What is stored is intact. Run `holdfast api run full` to collect anew.",
        )
    if kinds["earlier"]:
        output.said("the newest state is as it was received; earlier runs are not")
        return
    output.said("everything is as it was received")


def follow(
    mode: Annotated[
        str, typer.Argument(metavar="MODE", help="full: all anew; continue: what is missing.")
    ] = "continue",
    *,
    projectpath: ProjectPath = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only tell what would be done, as JSON.")
    ] = False,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = 0,
) -> None:
    """Ask about each collected record, as section follow says, and keep the answers."""
    from holdfast.cli.api_log import log_of
    from holdfast.sources.restapi.details import follow as following

    output = output_of(json=json, quiet=quiet, verbose=verbose)
    project = project_at(projectpath, asking=not dry_run)
    if dry_run:
        output.document(following.plan(project, mode=mode))
        return
    with Meter(output) as meter, log_of(project, output.note if verbose else None) as log:
        reports = following.follow(project, mode=mode, progress=meter, log=log, say=meter.note)
    for report in reports:
        told = f"{report.label}: {report.fetched} fetched, {report.present} were there"
        _tell(output, told, asdict(report), report.first_misses)
    _keep(project, output)
    _end([(report.misses, report.misses_file) for report in reports])


def getfiles(
    *,
    projectpath: ProjectPath = None,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = 0,
) -> None:
    """Download the files that the records name and that are not there yet."""
    from holdfast.cli.api_log import log_of
    from holdfast.sources.restapi.details import getfiles as getting

    output = output_of(json=json, quiet=quiet, verbose=verbose)
    project = project_at(projectpath, asking=True)
    with Meter(output) as meter, log_of(project, output.note if verbose else None) as log:
        report = getting.getfiles(project, progress=meter, log=log, say=meter.note)
    told = (
        f"{report.fetched} files fetched ({format_size(report.bytes)}), {report.present} were there"
    )
    _tell(output, told, asdict(report), report.first_misses)
    _keep(project, output)
    _end([(report.misses, report.misses_file)])


def _keep(project: "Project", output: Output) -> None:
    """Makes a snapshot where the project is kept in a repository."""
    if project.storage.storage_type == "repository":
        from holdfast.cli.api_keep import keep_in_repository

        keep_in_repository(project, output)


def _tell(output: Output, told: str, fields: dict[str, Any], misses: "Sequence[Miss]") -> None:
    if output.json:
        output.message("summary", **fields)
    output.said(f"{told}, {fields['misses']} failed" if fields["misses"] else told)
    for miss in misses[:_SHOWN]:
        kept = " (the earlier answer is kept)" if miss.kept else ""
        output.warn(f"  {output.shown(miss.name)}: {output.shown(miss.reason)}{kept}")
    if fields["misses"] > _SHOWN:
        output.warn(f"  and {fields['misses'] - _SHOWN} more")


def _end(misses: "Sequence[tuple[int, str | None]]") -> None:
    """Raises PartialError where something could not be fetched."""
    if count := sum(number for number, _ in misses):
        files = ", ".join(file for _, file in misses if file)
        raise PartialError(
            f"{count} could not be fetched", remedy=f"The rest is kept. All are listed in {files}."
        )


def _short(key: str) -> str:
    return key if len(key) <= _KEY_LENGTH else key[: _KEY_LENGTH - 3] + "..."
