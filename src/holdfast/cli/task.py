"""`holdfast task`: what is in the queue, what runs, how it ended."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from holdfast.cli import moments
from holdfast.cli.api_options import Json, output_of
from holdfast.cli.data import ConfigFile, Data, service_of
from holdfast.cli.named import target_of
from holdfast.core.access import SHELL, Verb
from holdfast.core.errors import InvalidError, UsageError
from holdfast.core.outcome import EXIT_CODES, Outcome
from holdfast.core.records import TaskState

if TYPE_CHECKING:
    from holdfast.cli.output import Output
    from holdfast.core.records import Json as Plain
    from holdfast.core.records import Task
    from holdfast.service.server import Service

app = typer.Typer(
    add_completion=False, no_args_is_help=True, help="Look at tasks, start and stop them."
)

Number = Annotated[int, typer.Argument(metavar="TASK", help="The task's number.")]
Wait = Annotated[
    bool, typer.Option("--wait", help="Stay until it has ended; the exit code says how.")
]
_LOOK_EVERY = 0.5
_RIGHTS = {
    "backup": Verb.BACKUP_CREATE,
    "restore": Verb.BACKUP_RESTORE,
    "copy": Verb.BACKUP_CREATE,
    "move": Verb.BACKUP_CHANGE,
    "relocate": Verb.BACKUP_CHANGE,
    "expire": Verb.BACKUP_DELETE,
    "deduplicate": Verb.BACKUP_DELETE,
    "stale-uploads": Verb.BACKUP_DELETE,
    "verify": Verb.BACKUP_VERIFY,
    "drill": Verb.BACKUP_VERIFY,
    "prune": Verb.POOL_MAINTAIN,
    "check": Verb.POOL_MAINTAIN,
    "measure": Verb.POOL_MAINTAIN,
    "purge": Verb.POOL_MAINTAIN,
    "tripwire": Verb.POOL_MAINTAIN,
    "self-backup": Verb.APPLICATION_BACKUP,
    "catalog-backup": Verb.CATALOG_BACKUP,
}
"""What a kind of task does, as the audit calls it."""
_OF_A_BACKUP = {"restore", "copy", "move"}
_OF_A_TARGET = {"backup", "relocate"}


@app.command("list")
def list_all(
    *,
    data: Data,
    state: Annotated[
        list[str] | None,
        typer.Option("--state", metavar="STATE", help="Only those; may be repeated."),
    ] = None,
    kind: Annotated[
        list[str] | None,
        typer.Option("--kind", metavar="KIND", help="Only those; may be repeated."),
    ] = None,
    target: Annotated[
        str | None, typer.Option("--target", metavar="TARGET", help="Only those of this one.")
    ] = None,
    limit: Annotated[int, typer.Option("--limit", metavar="N", help="So many at most.")] = 50,
    config: ConfigFile = None,
    json: Json = False,
) -> None:
    """Lists tasks, the newest first."""
    for each in state or []:
        if each not in set(TaskState):
            raise UsageError(
                f"there is no state {each!r}", remedy=f"States are: {', '.join(TaskState)}."
            )
    output = output_of(json=json)
    with service_of(data, config) as service:
        tasks = service.tasks.look_for(
            SHELL,
            states=[TaskState(each) for each in state or []],
            kinds=kind or [],
            target_id=target_of(service, target).id if target else None,
            limit=limit,
        )
        plain = [_plain(service, each) for each in tasks]
    if output.json:
        for fields in plain:
            output.message("task", **fields)
        return
    rows = [
        [
            str(each["id"]),
            str(each["kind"]),
            output.shown(str(each["target"] or "")),
            str(each["state"]),
            _percent(task),
            moments.shown(task.started or task.created),
            output.shown(str(task.outcome.get("message", ""))[:100]),
        ]
        for task, each in zip(tasks, plain, strict=True)
    ]
    output.table(["Task", "Kind", "Target", "State", "Done", "Since", "Outcome"], rows)


@app.command()
def show(number: Number, *, data: Data, config: ConfigFile = None, json: Json = False) -> None:
    """Shows one task: how far it is or how it ended, and what it reports."""
    output = output_of(json=json)
    with service_of(data, config) as service:
        plain = _plain(service, service.tasks.get(SHELL, number))
    if output.json:
        output.message("task", **plain)
        return
    for name, value in plain.items():
        if value not in (None, "", {}):
            output.line(f"{name:10} {output.shown(str(value))}")


@app.command()
def log(
    number: Number,
    *,
    data: Data,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on until the task has ended.")
    ] = False,
    config: ConfigFile = None,
    json: Json = False,
) -> None:
    """Prints what a task has said."""
    output = output_of(json=json)
    with service_of(data, config) as service:
        last = 0
        while True:
            task = service.tasks.get(SHELL, number)
            for line in service.tasks.log(SHELL, number, after=last):
                last = line.id
                if output.json:
                    output.message(
                        "line", time=moments.shown(line.at), level=line.level, text=line.text
                    )
                else:
                    output.line(
                        f"{moments.shown(line.at)} {line.level:7} {output.shown(line.text)}"
                    )
            if not follow or task.state.ended:
                return
            time.sleep(_LOOK_EVERY)


@app.command()
def pause(number: Number, *, data: Data, config: ConfigFile = None, json: Json = False) -> None:
    """Stops a task so that it can go on later from what it has done."""
    with service_of(data, config) as service:
        _told(service, service.tasks.pause(SHELL, number), "pauses", json=json)


@app.command("continue")
def cont(number: Number, *, data: Data, config: ConfigFile = None, json: Json = False) -> None:
    """Lets a paused task go on."""
    with service_of(data, config) as service:
        _told(service, service.tasks.cont(SHELL, number), "goes on", json=json)


@app.command()
def kill(number: Number, *, data: Data, config: ConfigFile = None, json: Json = False) -> None:
    """Ends a task as cancelled."""
    with service_of(data, config) as service:
        _told(service, service.tasks.kill(SHELL, number), "is ended", json=json)


@app.command()
def restart(number: Number, *, data: Data, config: ConfigFile = None, json: Json = False) -> None:
    """Puts a task that has ended into the queue again."""
    with service_of(data, config) as service:
        _told(service, service.tasks.restart(SHELL, number), "is queued again", json=json)


@app.command()
def run(
    kind: Annotated[
        str, typer.Argument(metavar="KIND", help="What to do: backup, verify, prune, ...")
    ],
    *,
    data: Data,
    target: Annotated[
        str | None,
        typer.Option("--target", metavar="TARGET", help="For this one (default: for all)."),
    ] = None,
    pool: Annotated[
        str | None, typer.Option("--pool", metavar="POOL", help="In this one (default: in all).")
    ] = None,
    backup: Annotated[
        str | None, typer.Option("--backup", metavar="ID", help="The backup, by its id.")
    ] = None,
    to: Annotated[
        str | None,
        typer.Option(
            "--to", metavar="WHERE", help="Of restore: a folder; of copy and move: a pool."
        ),
    ] = None,
    priority: Annotated[int, typer.Option("--priority", metavar="N", help="1 is first.")] = 100,
    read_data: Annotated[
        bool, typer.Option("--read-data", help="Of check: read every byte.")
    ] = False,
    wait: Wait = False,
    config: ConfigFile = None,
    json: Json = False,
) -> None:
    """Puts a task into the queue. It runs when a worker has room for it."""
    if kind not in _RIGHTS:
        raise UsageError(
            f"there is no kind of task {kind!r}",
            remedy=f"Nothing was begun. Kinds are: {', '.join(sorted(_RIGHTS))}.",
        )
    output = output_of(json=json)
    with service_of(data, config) as service:
        found = target_of(service, target) if target else None
        about = service.backups.get(SHELL, backup) if backup else None
        if kind in _OF_A_TARGET and found is None:
            raise UsageError(f"{kind} needs --target", remedy="Nothing was begun.")
        if kind in _OF_A_BACKUP and (about is None or to is None):
            raise UsageError(f"{kind} needs --backup and --to", remedy="Nothing was begun.")
        spec: Plain = {"read_data": True} if read_data else {}
        if to is not None:
            spec |= _place(service, kind, to)
        task = service.tasks.submit(
            SHELL,
            _RIGHTS[kind],
            kind,
            spec=spec,
            priority=priority,
            pool_id=service.pools.named(pool).id if pool else None,
            target_id=found.id if found else about.target_id if about else None,
            backup_id=about.id if about else None,
        )
        follow(service, output, task, wait=wait)


def _place(service: "Service", kind: str, to: str) -> "Plain":
    if kind == "restore":
        return {"destination": str(Path(to).absolute())}
    if kind in _OF_A_BACKUP:
        return {"pool_id": service.pools.named(to).id}
    raise InvalidError(f"{kind} takes no --to", remedy="Nothing was begun.")


def follow(service: "Service", output: "Output", task: "Task", *, wait: bool) -> None:
    """Tells of a task that was queued; with `wait` how it ended, which the exit code says, too."""
    if wait:
        output.note(f"task {task.id} is queued")
        while not (task.state.ended or task.state is TaskState.PAUSED):
            task = service.tasks.wait(SHELL, task.id, 60)
    if output.json:
        output.message("task", **_plain(service, task))
    elif not wait:
        output.said(f"task {task.id} is queued; `holdfast serve` or `holdfast worker` runs it")
    else:
        message = task.outcome.get("message", "")
        output.said(f"task {task.id}: {task.state}" + (f": {message}" if message else ""))
    if wait and task.state is not TaskState.SUCCEEDED:
        ended = task.state.ended
        raise typer.Exit(EXIT_CODES[Outcome(task.state) if ended else Outcome.CANCELLED])


def _told(service: "Service", task: "Task", how: str, *, json: bool) -> None:
    output = output_of(json=json)
    if output.json:
        output.message("task", **_plain(service, task))
    output.said(f"task {task.id} {how}")


def _percent(task: "Task") -> str:
    done, total = task.progress.get("done"), task.progress.get("total")
    if task.state.ended or not total or done is None:
        return ""
    return f"{done / total:.0%}"


def _plain(service: "Service", task: "Task") -> dict[str, object]:
    with service.ground.catalog.read() as tx:
        target = tx.targets.find(id=task.target_id) if task.target_id else None
        pool = tx.pools.find(id=task.pool_id) if task.pool_id else None
        backup = tx.backups.find(id=task.backup_id) if task.backup_id else None
    return {
        "id": task.id,
        "kind": task.kind,
        "state": str(task.state),
        "priority": task.priority,
        "actor": task.actor,
        "target": target.name if target else None,
        "pool": pool.name if pool else None,
        "backup": backup.uid if backup else None,
        "created": moments.shown(task.created),
        "started": moments.shown(task.started) if task.started else None,
        "ended": moments.shown(task.ended) if task.ended else None,
        "attempt": task.attempt,
        "progress": task.progress,
        "outcome": task.outcome,
    }
