"""`holdfast agent`: the program on a protected machine, and the server's view of all of them."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from holdfast.cli import moments
from holdfast.cli.api_options import Json, output_of
from holdfast.cli.data import ConfigFile, Data, ground_of
from holdfast.cli.own_agent import own_name
from holdfast.core.access import SHELL
from holdfast.core.errors import UsageError

if TYPE_CHECKING:
    from holdfast.core.records import Agent as AgentRecord

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    help="Run the agent of this machine, or manage those of all.",
)

Reference = Annotated[
    str, typer.Argument(metavar="AGENT", help="Its hwid, or its name where one is called so.")
]


@app.command()
def run(
    *,
    server: Annotated[
        str, typer.Option("--server", metavar="URL", help="Where the server is: https://...")
    ],
    state: Annotated[
        Path,
        typer.Option(
            "--state", metavar="DIR", help="Where the agent keeps its secret and journal."
        ),
    ],
    name: Annotated[
        str, typer.Option("--name", metavar="HOSTNAME", help="Its name (default: this machine's).")
    ] = "",
    ca: Annotated[
        Path | None,
        typer.Option(
            "--ca", metavar="FILE", help="The authority that signed the server's certificate."
        ),
    ] = None,
    insecure: Annotated[
        bool, typer.Option("--insecure", help="Believe whoever answers; for trying things out.")
    ] = False,
    slots: Annotated[
        int, typer.Option("--slots", min=1, metavar="N", help="Backups and restores at once.")
    ] = 2,
) -> None:
    """Runs the agent of this machine, until it is told to end.

    It enrols by itself, waits to be authorised, and then does what the server orders. It reaches
    out over HTTPS and listens on no port.
    """
    if ca is not None and insecure:
        raise UsageError("--ca and --insecure contradict each other")
    from holdfast.agent.running import Agent
    from holdfast.agent.speaking import Address
    from holdfast.cli.supervising import end_with_parent

    end_with_parent()
    address = Address(url=server, ca=str(ca.absolute()) if ca else "", insecure=insecure)
    agent = Agent(state, address, name=name or own_name(), slots=slots, say=_say)
    try:
        agent.run()
    except KeyboardInterrupt:  # told to end: that is no failure
        return


@app.command(hidden=True)
def own(*, data: Data) -> None:
    """Runs the own agent of the machine that a server is on; `holdfast serve` starts it."""
    from holdfast.cli.own_agent import run_own
    from holdfast.cli.supervising import end_with_parent

    end_with_parent()
    run_own(data, _say)


@app.command("list")
def list_all(*, data: Data, config: ConfigFile = None, json: Json = False) -> None:
    """Lists agents: those that are authorised, and those that wait."""
    output = output_of(json=json)
    with ground_of(data, config) as ground:
        from holdfast.service.agents import Agents

        agents = Agents(ground)
        found = [(each, agents.is_online(each)) for each in agents.list(SHELL)]
    if output.json:
        for agent, online in found:
            output.message("agent", **_plain(agent), online=online)
        return
    rows = [
        [
            agent.name, agent.hwid, str(agent.state), "online" if online else "offline",
            moments.shown(agent.seen) if agent.seen else "never", agent.address,
        ]
        for agent, online in found
    ]  # fmt: skip
    output.table(["Name", "hwid", "State", "Now", "Seen", "Address"], rows)


@app.command()
def authorise(
    reference: Reference,
    *,
    data: Data,
    host: Annotated[
        str,
        typer.Option(
            "--host", metavar="NAME", help="As this host, which is there, with all its backups."
        ),
    ] = "",
    config: ConfigFile = None,
    json: Json = False,
) -> None:
    """Lets an agent in that waits."""
    output = output_of(json=json)
    with ground_of(data, config) as ground:
        from holdfast.service.agents import Agents

        agent = Agents(ground).authorise(SHELL, reference, host=host)
    if output.json:
        output.message("agent", **_plain(agent))
    output.said(f"authorised {agent.name} ({agent.hwid})")


@app.command()
def withdraw(
    reference: Reference, *, data: Data, config: ConfigFile = None, json: Json = False
) -> None:
    """Takes an authorisation back. Backups stay; a new authorisation finds them."""
    output = output_of(json=json)
    with ground_of(data, config) as ground:
        from holdfast.service.agents import Agents

        agent = Agents(ground).withdraw(SHELL, reference)
    if output.json:
        output.message("agent", **_plain(agent))
    output.said(f"{agent.name} ({agent.hwid}) waits to be authorised again")


@app.command()
def forget(
    reference: Reference, *, data: Data, config: ConfigFile = None, json: Json = False
) -> None:
    """Removes an agent that waits. It comes back when it comes by again."""
    output = output_of(json=json)
    with ground_of(data, config) as ground:
        from holdfast.service.agents import Agents

        Agents(ground).forget(SHELL, reference)
    output.said(f"forgot {reference}")


def _say(text: str) -> None:
    sys.stderr.write(f"holdfast agent: {text}\n")
    sys.stderr.flush()


def _plain(agent: "AgentRecord") -> dict[str, object]:
    return {
        "id": agent.id, "hwid": agent.hwid, "name": agent.name, "state": str(agent.state),
        "address": agent.address, "os": agent.os, "version": agent.version,
        "modules": agent.modules, "seen": moments.shown(agent.seen) if agent.seen else None,
    }  # fmt: skip
