"""How errors end a task: as a state, and as the sentences that people read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from holdfast.core.errors import HoldfastError, PartialError
from holdfast.core.outcome import Outcome
from holdfast.core.records import Json, TaskState

if TYPE_CHECKING:
    from holdfast.jobs.body import Ended

_STATES = {Outcome.SUCCEEDED: TaskState.SUCCEEDED, Outcome.PARTIAL: TaskState.PARTIAL}


def of_ended(ended: Ended | None) -> tuple[TaskState, Json]:
    if ended is None:
        return TaskState.SUCCEEDED, {}
    state = _STATES[ended.outcome]
    if state is TaskState.SUCCEEDED:
        return state, {"message": ended.message, **ended.report}
    partial = PartialError(ended.message)
    return state, {**told(partial), **ended.report}


def of_error(error: BaseException) -> tuple[TaskState, Json]:
    if isinstance(error, PartialError):
        return TaskState.PARTIAL, told(error)
    if isinstance(error, HoldfastError):
        return TaskState.FAILED, told(error)
    # Only the name: the text of an unknown error may hold anything.
    unknown = HoldfastError(
        f"the task met an error that Holdfast does not know: {type(error).__name__}",
        remedy="Earlier backups are untouched. The task's log has the details; please report them.",
    )
    return TaskState.FAILED, told(unknown)


def told(error: HoldfastError) -> Json:
    return {"code": error.code, "message": error.message, "remedy": error.advice}
