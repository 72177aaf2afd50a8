"""A PostgreSQL server, spoken to by its own client programs."""

from __future__ import annotations

import json
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from holdfast.core.errors import SourceError
from holdfast.sources.databases.login import Login, password_of
from holdfast.sources.parameters import described
from holdfast.sources.tools import ask, find_tool

if TYPE_CHECKING:
    from collections.abc import Sequence

PORT = 5432
_DEBIAN = Path("/usr/lib/postgresql")
_CONNECT_LIMIT = "30"
_FOREIGN = ("PGPASSWORD", "PGDATABASE", "PGSERVICE", "PGOPTIONS")
"""Variables that would change where we sign in, or what a session does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PostgresLogin(Login):
    maintenance: str = described(
        "postgres", "Database to sign in to where none is meant, for lists and for making others."
    )


class PostgresServer:
    """A context manager: the file with the password is there only while it is open."""

    def __init__(self, login: PostgresLogin) -> None:
        self._login = login
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self.environment: dict[str, str] = {}
        """For the client programs."""

    def __enter__(self) -> Self:
        """Raises SourceError, InvalidError: the password is not where it is said to be."""
        login = self._login
        environment = {name: value for name, value in os.environ.items() if name not in _FOREIGN}
        environment |= {"PGCONNECT_TIMEOUT": _CONNECT_LIMIT, "PGAPPNAME": "holdfast"}
        environment |= {"PGCLIENTENCODING": "UTF8", "LC_MESSAGES": "C"}
        if login.host:
            environment["PGHOST"] = login.host
        if login.port:
            environment["PGPORT"] = str(login.port)
        if login.user:
            environment["PGUSER"] = login.user
        password = password_of(login)
        if password is None and "PGPASSWORD" in os.environ:
            environment["PGPASSWORD"] = os.environ["PGPASSWORD"]
        if password is not None:
            self._folder = tempfile.TemporaryDirectory(prefix="holdfast-postgres-")  # mode 0700
            file = Path(self._folder.name) / "pgpass"
            word = password.reveal().replace("\\", "\\\\").replace(":", "\\:")
            with open(file, "x", opener=_private) as writing:
                writing.write(f"*:*:*:*:{word}\n")
            environment["PGPASSFILE"] = str(file)
        self.environment = environment
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        if self._folder is not None:
            self._folder.cleanup()

    def tool(self, name: str) -> str:
        """The path of a client program. Raises SourceError where there is none."""
        return find_tool([name], self._login.tools, elsewhere=_places())

    def psql(self, database: str = "") -> list[str]:
        """The words that run SQL from standard input in a database, and stop at an error."""
        words = ["-X", "-q", "-A", "-t", "-w", "-v", "ON_ERROR_STOP=1"]
        return [self.tool("psql"), *words, "-d", conninfo(database or self._login.maintenance)]

    def query(self, sql: str, database: str = "") -> list[Any]:
        """The rows of a SELECT, each an object.

        Raises:
            SourceError: the server does not answer, or refuses.
        """
        wrapped = f"SELECT coalesce(json_agg(asked), '[]') FROM ({sql}) AS asked"
        answer = ask(self.psql(database), self.environment, text=wrapped)
        rows = json.loads(answer)
        assert isinstance(rows, list)
        return rows

    def execute(self, sql: str, database: str = "") -> None:
        """Raises SourceError as `query`."""
        ask(self.psql(database), self.environment, text=sql)

    def version(self) -> str:
        """As in `16.3`."""
        [row] = self.query("SELECT current_setting('server_version') AS version")
        return str(row["version"]).split()[0]

    def databases(self) -> Sequence[str]:
        """All that can be connected to, without the templates."""
        rows = self.query(
            "SELECT datname FROM pg_database WHERE datallowconn AND NOT datistemplate"
            ' ORDER BY datname COLLATE "C"'
        )
        return [row["datname"] for row in rows]


def conninfo(database: str) -> str:
    """A database as libpq takes it: a plain name could be read as something else."""
    return "dbname='" + database.replace("\\", "\\\\").replace("'", "\\'") + "'"


def identifier(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """For servers whose `standard_conforming_strings` is on, which is its default."""
    return "'" + text.replace("'", "''") + "'"


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def is_there(name: str) -> bool:
    """Whether this machine has such a client program."""
    try:
        find_tool([name], "", elsewhere=_places())
    except SourceError:
        return False
    return True


def _places() -> list[Path]:
    """Where Debian keeps the programs of each release, the newest first."""
    return sorted(_DEBIAN.glob("*/bin"), key=_version_of, reverse=True)


def _version_of(folder: Path) -> tuple[int, ...]:
    parts = folder.parent.name.split(".")
    return tuple(int(part) if part.isdecimal() else 0 for part in parts)
