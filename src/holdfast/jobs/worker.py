"""The worker: takes tasks from the queue and runs their bodies. One for each process."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from holdfast.core.records import Json


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerOptions:
    """`name` tells workers apart and is unique among all of a catalog's; `lock` is a file that
    shows on this machine that the worker lives. Times are seconds.
    """

    name: str
    lock: Path
    slots: int = 4
    """tasks at once, until `Queue.set_slots` says otherwise"""
    poll: float = 0.2
    """between two looks for tasks; the latency of a start"""
    beat: float = 1.0
    lease: float = 3.0
    """without a beat for so long, the others take over"""
    grace: float = 5.0
    """between asking a body to stop and killing it"""
    attempts: int = 3
    """a task that was running so many times when its node died has failed"""
    keep_log: float = 90 * 86400.0
    """how long the log of a task that has ended is kept"""
    keep_ended: float = 7 * 86400.0
    """how long the engine remembers what has ended"""


class Worker:
    """Runs tasks from `start` to `stop`.

    Args:
        compose: `package.module:function` of the composition root, see `body.Composition`. The
            worker calls it, and so does each child process.
        settings: plain data for it. Reaches children through a pipe, so secrets may be among it.
    """

    def __init__(self, compose: str, settings: Json, options: WorkerOptions) -> None:
        self.options = options
        self._compose = compose
        self._settings = settings

    def start(self) -> None:
        """Returns once tasks are taken. The process ends with code 75 where this worker is deposed
        later on: it was frozen or cut off for longer than its lease, and others do its work.

        Raises:
            DataFolderBusyError: a worker of that name lives on this machine.
            StateError: a worker of that name lives on another machine.
        """
        raise NotImplementedError

    def stop(self, timeout: float) -> bool:
        """Takes no more tasks, gives those that run so many seconds to end, then interrupts them:
        they go on with another worker or the next start. True where nothing was interrupted.
        """
        raise NotImplementedError
