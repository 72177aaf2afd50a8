"""The worker: takes tasks from the queue and runs their bodies. One for each process."""

from __future__ import annotations

import fcntl
import logging
import os
import threading
import time
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from holdfast.core.errors import CatalogError, DataFolderBusyError, DeposedError, StateError
from holdfast.jobs import claims, leases, nodes
from holdfast.jobs.children import Child, Terms
from holdfast.jobs.collect import collect
from holdfast.jobs.queue import Queue
from holdfast.jobs.runner import Runner
from holdfast.jobs.running import compose
from holdfast.jobs.sweep import first_due, sweep

if TYPE_CHECKING:
    from collections.abc import Callable

    from holdfast.core.records import Json, Node, Task
    from holdfast.jobs.reports import Reports

_LEADER = "tasks"
"""The lease of the one node that sweeps plans and looks after what was not promised."""
_COLLECT = 3600.0
_TIDY = 60.0
_TELL = 1.0
_NS = 1_000_000_000

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerOptions:
    """`name` tells workers apart and is unique among all of a catalog's; `lock` is a file that
    shows on this machine that the worker lives. Times are seconds.
    """

    name: str
    lock: Path
    slots: int | None = None
    """tasks at once; None: as `Queue.set_slots` said last, 4 at first. Holds for all workers."""
    poll: float = 0.2
    """between two looks for tasks; the latency of a start"""
    beat: float = 1.0
    lease: float = 3.0
    """without a beat for so long, the others take over"""
    silence: float = 6.0
    """without a sign of its worker for so long, the process of a task ends itself"""
    grace: float = 5.0
    """between asking a body to stop and killing it"""
    attempts: int = 5
    """a task that was running so many times when its node died has failed"""
    keep_log: float = 90 * 86400.0
    """how long the log of a task that has ended is kept"""
    keep_ended: float = 7 * 86400.0
    """how long the engine remembers what has ended"""


