"""Where tasks stand, in SQL, so that lists are filtered and sorted by it in the database. The same
as `core.stages.status_of`; a test compares the two.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import and_, case, select

from holdfast.catalog import tables
from holdfast.core.records import REMOTE, AgentState, TaskState, Wanted
from holdfast.core.stages import BROKEN_CODES, RUNNING, Status

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement

_ROW = tables.task.c
_AGENT = tables.agent.c


def away(now: int) -> ColumnElement[bool]:
    """Of tasks: an agent is to do the work, and is offline at that moment."""
    online = select(_AGENT.id).where(
        _AGENT.host_id == _ROW.host_id,
        _AGENT.state == AgentState.AUTHORISED,
        _AGENT.online_until > now,
    )
    return and_(_ROW.kind.startswith(REMOTE, autoescape=True), ~online.exists())


def status(now: int) -> ColumnElement[str]:
    """A column with one of `Status`, of the table `task`."""
    over = [str(state) for state in TaskState if state.ended]
    code = _ROW.outcome["code"].as_string()
    return case(
        (and_(_ROW.wanted == Wanted.PAUSED, _ROW.state.not_in(over)), Status.PAUSED),
        (_ROW.state == TaskState.PAUSED, Status.PAUSED),
        (and_(_ROW.state == TaskState.QUEUED, away(now)), Status.SUSPENDED),
        (_ROW.state == TaskState.QUEUED, Status.NEW),
        *(
            (and_(_ROW.state == TaskState.RUNNING, _ROW.stage == stage), word)
            for stage, word in RUNNING.items()
        ),
        (_ROW.state == TaskState.CANCELLED, Status.KILLED),
        (and_(_ROW.state == TaskState.FAILED, code.in_(BROKEN_CODES)), Status.BROKEN),
        (_ROW.state == TaskState.FAILED, Status.ERROR),
        else_=Status.DONE,
    )
