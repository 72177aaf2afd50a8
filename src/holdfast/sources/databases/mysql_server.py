"""A MariaDB or MySQL server, spoken to by its own client programs."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Self

from holdfast.core.errors import SourceError
from holdfast.sources.databases.login import password_of
from holdfast.sources.tools import ask, find_tool

if TYPE_CHECKING:
    from collections.abc import Sequence

    from holdfast.sources.databases.login import Login

PORT = 3306
_CLIENTS = ("mariadb", "mysql")
_DUMPERS = ("mariadb-dump", "mysqldump")
_CONNECT_LIMIT = 30
_OWN = ("information_schema", "performance_schema", "mysql", "sys", "ndbinfo")
"""Databases that the server makes of itself."""


class MySqlServer:
    """A context manager: the option file, with the password in it, is there only while it is
    open.
    """

    def __init__(self, login: Login) -> None:
        self._login = login
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._options = Path()
        self.environment = dict(os.environ)

    def __enter__(self) -> Self:
        """Raises SourceError, InvalidError: the password is not where it is said to be."""
        login = self._login
        password = password_of(login)
        self._folder = tempfile.TemporaryDirectory(prefix="holdfast-mysql-")  # mode 0700
        lines = ["[client]", "default-character-set=utf8mb4"]
        if login.host.startswith("/"):
            lines.append(f"socket={_quoted(login.host)}")
        elif login.host:
            lines += [f"host={_quoted(login.host)}", "protocol=tcp"]
        if login.port:
            lines.append(f"port={login.port}")
        if login.user:
            lines.append(f"user={_quoted(login.user)}")
        if password is not None:
            self.environment.pop("MYSQL_PWD", None)
            lines.append(f"password={_quoted(password.reveal())}")
        self._options = Path(self._folder.name) / "client.cnf"
        with open(self._options, "x", opener=_private) as file:
            file.write("\n".join(lines) + "\n")
        return self

    def __exit__(self, *_: object) -> None:
        if self._folder is not None:
            self._folder.cleanup()

    def client(self, *words: str) -> list[str]:
        tool = find_tool(_CLIENTS, self._login.tools)
        limit = f"--connect-timeout={_CONNECT_LIMIT}"
        return [tool, f"--defaults-extra-file={self._options}", "--batch", limit, *words]

    def dumper(self, *words: str) -> list[str]:
        tool = find_tool(_DUMPERS, self._login.tools)
        return [tool, f"--defaults-extra-file={self._options}", *words]

    def dumper_is_mariadb(self) -> bool:
        """Which of the two it is: MySQL's says it by what it does not say."""
        tool = find_tool(_DUMPERS, self._login.tools)
        return b"MariaDB" in ask([tool, "--version"], self.environment)

    def query(self, sql: str) -> list[list[str]]:
        """The rows of a SELECT of texts.

        Raises:
            SourceError: the server does not answer, or refuses.
        """
        answer = ask(self.client("--skip-column-names"), self.environment, text=sql)
        lines = answer.decode("utf-8").split("\n")[:-1]
        return [[_plain(field) for field in line.split("\t")] for line in lines]

    def execute(self, sql: str) -> None:
        """Raises SourceError as `query`."""
        ask(self.client(), self.environment, text=sql)

    def version(self) -> str:
        [[version]] = self.query("SELECT version()")
        return version

    def databases(self) -> Sequence[str]:
        """All but those that the server makes of itself."""
        rows = self.query("SELECT schema_name FROM information_schema.schemata")
        return sorted(name for [name] in rows if name.lower() not in _OWN)


def is_there() -> bool:
    """Whether this machine has the client programs."""
    try:
        for names in (_CLIENTS, _DUMPERS):
            find_tool(names, "")
    except SourceError:
        return False
    return True


def identifier(name: str) -> str:
    return "`" + name.replace("`", "``") + "`"


def literal(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "''") + "'"


_ESCAPES = {"0": "\0", "n": "\n", "t": "\t", "\\": "\\"}


def _plain(field: str) -> str:
    r"""A field of --batch, which writes \t, \n, \0 and \\ for what would break its lines."""
    if "\\" not in field:
        return field
    found, escaped = [], False
    for each in field:
        if escaped:
            found.append(_ESCAPES.get(each, each))
            escaped = False
        elif each == "\\":
            escaped = True
        else:
            found.append(each)
    return "".join(found)


def _quoted(value: str) -> str:
    """A value of an option file."""
    for plain, written in (("\\", "\\\\"), ('"', '\\"'), ("\n", "\\n"), ("\r", "\\r")):
        value = value.replace(plain, written)
    return f'"{value}"'


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
