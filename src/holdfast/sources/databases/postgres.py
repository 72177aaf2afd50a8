"""PostgreSQL: dumps of databases, and base backups of whole servers.

<server>[/<database>]/about.json           what is here
<server>[/<database>]/globals.sql          roles and tablespaces
<server>[/<database>]/databases/NAME.dump  one for each database, as pg_restore takes it
<server>/about.json, <server>/base.tar     or a base backup with its WAL, as tar takes it

Dumps are not compressed: the repository does that, after it has found what it has already.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from holdfast.core.errors import InvalidError, SourceError
from holdfast.sources.databases.login import place_of
from holdfast.sources.databases.postgres_base import base_backup
from holdfast.sources.databases.postgres_restore import PostgresDestination, put_back
from holdfast.sources.databases.postgres_server import (
    PORT,
    PostgresLogin,
    PostgresServer,
    is_there,
)
from holdfast.sources.modules import Resource
from holdfast.sources.parameters import described, parameters_of, read_settings
from holdfast.sources.streams import StreamFile, StreamTree, about_file, file_name
from holdfast.sources.tools import Dump, NamedDump

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from holdfast.core.entries import Entry
    from holdfast.core.source import Kept, Source
    from holdfast.sources.modules import Asked

NAME = "postgres"
_SERVER = "PostgreSQL "
"""How the resource that is the whole server begins; its version follows."""
_DUMP_BEGINS = b"PGDMP"
_GLOBALS_END = b"-- PostgreSQL database cluster dump complete"


@dataclass(frozen=True, slots=True, kw_only=True)
class PostgresSettings(PostgresLogin):
    method: str = described(
        "dump",
        "dump: each database by pg_dump; base: the whole server by pg_basebackup, with its WAL.",
        choices=("dump", "base"),
    )
    globals: bool = described(
        default=True, meaning="Dump roles and tablespaces, too, beside the databases."
    )
    role_passwords: bool = described(
        default=True, meaning="With the passwords of roles, which only a superuser can read."
    )


class PostgresModule:
    """See `modules.Module`. A resource is a database, or `PostgreSQL` with any version, or nothing:
    the whole server.
    """

    name = NAME
    parameters = parameters_of(PostgresSettings)
    putting_back = parameters_of(PostgresDestination)

    def available(self) -> bool:
        return is_there("psql")

    def check(self, asked: Asked) -> None:
        _read(asked)

    def resources(self, asked: Asked) -> Sequence[Resource]:
        with PostgresServer(read_settings(PostgresSettings, asked.parameters)) as server:
            whole = Resource(name=f"{_SERVER}{server.version()}", kind="server")
            sizes = server.query(
                "SELECT datname, pg_database_size(oid) AS size FROM pg_database"
                " WHERE datallowconn AND NOT datistemplate"
                " AND has_database_privilege(oid, 'CONNECT')"
                ' ORDER BY datname COLLATE "C"'
            )
            databases = (
                Resource(name=row["datname"], kind="database", size=row["size"]) for row in sizes
            )
            return [whole, *databases]

    @contextmanager
    def open(self, asked: Asked) -> Iterator[Source]:
        settings, only = _read(asked)
        with PostgresServer(settings) as server:
            place = place_of(settings, PORT)
            now = asked.clock.now()
            if settings.method == "base":
                with base_backup(server, f"postgresql-base/{place}", self.name, now) as source:
                    yield source
            else:
                yield _Dumping(server, settings, only).source(place, now)

    def put_back(self, asked: Asked, kept: Kept) -> str:
        settings = read_settings(PostgresDestination, asked.parameters)
        whole = asked.resource.startswith(_SERVER)
        return put_back(kept, "" if whole else asked.resource, settings, self.name)


def _read(asked: Asked) -> tuple[PostgresSettings, str]:
    """The settings and the one database that is meant, "" for all. Raises InvalidError."""
    settings = read_settings(PostgresSettings, asked.parameters)
    whole = not asked.resource or asked.resource.startswith(_SERVER)
    if settings.method == "base" and not whole:
        raise InvalidError(
            f"a base backup is one of the whole server, not of {asked.resource!r}",
            fields={"method": ("whole", "Only for a whole server.")},
            remedy="Nothing was done. Name no database, or choose method=dump.",
        )
    return settings, "" if whole else asked.resource


class _Dumping:
    """One backup by pg_dump; of one database, or of all where `only` is empty."""

    def __init__(self, server: PostgresServer, settings: PostgresSettings, only: str) -> None:
        self._server = server
        self._settings = settings
        self._only = only
        self._failed: list[str] = []
        self._facts = _facts_of_databases(server)
        if only:
            if only not in self._facts:
                raise SourceError(
                    f"the server has no database {only!r} that can be connected to",
                    remedy="Nothing was done. Look how the name is written.",
                )
            self._facts = {only: self._facts[only]}

    def source(self, place: str, now: int) -> StreamTree:
        about = {
            "module": NAME,
            "method": "dump",
            "server": self._server.version(),
            "globals": self._settings.globals,
            "databases": [
                {"name": name, "file": _file_of(name), **facts}
                for name, facts in self._facts.items()
            ],
        }
        files = [about_file(about)]
        if self._settings.globals:
            files.append(StreamFile("globals.sql", self._globals))
        files += [
            StreamFile(_file_of(name), self._database(name), required=bool(self._only))
            for name in self._facts
        ]
        root = "/".join(["postgresql", place, *([file_name(self._only)] if self._only else [])])
        return StreamTree(root, files, now=now, ended=self._refuse_nothing)

    def _database(self, name: str) -> Any:
        words = ["--format=custom", "--compress=0", "--no-password"]

        def begin(entry: Entry) -> NamedDump:
            # The name goes as a variable, which libpq never reads as something else.
            return NamedDump(
                self._failed, name, entry,
                [self._server.tool("pg_dump"), *words],
                self._server.environment | {"PGDATABASE": name},
                what=f"database {name}", begins=_DUMP_BEGINS,
            )  # fmt: skip

        return begin

    def _globals(self, entry: Entry) -> Dump:
        words = [self._server.tool("pg_dumpall"), "--globals-only", "--no-password"]
        words.append(f"--database={self._settings.maintenance}")
        if not self._settings.role_passwords:
            words.append("--no-role-passwords")
        return Dump(
            entry, words, self._server.environment,
            what="what is outside of databases (globals, role_passwords)", ends=_GLOBALS_END,
        )  # fmt: skip

    def _refuse_nothing(self) -> None:
        if self._failed and len(self._failed) == len(self._facts):
            raise SourceError(f"not one database could be dumped: {', '.join(self._failed)}")


def _file_of(database: str) -> str:
    return f"databases/{file_name(database)}.dump"


def _facts_of_databases(server: PostgresServer) -> dict[str, dict[str, Any]]:
    """What a database is besides its content, by name; what pg_dump keeps only for `--create`."""
    rows = server.query(
        "SELECT d.datname AS name, pg_get_userbyid(d.datdba) AS owner,"
        " pg_encoding_to_char(d.encoding) AS encoding, d.datcollate AS collate,"
        " d.datctype AS ctype, d.datconnlimit AS connections,"
        " to_jsonb(d) ->> 'datlocprovider' AS provider,"  # columns that not every release has
        " coalesce(to_jsonb(d) ->> 'datlocale', to_jsonb(d) ->> 'daticulocale') AS locale,"
        " (SELECT json_agg(json_build_object('right', a.privilege_type, 'grantable',"
        "   a.is_grantable, 'role', CASE a.grantee WHEN 0 THEN NULL ELSE"
        "   pg_get_userbyid(a.grantee) END)) FROM aclexplode(d.datacl) AS a) AS rights,"
        " (SELECT coalesce(json_agg(c.setting ORDER BY c.setting), '[]') FROM"
        "   (SELECT unnest(s.setconfig) AS setting FROM pg_db_role_setting AS s"
        "    WHERE s.setdatabase = d.oid AND s.setrole = 0) AS c) AS settings"
        " FROM pg_database AS d WHERE d.datallowconn AND NOT d.datistemplate"
        ' ORDER BY d.datname COLLATE "C"'
    )
    return {row.pop("name"): row for row in rows}
