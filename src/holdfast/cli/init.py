"""`holdfast init`: a new repository."""

import os
from typing import TYPE_CHECKING, Annotated

import typer

from holdfast.cli import password, repository
from holdfast.cli import settings as settings_of
from holdfast.cli.output import Output
from holdfast.cli.second import Second, opened_second, with_second
from holdfast.core.errors import UsageError
from holdfast.core.units import counted

if TYPE_CHECKING:
    from holdfast.store.contract import Store


@with_second
def init(
    ctx: typer.Context,
    *,
    repository_version: Annotated[
        str, typer.Option(metavar="VERSION", help="Format: 1, 2, latest or stable.")
    ] = "stable",
    copy_chunker_params: Annotated[
        bool,
        typer.Option(
            "--copy-chunker-params",
            help="Cut files as the --from-repo repository does, so that copies deduplicate.",
        ),
    ] = False,
    second: Second,
) -> None:
    """Makes a new, encrypted repository. Keep its password: without it, nobody can read what is in
    there.
    """
    from holdfast.repo.repository import Repository

    settings = settings_of.of(ctx)
    output = Output(settings)
    polynomial = None
    if copy_chunker_params:
        with opened_second(settings, second, output) as other:
            polynomial = other.config.polynomial
    store = repository.open_place(settings, output)
    try:
        secret = password.read_password(settings, confirm=True)
        others = _others(store)
        made = Repository.init(
            store, secret, version=_version(repository_version), polynomial=polynomial
        )
    finally:
        store.close()
    if output.json:
        output.message("initialized", id=made.config.id, repository=store.address)
    else:
        output.said(f"created repository {made.config.id[:10]} at {store.address}")
        if others:
            output.note(
                f"the folder was not empty: {counted(others, 'entry', 'entries')} beside the"
                " repository are none of its business, and stay"
            )
        output.said(
            "\nKeep the password safe. Without it what is in the repository is lost for good.\n"
            "Back up with: holdfast -r " + store.address + " backup FOLDER"
        )


def _others(store: "Store") -> int:
    """How many names there are already in the folder where a repository is to be made."""
    if not store.properties.local:
        return 0
    try:
        with os.scandir(store.address) as found:
            count = sum(1 for _ in found)
    except OSError:
        return 0  # making it will tell
    return count


def _version(text: str) -> int:
    if text in {"latest", "stable"}:
        return 2
    if text.isdecimal():
        return int(text)
    raise UsageError(f"{text!r} is no repository version", remedy="Write 1, 2, latest or stable.")
