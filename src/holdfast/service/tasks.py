"""Tasks: what is in the queue, what runs, how it ended; and what a person wants of it."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from holdfast.catalog import tables
from holdfast.catalog.journal import note_task
from holdfast.core.access import Verb
from holdfast.core.errors import StateError
from holdfast.core.records import Task, TaskLine, TaskState
from holdfast.service.global_configuration import in_service_mode

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import ColumnElement

    from holdfast.core.access import Principal
    from holdfast.core.records import Json
    from holdfast.jobs.queue import Queue
    from holdfast.service.ground import Ground

_ROW = tables.task.c
_LINE = tables.task_line.c

PRIORITY = 100
URGENT = 10


class Tasks:
    def __init__(self, ground: Ground) -> None:
        self._ground = ground
        self._made: Queue | None = None
        self._making = threading.Lock()

    @property
    def _queue(self) -> Queue:
        """Made when first needed: the library behind it takes a second to load."""
        with self._making:
            if self._made is None:
                from holdfast.jobs.queue import Queue

                self._made = Queue(self._ground.catalog)
            return self._made

    def warm_up(self) -> None:
        """Loads what submitting the first task would wait for."""
        _ = self._queue

    def close(self) -> None:
        if self._made is not None:
            self._made.close()

    def submit(
        self,
        who: Principal,
        verb: Verb,
        kind: str,
        *,
        subject: str = "",
        spec: Json | None = None,
        priority: int = PRIORITY,
        pool_id: int | None = None,
        target_id: int | None = None,
        backup_id: int | None = None,
        host_id: int | None = None,
        unless_waiting: bool = False,
    ) -> Task:
        """Puts a task into the queue for somebody who has the right `verb` of what it will do.
        `unless_waiting`: where one like it waits there already, gives that.

        Raises:
            StateError: the server is in service mode.
        """
        now = self._ground.now()
        task = Task(
            kind=kind,
            priority=priority,
            pool_id=pool_id,
            target_id=target_id,
            backup_id=backup_id,
            host_id=host_id,
            actor=who.name,
            spec=spec or {},
            created=now,
            due=now,
        )
        with self._ground.act(
            who, verb, subject or kind, target=target_id, pool=pool_id, host=host_id,
            detail={"task": kind},
        ) as tx:  # fmt: skip
            if in_service_mode(tx):
                raise StateError(
                    "the server is in service mode: nothing new begins",
                    remedy="Nothing was changed. Switch service mode off, then ask again.",
                )
            waiting = tx.tasks.all(
                kind=kind, state=TaskState.QUEUED, pool_id=pool_id, target_id=target_id,
                backup_id=backup_id, host_id=host_id, limit=1,
            ) if unless_waiting else ()  # fmt: skip
            return waiting[0] if waiting else self._queue.submit(tx, task)

    def note_done(
        self,
        who: Principal,
        kind: str,
        *,
        started: int,
        target_id: int | None = None,
        backup_id: int | None = None,
        report: Json | None = None,
    ) -> Task:
        """Work that was done at once, among the tasks, for those who look for it there."""
        now = self._ground.now()
        task = Task(
            kind=kind,
            state=TaskState.SUCCEEDED,
            target_id=target_id,
            backup_id=backup_id,
            actor=who.name,
            outcome={"report": report or {}},
            created=started,
            due=started,
            started=started,
            ended=now,
            committed=True,
        )
        with self._ground.catalog.write() as tx:
            added = tx.tasks.add(task)
            note_task(tx, added, now)
            return added

    # --- looking ----------------------------------------------------------------------------------

    def get(self, who: Principal, id_: int) -> Task:
        """Raises RecordNotFoundError."""
        with self._ground.read(who, Verb.TASK_LIST, f"task {id_}") as tx:
            return tx.tasks.get(id_)

    def list(
        self,
        who: Principal,
        *conditions: ColumnElement[bool],
        order: Sequence[ColumnElement[Any]] = (_ROW.id.desc(),),
        limit: int | None = 100,
        offset: int = 0,
    ) -> Sequence[Task]:
        """Newest first where no order is given."""
        with self._ground.read(who, Verb.TASK_LIST, "tasks") as tx:
            return tx.tasks.all(*conditions, order=order, limit=limit, offset=offset)

    def look_for(
        self,
        who: Principal,
        *,
        states: Sequence[TaskState] = (),
        kinds: Sequence[str] = (),
        target_id: int | None = None,
        limit: int | None = 100,
    ) -> Sequence[Task]:
        """The newest that have one of these states and kinds, where any are given."""
        conditions: list[ColumnElement[bool]] = []
        if states:
            conditions.append(_ROW.state.in_([str(state) for state in states]))
        if kinds:
            conditions.append(_ROW.kind.in_(kinds))
        if target_id is not None:
            conditions.append(_ROW.target_id == target_id)
        return self.list(who, *conditions, limit=limit)

    def of_kinds(self, who: Principal, kinds: Sequence[str], limit: int = 100) -> Sequence[Task]:
        """The newest of these kinds, oldest first."""
        return self.list(who, _ROW.kind.in_(kinds), limit=limit)[::-1]

    def log(self, who: Principal, id_: int, *, after: int = 0) -> Sequence[TaskLine]:
        """Its lines in order, those after the line with that number."""
        with self._ground.read(who, Verb.TASK_LIST, f"task {id_}") as tx:
            tx.tasks.get(id_)
            return tx.task_lines.all(_LINE.id > after, task_id=id_, order=(_LINE.id,))

    def wait(self, who: Principal, id_: int, timeout: float) -> Task:
        """The task once it has ended or is paused; as it is after so many seconds otherwise."""
        self._ground.allow(who, Verb.TASK_LIST, f"task {id_}")
        return self._queue.wait(id_, timeout)

    # --- what is wanted of it ---------------------------------------------------------------------

    def pause(self, who: Principal, id_: int) -> Task:
        self._note(who, id_, "pause")
        return self._queue.pause(id_)

    def cont(self, who: Principal, id_: int) -> Task:
        """Lets a paused one go on."""
        self._note(who, id_, "continue")
        return self._queue.cont(id_)

    def kill(self, who: Principal, id_: int) -> Task:
        self._note(who, id_, "kill")
        return self._queue.kill(id_)

    def restart(self, who: Principal, id_: int) -> Task:
        self._note(who, id_, "restart")
        return self._queue.restart(id_)

    def set_priority(self, who: Principal, id_: int, priority: int) -> Task:
        self._note(who, id_, f"priority {priority}")
        return self._queue.set_priority(id_, priority)

    def _note(self, who: Principal, id_: int, act: str) -> None:
        with self._ground.act(who, Verb.TASK_CONTROL, f"task {id_}", detail={"act": act}) as tx:
            tx.tasks.get(id_)
