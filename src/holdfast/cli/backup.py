"""`holdfast backup`: files, folders or a stream become a snapshot."""

import getpass
import os
import socket
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from holdfast import __version__
from holdfast.cli import modules, options, repository
from holdfast.cli import settings as settings_of
from holdfast.cli.moments import parse_moment
from holdfast.cli.output import Output
from holdfast.cli.settings import Settings, env
from holdfast.core.errors import PartialError, UsageError
from holdfast.core.outcome import Outcome
from holdfast.core.units import parse_size

if TYPE_CHECKING:
    from holdfast.cli.totals import Totals
    from holdfast.core.source import Source
    from holdfast.repo.format.snapshot import Snapshot
    from holdfast.repo.repository import Refused, Repository
    from holdfast.repo.saving.backup import BackupOptions
    from holdfast.repo.saving.sealing import SealingPlan
    from holdfast.sources.files.filters import Filters

_LISTED = 10
"""Unreadable paths that the last error names; all of them were told while the backup ran."""


@dataclass(frozen=True, slots=True)
class _Reading:
    """What to read."""

    source: "Source"
    excludes: tuple[str, ...]
    totals: "Totals | None"


def backup(
    ctx: typer.Context,
    *,
    paths: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[PATH]...", help="Files and folders; or a command with its arguments."
        ),
    ] = None,
    exclude: Annotated[
        list[str] | None, typer.Option("--exclude", "-e", metavar="PATTERN", help="Leave out.")
    ] = None,
    iexclude: Annotated[
        list[str] | None, typer.Option(metavar="PATTERN", help="Leave out, whatever the case.")
    ] = None,
    exclude_file: Annotated[
        list[str] | None,
        typer.Option(metavar="FILE", help="Read patterns to leave out from a file."),
    ] = None,
    iexclude_file: Annotated[
        list[str] | None, typer.Option(metavar="FILE", help="The same, whatever the case.")
    ] = None,
    exclude_caches: Annotated[
        bool, typer.Option("--exclude-caches", help="Leave out what lies beside a CACHEDIR.TAG.")
    ] = False,
    exclude_if_present: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME[:HEADER]", help="Leave out what lies beside such a file that begins so."
        ),
    ] = None,
    exclude_larger_than: Annotated[
        str, typer.Option(metavar="SIZE", help="Leave out larger files, like 500M.")
    ] = "",
    one_file_system: Annotated[
        bool, typer.Option("--one-file-system", "-x", help="Do not cross into other file systems.")
    ] = False,
    files_from: Annotated[
        list[str] | None,
        typer.Option(metavar="FILE", help="Read patterns of what to back up; - is stdin."),
    ] = None,
    files_from_verbatim: Annotated[
        list[str] | None, typer.Option(metavar="FILE", help="Read names, one a line.")
    ] = None,
    files_from_raw: Annotated[
        list[str] | None, typer.Option(metavar="FILE", help="Read names, each ended by NUL.")
    ] = None,
    source: Annotated[
        str,
        typer.Option(
            metavar="MODULE:WHAT",
            help="Something else: postgres:DATABASE, mysql:DATABASE, sqlite:FILE, block:DEVICE,"
            " lvm:VOLUME, api:FOLDER.",
        ),
    ] = "",
    parameters: modules.Parameters = None,
    stdin: Annotated[bool, typer.Option("--stdin", help="Back standard input up.")] = False,
    stdin_from_command: Annotated[
        bool,
        typer.Option(
            "--stdin-from-command",
            help="Back up what the command prints; if it fails, there is no snapshot.",
        ),
    ] = False,
    stdin_filename: Annotated[
        str, typer.Option(metavar="NAME", help="What the stream is called in the snapshot.")
    ] = "stdin",
    tag: Annotated[
        list[str] | None, typer.Option(metavar="TAG[,TAG...]", help="Tags of the new snapshot.")
    ] = None,
    host: Annotated[
        str | None,
        typer.Option(
            "--host", "-H", metavar="HOST", envvar=env("HOST"), help="Host of the new snapshot."
        ),
    ] = None,
    time: Annotated[
        str,
        typer.Option(
            "--time", metavar="TIME", help="Time of the new snapshot, like '2026-11-01 22:08:41'."
        ),
    ] = "now",
    parent: Annotated[
        str | None, typer.Option(metavar="SNAPSHOT", help="Compare with this one, not the last.")
    ] = None,
    group_by: Annotated[
        str,
        typer.Option(
            "--group-by", "-g", metavar="GROUP", help="What the last one must share with the new."
        ),
    ] = "host,paths",
    force: Annotated[
        bool, typer.Option("--force", "-f", help="Read everything again, whatever has changed.")
    ] = False,
    ignore_inode: Annotated[
        bool, typer.Option("--ignore-inode", help="A new inode number is no new content.")
    ] = False,
    ignore_ctime: Annotated[
        bool, typer.Option("--ignore-ctime", help="A new ctime is no new content.")
    ] = False,
    with_atime: Annotated[bool, typer.Option("--with-atime", help="Keep access times.")] = False,
    allow_empty: Annotated[
        bool, typer.Option("--allow-empty", help="A folder without files that held some is meant.")
    ] = False,
    skip_if_unchanged: Annotated[
        bool, typer.Option("--skip-if-unchanged", help="Make no snapshot where nothing changed.")
    ] = False,
    no_scan: Annotated[
        bool, typer.Option("--no-scan", help="Do not count beforehand how much there is.")
    ] = False,
    read_concurrency: Annotated[
        int,
        typer.Option(
            metavar="N",
            envvar=env("READ_CONCURRENCY"),
            help="Worker processes (default: one a core).",
        ),
    ] = 0,
    dry_run: options.DryRun = False,
) -> None:
    """Makes a snapshot. What is stored already is not stored again; unchanged files are not even
    read.

    Ends with 3 where something could not be read: it is listed, and the rest is safe.
    """
    from holdfast.sources.files.lists import read_patterns

    settings = settings_of.of(ctx)
    output = Output(settings)
    watched = not output.quiet and (output.json or output.stderr.isatty()) and not no_scan
    with repository.opened(settings, output) as opened, ExitStack() as at_the_end:
        if parameters and not source:
            raise UsageError("--set is for --source", remedy="Nothing was done.")
        if source or stdin or stdin_from_command:
            lists = files_from or files_from_raw or files_from_verbatim
            if lists or (paths and not stdin_from_command) or bool(source) + stdin > 1:
                raise UsageError("a stream or --source cannot be backed up together with files")
            if source:
                read = modules.source_of(source, parameters or (), opened.clock, _own(opened))
                reading = _Reading(at_the_end.enter_context(read), (), None)
            else:
                command = (paths or []) if stdin_from_command else None
                reading = _stream(stdin_filename, command, opened)
        else:
            named = _named(
                paths or (), files_from or (), files_from_verbatim or (), files_from_raw or ()
            )
            filters = _filters(
                (*(exclude or ()), *read_patterns(exclude_file or ())),
                (*(iexclude or ()), *read_patterns(iexclude_file or ())),
                exclude_if_present or (),
                exclude_caches=exclude_caches,
                larger_than=exclude_larger_than,
                one_file_system=one_file_system,
                opened=opened,
            )
            reading = _files(named, filters, count=watched)
        _keep(
            opened,
            settings,
            output,
            reading,
            _options(
                settings,
                reading,
                host=host,
                tags=tag or (),
                time=time,
                workers=read_concurrency,
                ignore_inode=ignore_inode,
                ignore_ctime=ignore_ctime,
                with_atime=with_atime,
                allow_empty=allow_empty,
                skip_if_unchanged=skip_if_unchanged,
                dry_run=dry_run,
            ),
            find_parent=None if force else (parent or "", group_by),
        )


