"""`holdfast account`: access URLs of the RestBackup face."""

from typing import TYPE_CHECKING, Annotated

import typer

from holdfast.cli import moments
from holdfast.cli.api_options import Json, output_of
from holdfast.cli.data import ConfigFile, Data, ground_of
from holdfast.core.access import SHELL

if TYPE_CHECKING:
    from holdfast.core.records import Account

app = typer.Typer(add_completion=False, no_args_is_help=True, help="Manage RestBackup accounts.")

Which = Annotated[
    str, typer.Argument(metavar="NAME", help="The account's user name, or what it was called.")
]
KeepDays = Annotated[
    int, typer.Option("--keep-days", metavar="N", help="Days that files are kept: 30 to 365.")
]


@app.command()
def add(
    name: Annotated[
        str, typer.Argument(metavar="[NAME]", help="What to call the account in lists.")
    ] = "",
    *,
    data: Data,
    keep_days: KeepDays = 365,
    pool: Annotated[
        str | None,
        typer.Option(
            "--pool", metavar="POOL", help="Where its files are kept (default: as configured)."
        ),
    ] = None,
    config: ConfigFile = None,
    json: Json = False,
) -> None:
    """Adds an account and prints its access URL, this once."""
    output = output_of(json=json)
    with ground_of(data, config) as ground:
        from holdfast.service.accounts import Accounts
        from holdfast.service.addresses import access_url, restbackup_url

        restbackup_url(ground)  # a mistake in it shows before anything is made
        account, password = Accounts(ground).add(SHELL, label=name, keep_days=keep_days, pool=pool)
        url = access_url(ground, account, password).reveal()
    if output.json:
        output.message("account", **_plain(account), access_url=url)
        return
    output.line(url)
    output.note(
        f"Files are kept for {account.keep_days} days. Keep the URL safe: the server has only a "
        "digest of its password and will not show it again."
    )


@app.command("list")
def list_all(*, data: Data, config: ConfigFile = None, json: Json = False) -> None:
    """Lists accounts, without their passwords."""
    output = output_of(json=json)
    with ground_of(data, config) as ground:
        from holdfast.service.accounts import Accounts

        accounts = Accounts(ground).list(SHELL)
    if output.json:
        for each in accounts:
            output.message("account", **_plain(each))
        return
    rows = [
        [each.name, output.shown(each.label), str(each.keep_days), moments.shown(each.created)]
        for each in accounts
    ]
    output.table(["User name", "Name", "Days kept", "Added"], rows)


@app.command()
def change(
    name: Which,
    *,
    data: Data,
    keep_days: KeepDays,
    config: ConfigFile = None,
    json: Json = False,
) -> None:
    """Changes how long files are kept, those that are there as well."""
    output = output_of(json=json)
    with ground_of(data, config) as ground:
        from holdfast.service.accounts import Accounts

        accounts = Accounts(ground)
        found = accounts.find(SHELL, name)
        account = accounts.change(SHELL, found.id, keep_days=keep_days)
    if output.json:
        output.message("account", **_plain(account))
    output.said(f"files of {account.name} are kept for {account.keep_days} days")


@app.command()
def remove(name: Which, *, data: Data, config: ConfigFile = None, json: Json = False) -> None:
    """Removes an account: its access URL opens nothing any more. Its files stay until they
    expire.
    """
    output = output_of(json=json)
    with ground_of(data, config) as ground:
        from holdfast.service.accounts import Accounts

        accounts = Accounts(ground)
        account = accounts.find(SHELL, name)
        accounts.remove(SHELL, account.id)
    if output.json:
        output.message("removed", name=account.name)
    output.said(f"removed {account.name}; its files stay until they expire")


def _plain(account: "Account") -> dict[str, object]:
    return {
        "name": account.name,
        "label": account.label,
        "keep_days": account.keep_days,
        "created": moments.shown(account.created),
    }
