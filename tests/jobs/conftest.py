"""Homes of tasks: a catalog with the engine behind it, on SQLite and on a real PostgreSQL."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

from holdfast.catalog import tables
from holdfast.catalog.database import Catalog
from holdfast.core.records import Plan, Pool, Task
from holdfast.jobs.durable import Workflows, beside
from holdfast.jobs.queue import Queue
from holdfast.jobs.worker import Worker, WorkerOptions

_HERE = Path(__file__).parent
_TEMPLATE = "template_of_tasks"
POLL = 0.05


@pytest.fixture(scope="session", autouse=True)
def _bodies_can_be_imported():
    """By the workers and by the processes of tasks."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(_HERE))
        patch.setenv("PYTHONPATH", str(_HERE))
        yield


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory):
    """A folder with databases that have all their tables."""
    folder = tmp_path_factory.mktemp("template")
    _make_tables(str(folder / "catalog.sqlite"))
    return folder


@pytest.fixture(scope="session")
def postgres(postgresql_server):
    """The server, with a database whose tables are there."""
    url = _administer(postgresql_server, f"CREATE DATABASE {_TEMPLATE}")
    _make_tables(url.set(database=_TEMPLATE).render_as_string(hide_password=False))
    return postgresql_server


def _make_tables(url):
    catalog = Catalog(url)
    tables.metadata.create_all(catalog.engine)
    Workflows(beside(catalog.url)).close()
    catalog.close()


def _administer(server, command):
    engine = create_engine(server.get_uri().replace("postgresql://", "postgresql+psycopg://"))
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text(command))
    engine.dispose()
    return engine.url


def _home(name, request, tmp_path):
    if name == "sqlite":
        for file in request.getfixturevalue("sqlite_template").iterdir():
            shutil.copy(file, tmp_path)
        return str(tmp_path / "catalog.sqlite")
    server = request.getfixturevalue("postgres")
    database = f"test_{time.monotonic_ns()}"
    url = _administer(server, f"CREATE DATABASE {database} TEMPLATE {_TEMPLATE}")
    return url.set(database=database).render_as_string(hide_password=False)


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.long)])
def home(request, tmp_path):
    """On SQLite; on PostgreSQL, too, in the full campaigns."""
    with Home(_home(request.param, request, tmp_path), tmp_path) as made:
        yield made


@pytest.fixture(params=["sqlite", "postgres"])
def either_home(request, tmp_path):
    """For what PostgreSQL has to show in every run."""
    with Home(_home(request.param, request, tmp_path), tmp_path) as made:
        yield made


class Home:
    """A catalog, its queue, and workers of it."""

    def __init__(self, url, folder):
        self.url = url
        self.folder = folder
        self._opened = ExitStack()
        self.catalog = Catalog(url)
        self.queue = Queue(self.catalog)
        self.workflows = Workflows(beside(self.catalog.url))
        self._opened.callback(self.catalog.close)
        self._opened.callback(self.queue.close)
        self._opened.callback(self.workflows.close)
        self.notes = folder / "notes"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._opened.close()

    # --- rows -------------------------------------------------------------------------------------

    def pool(self, name, limit=None):
        options = {} if limit is None else {"task_limit": limit}
        with self.catalog.write() as tx:
            return tx.pools.add(Pool(name=name, locations=["/pool"], options=options)).id

    def plan(self, **values):
        values = {"uid": f"plan-{time.monotonic_ns()}", "name": "plan", "kind": "note"} | values
        with self.catalog.write() as tx:
            return tx.plans.add(Plan(**values))

    def submit(self, kind, *, priority=100, pool_id=None, **spec):
        with self.catalog.write() as tx:
            return self.queue.submit(tx, self.task(tx, kind, priority, pool_id, **spec))

    def task(self, tx, kind, priority=100, pool_id=None, **spec):
        spec.setdefault("file", str(self.notes))
        now = tx.now()
        return Task(kind=kind, priority=priority, pool_id=pool_id, spec=spec, created=now, due=now)

    def get(self, task):
        with self.catalog.read() as tx:
            return tx.tasks.get(task.id)

    def log(self, task):
        with self.catalog.read() as tx:
            return [(line.level, line.text) for line in tx.task_lines.all(task_id=task.id)]

    def run(self, kind, **spec):
        """A task from its beginning to its end."""
        return self.queue.wait(self.submit(kind, **spec).id, 20)

    def noted(self):
        """What bodies wrote: what, task, when."""
        if not self.notes.exists():
            return []
        lines = self.notes.read_text().splitlines()
        return [(" ".join(what), int(id_), float(at)) for *what, id_, at in map(str.split, lines)]

    def until(self, reached, seconds=30.0):
        """Waits for what comes true; how long it took."""
        began = time.monotonic()
        while not reached():
            assert time.monotonic() < began + seconds, "it did not come true"
            time.sleep(0.01)
        return time.monotonic() - began

    def started(self, task):
        return any(what.startswith("start") for what, id_, _ in self.noted() if id_ == task.id)

    # --- workers ----------------------------------------------------------------------------------

    def options(self, name="worker", **options):
        lock = self.folder / f"{name}.lock"
        return {"name": name, "lock": lock, "poll": POLL, "grace": 1.0} | options

    def worker(self, name="worker", **options):
        """One in this process, of which there can be one only."""
        worker = Worker(
            "bodies:compose", {"catalog": self.url}, WorkerOptions(**self.options(name, **options))
        )
        worker.start()
        self._opened.callback(worker.stop, 0)
        return worker

    def process(self, name="worker", *, wait=True, **options):
        """A worker process; takes tasks when this returns."""
        options = self.options(name, **options)
        process = WorkerProcess(self.url, self.folder / f"{name}.log", options)
        self._opened.callback(process.end)
        if wait:
            process.wait_until_ready()
        return process


class WorkerProcess:
    def __init__(self, url, log, options):
        self._log = log.open("ab")
        self.log = log
        self.popen = subprocess.Popen(
            [sys.executable, str(_HERE / "run_worker.py"), url, json.dumps(options, default=str)],
            stdout=subprocess.PIPE,
            stderr=self._log,
        )
        self.began = time.monotonic()

    def wait_until_ready(self):
        assert self.popen.stdout.readline() == b"ready\n", self.log.read_text()

    def kill(self):
        self.popen.kill()
        self.popen.wait()

    def freeze(self):
        os.kill(self.popen.pid, signal.SIGSTOP)

    def thaw(self):
        os.kill(self.popen.pid, signal.SIGCONT)

    def stop(self):
        self.popen.terminate()
        return self.popen.wait(20)

    def end(self):
        if self.popen.poll() is None:
            self.popen.kill()
            self.popen.wait()
        self.popen.stdout.close()
        self._log.close()