def _options(
    settings: Settings,
    reading: _Reading,
    *,
    host: str | None,
    tags: Sequence[str],
    time: str,
    workers: int,
    **flags: Any,
) -> "BackupOptions":
    from holdfast.repo.saving.backup import BackupOptions

    return BackupOptions(
        hostname=host or socket.gethostname(),
        username=getpass.getuser(),
        uid=os.getuid(),
        gid=os.getgid(),
        tags=tuple(dict.fromkeys(name for text in tags for name in text.split(",") if name)),
        excludes=reading.excludes,
        time=None if time == "now" else parse_moment(time),
        program_version=f"holdfast {__version__}",
        sealing=_sealing(settings, workers),
        **flags,
    )


def _keep(
    opened: "Repository",
    settings: Settings,
    output: Output,
    reading: _Reading,
    chosen: "BackupOptions",
    *,
    find_parent: tuple[str, str] | None,
) -> None:
    """Backs up and tells. `find_parent`: the name that was given, and what it must share else.

    Raises:
        PartialError: something could not be read as it is.
    """
    from holdfast.cli.backup_report import BackupReport
    from holdfast.repo.format.gotext import format_time
    from holdfast.repo.saving.backup import back_up

    began = format_time(opened.clock.now())
    with (
        BackupReport(output, reading.totals) as report,
        repository.locked(opened, settings, output, writing=True, refreshing=False) as lock,
    ):
        if find_parent is not None:
            chosen = _with_parent(opened, chosen, reading, *find_parent)
        report.parent(chosen.parent)
        result = back_up(opened, reading.source, chosen, observer=report, lock=lock)
    ended = format_time(opened.clock.now())
    report.damage(result.distrusted)
    report.summary(result, dry_run=chosen.dry_run, began=began, ended=ended)
    if result.outcome is Outcome.PARTIAL:
        count = len(result.problems)
        shown = ", ".join(output.shown(problem.path) for problem in result.problems[:_LISTED])
        more = f" and {count - _LISTED} more" if count > _LISTED else ""
        raise PartialError(f"not everything could be read as it is ({count}): {shown}{more}")


