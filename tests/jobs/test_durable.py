"""The durable engine: what it may not do."""

from __future__ import annotations

import base64
import logging
import pickle
import re
import subprocess
import sys
import threading
from importlib.util import find_spec
from pathlib import Path

import pytest
from dbos import DBOSClient
from sqlalchemy import text

from holdfast import jobs
from holdfast.core.records import TaskState
from holdfast.jobs.durable import Workflows, beside, configuration


class _Payload:
    def __init__(self, file):
        self.file = file

    def __reduce__(self):
        return (open, (self.file, "w"))


def _plant(home, file):
    """Rows whose input, output and error are pickles that make a file when they are read."""
    pickled = base64.b64encode(pickle.dumps(_Payload(str(file)))).decode()
    tasks = [home.submit("light-note") for _ in range(3)]
    schema = "" if home.catalog.embedded else "holdfast_tasks."
    with home.workflows.engine.begin() as connection:
        connection.execute(text(f"UPDATE {schema}workflow_status SET serialization = 'py_pickle'"))
        connection.execute(text(f"UPDATE {schema}workflow_input SET inputs = :x"), {"x": pickled})
        for task, column in zip(tasks, ("output", "error"), strict=False):
            connection.execute(
                text(
                    f"INSERT INTO {schema}workflow_output (workflow_uuid, {column}) VALUES (:t, :x)"
                ),
                {"t": f"{task.id}.1", "x": pickled},
            )
    return tasks


def test_planted_pickle_is_not_opened(home, caplog):
    """Whoever can write the engine's database cannot run code with it: not by what a client lists,
    and not by what a worker takes. The task gets a sound promise, and runs.
    """
    file = home.folder / "opened"
    tasks = _plant(home, file)
    found = home.workflows._client.list_workflows(load_input=True, load_output=True)
    assert len(found) == 3
    assert "does not write" in caplog.text
    with home.catalog.write() as tx:
        for task in tasks:
            tx.tasks.change(task.id, created=task.created - 60 * 10**9)
    home.worker()
    for task in tasks:
        assert home.queue.wait(task.id, 10).state is TaskState.SUCCEEDED
    assert not file.exists()


def test_the_planted_pickle_would_be_opened_without_the_guard(home):
    """Or the test before shows nothing."""
    file = home.folder / "opened"
    _plant(home, file)
    code = f"""
import sqlalchemy
from dbos import DBOSClient
client = DBOSClient(system_database_url={home.workflows.engine.url.render_as_string(False)!r},
                    dbos_system_schema="holdfast_tasks")
client.list_workflows()
"""
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
    assert file.exists()


def test_json_is_written(home):
    """Everywhere."""
    home.submit("light-note")
    schema = "" if home.catalog.embedded else "holdfast_tasks."
    with home.workflows.engine.begin() as connection:
        rows = connection.execute(
            text(f"SELECT DISTINCT serialization FROM {schema}workflow_status")
        )
        assert [row[0] for row in rows] == ["portable_json"]


_PROPRIETARY = re.compile("conductor|sharding|auto_upgrade|transact_enterprise|otlp_")


def test_nothing_proprietary_is_set(home):
    """Neither in the configuration nor elsewhere around DBOS; the package is not even there."""
    config = configuration(home.workflows.engine, "node#1")
    assert not [key for key in config if _PROPRIETARY.search(key)]
    assert config["enable_otlp"] is False
    assert config["application_version"]
    assert config["executor_id"] == "node#1"
    for file in Path(jobs.__file__).parent.rglob("*.py"):
        assert not _PROPRIETARY.search(file.read_text()), file
    assert find_spec("dbos_enterprise") is None


def test_environment_overrules_nothing(home, monkeypatch):
    """Variables that DBOS's own cloud sets."""
    for name in ("DBOS__CLOUD", "DBOS__VMID", "DBOS__APPVERSION"):
        monkeypatch.setenv(name, "true")
    process = home.process()
    done = home.run("light-note")
    assert done.state is TaskState.SUCCEEDED
    schema = "" if home.catalog.embedded else "holdfast_tasks."
    with home.workflows.engine.begin() as connection:
        query = f"SELECT executor_id, application_version FROM {schema}workflow_status"
        assert connection.execute(text(query)).all() == [("worker#1", "1")]
    assert process.stop() == 0


def _sockets(pid):
    """The Internet sockets of a process."""
    numbers = set()
    for link in Path(f"/proc/{pid}/fd").iterdir():
        found = re.fullmatch(r"socket:\[(\d+)\]", str(link.readlink()))
        if found:
            numbers.add(found[1])
    lines = [
        line.split()
        for table in ("tcp", "tcp6", "udp", "udp6")
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]
    ]
    return [line for line in lines if line[9] in numbers]


def test_worker_has_no_port_and_calls_nobody(either_home):
    """It talks to its database, and that is all (here a file or a local socket)."""
    home = either_home
    process = home.process()
    assert home.run("light-note").state is TaskState.SUCCEEDED
    assert _sockets(process.popen.pid) == []
    assert process.stop() == 0


def test_worker_says_little(home):
    """A task that runs, one that is killed and an end in peace are no news of the engine's."""
    process = home.process(grace=0.2)
    home.run("light-note")
    task = home.submit("polite")
    home.until(lambda: home.started(task))
    home.queue.kill(task.id)
    home.queue.wait(task.id, 5)
    assert process.stop() == 0
    assert "dbos" not in process.log.read_text()


def test_engine_lies_beside_the_catalog(tmp_path):
    """In a file of its own, or in a schema of the same database."""
    from sqlalchemy import make_url

    assert beside(make_url("sqlite:////srv/h/catalog.sqlite")).database == (
        "/srv/h/catalog-tasks.sqlite"
    )
    same = make_url("postgresql+psycopg://u:p@h/db")
    assert beside(same) == same


def test_lost_engine_is_made_anew(home):
    """Opening makes its tables, and what waited is promised again."""
    if not home.catalog.embedded:
        pytest.skip("a file can be deleted, a schema is part of the database")
    task = home.submit("light-note")
    home.workflows.close()
    home.queue.close()
    for file in home.folder.glob("catalog-tasks.sqlite*"):
        file.unlink()
    again = Workflows(beside(home.catalog.url))
    assert again.promised([task]) == []
    again.close()
    with home.catalog.write() as tx:
        tx.tasks.change(task.id, created=task.created - 60 * 10**9)
    home.worker()
    home.until(lambda: home.get(task).state is TaskState.SUCCEEDED)


def test_many_that_open_at_once_make_the_tables_once(either_home):
    """Web processes and workers may start together, on an empty database."""
    home = either_home
    home.queue.close()
    if home.catalog.embedded:
        for file in home.folder.glob("catalog-tasks.sqlite*"):
            file.unlink()
    else:
        with home.workflows.engine.begin() as connection:
            connection.execute(text("DROP SCHEMA holdfast_tasks CASCADE"))
    together, opened = threading.Barrier(4), []

    def start():
        together.wait()
        opened.append(Workflows(beside(home.catalog.url)))

    threads = [threading.Thread(target=start) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(opened) == 4
    for workflows in opened:
        assert workflows.slots() == 4
        workflows.close()


def test_client_class_is_the_published_one():
    """The guard replaces a method of one class, which both halves use."""
    assert DBOSClient.__init__.__kwdefaults__["serializer"].deserialize.__name__ == "_refused"
    assert logging.getLogger("dbos").level == logging.WARNING
