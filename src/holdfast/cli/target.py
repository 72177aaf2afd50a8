"""`holdfast target`: named series of backups, each with one keep rule."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO

import typer

from holdfast.cli import moments
from holdfast.cli.api_options import Json, output_of
from holdfast.cli.data import ConfigFile, Data, service_of
from holdfast.cli.named import target_of
from holdfast.cli.task import Wait, follow
from holdfast.core.access import SHELL, Verb
from holdfast.core.errors import UsageError
from holdfast.core.keeping import Action, Criteria, KeepRule
from holdfast.core.records import Shape
from holdfast.core.units import format_size

if TYPE_CHECKING:
    from holdfast.cli.output import Output
    from holdfast.core.records import Backup, Target
    from holdfast.core.records import Json as Plain
    from holdfast.service.backups import Arriving, ArrivingTree
    from holdfast.service.server import Service

app = typer.Typer(
    add_completion=False, no_args_is_help=True, help="Manage series of backups and what is kept."
)

Which = Annotated[str, typer.Argument(metavar="TARGET", help="The target's id, alias or name.")]
Alias = Annotated[
    str | None, typer.Option("--alias", metavar="ALIAS", help="Another name, unique.")
]
Template = Annotated[
    str | None,
    typer.Option(
        "--template", metavar="TEXT", help="File names of backups: $I is the id, $D the date."
    ),
]
Tag = Annotated[list[str] | None, typer.Option("--tag", metavar="TAG", help="May be repeated.")]
KeepCount = Annotated[
    int | None, typer.Option("--keep-count", metavar="N", help="Keep the newest so many.")
]
KeepDays = Annotated[
    int | None, typer.Option("--keep-days", metavar="N", help="Keep what is no older than so many.")
]
KeepAll = Annotated[bool, typer.Option("--keep-all", help="Keep everything.")]
KeepAtLeast = Annotated[
    int | None,
    typer.Option("--keep-at-least", metavar="N", help="Of --keep-days: so many always stay."),
]
Then = Annotated[
    str | None,
    typer.Option("--then", metavar="WHAT", help="What goes is recycled (default) or deleted."),
]
Paths = Annotated[
    list[str] | None,
    typer.Option("--path", metavar="PATH", help="What plans back up; may be repeated."),
]
Exclude = Annotated[
    list[str] | None,
    typer.Option("--exclude", metavar="PATTERN", help="Left out of it; may be repeated."),
]
_PIECE = 1 << 20
_NEWEST = 10
_ACTIONS = {"recycle": Action.RECYCLE, "delete": Action.DELETE}


@dataclass(frozen=True, slots=True)
class Keep:
    """The options that make a keep rule."""

    count: int | None
    days: int | None
    everything: bool
    at_least: int | None
    then: str | None

    def rule(self, before: KeepRule) -> KeepRule:
        """Raises UsageError."""
        if sum([self.count is not None, self.days is not None, self.everything]) > 1:
            raise UsageError(
                "--keep-count, --keep-days and --keep-all exclude one another",
                remedy="Nothing was changed. Give one of them.",
            )
        if self.then is not None and self.then not in _ACTIONS:
            raise UsageError(
                f"--then {self.then!r} is neither recycle nor delete",
                remedy="Nothing was changed.",
            )
        criteria, value = before.criteria, before.value
        if self.count is not None:
            criteria, value = Criteria.COUNT, self.count
        elif self.days is not None:
            criteria, value = Criteria.AGE, self.days
        elif self.everything:
            criteria, value = Criteria.NONE, None
        return KeepRule(
            criteria,
            value,
            _ACTIONS[self.then] if self.then else before.action,
            before.min_backups if self.at_least is None else self.at_least,
        )


@app.command()
def add(
    name: Annotated[str, typer.Argument(metavar="NAME", help="What to call it.")],
    *,
    data: Data,
    pool: Annotated[
        str | None,
        typer.Option("--pool", metavar="POOL", help="Where its backups go (default: the first)."),
    ] = None,
    multi: Annotated[
        bool, typer.Option("--multi", help="Each backup is several files, not one.")
    ] = False,
    alias: Alias = None,
    template: Template = None,
    tag: Tag = None,
    deduplicate: Annotated[
        bool, typer.Option("--deduplicate", help="Of equal backups only the newest stays.")
    ] = False,
    keep_count: KeepCount = None,
    keep_days: KeepDays = None,
    keep_at_least: KeepAtLeast = None,
    then: Then = None,
    path: Paths = None,
    exclude: Exclude = None,
    config: ConfigFile = None,
    json: Json = False,
) -> None:
    """Adds a target. Without a keep rule everything is kept."""
    output = output_of(json=json)
    keep = Keep(keep_count, keep_days, everything=False, at_least=keep_at_least, then=then)
    with service_of(data, config) as service:
        from holdfast.service.targets import Draft

        target = service.targets.create(
            SHELL,
            Draft(
                name=name,
                shape=Shape.MULTI if multi or path else Shape.SINGLE,
                pool_id=(service.pools.named(pool) if pool else service.pools.default()).id,
                alias=alias,
                name_template=template,
                tags=tag or [],
                deduplicate=deduplicate,
                keep=keep.rule(KeepRule()),
                source=_source(path, exclude),
            ),
        )
        plain = _plain(service, target)
    if output.json:
        output.message("target", **plain)
    output.said(f"added target {name} with the id {target.uid}")


@app.command("list")
def list_all(*, data: Data, config: ConfigFile = None, json: Json = False) -> None:
    """Lists targets by name, with how many backups they have."""
    output = output_of(json=json)
    with service_of(data, config) as service:
        found = [_plain(service, each) for each in service.targets.list(SHELL)]
    if output.json:
        for each in found:
            output.message("target", **each)
        return
    rows = [
        [
            output.shown(str(each["name"])),
            str(each["id"]),
            str(each["face"]),
            output.shown(str(each["pool"])),
            _told_rule(each["keep"]),
            str(each["backups"]),
            format_size(float(str(each["size"]))),
        ]
        for each in found
    ]
    output.table(["Name", "Id", "Face", "Pool", "Keeps", "Backups", "Size"], rows)


@app.command()
def show(target: Which, *, data: Data, config: ConfigFile = None, json: Json = False) -> None:
    """Shows a target, and its newest backups."""
    output = output_of(json=json)
    with service_of(data, config) as service:
        found = target_of(service, target)
        plain = _plain(service, found)
        backups = service.backups.list(SHELL, found, limit=_NEWEST)
    if output.json:
        output.message("target", **plain)
        for each in backups:
            output.message("backup", **_plain_backup(each))
        return
    for name, value in plain.items():
        if value not in (None, "", {}, []):
            output.line(f"{name:12} {output.shown(str(value))}")
    output.line()
    rows = [
        [
            moments.shown(each.created),
            each.uid,
            output.shown(each.name),
            format_size(each.size),
            "damaged" if each.damaged else str(each.state),
        ]
        for each in backups
    ]
    output.table(["Time", "Id", "Name", "Size", "State"], rows)


@app.command()
def change(
    target: Which,
    *,
    data: Data,
    name: Annotated[str | None, typer.Option("--name", metavar="NAME", help="Another.")] = None,
    alias: Alias = None,
    template: Template = None,
    tag: Tag = None,
    deduplicate: Annotated[
        bool | None,
        typer.Option("--deduplicate/--no-deduplicate", help="Whether of equal backups one stays."),
    ] = None,
    keep_count: KeepCount = None,
    keep_days: KeepDays = None,
    keep_all: KeepAll = False,
    keep_at_least: KeepAtLeast = None,
    then: Then = None,
    path: Paths = None,
    exclude: Exclude = None,
    config: ConfigFile = None,
    json: Json = False,
) -> None:
    """Changes a target; what is not given stays. Backups that are there stay where they are."""
    output = output_of(json=json)
    keep = Keep(keep_count, keep_days, everything=keep_all, at_least=keep_at_least, then=then)
    with service_of(data, config) as service:
        from holdfast.service.targets import Draft

        before = target_of(service, target)
        given: dict[str, Any] = {
            "name": name, "alias": alias, "name_template": template, "tags": tag,
            "deduplicate": deduplicate,
        }  # fmt: skip
        kept = {
            field: getattr(before, field) if value is None else value
            for field, value in given.items()
        }
        draft = Draft(location=before.location, keep=keep.rule(KeepRule.of(before.keep)), **kept)
        after = service.targets.change(SHELL, before, draft)
        if path or exclude:
            source = _source(path, exclude) if path else before.source | _source(None, exclude)
            after = service.targets.set_source(SHELL, after, source)
        plain = _plain(service, after)
    if output.json:
        output.message("target", **plain)
    output.said(f"changed target {after.name}")


@app.command()
def remove(
    target: Which,
    *,
    data: Data,
    keep_files: Annotated[
        bool,
        typer.Option("--keep-files", help="Leave files of plain pools and snapshots there."),
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Delete its backups, too.")] = False,
    config: ConfigFile = None,
    json: Json = False,
) -> None:
    """Removes a target with all its backups, for good."""
    output = output_of(json=json)
    with service_of(data, config) as service:
        found = target_of(service, target)
        totals = service.backups.totals(SHELL, found)
        count = totals.backups + totals.recycled
        if count and not yes:
            raise UsageError(
                f"{found.name} has {count} backups",
                remedy="Nothing was deleted. With --yes they are deleted, too.",
            )
        service.targets.remove(SHELL, found, files=not keep_files)
    if output.json:
        output.message("removed", name=found.name)
    output.said(f"removed target {found.name} and {count} backups")


# --- backing up -----------------------------------------------------------------------------------


@app.command()
def backup(
    target: Which,
    what: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[FILE]...",
            help="Files or folders, or - for standard input; else what the target's plans back up.",
        ),
    ] = None,
    *,
    data: Data,
    name: Annotated[
        str | None,
        typer.Option("--name", metavar="NAME", help="What to call it (default: as the file)."),
    ] = None,
    wait: Wait = False,
    config: ConfigFile = None,
    json: Json = False,
) -> None:
    """Takes a backup now: of the files that are named, here and at once; else, as a task, of the
    target's source.
    """
    output = output_of(json=json)
    with service_of(data, config) as service:
        found = target_of(service, target)
        if not what:
            _run(service, output, found, name, wait=wait)
            return
        kept = (
            _keep_tree(service, found, list(map(Path, what)), name)
            if found.shape is Shape.MULTI
            else _keep_stream(service, found, what, name)
        )
    if output.json:
        output.message("backup", **_plain_backup(kept))
    output.said(f"kept {output.shown(kept.name)} as {kept.uid}, {format_size(kept.size)}")


def _run(
    service: "Service", output: "Output", target: "Target", name: str | None, *, wait: bool
) -> None:
    if not target.source:
        raise UsageError(
            f"{target.name} has no source",
            remedy="Name files to back up, or give it one with `holdfast target change --path`.",
        )
    task = service.tasks.submit(
        SHELL, Verb.BACKUP_CREATE, "backup", target_id=target.id, pool_id=target.pool_id,
        spec={"name": name} if name else {},
    )  # fmt: skip
    follow(service, output, task, wait=wait)


def _keep_stream(
    service: "Service", target: "Target", what: list[str], name: str | None
) -> "Backup":
    if len(what) > 1:
        raise UsageError(
            f"a backup of {target.name} is one file", remedy="Nothing was kept. Name one."
        )
    [text] = what
    if text == "-":
        if name is None:
            raise UsageError("standard input needs --name", remedy="Nothing was kept.")
        arriving = service.backups.receive(SHELL, target, name)
        return _filled(arriving, sys.stdin.buffer)
    path = Path(text)
    with _opened(path) as source:
        arriving = service.backups.receive(SHELL, target, name or path.name)
        return _filled(arriving, source)


def _filled(arriving: "Arriving", source: BinaryIO) -> "Backup":
    try:
        while piece := source.read(_PIECE):
            arriving.write(piece)
    except BaseException:
        arriving.abandon()
        raise
    return arriving.finish().result()


def _keep_tree(
    service: "Service", target: "Target", paths: list[Path], name: str | None
) -> "Backup":
    for path in paths:
        if not path.exists():
            raise UsageError(f"there is no {path}", remedy="Nothing was kept.")
    arriving = service.backups.receive_tree(SHELL, target, name or paths[0].name)
    try:
        for path in paths:
            _put(arriving, path, Path(path.absolute().name))
    except BaseException:
        arriving.abandon()
        raise
    return arriving.finish().result()


def _put(arriving: "ArrivingTree", path: Path, inside: Path) -> None:
    """Links are kept as links; pipes and devices are passed over."""
    found = path.lstat()
    if path.is_symlink():
        target = str(path.readlink()).encode("utf-8", "surrogateescape")
        arriving.incoming.symlink(_raw(inside), target, mtime=found.st_mtime_ns)
    elif path.is_dir():
        mode = found.st_mode & 0o7777
        arriving.incoming.directory(_raw(inside), mode=mode, mtime=found.st_mtime_ns)
        for below in sorted(path.iterdir()):
            _put(arriving, below, inside / below.name)
    elif path.is_file():
        with _opened(path) as source:
            file = arriving.incoming.file(
                _raw(inside), mode=found.st_mode & 0o7777, mtime=found.st_mtime_ns
            )
            while piece := source.read(_PIECE):
                file.write(piece)
            file.end()


def _raw(path: Path) -> bytes:
    return str(path).encode("utf-8", "surrogateescape")


def _opened(path: Path) -> BinaryIO:
    try:
        return path.open("rb")
    except OSError as error:
        raise UsageError(
            f"{path} cannot be read: {error.strerror}", remedy="Nothing was kept."
        ) from error


# --- showing --------------------------------------------------------------------------------------


def _source(paths: list[str] | None, excludes: list[str] | None) -> "Plain":
    source: Plain = {}
    if paths:
        source["paths"] = [str(Path(each).absolute()) for each in paths]
    if excludes:
        source["excludes"] = excludes
    return source


def _told_rule(keep: Any) -> str:
    rule = KeepRule.of(keep)
    if rule.value is None or rule.criteria is Criteria.NONE:
        return "all"
    unit = "newest" if rule.criteria is Criteria.COUNT else "days"
    return f"{rule.value} {unit}, then {rule.action}"


def _plain(service: "Service", target: "Target") -> dict[str, object]:
    with service.ground.catalog.read() as tx:
        pool = tx.pools.get(target.pool_id)
        host = tx.hosts.get(target.host_id) if target.host_id else None
    totals = service.backups.totals(SHELL, target)
    return {
        "id": target.uid,
        "name": target.name,
        "alias": target.alias,
        "face": str(target.face),
        "shape": str(target.shape),
        "pool": pool.name,
        "host": host.name if host else None,
        "location": target.location,
        "template": target.name_template,
        "tags": target.tags,
        "deduplicate": target.deduplicate,
        "keep": target.keep,
        "source": target.source,
        "created": moments.shown(target.created),
        "proven": moments.shown(target.proven) if target.proven else None,
        "backups": totals.backups,
        "recycled": totals.recycled,
        "size": totals.size,
    }


def _plain_backup(backup: "Backup") -> dict[str, object]:
    return {
        "id": backup.uid,
        "name": backup.name,
        "created": moments.shown(backup.created),
        "size": backup.size,
        "files": backup.files,
        "sha256": backup.sha256,
        "state": str(backup.state),
        "manual": backup.manual,
        "damaged": backup.damaged,
    }
