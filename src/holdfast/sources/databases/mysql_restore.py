"""MariaDB and MySQL, back: databases into a server.

These servers rename no database: one that is loaded has its name from the beginning. If loading
fails it is dropped again, so that there is none that is half there.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from holdfast.core.errors import RestoreError, SourceError
from holdfast.sources.databases.login import Login, broken_off, chosen, name_for, unfinished
from holdfast.sources.databases.mysql_server import MySqlServer, identifier
from holdfast.sources.parameters import described
from holdfast.sources.streams import read_about
from holdfast.sources.tools import feed

if TYPE_CHECKING:
    from holdfast.core.source import Kept


@dataclass(frozen=True, slots=True, kw_only=True)
class MySqlDestination(Login):
    new_name: str = described("", "Name of the database that is made; its own where empty.")
    database: str = described("", "Which database of the backup; all of them where empty.")
    replace: bool = described(
        default=False, meaning="Drop databases of that name first. What they held is gone then."
    )
    users: bool = described(
        default=False, meaning="Make the users of the backup that are not there, with their rights."
    )


def put_back(kept: Kept, destination: str, settings: MySqlDestination, module: str) -> str:
    about = read_about(kept, module)
    new_name = name_for(destination, settings.new_name)
    wanted = chosen(about["databases"], settings.database, new_name)
    names = [new_name or each["name"] for each in wanted]
    done: list[str] = []
    try:
        with MySqlServer(settings) as server:
            taken = sorted(set(names).intersection(server.databases()))
            _refuse_taken(taken, settings)
            if settings.users:
                _make_users(kept, about, server)
            for facts, name in zip(wanted, names, strict=True):
                _load(kept, facts, name, server)
                done.append(name)
    except (SourceError, RestoreError) as error:
        raise broken_off(error, done) from error
    return f"put back {', '.join(done)}"


def _refuse_taken(taken: list[str], settings: MySqlDestination) -> None:
    if taken and not settings.replace:
        shown = ", ".join(taken)
        raise RestoreError(
            f"there is already a database {shown}; say replace, or another name",
            remedy="Nothing was changed.",
        )


def _make_users(kept: Kept, about: dict[str, Any], server: MySqlServer) -> None:
    if not about["users"]:
        raise RestoreError("the backup was made without users", remedy="Nothing was changed.")
    with kept.open("users.sql") as file:
        feed(server.client("--binary-mode"), server.environment, file, what="users")


def _load(kept: Kept, facts: dict[str, Any], name: str, server: MySqlServer) -> None:
    # Opened before anything is dropped: what was not kept must not cost what is there.
    drop = partial(server.execute, f"DROP DATABASE IF EXISTS {identifier(name)}")
    with kept.open(facts["file"]) as file, unfinished(name, drop):
        server.execute(
            f"DROP DATABASE IF EXISTS {identifier(name)};"
            f" CREATE DATABASE {identifier(name)} CHARACTER SET {facts['charset']}"
            f" COLLATE {facts['collation']};"
        )
        # In binary mode the client takes no commands of its own from a dump.
        words = server.client("--binary-mode", f"--database={name}")
        feed(words, server.environment, file, what=f"database {name}")
