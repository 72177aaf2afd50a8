"""`holdfast restore`: files come back, into one folder and nowhere else."""

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from holdfast.cli import modules, options, repository
from holdfast.cli import settings as settings_of
from holdfast.cli.output import Output
from holdfast.cli.progress import Meter, Stage
from holdfast.cli.settings import Settings
from holdfast.core.errors import PartialError, UsageError
from holdfast.core.units import counted, format_duration, format_size

if TYPE_CHECKING:
    from holdfast.core.patterns import Patterns
    from holdfast.repo.restoring.restore import Change, RestoreReport
    from holdfast.repo.restoring.restore_options import RestoreOptions, Selection

_PATTERN = "PATTERN"
_OVERWRITE = ("always", "if-changed", "if-newer", "never")
_LISTED = 10
_ALL = "Nothing was done. Leave the other options out; --set says what a module can leave out."


def restore(
    ctx: typer.Context,
    *,
    name: Annotated[
        str,
        typer.Argument(
            metavar="SNAPSHOT[:FOLDER]", help="`latest`, a name, or the beginning of one."
        ),
    ],
    target: Annotated[
        str | None, typer.Option("--target", "-t", metavar="FOLDER", help="Where to restore to.")
    ] = None,
    into: Annotated[
        str,
        typer.Option(
            metavar="MODULE:WHAT",
            help="Put a snapshot of --source back instead: postgres:NAME, mysql:NAME, sqlite:FILE,"
            " block:DEVICE.",
        ),
    ] = "",
    parameters: modules.Parameters = None,
    include: Annotated[
        list[str] | None,
        typer.Option("--include", "-i", metavar=_PATTERN, help="Only what matches."),
    ] = None,
    iinclude: Annotated[
        list[str] | None, typer.Option(metavar=_PATTERN, help="The same, whatever the case.")
    ] = None,
    include_file: Annotated[
        list[str] | None, typer.Option(metavar="FILE", help="Read such patterns from a file.")
    ] = None,
    iinclude_file: Annotated[
        list[str] | None, typer.Option(metavar="FILE", help="The same, whatever the case.")
    ] = None,
    exclude: Annotated[
        list[str] | None,
        typer.Option("--exclude", "-e", metavar=_PATTERN, help="All but what matches."),
    ] = None,
    iexclude: Annotated[
        list[str] | None, typer.Option(metavar=_PATTERN, help="The same, whatever the case.")
    ] = None,
    exclude_file: Annotated[
        list[str] | None, typer.Option(metavar="FILE", help="Read such patterns from a file.")
    ] = None,
    iexclude_file: Annotated[
        list[str] | None, typer.Option(metavar="FILE", help="The same, whatever the case.")
    ] = None,
    host: options.Hosts = None,
    tag: options.Tags = None,
    path: options.Paths = None,
    overwrite: Annotated[
        str,
        typer.Option(
            metavar="MODE", help="Of what is there already: always, if-changed, if-newer, never."
        ),
    ] = "always",
    delete: Annotated[
        bool,
        typer.Option("--delete", help="Remove what the snapshot does not have from its folders."),
    ] = False,
    sparse: Annotated[bool, typer.Option("--sparse", help="Make holes of zeros.")] = False,
    verify: Annotated[
        bool, typer.Option("--verify", help="Read everything again and compare.")
    ] = False,
    dry_run: options.DryRun = False,
) -> None:
    """Restores a snapshot, or a folder of it. Run it again after an interruption: finished files
    are kept.

    Ends with 3 where something could not be restored: it is listed, and the rest is there.
    """
    from holdfast.repo.restoring.restore import restore as give_back
    from holdfast.repo.restoring.restore_options import Overwrite, RestoreOptions

    if bool(target) == bool(into):
        raise UsageError(
            "no folder to restore to was named"
            if not target
            else "--target and --into exclude each other",
            remedy="Name a folder with --target, or what a module puts back with --into.",
        )
    if parameters and not into:
        raise UsageError("--set is for --into", remedy="Nothing was done.")
    if overwrite not in _OVERWRITE:
        raise UsageError(
            f"there is no --overwrite {overwrite!r}", remedy=f"Known are {', '.join(_OVERWRITE)}."
        )
    settings = settings_of.of(ctx)
    output = Output(settings)
    chosen = options.Chosen.of(host, tag, path)
    if into:
        if any((include, iinclude, include_file, iinclude_file, exclude, iexclude, exclude_file,
                iexclude_file, delete, sparse, verify, dry_run)):  # fmt: skip
            raise UsageError("--into puts back all of a snapshot, or nothing", remedy=_ALL)
        _put_back(settings, output, name, chosen, into=into, parameters=parameters or ())
        return
    assert target
    wanted = RestoreOptions(
        selection=_selection(
            _patterns(include, include_file),
            _patterns(iinclude, iinclude_file, ignore_case=True),
            _patterns(exclude, exclude_file),
            _patterns(iexclude, iexclude_file, ignore_case=True),
        ),
        overwrite=Overwrite(overwrite),
        delete=delete,
        sparse=sparse,
        dry_run=dry_run,
        verify=verify,
        workers=len(os.sched_getaffinity(0)),
    )
    with repository.opened(settings, output) as opened:
        snapshot, folder = repository.choose_snapshot(opened, output, name, chosen)
        output.note(f"restoring {snapshot.short} of {snapshot.file.hostname} to {target}")
        with (
            repository.locked(opened, settings, output, refreshing=False) as lock,
            Meter(output, status=_status) as meter,
        ):
            report = give_back(
                opened,
                snapshot,
                os.fsencode(target),
                subfolder=os.fsencode(folder) or b"/",
                options=wanted,
                progress=meter,
                on_change=_teller(output, meter),
                lock=lock,
            )
        _tell(output, report, wanted, meter.elapsed)
    if report.failures:
        shown = ", ".join(output.shown(failure.path) for failure in report.failures[:_LISTED])
        more = len(report.failures) - _LISTED
        raise PartialError(
            f"not everything could be restored as it was ({len(report.failures)}): {shown}"
            + (f" and {more} more" if more > 0 else ""),
            remedy="What was restored stays. Mend the cause and run the same command again.",
        )


