"""A body's side of a run, the same in a child process and in a thread of the worker."""

from __future__ import annotations

import importlib
import threading
import traceback
from typing import TYPE_CHECKING, Any

from holdfast.core.errors import (
    ConfigurationError,
    DeposedError,
    HoldfastError,
    InterruptedByUserError,
)
from holdfast.jobs import claims, outcomes
from holdfast.jobs.body import LaterError

if TYPE_CHECKING:
    from collections.abc import Callable

    from holdfast.catalog.database import Catalog, Transaction
    from holdfast.core.records import Json, Task
    from holdfast.jobs.body import Composition, Ended

INTERRUPTED = "interrupted"
"""In the place of a state: it stopped because it was asked to."""
DEPOSED = "deposed"
"""In the place of a state: another start of the task goes on with the work."""


def compose(name: str, settings: Json) -> Composition:
    """What the composition root `package.module:function` makes of the settings."""
    module, _, function = name.partition(":")
    made: Composition = getattr(importlib.import_module(module), function)(settings)
    return made


class BodyRun:
    """A `body.Run` that hands what is to be told to `send`, as plain data:

        {"progress": {...}}, {"line": [level, text]}

    Progress is handed over by `flush` only, so that telling it often costs nothing.
    """

    def __init__(self, task: Task, catalog: Catalog, send: Callable[[Json], None]) -> None:
        self.task = task
        self.catalog = catalog
        self.send = send
        self._stopping = threading.Event()
        self._progress: dict[str, Any] = {}
        self._told: dict[str, Any] = {}

    @property
    def stopping(self) -> bool:
        return self._stopping.is_set()

    def ask_to_stop(self) -> None:
        self._stopping.set()

    def progress(
        self,
        *,
        done: int | None = None,
        total: int | None = None,
        unit: str | None = None,
        current: str | None = None,
    ) -> None:
        given = {"done": done, "total": total, "unit": unit, "current": current}
        # A new value in one step: another thread may flush at any moment.
        self._progress = self._progress | {k: v for k, v in given.items() if v is not None}

    def flush(self) -> None:
        progress = self._progress
        if progress != self._told:
            self._told = progress
            self.send({"progress": progress})

    def log(self, level: str, text: str) -> None:
        self.send({"line": [level, text]})

    def fence(self, tx: Transaction) -> None:
        claims.fence(tx, self.task.id, self.task.token)

    def commit(self, tx: Transaction, ended: Ended | None = None) -> None:
        claims.commit(tx, self.task.id, self.task.token, *outcomes.of_ended(ended))


def execute(composition: Composition, run: BodyRun) -> Json:
    """Runs the body of the task's kind; how it ended: `state`, and `outcome` where it is a state of
    tasks.
    """
    try:
        state, outcome = outcomes.of_ended(_body(composition, run.task.kind)(run))
    except DeposedError:
        return {"state": DEPOSED}
    except LaterError:
        return {"state": INTERRUPTED}
    except (Exception, KeyboardInterrupt, SystemExit) as error:  # noqa: BLE001  the boundary of bodies
        if run.stopping and isinstance(error, InterruptedByUserError | KeyboardInterrupt):
            return {"state": INTERRUPTED}
        return failed(error, run.send)
    finally:
        run.flush()
    return {"state": str(state), "outcome": outcome}


def failed(error: BaseException, send: Callable[[Json], None]) -> Json:
    """How a body ends that raised; what nobody foresaw goes into the task's log."""
    state, outcome = outcomes.of_error(error)
    if not isinstance(error, HoldfastError):
        send({"line": ["error", "".join(traceback.format_exception(error))]})
    return {"state": str(state), "outcome": outcome}


def _body(composition: Composition, kind: str) -> Callable[[BodyRun], Ended | None]:
    try:
        return composition.kinds[kind].body
    except KeyError:
        raise ConfigurationError(
            f"this worker knows no tasks of the kind {kind!r}",
            remedy="Nothing was done. Run the same Holdfast on every machine, then restart it.",
        ) from None
