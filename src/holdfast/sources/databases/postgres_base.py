"""A base backup of a PostgreSQL server, as one stream that rests on no disk.

pg_basebackup writes a tar with all WAL that the backup needs to be consistent. That the server
still has that WAL at the end is made sure of by a replication slot, which belongs to a session of
ours and goes with it, however we end.
"""

from __future__ import annotations

import secrets
import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from holdfast.core.errors import SourceError
from holdfast.sources.streams import StreamFile, StreamTree, about_file
from holdfast.sources.tools import Dump

if TYPE_CHECKING:
    from collections.abc import Iterator

    from holdfast.core.entries import Entry
    from holdfast.core.source import Source
    from holdfast.sources.databases.postgres_server import PostgresServer

BASE = "base.tar"
_TAR_END = b"\0" * 1024
_GRACE = 5.0
_OLDEST = 13
"""Servers from here on list what a base backup must hold."""


@contextmanager
def base_backup(server: PostgresServer, root: str, module: str, now: int) -> Iterator[Source]:
    """Raises SourceError where the server cannot be backed up so."""
    version = server.version()
    if int(version.partition(".")[0]) < _OLDEST:
        raise SourceError(
            f"the server is a PostgreSQL {version}, whose base backups have no manifest",
            remedy="Nothing was done. Back its databases up by method=dump.",
        )
    _refuse_tablespaces(server)
    about = {"module": module, "method": "base", "server": version, "file": BASE}

    def begin(entry: Entry) -> Dump:
        words = ["--pgdata=-", "--format=tar", "--wal-method=fetch", "--checkpoint=fast"]
        words += ["--manifest-checksums=SHA256"]  # for `postgres_restore`
        held = _HeldWal(server)
        try:
            return Dump(
                entry,
                [server.tool("pg_basebackup"), *words, "--no-password", "--label=holdfast"],
                server.environment,
                what="the server", ends=_TAR_END, closing=held.release,
            )  # fmt: skip
        except BaseException:
            held.release()
            raise

    yield StreamTree(root, [about_file(about), StreamFile(BASE, begin)], now=now)


def _refuse_tablespaces(server: PostgresServer) -> None:
    rows = server.query(
        "SELECT spcname FROM pg_tablespace WHERE spcname NOT IN ('pg_default', 'pg_global')"
        " ORDER BY 1"
    )
    if rows:
        names = ", ".join(row["spcname"] for row in rows)
        raise SourceError(
            f"the server keeps databases in tablespaces of their own ({names}), which a base backup"
            " in one stream cannot hold",
            remedy="Nothing was done. Back the databases up by method=dump.",
        )


class _HeldWal:
    """A session with a temporary slot: until it ends, the server removes no WAL."""

    def __init__(self, server: PostgresServer) -> None:
        """Raises SourceError: the server makes no slot."""
        name = f"holdfast_{secrets.token_hex(6)}"
        self._process: subprocess.Popen[Any] = subprocess.Popen(
            server.psql(), env=server.environment, stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        asked = f"SELECT slot_name FROM pg_create_physical_replication_slot('{name}', true, true);"
        try:
            self._process.stdin.write(asked.encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # it says why on its way out
        if self._process.stdout.readline().strip() != name.encode():
            self._process.stdin.close()
            said = self._process.stderr.read(2000).decode("utf-8", "replace").strip()
            self.release()
            raise SourceError(
                f"the server keeps no WAL for a base backup: {said}",
                remedy="No backup was made. The role needs REPLICATION or must be a superuser, and"
                " max_replication_slots must leave one.",
            )

    def release(self) -> None:
        process = self._process
        process.terminate()
        try:
            process.wait(_GRACE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        for pipe in (process.stdin, process.stdout, process.stderr):
            assert pipe is not None
            try:
                pipe.close()
            except BrokenPipeError:
                pass
