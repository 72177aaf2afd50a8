"""`holdfast plan`: when the server does what by itself."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from holdfast.cli import moments
from holdfast.cli.api_options import Json, output_of
from holdfast.cli.data import ConfigFile, Data, service_of
from holdfast.cli.named import target_of
from holdfast.core.access import SHELL
from holdfast.core.errors import RecordExistsError, RecordNotFoundError, UsageError

if TYPE_CHECKING:
    from holdfast.core.records import Plan
    from holdfast.service.server import Service

app = typer.Typer(
    add_completion=False, no_args_is_help=True, help="Manage when the server does what by itself."
)

Name = Annotated[str, typer.Argument(metavar="NAME", help="The plan's name.")]
Cron = Annotated[
    str | None,
    typer.Option("--cron", metavar="EXPR", help="Five fields, or @daily and the like."),
]
Every = Annotated[
    str | None, typer.Option("--every", metavar="TIME", help="Interval instead: 90s, 15m, 6h, 2d.")
]
Zone = Annotated[
    str | None, typer.Option("--zone", metavar="ZONE", help="Whose clock --cron means (UTC).")
]
Priority = Annotated[
    int | None, typer.Option("--priority", metavar="N", help="Of its tasks; 1 is first (100).")
]
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


@app.command()
def add(
    name: Name,
    kind: Annotated[
        str, typer.Argument(metavar="KIND", help="What to do: backup, verify, prune, ...")
    ],
    *,
    data: Data,
    cron: Cron = None,
    every: Every = None,
    zone: Zone = None,
    target: Annotated[
        str | None,
        typer.Option("--target", metavar="TARGET", help="For this one (default: for all)."),
    ] = None,
    pool: Annotated[
        str | None, typer.Option("--pool", metavar="POOL", help="In this one (default: in all).")
    ] = None,
    priority: Priority = None,
    config: ConfigFile = None,
    json: Json = False,
) -> None:
    """Adds a plan. A running server heeds it at once."""
    from holdfast.core.records import Plan

    if (cron is None) == (every is None):
        raise UsageError(
            "a plan needs --cron or --every, and not both", remedy="Nothing was changed."
        )
    output = output_of(json=json)
    with service_of(data, config) as service:
        _refuse_taken(service, name)
        plan = service.plans.add(
            SHELL,
            Plan(
                uid="",
                name=name,
                kind=kind,
                target_id=target_of(service, target).id if target else None,
                pool_id=service.pools.named(pool).id if pool else None,
                cron=cron or "",
                every=_seconds(every) if every else 0,
                zone=zone or "UTC",
                priority=100 if priority is None else priority,
            ),
        )
        plain = _plain(service, plan)
    if output.json:
        output.message("plan", **plain)
    output.said(f"added plan {name}; it is due first at {plain['next']}")


def _refuse_taken(service: "Service", name: str) -> None:
    try:
        service.plans.get(SHELL, name)
    except RecordNotFoundError:
        return
    raise RecordExistsError(f"there is a plan {name} already")


@app.command("list")
def list_all(*, data: Data, config: ConfigFile = None, json: Json = False) -> None:
    """Lists plans, those of the server's own housekeeping as well."""
    output = output_of(json=json)
    with service_of(data, config) as service:
        plans = [_plain(service, each) for each in service.plans.list(SHELL)]
    if output.json:
        for each in plans:
            output.message("plan", **each)
        return
    rows = [
        [
            output.shown(str(each["name"])),
            str(each["kind"]),
            output.shown(str(each["target"] or each["pool"] or "")),
            str(each["cron"] or f"every {_interval(each['every'])}"),
            str(each["next"] or "never") if each["enabled"] else "off",
        ]
        for each in plans
    ]
    output.table(["Name", "Kind", "Of", "When", "Next"], rows)


@app.command()
def change(
    name: Name,
    *,
    data: Data,
    cron: Cron = None,
    every: Every = None,
    zone: Zone = None,
    priority: Priority = None,
    on: Annotated[bool | None, typer.Option("--on/--off", help="Switch it on or off.")] = None,
    config: ConfigFile = None,
    json: Json = False,
) -> None:
    """Changes when a plan is due, or switches it off. What is not given stays."""
    if cron is not None and every is not None:
        raise UsageError("a plan has --cron or --every, not both", remedy="Nothing was changed.")
    changes: dict[str, Any] = {}
    if cron is not None:
        changes |= {"cron": cron, "every": 0}
    if every is not None:
        changes |= {"every": _seconds(every), "cron": ""}
    given = {"zone": zone, "priority": priority, "enabled": on}
    changes |= {field: value for field, value in given.items() if value is not None}
    if not changes:
        raise UsageError("nothing to change is given", remedy="See --help for what can be.")
    output = output_of(json=json)
    with service_of(data, config) as service:
        plan = service.plans.change(SHELL, service.plans.get(SHELL, name), **changes)
        plain = _plain(service, plan)
    if output.json:
        output.message("plan", **plain)
    output.said(f"changed plan {name}; it is due next at {plain['next'] or 'no time'}")


@app.command()
def remove(name: Name, *, data: Data, config: ConfigFile = None, json: Json = False) -> None:
    """Removes a plan. Tasks that it made stay. One of the housekeeping comes back at the next
    start: switch it off instead.
    """
    output = output_of(json=json)
    with service_of(data, config) as service:
        service.plans.remove(SHELL, service.plans.get(SHELL, name))
    if output.json:
        output.message("removed", name=name)
    output.said(f"removed plan {name}")


def _seconds(text: str) -> int:
    number, unit = text[:-1], text[-1:]
    if unit not in _UNITS or not number.isdecimal() or not int(number):
        raise UsageError(
            f"--every {text!r} is no interval",
            remedy="Nothing was changed. Write it like 90s, 15m, 6h or 2d.",
        )
    return int(number) * _UNITS[unit]


def _interval(seconds: object) -> str:
    """The other way round, in the largest unit that it is a whole number of."""
    assert isinstance(seconds, int)
    for unit, each in reversed(_UNITS.items()):
        if seconds % each == 0:
            return f"{seconds // each}{unit}"
    raise AssertionError


def _plain(service: "Service", plan: "Plan") -> dict[str, object]:
    with service.ground.catalog.read() as tx:
        target = tx.targets.find(id=plan.target_id) if plan.target_id else None
        pool = tx.pools.find(id=plan.pool_id) if plan.pool_id else None
    return {
        "id": plan.uid,
        "name": plan.name,
        "kind": plan.kind,
        "target": target.name if target else None,
        "pool": pool.name if pool else None,
        "cron": plan.cron,
        "every": plan.every,
        "zone": plan.zone,
        "enabled": plan.enabled,
        "priority": plan.priority,
        "next": moments.shown(plan.next_at) if plan.next_at else None,
        "last": moments.shown(plan.last_at) if plan.last_at else None,
    }