def _with_parent(
    opened: "Repository",
    chosen: "BackupOptions",
    reading: _Reading,
    parent: str,
    group_by: str,
) -> "BackupOptions":
    """With the snapshot that was named, or the last one of the same group that is not newer."""
    from holdfast.repo.format.snapshot import choose

    if parent:
        return replace(chosen, parent=choose(opened.snapshots([]), parent)[0])
    by = options.parse_group_by(group_by)
    paths = sorted(root.decode("utf-8", "replace") for root in reading.source.roots)
    limit = chosen.time if chosen.time is not None else opened.clock.now()
    refused: list[Refused] = []  # a damaged snapshot is no reason not to back up

    def fits(snapshot: "Snapshot") -> bool:
        return (
            snapshot.time <= limit
            and ("host" not in by or snapshot.file.hostname == chosen.hostname)
            and ("paths" not in by or sorted(snapshot.file.paths) == paths)
            and ("tags" not in by or sorted(snapshot.tags) == sorted(chosen.tags))
        )

    fitting = filter(fits, opened.snapshots(refused))
    return replace(chosen, parent=max(fitting, key=lambda snapshot: snapshot.time, default=None))


def _filters(
    excludes: tuple[str, ...],
    iexcludes: tuple[str, ...],
    exclude_if_present: Sequence[str],
    *,
    exclude_caches: bool,
    larger_than: str,
    one_file_system: bool,
    opened: "Repository",
) -> "Filters":
    """With the repository itself and its cache left out, whichever path leads to them."""
    from holdfast.sources.files.filters import Filters

    try:
        size = parse_size(larger_than) if larger_than else None
    except ValueError as error:
        raise UsageError(f"--exclude-larger-than: {error}") from error
    return Filters(
        excludes=excludes,
        iexcludes=iexcludes,
        exclude_caches=exclude_caches,
        exclude_if_present=tuple(exclude_if_present),
        exclude_larger_than=size,
        one_file_system=one_file_system,
        skip=_own(opened),
    )


def _own(opened: "Repository") -> tuple[bytes, ...]:
    """Where the repository and its cache are, which are not backed up into it."""
    own = [opened.store.address] if opened.store.properties.local else []
    own += [str(opened.cache.parent)] if opened.cache else []
    return tuple(map(os.fsencode, own))


def _named(
    paths: Sequence[str], patterns: Sequence[str], verbatim: Sequence[str], raw: Sequence[str]
) -> list[bytes]:
    """All that is to be backed up: the arguments, then what the three sorts of lists name."""
    from holdfast.sources.files.lists import read_roots, read_roots_raw, read_roots_verbatim

    named = [os.fsencode(path) for path in paths]
    for read, files in (
        (read_roots, patterns),
        (read_roots_verbatim, verbatim),
        (read_roots_raw, raw),
    ):
        for file in files:
            named += read(file)
    return named


def _files(named: Sequence[bytes], filters: "Filters", *, count: bool) -> _Reading:
    from holdfast.sources.files.source import FileSource

    source = FileSource(named, filters)
    totals = None
    if count:
        from holdfast.cli.totals import Totals

        totals = Totals(source)
    return _Reading(source, filters.excludes, totals)


def _stream(name: str, command: Sequence[str] | None, opened: "Repository") -> _Reading:
    """Standard input, or what a command prints."""
    from holdfast.sources.command import StreamSource

    if command is not None and not command:
        raise UsageError("--stdin-from-command needs a command", remedy="Write it behind --.")
    words = None if command is None else [os.fsencode(word) for word in command]
    source = StreamSource(clock=opened.clock, filename=os.fsencode(name), command=words)
    return _Reading(source, (), None)


def _sealing(settings: Settings, workers: int) -> "SealingPlan":
    from holdfast.repo.format.codec import Compression
    from holdfast.repo.format.pack import DEFAULT_PACK_SIZE, MAX_PACK_SIZE, MIN_PACK_SIZE
    from holdfast.repo.saving.sealing import SealingPlan

    if settings.compression not in list(Compression):
        raise UsageError(
            f"there is no compression {settings.compression!r}",
            remedy=f"Known are {', '.join(Compression)}.",
        )
    size = settings.pack_size << 20 if settings.pack_size else DEFAULT_PACK_SIZE
    if not MIN_PACK_SIZE <= size <= MAX_PACK_SIZE:
        raise UsageError(
            f"packs of {size >> 20} MiB are not possible",
            remedy=f"Choose {MIN_PACK_SIZE >> 20} to {MAX_PACK_SIZE >> 20}.",
        )
    return SealingPlan(
        compression=Compression(settings.compression),
        pack_size=size,
        workers=workers or len(os.sched_getaffinity(0)),
    )
