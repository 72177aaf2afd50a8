"""MariaDB and MySQL: dumps of databases, each as it was at one moment.

<server>[/<database>]/about.json          what is here
<server>[/<database>]/databases/NAME.sql  one for each database, as the client program takes it
<server>/users.sql                        users and their rights, from MariaDB's dump program
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from holdfast.core.errors import SourceError
from holdfast.sources.databases.login import Login, place_of
from holdfast.sources.databases.mysql_restore import MySqlDestination, put_back
from holdfast.sources.databases.mysql_rights import unseen
from holdfast.sources.databases.mysql_server import PORT, MySqlServer, is_there, literal
from holdfast.sources.modules import Resource
from holdfast.sources.parameters import described, parameters_of, read_settings
from holdfast.sources.streams import StreamFile, StreamTree, about_file, file_name
from holdfast.sources.tools import Dump, NamedDump

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from holdfast.core.entries import Entry
    from holdfast.core.source import Kept, Source
    from holdfast.sources.modules import Asked

NAME = "mysql"
_WHOLE = ("MySQL ", "MariaDB ")
"""How the resource that is the whole server begins; its version follows."""
_ENDS = b"-- Dump completed"
_CONTENT = ("--routines", "--events", "--triggers", "--hex-blob", "--quick", "--skip-dump-date",
            "--default-character-set=utf8mb4", "--no-tablespaces")  # fmt: skip
"""All that a database holds, and the same words for the same content."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MySqlSettings(Login):
    lock_tables: bool = described(
        default=False,
        meaning="Lock the tables of a database while it is dumped, so that those without"
        " transactions fit together, too.",
    )
    users: bool = described(
        default=True,
        meaning="Dump users and their rights, too, where the whole server is backed up and the dump"
        " program is MariaDB's.",
    )


class MySqlModule:
    """See `modules.Module`. A resource is a database; or `MariaDB` or `MySQL` with any version, or
    nothing: the whole server.
    """

    name = NAME
    parameters = parameters_of(MySqlSettings)
    putting_back = parameters_of(MySqlDestination)

    def available(self) -> bool:
        return is_there()

    def check(self, asked: Asked) -> None:
        read_settings(MySqlSettings, asked.parameters)

    def resources(self, asked: Asked) -> Sequence[Resource]:
        with MySqlServer(read_settings(MySqlSettings, asked.parameters)) as server:
            version = server.version()
            kind = _WHOLE["mariadb" in version.lower()]
            whole = Resource(name=f"{kind}{version}", kind="server")
            return [whole, *(Resource(name=each, kind="database") for each in server.databases())]

    @contextmanager
    def open(self, asked: Asked) -> Iterator[Source]:
        settings = read_settings(MySqlSettings, asked.parameters)
        only = "" if asked.resource.startswith(_WHOLE) else asked.resource
        with MySqlServer(settings) as server:
            yield _Dumping(server, settings, only).source(
                place_of(settings, PORT), asked.clock.now()
            )

    def put_back(self, asked: Asked, kept: Kept) -> str:
        settings = read_settings(MySqlDestination, asked.parameters)
        whole = asked.resource.startswith(_WHOLE)
        return put_back(kept, "" if whole else asked.resource, settings, self.name)


class _Dumping:
    """One backup; of one database, or of all where `only` is empty."""

    def __init__(self, server: MySqlServer, settings: MySqlSettings, only: str) -> None:
        self._server = server
        self._settings = settings
        self._only = only
        self._failed: list[str] = []
        self._names = list(server.databases())
        if only:
            if only not in self._names:
                raise SourceError(
                    f"the server has no database {only!r} that can be seen",
                    remedy="Nothing was done. Look how the name is written, and what the user may.",
                )
            self._names = [only]
        self._mariadb = server.dumper_is_mariadb()
        self._users = settings.users and not only and self._mariadb

    def source(self, place: str, now: int) -> StreamTree:
        about = {
            "module": NAME,
            "server": self._server.version(),
            "users": self._users,
            "databases": [self._facts(name) for name in self._names],
        }
        files = [about_file(about)]
        files += [
            StreamFile(
                _file_of(name),
                self._database(name),
                required=bool(self._only),
                problem="; ".join([*self._unseen(name), *self._not_together(name)]),
            )
            for name in self._names
        ]
        if self._users:
            files.append(StreamFile("users.sql", self._dump_users))
        root = "/".join(["mysql", place, *([file_name(self._only)] if self._only else [])])
        return StreamTree(root, files, now=now, ended=self._refuse_nothing)

    def _facts(self, name: str) -> dict[str, Any]:
        [[charset, collation]] = self._server.query(
            "SELECT default_character_set_name, default_collation_name"
            f" FROM information_schema.schemata WHERE schema_name = {literal(name)}"
        )
        return {"name": name, "file": _file_of(name), "charset": charset, "collation": collation}

    def _unseen(self, name: str) -> list[str]:
        hidden = unseen((grant for [grant] in self._server.query("SHOW GRANTS")), name)
        if not hidden:
            return []
        return [f"its {' and '.join(hidden)} may be missing, which the user has no right to see"]

    def _not_together(self, name: str) -> list[str]:
        """What is to be said of tables that no transaction holds still."""
        if self._settings.lock_tables:
            return []
        rows = self._server.query(
            "SELECT t.table_name FROM information_schema.tables AS t"
            " LEFT JOIN information_schema.engines AS e ON e.engine = t.engine"
            f" WHERE t.table_schema = {literal(name)} AND t.table_type = 'BASE TABLE'"
            " AND coalesce(e.transactions, 'NO') <> 'YES' ORDER BY 1"
        )
        if not rows:
            return []
        tables = ", ".join(table for [table] in rows)
        how = "lock_tables=true makes them"
        return [f"tables without transactions may not fit together: {tables}; {how}"]

    def _database(self, name: str) -> Any:
        together = "--lock-tables" if self._settings.lock_tables else "--single-transaction"
        words = [*_CONTENT, together]
        if not self._mariadb:
            words.append("--set-gtid-purged=OFF")  # a dump is no replica

        def begin(entry: Entry) -> NamedDump:
            return NamedDump(
                self._failed, name, entry,
                self._server.dumper(*words, "--", name), self._server.environment,
                what=f"database {name}", ends=_ENDS,
            )  # fmt: skip

        return begin

    def _dump_users(self, entry: Entry) -> Dump:
        return Dump(
            entry, self._server.dumper("--system=users", "--insert-ignore", "--skip-dump-date"),
            self._server.environment, what="users and their rights (users)", ends=_ENDS,
        )  # fmt: skip

    def _refuse_nothing(self) -> None:
        if self._failed and len(self._failed) == len(self._names):
            raise SourceError(f"not one database could be dumped: {', '.join(self._failed)}")


def _file_of(database: str) -> str:
    return f"databases/{file_name(database)}.sql"
