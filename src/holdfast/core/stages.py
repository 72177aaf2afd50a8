"""Where a task stands, in the ten words of a queue whose work is done elsewhere."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Final

from holdfast.core.records import TaskState, Wanted

if TYPE_CHECKING:
    from holdfast.core.records import Task


class Stage(StrEnum):
    """What a body that waits for an agent writes into `Task.stage`."""

    NONE = ""
    ASSIGNED = "assigned"
    EXECUTION = "execution"
    TRANSMISSION = "transmission"
    SUSPENDED = "suspended"


class Status(StrEnum):
    NEW = "New"
    ASSIGNED = "Assigned"
    EXECUTION = "Execution"
    TRANSMISSION = "Transmission"
    PAUSED = "Paused"
    SUSPENDED = "Suspended"
    DONE = "Done"
    ERROR = "Error"
    BROKEN = "Broken"
    KILLED = "Killed"


BROKEN_CODES: Final = ("worker-died", "agent-lost")
"""Codes of outcomes that nobody decided: what did the work died of it."""
RUNNING: Final = {
    Stage.NONE: Status.EXECUTION,
    Stage.ASSIGNED: Status.ASSIGNED,
    Stage.EXECUTION: Status.EXECUTION,
    Stage.TRANSMISSION: Status.TRANSMISSION,
    Stage.SUSPENDED: Status.SUSPENDED,
}


def status_of(task: Task, *, away: bool = False) -> Status:
    """`away`: the task's agent is offline. `catalog.stages` says the same in SQL."""
    if task.wanted is Wanted.PAUSED and not task.state.ended:
        return Status.PAUSED
    match task.state:
        case TaskState.QUEUED:
            return Status.SUSPENDED if away else Status.NEW
        case TaskState.RUNNING:
            return RUNNING[Stage(task.stage)]
        case TaskState.PAUSED:
            return Status.PAUSED
        case TaskState.CANCELLED:
            return Status.KILLED
        case TaskState.FAILED:
            broken = task.outcome.get("code") in BROKEN_CODES
            return Status.BROKEN if broken else Status.ERROR
        case _:
            return Status.DONE
