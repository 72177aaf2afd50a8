"""`holdfast user`: the people who may sign in to the server."""

from typing import TYPE_CHECKING, Annotated

import typer

from holdfast.cli import moments, password
from holdfast.cli.api_options import Json, output_of
from holdfast.cli.data import ConfigFile, Data, ground_of
from holdfast.core.access import SHELL
from holdfast.core.errors import UsageError, WrongPasswordError
from holdfast.core.records import Role
from holdfast.core.secret import Secret

if TYPE_CHECKING:
    from holdfast.core.records import User

app = typer.Typer(add_completion=False, no_args_is_help=True, help="Manage who may sign in.")

Name = Annotated[str, typer.Argument(metavar="NAME", help="Name or email of the user.")]
PasswordFile = Annotated[
    str | None,
    typer.Option("--password-file", metavar="FILE", help="File to read the user's password from."),
]
_ROLES = ", ".join(Role)


@app.command()
def add(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name to sign in with.")],
    *,
    data: Data,
    role: Annotated[
        str, typer.Option("--role", metavar="ROLE", help=f"One of: {_ROLES}.")
    ] = Role.USER,
    email: Annotated[
        str | None,
        typer.Option("--email", metavar="EMAIL", help="Address to sign in with as well."),
    ] = None,
    password_file: PasswordFile = None,
    config: ConfigFile = None,
    json: Json = False,
) -> None:
    """Adds a user. The password comes from a file, the terminal or standard input."""
    if role not in set(Role):
        raise UsageError(
            f"there is no role {role!r}", remedy=f"Nothing was changed. Roles are: {_ROLES}."
        )
    output = output_of(json=json)
    with ground_of(data, config) as ground:
        from holdfast.service.users import Users

        user = Users(ground).add(
            SHELL, name=name, password=_password(password_file), role=Role(role), email=email
        )
    if output.json:
        output.message("user", **_plain(user))
    output.said(f"added {user.name}, {user.role}")


@app.command("list")
def list_all(*, data: Data, config: ConfigFile = None, json: Json = False) -> None:
    """Lists users."""
    output = output_of(json=json)
    with ground_of(data, config) as ground:
        from holdfast.service.users import Users

        users = Users(ground).list(SHELL)
    if output.json:
        for each in users:
            output.message("user", **_plain(each))
        return
    rows = [
        [
            each.name,
            each.email or "",
            each.role,
            "disabled" if each.disabled else "",
            moments.shown(each.created),
        ]
        for each in users
    ]
    output.table(["Name", "Email", "Role", "State", "Added"], rows)


@app.command()
def passwd(
    name: Name,
    *,
    data: Data,
    password_file: PasswordFile = None,
    config: ConfigFile = None,
    json: Json = False,
) -> None:
    """Changes a user's password. All their sessions end and all their tokens are void."""
    output = output_of(json=json)
    with ground_of(data, config) as ground:
        from holdfast.service.users import Users

        users = Users(ground)
        found = users.find(SHELL, name)
        user = users.change(SHELL, found.id, password=_password(password_file))
    if output.json:
        output.message("user", **_plain(user))
    output.said(f"{user.name} has a new password; earlier sessions and tokens are void")


@app.command()
def remove(name: Name, *, data: Data, config: ConfigFile = None, json: Json = False) -> None:
    """Removes a user with all sessions and tokens. The last superuser stays."""
    output = output_of(json=json)
    with ground_of(data, config) as ground:
        from holdfast.service.users import Users

        users = Users(ground)
        user = users.find(SHELL, name)
        users.remove(SHELL, user.id)
    if output.json:
        output.message("removed", name=user.name)
    output.said(f"removed {user.name}")


def _password(path: str | None) -> Secret:
    try:
        if path:
            return password.from_file(path)
        return password.ask("the user's password", confirm=True)
    except WrongPasswordError as error:
        raise UsageError(
            error.message,
            remedy="Nothing was changed. Give it with --password-file, or on standard input.",
        ) from error


def _plain(user: "User") -> dict[str, object]:
    return {
        "id": user.uid,
        "name": user.name,
        "email": user.email,
        "role": str(user.role),
        "disabled": user.disabled,
        "created": moments.shown(user.created),
    }
