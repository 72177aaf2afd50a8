"""`holdfast key`: passwords. Each key is one password for the same repository."""

import socket
from typing import TYPE_CHECKING, Annotated

import typer

from holdfast.cli import password, repository
from holdfast.cli import settings as settings_of
from holdfast.cli.output import Output
from holdfast.core.secret import Secret

if TYPE_CHECKING:
    from holdfast.repo.repository import Repository

app = typer.Typer(add_completion=False, no_args_is_help=True, help="Manage keys and passwords.")

NewPasswordFile = Annotated[
    str | None, typer.Option(metavar="FILE", help="File to read the new password from.")
]
NewInsecureNoPassword = Annotated[
    bool, typer.Option("--new-insecure-no-password", help="The new key has the empty password.")
]
User = Annotated[str, typer.Option(metavar="NAME", help="User name that the new key shows.")]
Host = Annotated[str, typer.Option(metavar="NAME", help="Host name that the new key shows.")]


@app.command("list")
def list_all(ctx: typer.Context) -> None:
    """Lists keys; `*` marks the one that opened the repository just now."""
    from holdfast.repo.keys import list_keys

    settings = settings_of.of(ctx)
    output = Output(settings)
    with repository.opened(settings, output) as opened:
        keys = list_keys(opened.store)
        current = opened.key_id
    if output.json:
        output.document(
            [
                {
                    "current": key.id == current,
                    "id": key.id[:8],
                    "userName": key.username,
                    "hostName": key.hostname,
                    "created": key.created,
                }
                for key in keys
            ]
        )
        return
    rows = [
        [
            ("*" if key.id == current else " ") + key.id[:8],
            key.username,
            key.hostname,
            key.created[:19].replace("T", " "),
        ]
        for key in keys
    ]
    output.table([" ID", "User", "Host", "Created"], rows)


@app.command()
def add(
    ctx: typer.Context,
    *,
    new_password_file: NewPasswordFile = None,
    new_insecure_no_password: NewInsecureNoPassword = False,
    user: User = "",
    host: Host = "",
) -> None:
    """Adds a key with a new password."""
    settings = settings_of.of(ctx)
    output = Output(settings)
    with repository.opened(settings, output) as opened:
        made = _add(opened, _new_password(new_password_file, new_insecure_no_password), user, host)
    _tell(
        output,
        "added",
        made,
        f"saved new key {made[:8]} for {user or 'this user'}@{host or socket.gethostname()}",
    )


@app.command()
def remove(
    ctx: typer.Context,
    *,
    name: Annotated[str, typer.Argument(metavar="KEY", help="The key's name or its beginning.")],
) -> None:
    """Removes a key, so that its password opens nothing any more. The one in use stays."""
    from holdfast.repo.keys import choose_key, remove_key

    settings = settings_of.of(ctx)
    output = Output(settings)
    with (
        repository.opened(settings, output) as opened,
        repository.locked(opened, settings, output, exclusive=True),
    ):
        full = choose_key(opened.store, name)
        remove_key(opened.store, full, in_use=opened.key_id)
    _tell(output, "removed", full, f"removed key {full[:8]}")


@app.command()
def passwd(
    ctx: typer.Context,
    *,
    new_password_file: NewPasswordFile = None,
    new_insecure_no_password: NewInsecureNoPassword = False,
) -> None:
    """Changes the password of the key in use. If this is cut short, both passwords work."""
    from holdfast.repo.keys import change_password

    settings = settings_of.of(ctx)
    output = Output(settings)
    with (
        repository.opened(settings, output) as opened,
        repository.locked(opened, settings, output, exclusive=True),
    ):
        assert opened.key_id is not None
        made = change_password(
            opened.store,
            opened.objects.key,
            _new_password(new_password_file, new_insecure_no_password),
            in_use=opened.key_id,
            clock=opened.clock,
        )
    _tell(output, "changed", made, f"saved new key {made[:8]}, removed the old one")


def _new_password(path: str | None, empty: bool) -> Secret:
    if empty:
        return Secret("")
    if path:
        return password.from_file(path)
    return password.ask("the new password", confirm=True)


def _add(opened: "Repository", secret: Secret, user: str, host: str) -> str:
    from holdfast.repo.keys import add_key

    return add_key(
        opened.store,
        opened.objects.key,
        secret,
        clock=opened.clock,
        username=user or None,
        hostname=host or None,
    )


def _tell(output: Output, what: str, name: str, text: str) -> None:
    if output.json:
        output.message(what, id=name)
    else:
        output.line(text)
