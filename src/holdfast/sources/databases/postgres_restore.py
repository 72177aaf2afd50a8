"""PostgreSQL, back: databases into a server, or a base backup into the folder of a new one.

A database is made under a passing name and gets its own only when it is whole. One that is there
is replaced only where that is asked for, and is there as it was until the new one is whole.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
import tarfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from holdfast.core.errors import InvalidError, RestoreError, SourceError
from holdfast.sources.databases.login import broken_off, chosen, name_for, unfinished
from holdfast.sources.databases.postgres_server import (
    PostgresLogin,
    PostgresServer,
    conninfo,
    identifier,
    literal,
)
from holdfast.sources.parameters import described
from holdfast.sources.streams import read_about
from holdfast.sources.tools import feed

if TYPE_CHECKING:
    from holdfast.core.source import Kept

_LISTS = ("DateStyle", "search_path", "temp_tablespaces", "session_preload_libraries",
          "shared_preload_libraries", "local_preload_libraries")  # fmt: skip
"""Settings whose value is a list of names, and must not be quoted as one."""

_MANIFEST = "backup_manifest"
_SHOWN = 5
_UNCHANGED = "Nothing was changed."


@dataclass(frozen=True, slots=True, kw_only=True)
class PostgresDestination(PostgresLogin):
    new_name: str = described("", "Name of the database that is made; its own where empty.")
    database: str = described("", "Which database of the backup; all of them where empty.")
    replace: bool = described(default=False, meaning="Replace databases of that name.")
    globals: bool = described(
        default=False, meaning="Make the roles and tablespaces that are missing, first."
    )
    owners: bool = described(
        default=True, meaning="Set owners and rights, for which the roles must be there.",
    )  # fmt: skip


def put_back(kept: Kept, destination: str, settings: PostgresDestination, module: str) -> str:
    about = read_about(kept, module)
    if about["method"] == "base":
        return _unpack(kept, about, destination)
    new_name = name_for(destination, settings.new_name)
    wanted = chosen(about["databases"], settings.database, new_name)
    return _load(kept, about, wanted, new_name, settings)


def _load(
    kept: Kept,
    about: dict[str, Any],
    wanted: list[dict[str, Any]],
    new_name: str,
    settings: PostgresDestination,
) -> str:
    done: list[str] = []
    try:
        with PostgresServer(settings) as server:
            loading = _Loading(kept, server, settings)
            names = [new_name or each["name"] for each in wanted]
            loading.refuse_taken(names)
            if settings.globals:
                loading.make_globals(about)
            for each, name in zip(wanted, names, strict=True):
                loading.load(each, name)
                done.append(name)
    except (SourceError, RestoreError) as error:
        raise broken_off(error, done) from error
    return f"put back {', '.join(done)}"


class _Loading:
    def __init__(self, kept: Kept, server: PostgresServer, settings: PostgresDestination) -> None:
        self._kept = kept
        self._server = server
        self._settings = settings

    def refuse_taken(self, names: list[str]) -> None:
        there = {row["datname"] for row in self._server.query("SELECT datname FROM pg_database")}
        taken = sorted(there.intersection(names))
        if taken and not self._settings.replace:
            shown = ", ".join(taken)
            raise RestoreError(
                f"there is already a database {shown}; say replace, or another name",
                remedy=_UNCHANGED,
            )

    def make_globals(self, about: dict[str, Any]) -> None:
        """Roles and tablespaces; what is there already stays as it is."""
        if not about["globals"]:
            raise RestoreError("the backup was made without globals", remedy=_UNCHANGED)
        words = [word for word in self._server.psql() if word != "ON_ERROR_STOP=1"]
        words.remove("-v")
        with self._kept.open("globals.sql") as file:
            said = feed(words, self._server.environment, file, what="globals")
        errors = [
            line for line in said.decode("utf-8", "replace").splitlines()
            if "ERROR:" in line and "already exists" not in line
        ]  # fmt: skip
        if errors:
            raise RestoreError(f"globals: {' / '.join(errors)}")

    def load(self, facts: dict[str, Any], name: str) -> None:
        passing = f"holdfast_{secrets.token_hex(6)}"
        drop = partial(self._server.execute, f"DROP DATABASE IF EXISTS {identifier(passing)}")
        with unfinished(passing, drop):
            self._create(facts, passing)
            words = [self._server.tool("pg_restore"), "--exit-on-error", "--no-password"]
            if not self._settings.owners:
                words += ["--no-owner", "--no-privileges"]
            words += ["-d", conninfo(passing)]
            with self._kept.open(facts["file"]) as file:
                feed(words, self._server.environment, file, what=f"database {name}")
            self._put_in_place(facts, passing, name)

    def _create(self, facts: dict[str, Any], name: str) -> None:
        owner = f" OWNER {identifier(facts['owner'])}" if self._settings.owners else ""
        self._server.execute(
            f"CREATE DATABASE {identifier(name)}{owner} TEMPLATE template0"
            f" ENCODING {literal(facts['encoding'])} LC_COLLATE {literal(facts['collate'])}"
            f" LC_CTYPE {literal(facts['ctype'])}{_provider(facts)}"
        )

    def _put_in_place(self, facts: dict[str, Any], passing: str, name: str) -> None:
        """Sets what belongs to the database as such, and gives it its name."""
        for setting in facts["settings"]:
            key, _, value = setting.partition("=")
            shown = value if key in _LISTS else literal(value)
            self._server.execute(f"ALTER DATABASE {identifier(passing)} SET {key} TO {shown}")
        if facts["rights"] is not None and self._settings.owners:
            self._grant(facts["rights"], identifier(passing))
        if facts["connections"] >= 0:
            limit = int(facts["connections"])
            self._server.execute(f"ALTER DATABASE {identifier(passing)} CONNECTION LIMIT {limit}")
        old = f"holdfast_{secrets.token_hex(6)}"
        taken = self._server.query(
            f"SELECT 1 AS there FROM pg_database WHERE datname = {literal(name)}"
        )
        renaming = f"ALTER DATABASE {identifier(passing)} RENAME TO {identifier(name)};"
        if not taken:
            self._server.execute(renaming)
            return
        # One transaction: there is always one of that name.
        self._server.execute(
            f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            f" WHERE datname = {literal(name)} AND pid <> pg_backend_pid();"
            f" BEGIN; ALTER DATABASE {identifier(name)} RENAME TO {identifier(old)};"
            f" {renaming} COMMIT;"
        )
        self._server.execute(f"DROP DATABASE {identifier(old)}")

    def _grant(self, rights: list[dict[str, Any]], database: str) -> None:
        words = [f"REVOKE ALL ON DATABASE {database} FROM PUBLIC;"]
        for each in rights:
            role = "PUBLIC" if each["role"] is None else identifier(each["role"])
            option = " WITH GRANT OPTION" if each["grantable"] else ""
            words.append(f"GRANT {each['right']} ON DATABASE {database} TO {role}{option};")
        self._server.execute(" ".join(words))


def _provider(facts: dict[str, Any]) -> str:
    """Who sorts text, where that is not the C library."""
    if facts["provider"] == "i":
        return f" LOCALE_PROVIDER icu ICU_LOCALE {literal(facts['locale'])}"
    if facts["provider"] == "b":
        return f" LOCALE_PROVIDER builtin BUILTIN_LOCALE {literal(facts['locale'])}"
    return ""


# --- a base backup --------------------------------------------------------------------------------


def _unpack(kept: Kept, about: dict[str, Any], path: str) -> str:
    """Into a folder that is there when all of it is."""
    if not path:
        raise InvalidError(
            "no folder was named", remedy="Nothing was changed. Name the data folder to be made."
        )
    folder = Path(path).absolute()
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise RestoreError(
            f"{folder} is not empty",
            remedy="Nothing was changed. Name an empty folder, or one that is not there.",
        )
    passing = folder.with_name(f".{folder.name}.{secrets.token_hex(6)}.part")
    try:
        passing.mkdir(mode=0o700, parents=True)
        with (
            kept.open(about["file"]) as file,
            tarfile.open(fileobj=file, mode="r|") as archive,
        ):
            archive.extractall(passing, filter="tar")
        passing.chmod(0o700)
        _verify(passing)
        os.sync()
        passing.replace(folder)
    except (OSError, ValueError, KeyError, tarfile.TarError) as error:
        raise RestoreError(
            f"the base backup cannot be unpacked to {folder}: {error}",
            remedy="Nothing is there of it. Mend the cause and run it again.",
        ) from error
    finally:
        shutil.rmtree(passing, ignore_errors=True)
    version = about["server"].split(".")[0]
    return (
        f"unpacked the data folder of a PostgreSQL {version} to {folder}, as its manifest says;"
        " a server started on it recovers to the end of the backup"
    )


def _verify(folder: Path) -> None:
    """Compares all files with the server's manifest.

    Raises:
        RestoreError: one is missing, another, or too much.
    """
    manifest = json.loads((folder / _MANIFEST).read_bytes())
    wrong = []
    listed = set()
    for each in manifest["Files"]:
        name = each["Path"] if "Path" in each else os.fsdecode(bytes.fromhex(each["Encoded-Path"]))
        path = folder / name
        listed.add(path)
        if not path.is_file() or path.stat().st_size != each["Size"]:
            wrong.append(name)
        elif each.get("Checksum-Algorithm") == "SHA256":
            with path.open("rb") as file:
                if hashlib.file_digest(file, "sha256").hexdigest() != each["Checksum"]:
                    wrong.append(name)
    for path in folder.rglob("*"):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and path not in listed and not name.startswith(("pg_wal/", _MANIFEST)):
            wrong.append(name)
    if not manifest["WAL-Ranges"] or not any((folder / "pg_wal").glob("[0-9A-F]" * 24)):
        wrong.append("pg_wal")
    if wrong:
        raise RestoreError(
            f"the base backup is not what its manifest says: {', '.join(wrong[:_SHOWN])}",
            remedy="Nothing is there of it. Run `holdfast check --read-data`.",
        )