def _put_back(
    settings: Settings,
    output: Output,
    name: str,
    chosen: options.Chosen,
    *,
    into: str,
    parameters: Sequence[str],
) -> None:
    with repository.opened(settings, output) as opened:
        snapshot, below = repository.choose_snapshot(opened, output, name, chosen)
        if below:
            raise UsageError("--into puts back all of a snapshot, or nothing", remedy=_ALL)
        output.note(f"putting {snapshot.short} of {snapshot.file.hostname} back into {into}")
        with repository.locked(opened, settings, output):
            done = modules.put_back(into, parameters, opened, snapshot)
    if output.json:
        output.message("put_back", snapshot_id=snapshot.id, said=done)
    else:
        output.said(done)


def _patterns(
    texts: Sequence[str] | None, files: Sequence[str] | None, *, ignore_case: bool = False
) -> "Patterns":
    from holdfast.core.patterns import Patterns
    from holdfast.sources.files.lists import read_patterns

    return Patterns([*(texts or ()), *read_patterns(files or ())], ignore_case=ignore_case)


def _selection(*patterns: "Patterns") -> "Selection":
    from holdfast.repo.restoring.restore_options import Selection

    include, iinclude, exclude, iexclude = patterns
    return Selection(includes=(include, iinclude), excludes=(exclude, iexclude))


def _status(stage: Stage) -> dict[str, Any]:
    """restic's fields."""
    return {
        "total_files": stage.all_items or 0,
        "files_restored": stage.items,
        "total_bytes": stage.all_bytes or 0,
        "bytes_restored": stage.bytes,
    }


def _teller(output: Output, meter: Meter) -> Any:
    """What is said of each name with -vv."""
    if output.verbosity < 2:  # noqa: PLR2004  as in restic, each file is told at the second -v
        return None

    def tell(change: "Change") -> None:
        if output.json:
            output.message(
                "verbose_status",
                action=change.action,
                item=change.path.decode(errors="replace"),
                size=change.size,
            )
        else:
            meter.result(f"{change.action:10} {output.shown(change.path)}")

    return tell


def _tell(
    output: Output, report: "RestoreReport", wanted: "RestoreOptions", elapsed: float
) -> None:
    for failure in report.failures:
        if output.json:
            output.message(
                "error",
                error={"message": failure.message},
                during="restore",
                item=failure.path.decode(errors="replace"),
            )
        else:
            output.warn(f"{output.shown(failure.path)}: {failure.message}")
    total = report.files_restored + report.files_unchanged
    if output.json:
        output.message(
            "summary",
            **({"dry_run": True} if wanted.dry_run else {}),
            seconds_elapsed=int(elapsed),
            total_files=total,
            files_restored=report.files_restored,
            files_skipped=report.files_unchanged,
            files_deleted=report.files_deleted,
            total_bytes=report.bytes_restored + report.bytes_unchanged,
            bytes_restored=report.bytes_restored,
            bytes_skipped=report.bytes_unchanged,
            files_verified=report.files_verified,
            error_count=len(report.failures),
            outcome=report.outcome,
        )
        return
    verb = "would restore" if wanted.dry_run else "restored"
    parts = [
        f"{verb} {counted(report.files_restored, 'file')} ({format_size(report.bytes_restored)})"
    ]
    if report.files_unchanged:
        parts.append(f"left {report.files_unchanged} as they were")
    if report.files_deleted:
        parts.append(f"{'would delete' if wanted.dry_run else 'deleted'} {report.files_deleted}")
    if wanted.verify and not wanted.dry_run:
        parts.append(f"verified {report.files_verified}")
    output.said(f"{', '.join(parts)} in {format_duration(elapsed)}")
    if report.owners_not_set:
        output.note(f"{report.owners_not_set} belong to you now: only root may give files away")
