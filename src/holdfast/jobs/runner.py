"""The work that a node does for each start that is promised: claims the row, runs the body, writes
down how it ended.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Protocol, TypeVar

from holdfast.core.errors import CatalogError, DeposedError
from holdfast.core.records import Task, TaskState, Wanted
from holdfast.jobs import claims
from holdfast.jobs.durable import REMOTE_SLOTS
from holdfast.jobs.reports import Reports
from holdfast.jobs.running import DEPOSED, INTERRUPTED, BodyRun, execute

if TYPE_CHECKING:
    from collections.abc import Callable

    from holdfast.catalog.database import Transaction
    from holdfast.core.records import Json
    from holdfast.jobs.body import Composition
    from holdfast.jobs.children import Child
    from holdfast.jobs.feeding import Feeder

_LOOK_AGAIN = 0.1
"""Seconds between two looks whether the earlier body has stopped."""
_INSIST = 60.0
"""Seconds in which an end is tried to be written down, where the catalog does not answer."""
_AFTER_GRACE = 5.0
"""Seconds for writing down how it ended."""
_BODIES = REMOTE_SLOTS + 200
"""Bodies at once, at most: those that wait for agents, and more than there are slots for others."""
T = TypeVar("T")

_logger = logging.getLogger(__name__)


class Body(Protocol):
    """One body at work."""

    def run(self) -> Json:
        """See `running.execute`; returns once nothing of the body is left."""
        ...

    def stop(self) -> None: ...

    def flush(self) -> None:
        """Hands over what it tells, where that does not come by itself."""
        ...


class Runner:
    """`durable.Work` of the node `holder`, whose bodies are those of the composition.

    `child_of` makes the process for a task, `attempts` is as in `claims.begin`.
    """

    def __init__(
        self,
        composition: Composition,
        feeder: Feeder,
        *,
        holder: str,
        attempts: int,
        child_of: Callable[[Task, Reports], Child],
    ) -> None:
        self._composition = composition
        self._catalog = composition.catalog
        self._feeder = feeder
        self._holder = holder
        self._attempts = attempts
        self._child_of = child_of
        self._runs: dict[tuple[int, int], _Run] = {}
        self._lost: set[tuple[int, int]] = set()
        self._closing = threading.Event()
        # As many as run at once, so that none waits for a thread while another waits for its body.
        self._threads = ThreadPoolExecutor(_BODIES, "body")

    # --- durable.Work -----------------------------------------------------------------------------

    async def begin(self, task_id: int, generation: int) -> int | None:
        while not self._closing.is_set():
            begun = await asyncio.to_thread(self._begin, task_id, generation)
            if isinstance(begun, Task):
                return begun.token
            if begun is not claims.Cannot.WAIT:
                return None
            await asyncio.sleep(_LOOK_AGAIN)
        # Until this process goes; the promise is put back then.
        return await asyncio.get_running_loop().create_future()  # type: ignore[no-any-return]

    async def execute(self, task_id: int, token: int) -> Json:
        run = self._runs[task_id, token]
        return await _in_thread(self._threads, run.run, run.body.stop)

    async def end(self, task_id: int, token: int, ended: Json | None) -> None:
        await asyncio.to_thread(self._end, task_id, token, ended)

    def _begin(self, task_id: int, generation: int) -> Task | claims.Cannot:
        with self._catalog.write() as tx:
            begun = claims.begin(
                tx, task_id, generation, holder=self._holder, attempts=self._attempts
            )
        if isinstance(begun, Task):
            reports = Reports(self._catalog, begun.id, begun.token)
            self._runs[begun.id, begun.token] = _Run(begun, self._body(begun, reports), reports)
        return begun

    def _body(self, task: Task, reports: Reports) -> Body:
        kind = self._composition.kinds.get(task.kind)
        if kind is None or kind.light:  # an unknown kind fails there, too
            return _Light(task, self._composition, reports)
        return self._child_of(task, reports)

    def _end(self, task_id: int, token: int, ended: Json | None) -> None:
        run = self._runs[task_id, token]
        # A body that was cancelled may have come to its end in the grace time.
        ended = ended or run.ended or {"state": INTERRUPTED}
        try:
            _insist(lambda: self._write_end(run.task, ended))
        except DeposedError as error:
            _logger.info("%s", error.message)
        finally:
            del self._runs[task_id, token]
        self._feeder.feed_pool(run.task.pool_id)

    def _write_end(self, task: Task, ended: Json) -> None:
        with self._catalog.write() as tx:
            if ended["state"] in {INTERRUPTED, DEPOSED}:
                self._stopped(tx, task, in_order=True)
            else:
                state = TaskState(ended["state"])
                claims.finish(tx, task.id, task.token, state, ended["outcome"])

    def _stopped(self, tx: Transaction, task: Task, *, in_order: bool) -> None:
        now = claims.stop(tx, task.id, task.token, generation=task.generation, in_order=in_order)
        if now.state is TaskState.QUEUED:
            self._feeder.promise_after(tx, [now])

    # --- for the node -----------------------------------------------------------------------------

    def watch(self) -> None:
        """Once a second: stops what is not wanted any more or not ours any more, and lets go of
        rows that were lost on the way.
        """
        runs = dict(self._runs)  # first: a row is ours before its run is among them
        with self._catalog.read() as tx:
            held = {(task.id, task.token): task for task in claims.held_by(tx, self._holder)}
        for key, run in runs.items():
            if not _is_wanted(held.get(key), run.task.generation):
                run.body.stop()
        lost = {key for key in held if key not in self._runs}
        for key in lost & self._lost:  # twice: not just about to begin or to end
            _logger.error("task %d had lost its body and starts again", key[0])
            with self._catalog.write() as tx:
                self._stopped(tx, held[key], in_order=False)
        self._lost = lost

    def tell(self) -> None:
        """Once a second: writes down what the bodies tell."""
        for run in list(self._runs.values()):
            run.tell()

    def close(self, timeout: float, *, grace: float) -> bool:
        """Begins nothing any more, waits so many seconds for what runs, then stops it; True where
        nothing had to be stopped. What only waits for an agent, which goes on by itself, is not
        waited for.
        """
        self._closing.set()
        for run in list(self._runs.values()):
            if run.task.remote:
                run.body.stop()
        if self._idle_within(timeout):
            self._threads.shutdown(wait=False)
            return True
        for run in list(self._runs.values()):
            run.body.stop()
        self._idle_within(grace + _AFTER_GRACE)
        self._threads.shutdown(wait=False)
        return False

    def _idle_within(self, seconds: float) -> bool:
        until = time.monotonic() + seconds
        while self._runs and time.monotonic() < until:
            time.sleep(0.02)
        return not self._runs


class _Run:
    """A task and its body, from beginning to end."""

    def __init__(self, task: Task, body: Body, reports: Reports) -> None:
        self.task = task
        self.body = body
        self.ended: Json | None = None
        self._reports = reports

    def run(self) -> Json:
        self.ended = self.body.run()
        self._reports.tick()
        return self.ended

    def tell(self) -> None:
        self.body.flush()
        self._reports.tick()


class _Light:
    """A body in a thread of this process."""

    def __init__(self, task: Task, composition: Composition, reports: Reports) -> None:
        self._composition = composition
        self._run = BodyRun(task, composition.catalog, reports.hear)

    def run(self) -> Json:
        return execute(self._composition, self._run)

    def stop(self) -> None:
        self._run.ask_to_stop()

    def flush(self) -> None:
        self._run.flush()


def _is_wanted(task: Task | None, generation: int) -> bool:
    return task is not None and task.wanted is Wanted.RUN and task.generation == generation


async def _in_thread(
    threads: ThreadPoolExecutor, call: Callable[[], T], stop: Callable[[], None]
) -> T:
    """What `call` returns in a thread. Being cancelled stops it, but waits until it has returned,
    however often.
    """
    future = asyncio.get_running_loop().run_in_executor(threads, call)
    cancelled = False
    while not future.done():
        try:
            await asyncio.shield(future)
        except asyncio.CancelledError:
            cancelled = True
            stop()
    if cancelled:
        raise asyncio.CancelledError
    return future.result()


def _insist(act: Callable[[], None]) -> None:
    """Tries for a while to do what needs the catalog."""
    until = time.monotonic() + _INSIST
    while True:
        try:
            return act()
        except CatalogError as error:
            if time.monotonic() > until:
                raise
            _logger.warning("%s; trying again", error.message)
            time.sleep(1)