class Worker:
    """Runs tasks from `start` to `stop`; made and used once.

    Args:
        compose_name: `package.module:function` of the composition root, see `body.Composition`.
            The worker calls it, and so does each child process.
        settings: plain data for it. Reaches children through a pipe, so secrets may be among it.
    """

    def __init__(self, compose_name: str, settings: Json, options: WorkerOptions) -> None:
        self.options = options
        self._compose_name = compose_name
        self._settings = settings
        self._ending = threading.Event()
        self._threads: list[threading.Thread] = []
        self._open = ExitStack()
        self._leads = False
        self._collected = float("-inf")
        self._tidied = float("-inf")

    def start(self) -> None:
        """Returns once tasks are taken. The process ends with code 75 where this worker is deposed
        later on: it was frozen or cut off for longer than its lease, and others do its work.

        Raises:
            DataFolderBusyError: a worker of that name lives on this machine.
            StateError: a worker of that name lives on another machine.
            CatalogError
        """
        with ExitStack() as opened:
            self._lock = opened.enter_context(closing(_Lock(self.options.lock)))
            self._composition = compose(self._compose_name, self._settings)
            self._catalog = opened.enter_context(closing(self._composition.catalog))
            self._queue = opened.enter_context(closing(Queue(self._catalog)))
            self._workflows = self._queue.workflows
            self._watch = nodes.Watch(self.options.lease)
            self._node = self._join()
            self._runner = Runner(
                self._composition,
                self._queue.feeder,
                holder=self._node.incarnation,
                attempts=self.options.attempts,
                child_of=self._child_of,
            )
            self._reap()
            self._workflows.launch(
                self._runner,
                self._node.incarnation,
                slots=self.options.slots,
                poll=self.options.poll,
            )
            self._open = opened.pop_all()
        # Each in a thread of its own: none waits for what holds another up.
        beat = self.options.beat
        self._every(self._beat, lambda: beat, name="beat")
        self._every(self._runner.watch, lambda: beat, name="watch")
        self._every(self._runner.tell, lambda: _TELL, name="tell")
        self._every(self._reap, lambda: beat / 2, name="reap")
        self._every(self._chores, self._until_chores, name="chores")

    @property
    def incarnation(self) -> str:
        """This start of it, by which it holds leases."""
        return self._node.incarnation

    def stop(self, timeout: float) -> bool:
        """Takes no more tasks, gives those that run so many seconds to end, then interrupts them:
        they go on with another worker or the next start. True where nothing was interrupted.
        Nothing happens where it has not started, or has stopped.
        """
        if not self._threads or self._ending.is_set():
            return True
        in_peace = self._runner.close(timeout, grace=self.options.grace)
        self._ending.set()
        for thread in self._threads:
            thread.join()
        self._workflows.shut_down()
        self._leave()
        self._open.close()
        return in_peace

    def _child_of(self, task: Task, reports: Reports) -> Child:
        order: Json = {
            "compose": self._compose_name,
            "settings": self._settings,
            "task": task.id,
            "token": task.token,
        }
        return Child(
            Terms(
                order=order,
                silence=self.options.silence,
                grace=self.options.grace,
                hear=reports.hear,
            )
        )

    # --- the node ---------------------------------------------------------------------------------

    def _join(self) -> Node:
        """Where a node of that name was alive elsewhere, waits until it is seen to live or to be
        dead: this machine may have been started anew.
        """
        until = time.monotonic() + self.options.lease + 2 * self.options.beat
        while True:
            try:
                with self._catalog.write() as tx:
                    return nodes.join(
                        tx,
                        self.options.name,
                        place=self._lock.place,
                        facts={"process": os.getpid()},
                    )
            except StateError:
                if time.monotonic() > until:
                    raise
                self._reap_as(f"{self.options.name}#0")
                time.sleep(self.options.beat / 2)

    def _beat(self) -> None:
        with self._catalog.write() as tx:
            alive = nodes.beat(tx, self._node)
        if not alive:
            _give_up(self._node)

    def _leave(self) -> None:
        """What is promised to this node and has not begun is for the others, at once."""
        for promise in self._workflows.running_on(self._node.incarnation):
            self._workflows.requeue(promise)
        with self._catalog.write() as tx:
            leases.release(tx, _LEADER, self._node.incarnation)
            nodes.bury(tx, self._node)

    # --- chores -----------------------------------------------------------------------------------

    def _chores(self) -> None:
        with self._catalog.write() as tx:
            self._leads = leases.hold(tx, _LEADER, self._node.incarnation)
        if self._leads:
            make_task = self._composition.make_task
            if make_task is not None and self._sweeps:
                sweep(self._queue, make_task)
            self._free_the_lost()
            self._queue.feeder.feed()
            self._collect()
            self._tidy()

    @property
    def _sweeps(self) -> bool:
        """Whether plans make tasks, at present."""
        composition = self._composition
        return composition.make_task is not None and not composition.is_resting(self._catalog)

    def _until_chores(self) -> float:
        """Seconds until there may be something to do."""
        if not self._leads or not self._sweeps:
            return self.options.beat
        with self._catalog.read() as tx:
            due = first_due(tx)
            left = self.options.beat if due is None else (due - tx.now()) / _NS
        return min(self.options.beat, max(0.05, left))

    def _free_the_lost(self) -> None:
        """A node that was given up may have begun something before it noticed."""
        with self._catalog.read() as tx:
            held = claims.all_held(tx)  # first: a node joins before it holds anything
            known = set(nodes.incarnations(tx))
        lost = [task for task in held if task.holder not in known]
        if lost:
            with self._catalog.write() as tx:
                for task in lost:
                    claims.depose(tx, task.id, task.holder)

    def _reap(self) -> None:
        self._reap_as(self._node.incarnation)

    def _reap_as(self, reaper: str) -> None:
        """Takes over what dead nodes left."""
        with self._catalog.read() as tx:
            silent = self._watch.silent(tx)
        for node in silent:
            with self._catalog.write() as tx:
                mine = node.incarnation != reaper and nodes.claim(tx, node, reaper)
            if mine:
                _logger.warning("node %s is dead; its tasks go on elsewhere", node.incarnation)
                self._take_over(node)

    def _take_over(self, dead: Node) -> None:
        with self._catalog.write() as tx:
            for task in claims.held_by(tx, dead.incarnation):
                claims.depose(tx, task.id, dead.incarnation)
        for promise in self._workflows.running_on(dead.incarnation):
            self._workflows.requeue(promise)
        with self._catalog.write() as tx:
            nodes.bury(tx, dead)

    def _collect(self) -> None:
        now = time.monotonic()
        if now < self._collected + _COLLECT:
            return
        self._collected = now
        collect(
            self._catalog,
            self._workflows,
            keep_ended=self.options.keep_ended,
            keep_log=self.options.keep_log,
        )

    def _tidy(self) -> None:
        now = time.monotonic()
        if now >= self._tidied + _TIDY:
            self._tidied = now
            self._composition.tidy(self._catalog)

    # --- threads ----------------------------------------------------------------------------------

    def _every(self, act: Callable[[], None], pause: Callable[[], float], *, name: str) -> None:
        def loop() -> None:
            seconds = 0.0
            while not self._ending.wait(seconds):
                try:
                    act()
                    seconds = pause()
                except CatalogError as error:
                    _logger.warning("%s has to wait: %s", name, error.message)
                    seconds = self.options.beat
                except Exception:  # the boundary of this thread, which must go on
                    _logger.exception("%s failed, and is tried again", name)
                    seconds = self.options.beat

        thread = threading.Thread(target=loop, name=f"holdfast-{name}", daemon=True)
        thread.start()
        self._threads.append(thread)


def _give_up(node: Node) -> NoReturn:
    """At once: the lifelines end with this process, and so do the bodies."""
    _logger.critical("%s was given up by the others, and ends; they do its work", node.incarnation)
    logging.shutdown()
    os._exit(DeposedError.exit_code)


class _Lock:
    """An exclusive lock on a file, held until it is closed or this process ends.

    Raises:
        DataFolderBusyError: another process holds it.
    """

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._descriptor)
            raise DataFolderBusyError(f"another worker holds {path}") from None

    @property
    def place(self) -> str:
        """Names this very lock: no other process holds it while we do."""
        status = os.fstat(self._descriptor)
        return f"{_boot()}:{status.st_dev}:{status.st_ino}"

    def close(self) -> None:
        os.close(self._descriptor)


def _boot() -> str:
    """Tells this start of this machine from all others."""
    return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
