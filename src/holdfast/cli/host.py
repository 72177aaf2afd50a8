"""`holdfast host`: the machines that are protected, and the passwords by which they come in."""

from typing import TYPE_CHECKING, Annotated

import typer

from holdfast.cli import moments
from holdfast.cli.api_options import Json, output_of
from holdfast.cli.data import ConfigFile, Data, ground_of
from holdfast.core.access import SHELL

if TYPE_CHECKING:
    from holdfast.core.records import Host
    from holdfast.core.records import Token as TokenRecord

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    help="Manage the machines that write into repositories of their own.",
)

Name = Annotated[str, typer.Argument(metavar="NAME", help="The host's name.")]


@app.command()
def add(
    name: Name,
    *,
    data: Data,
    note: Annotated[
        str, typer.Option("--note", metavar="TEXT", help="What people should know of it.")
    ] = "",
    config: ConfigFile = None,
    json: Json = False,
) -> None:
    """Adds a host. `holdfast host token` gives it a password."""
    output = output_of(json=json)
    with ground_of(data, config) as ground:
        from holdfast.service.hosts import Hosts

        host = Hosts(ground).add(SHELL, name, note=note)
    if output.json:
        output.message("host", **_plain(host))
    output.said(f"added host {name}")


@app.command("list")
def list_all(*, data: Data, config: ConfigFile = None, json: Json = False) -> None:
    """Lists hosts."""
    output = output_of(json=json)
    with ground_of(data, config) as ground:
        from holdfast.service.hosts import Hosts

        hosts = Hosts(ground)
        found = [(each, hosts.tokens(SHELL, each.id)) for each in hosts.list(SHELL)]
    if output.json:
        for host, tokens in found:
            output.message("host", **_plain(host), tokens=list(map(_plain_token, tokens)))
        return
    rows = [
        [
            host.name,
            output.shown(host.note),
            str(len(tokens)),
            moments.shown(host.seen) if host.seen else "never",
        ]
        for host, tokens in found
    ]
    output.table(["Name", "Note", "Tokens", "Seen"], rows)


@app.command()
def show(name: Name, *, data: Data, config: ConfigFile = None, json: Json = False) -> None:
    """Shows a host and its tokens, without their secrets."""
    output = output_of(json=json)
    with ground_of(data, config) as ground:
        from holdfast.service.hosts import Hosts

        hosts = Hosts(ground)
        host = hosts.find(SHELL, name)
        tokens = hosts.tokens(SHELL, host.id)
    if output.json:
        output.message("host", **_plain(host), tokens=list(map(_plain_token, tokens)))
        return
    output.line(f"{host.name}  {output.shown(host.note)}".rstrip())
    rows = [
        [
            each.uid,
            output.shown(each.name),
            moments.shown(each.created),
            moments.shown(each.expires) if each.expires else "never",
            moments.shown(each.used) if each.used else "never",
        ]
        for each in tokens
    ]
    output.table(["Token", "Name", "Made", "Expires", "Used"], rows)


@app.command()
def token(
    name: Name,
    *,
    data: Data,
    label: Annotated[
        str, typer.Option("--name", metavar="LABEL", help="What to call the token in lists.")
    ] = "",
    expires: Annotated[
        str, typer.Option("--expires", metavar="TIME", help="When it ends (default: never).")
    ] = "",
    config: ConfigFile = None,
    json: Json = False,
) -> None:
    """Makes a password for stock restic or an agent on the host, and prints it, this once."""
    output = output_of(json=json)
    ends = moments.parse_moment(expires) if expires else None
    with ground_of(data, config) as ground:
        from holdfast.service.hosts import Hosts

        hosts = Hosts(ground)
        host = hosts.find(SHELL, name)
        made, secret = hosts.issue(SHELL, host.id, name=label, expires=ends)
    if output.json:
        output.message("token", **_plain_token(made), host=name, secret=secret.reveal())
        return
    output.line(secret.reveal())
    output.note(
        f"On {name}: restic -r rest:http://{name}:TOKEN@SERVER:5656/restic/POOL/{name}/ init\n"
        "Keep the token safe: the server has only its digest and will not show it again."
    )


@app.command()
def revoke(
    name: Name,
    uid: Annotated[
        str, typer.Argument(metavar="TOKEN", help="The token's id, see `holdfast host show`.")
    ],
    *,
    data: Data,
    config: ConfigFile = None,
    json: Json = False,
) -> None:
    """Revokes a token: it opens nothing any more, at once."""
    output = output_of(json=json)
    with ground_of(data, config) as ground:
        from holdfast.service.hosts import Hosts

        hosts = Hosts(ground)
        hosts.revoke(SHELL, hosts.find(SHELL, name).id, uid)
    if output.json:
        output.message("removed", name=uid)
    output.said(f"revoked token {uid} of {name}")


@app.command()
def remove(name: Name, *, data: Data, config: ConfigFile = None, json: Json = False) -> None:
    """Removes a host of which nothing is kept any more, with its tokens."""
    output = output_of(json=json)
    with ground_of(data, config) as ground:
        from holdfast.service.hosts import Hosts

        hosts = Hosts(ground)
        hosts.remove(SHELL, hosts.find(SHELL, name).id)
    if output.json:
        output.message("removed", name=name)
    output.said(f"removed host {name}")


def _plain(host: "Host") -> dict[str, object]:
    return {
        "name": host.name,
        "note": host.note,
        "created": moments.shown(host.created),
        "seen": moments.shown(host.seen) if host.seen else None,
    }


def _plain_token(token: "TokenRecord") -> dict[str, object]:
    return {
        "id": token.uid,
        "name": token.name,
        "created": moments.shown(token.created),
        "expires": moments.shown(token.expires) if token.expires else None,
        "used": moments.shown(token.used) if token.used else None,
    }
