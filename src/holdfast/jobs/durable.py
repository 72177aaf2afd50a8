"""The durable engine: workflows of DBOS, one for each start that a task is promised. DBOS is used
here and nowhere else.

A workflow's id is `<task>.<generation>`. Its rows lie in a database of their own beside the catalog
(SQLite), or in a schema of their own in the same database (PostgreSQL). They are never the truth:
what is lost here is made anew from the catalog.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

from dbos import DBOS, DBOSClient, DBOSConfig, DBOSPortableJSONSerializer
from dbos import Queue as DbosQueue
from dbos import _serialization as dbos_serialization
from dbos._error import DBOSException, DBOSInitializationError
from dbos._sys_db import SystemDatabase
from dbos._utils import GlobalParams
from sqlalchemy import create_engine, event
from sqlalchemy.exc import SQLAlchemyError

from holdfast.core.errors import DamagedError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from sqlalchemy import Engine
    from sqlalchemy.engine import URL

    from holdfast.core.records import Json, Task

_APPLICATION = "holdfast"
_VERSION = "1"
"""Of the workflow below. What a worker of another version has begun is begun anew."""
_SCHEMA = "holdfast_tasks"
_QUEUE = "tasks"
_REMOTE_QUEUE = "remote"
"""Of tasks whose bodies only wait for an agent, and which take no slot."""
REMOTE_SLOTS = 100
"""How many of those a worker looks after at once."""
_WORKFLOW = "task"
_BATCH = 500
_IN_QUEUE = ("ENQUEUED", "PENDING")
_OVER = ["SUCCESS", "ERROR", "CANCELLED", "MAX_RECOVERY_ATTEMPTS_EXCEEDED"]
_WAIT = 30.0
"""Seconds that a writer waits for the one before."""

FAILURES = (DBOSException, SQLAlchemyError)
"""What `Workflows` raises where its database does not answer."""
_SLOTS = 4
"""Until somebody says otherwise."""


def beside(catalog: URL) -> URL:
    """Where the workflows of that catalog lie: in a file next to it, or in the same database."""
    if catalog.get_backend_name() != "sqlite":
        return catalog
    file = Path(catalog.database or "")
    return catalog.set(database=str(file.with_name(f"{file.stem}-tasks.sqlite")))


def workflow_id(task_id: int, generation: int) -> str:
    return f"{task_id}.{generation}"


class Work(Protocol):
    """What the worker does for each start that was promised; never called for two at once with the
    same task and generation.
    """

    async def begin(self, task_id: int, generation: int) -> int | None:
        """The token under which the task runs now; None where there is nothing to do."""
        ...

    async def execute(self, task_id: int, token: int) -> Json:
        """Runs the body; how it ended. DBOS keeps what this returns: should the process die before
        `end`, the next one goes on from there. It is cancelled where the promise is taken back,
        and returns or raises once nothing of the body is left.
        """
        ...

    async def end(self, task_id: int, token: int, ended: Json | None) -> None:
        """Writes down how it ended; None where `execute` did not get to say so: it was cancelled,
        or its word was not taken.
        """
        ...


@dataclass(frozen=True, slots=True)
class Promise:
    """What DBOS knows of a start that is promised. `executor`: the node that runs it, if any."""

    task_id: int
    generation: int
    running: bool
    executor: str
    queue: str = _QUEUE


class Workflows:
    """The workflows behind the tasks of a catalog, whose database is at `url`; safe for threads."""

    def __init__(self, url: URL) -> None:
        _refuse_pickle()
        _quieten()
        self.engine = _engine(url)
        _migrate(self.engine)
        self._client = DBOSClient(
            system_database_engine=self.engine,
            dbos_system_schema=_SCHEMA,
            serializer=DBOSPortableJSONSerializer(),
            application_name=_APPLICATION,
            retry_connection_errors=False,
        )

    def close(self) -> None:
        self._client.destroy()
        self.engine.dispose()

    def enqueue(self, tasks: Iterable[Task]) -> None:
        """Promises a start of each task's generation; what is promised already stays as it is."""
        with self.engine.begin() as connection:
            for task in tasks:
                self._client.enqueue_in_transaction(
                    connection,
                    {
                        "workflow_name": _WORKFLOW,
                        "queue_name": _REMOTE_QUEUE if task.remote else _QUEUE,
                        "workflow_id": workflow_id(task.id, task.generation),
                        "priority": task.priority,
                    },
                    task.id,
                    task.generation,
                )

    def cancel(self, tasks: Iterable[Task]) -> None:
        """Takes the promise back; a body that runs for it is stopped within a second or so."""
        self._client.cancel_workflows([workflow_id(task.id, task.generation) for task in tasks])

    def promised(self, tasks: Iterable[Task]) -> list[Promise]:
        """Those of the tasks' generations that are still in the queue or running."""
        ids = [workflow_id(task.id, task.generation) for task in tasks]
        return self._promises(workflow_ids=ids, status=list(_IN_QUEUE)) if ids else []

    def running_on(self, executor: str) -> list[Promise]:
        return self._promises(executor_id=executor, status="PENDING")

    def _promises(self, **filters: Any) -> list[Promise]:
        found = self._client.list_workflows(
            name=_WORKFLOW, load_input=False, load_output=False, **filters
        )
        promises = []
        for workflow in found:
            if workflow.app_version not in {None, _VERSION}:
                continue
            task_id, generation = map(int, workflow.workflow_id.split("."))
            running = workflow.status == "PENDING"
            executor = (workflow.executor_id or "") if running else ""
            queue = workflow.queue_name or _QUEUE
            promises.append(Promise(task_id, generation, running, executor, queue))
        return promises

    def requeue(self, promise: Promise) -> bool:
        """Puts what a dead node was running back into the queue; False where it is not that node's
        any more. Conditional, unlike DBOS's public `resume_workflow`, which would start a second
        body beside a running one and revive what was cancelled.
        """
        name = workflow_id(promise.task_id, promise.generation)
        database = self._client._sys_db  # noqa: SLF001  there is no public call, see above
        return database.reenqueue_for_recovery(name, [promise.executor], promise.queue)

    def forget(self, before: int) -> int:
        """Deletes what ended before that moment (nanoseconds); how many."""
        moment = datetime.fromtimestamp(before / 1e9, UTC).isoformat()
        count = 0
        while True:
            old = self._client.list_workflows(
                completed_before=moment,
                status=_OVER,
                limit=_BATCH,
                load_input=False,
                load_output=False,
            )
            if not old:
                return count
            self._client.delete_workflows([workflow.workflow_id for workflow in old])
            count += len(old)

    def slots(self) -> int:
        """Tasks at once in each worker."""
        return self._queue().worker_concurrency or 0

    def set_slots(self, slots: int) -> None:
        self._queue().set_worker_concurrency(slots)

    def _queue(self) -> DbosQueue:
        return self._client.register_queue(
            _QUEUE, worker_concurrency=_SLOTS, on_conflict="never_update"
        )

    def _remote_queue(self) -> DbosQueue:
        return self._client.register_queue(
            _REMOTE_QUEUE, worker_concurrency=REMOTE_SLOTS, on_conflict="never_update"
        )

    # --- the worker's half ------------------------------------------------------------------------

    def launch(self, work: Work, executor: str, *, slots: int | None, poll: float) -> None:
        """Does `work` for what is promised, from now until `shut_down`: as many at once as there
        are slots, the smallest priority first.

        There can be one in a process. `executor` is another one for each start.
        """
        if slots is not None:
            self.set_slots(slots)
        # Before the launch, which would find a new queue a second later only.
        for queue in (self._queue(), self._remote_queue()):
            queue.set_polling_interval_sec(poll)
        GlobalParams.dbos_cloud = False  # or variables of the environment would overrule the rest
        DBOS(config=configuration(self.engine, executor))
        _register(work)
        DBOS.launch()

    def shut_down(self) -> None:
        """Ends what `launch` began; what is still in `begin` or `execute` is cancelled."""
        DBOS.destroy(destroy_registry=True)


