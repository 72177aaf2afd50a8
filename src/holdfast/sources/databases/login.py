"""How a server of databases is reached: never with a password on a command line."""

from __future__ import annotations

import os
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from holdfast.core.errors import HoldfastError, InvalidError, RestoreError, SourceError
from holdfast.core.secret import Secret
from holdfast.sources.parameters import described
from holdfast.sources.tools import secret_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence


@dataclass(frozen=True, slots=True, kw_only=True)
class Login:
    """Settings that all servers share. Without a password, the client programs' own ways hold:
    their files, or who the system says this is.
    """

    host: str = described(
        "", "Name or address of the server, or the path of its socket; this machine where empty."
    )
    port: int = described(0, "Port of the server; the usual one where 0.")
    user: str = described("", "Who signs in; who runs this where empty.")
    password_file: str = described("", "File whose first line is the password.")
    password_env: str = described("", "Variable of the environment that holds the password.")
    password_command: str = described(
        "", "Program with arguments that prints the password; run without a shell.", runs=True
    )
    tools: str = described("", "Folder of the client programs; they are looked for where empty.")


def password_of(login: Login) -> Secret | None:
    """The password, from the one place that is named; None where none is.

    Raises:
        InvalidError: several places are named.
        SourceError: it is not there.
    """
    places = ("password_file", "password_env", "password_command")
    named = [name for name in places if getattr(login, name)]
    if len(named) > 1:
        raise InvalidError(
            f"the password is said to be in several places: {', '.join(named)}",
            fields=dict.fromkeys(named, ("several", "Only one place of the password.")),
        )
    if login.password_file:
        return Secret(_first_line(login.password_file))
    if login.password_env:
        value = os.environ.get(login.password_env)
        if not value:
            raise SourceError(f"password_env: there is no variable {login.password_env}")
        return Secret(value)
    if login.password_command:
        value = secret_of(login.password_command)
        if not value:
            raise SourceError("password_command printed nothing")
        return Secret(value)
    return None


def _first_line(name: str) -> str:
    try:
        text = Path(name).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not text"
        raise SourceError(f"password_file: {name} cannot be read: {reason}") from error
    line = text.partition("\n")[0].rstrip("\r")
    if not line:
        raise SourceError(f"password_file: {name} is empty")
    return line


def place_of(login: Login, usual_port: int) -> str:
    """How the server is called in a snapshot: the same for the same server, and a file's name."""
    host = login.host.strip("/").replace("/", "_") or "local"
    port = f":{login.port}" if login.port not in {0, usual_port} else ""
    return host + port


def chosen(databases: list[dict[str, Any]], database: str, new_name: str) -> list[dict[str, Any]]:
    """Those of a backup that are meant.

    Raises:
        InvalidError: there is none, or there are several for one new name.
    """
    wanted = [each for each in databases if database in {"", each["name"]}]
    if not wanted:
        names = ", ".join(each["name"] for each in databases)
        raise InvalidError(
            f"the backup holds no database {database!r}, but {names}",
            fields={"database": ("unknown", f"The backup holds {names}.")},
        )
    if new_name and len(wanted) > 1:
        raise InvalidError(
            f"{len(wanted)} databases cannot have one name",
            fields={"new_name": ("several", "Say with `database` which one is meant.")},
            remedy="Nothing was changed. Say with `database` which one is meant.",
        )
    return wanted


def name_for(destination: str, new_name: str) -> str:
    """What a database is to be called; its own name where empty. A folder, which some have to name
    whatever is put back, says nothing to a server.
    """
    return new_name or ("" if destination.startswith("/") else destination)


@contextmanager
def unfinished(name: str, drop: Callable[[], None]) -> Iterator[None]:
    """Drops a database again that is being made, if that fails.

    Raises:
        RestoreError: it says whether the unfinished one could be dropped.
    """
    try:
        yield
    except (SourceError, RestoreError) as error:
        try:
            drop()
        except SourceError as again:
            raise RestoreError(
                f"{error.message}; and then: {again.message}",
                remedy=f"An unfinished database {name} may be left over: drop it.",
            ) from error
        raise RestoreError(
            error.message, remedy="What was not finished is not there any more."
        ) from error
    except BaseException:
        with suppress(SourceError):  # the first error is the one to be told
            drop()
        raise


def broken_off(error: HoldfastError, done: Sequence[str]) -> RestoreError:
    """The error of a restore that got so far."""
    safe = f"Whole and in place: {', '.join(done)}. " if done else ""
    advice = error.advice if isinstance(error, RestoreError) else "Nothing else was changed."
    return RestoreError(error.message, remedy=safe + advice)