def configuration(engine: Engine, executor: str) -> DBOSConfig:
    """Nothing that needs DBOS's proprietary parts, nothing that reports to anybody."""
    return DBOSConfig(
        name=_APPLICATION,
        application_version=_VERSION,
        executor_id=executor,
        system_database_url=engine.url.render_as_string(hide_password=False),
        system_database_engine=engine,
        dbos_system_schema=_SCHEMA,
        serializer=DBOSPortableJSONSerializer(),
        use_listen_notify=False,
        run_migrations=False,
        enable_otlp=False,
        log_level="WARNING",
        scheduler_polling_interval_sec=3600.0,  # of DBOS's own schedules; there are none
        notification_listener_polling_interval_sec=0.2,  # how long a shut-down waits for its thread
    )


def _register(work: Work) -> None:
    """The workflow: what `work` does, with `execute` as the one step that is remembered."""
    execute = DBOS.step(name="execute", preemptible=True)(_plain(work.execute))

    async def task(task_id: int, generation: int) -> None:
        token = await work.begin(task_id, generation)
        if token is None:
            return
        ended = None
        try:
            ended = await execute(task_id, token)
        finally:
            # Also where DBOS could not or would not remember it: the row is what counts.
            await work.end(task_id, token, ended)

    # Attempts are counted in the catalog, where a take-over does not reset them.
    DBOS.workflow(name=_WORKFLOW, max_recovery_attempts=None)(task)


def _plain(
    method: Callable[[int, int], Awaitable[Json]],
) -> Callable[[int, int], Awaitable[Json]]:
    """DBOS decorates functions only."""

    async def call(task_id: int, token: int) -> Json:
        return await method(task_id, token)

    return call


def _engine(url: URL) -> Engine:
    """As DBOS makes its own, but for the journal. Losing the last moments in a power cut is
    harmless here, so SQLite need not wait for the disk at each commit.
    """
    if url.get_backend_name() != "sqlite":
        return create_engine(url, pool_size=8, max_overflow=8, pool_pre_ping=True)
    engine = create_engine(url, pool_size=8, max_overflow=8, connect_args={"timeout": _WAIT})

    @event.listens_for(engine, "connect")
    def _prepare(connection: Any, _record: Any) -> None:
        connection.isolation_level = "IMMEDIATE"
        for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "foreign_keys=ON"):
            connection.execute(f"PRAGMA {pragma}")

    return engine


def _migrate(engine: Engine) -> None:
    """Brings the database to what this DBOS needs; several processes may do so at once."""
    database = SystemDatabase.create(
        system_database_url=engine.url.render_as_string(hide_password=False),
        engine_kwargs={},
        engine=engine,
        schema=_SCHEMA,
        serializer=DBOSPortableJSONSerializer(),
        executor_id=None,
        use_listen_notify=False,
    )
    try:
        database.verify_migrations()
    except DBOSInitializationError:
        database.run_migrations()


def _refuse_pickle() -> None:
    """Rows name their own format, and merely listing a pickled one would run what is in it."""
    dbos_serialization.DefaultSerializer.deserialize = _refused  # type: ignore[method-assign,assignment]  # on purpose


def _refused(_self: object, _serialized: str) -> NoReturn:
    raise DamagedError("a row of the task engine is in a format that Holdfast does not write")


_SAID_ELSEWHERE = (
    "Exception encountered in asynchronous workflow",
    "was cancelled during execution",
    "outcome was not recorded",
    "is no longer owned by this execution",
    "Asyncio task cancelled",
)
"""DBOS tells with a traceback what is daily life here: a task was paused, killed or taken over."""


def _quieten() -> None:
    """Leaves DBOS's warnings and errors to the process's own logging."""
    logger = logging.getLogger("dbos")
    if not logger.handlers:  # or it would add one that writes to the terminal
        logger.addHandler(logging.NullHandler())
        logger.addFilter(_is_news)
        logger.setLevel(logging.WARNING)


def _is_news(record: logging.LogRecord) -> bool:
    return not any(said in str(record.msg) for said in _SAID_ELSEWHERE)
