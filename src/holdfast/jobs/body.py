"""What the body of a task is: a function that gets a `Run` and says how it ended.

A body may be started again after a crash, a pause or a take-over, and then does again only what is
not yet stored: it is idempotent. What it makes visible, it makes visible in a transaction that
`Run.fence` or `Run.commit` has guarded, so that a body that lost its task changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from holdfast.catalog.database import Catalog, Transaction
from holdfast.core.errors import HoldfastError
from holdfast.core.outcome import Outcome
from holdfast.core.records import Json, Plan, Task


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How a body ended where it did not raise: succeeded, or partial, and then `message` says what
    is missing. `report` is plain data, kept in the task's outcome beside code, message and remedy.
    """

    outcome: Outcome = Outcome.SUCCEEDED
    message: str = ""
    report: Json = field(default_factory=dict)


class LaterError(HoldfastError):
    """Raised by a body that cannot go on for now: its task waits in the queue again, as if it had
    been interrupted, and begins when `claims` lets it.
    """

    code = "later"
    remedy = "Nothing is lost, and nothing is to be done: the task begins again by itself."
    retryable = True


class Run(Protocol):
    """One start of a task's body. Every method is safe for threads."""

    @property
    def task(self) -> Task:
        """As it was when the body started."""
        ...

    @property
    def catalog(self) -> Catalog: ...

    @property
    def stopping(self) -> bool:
        """True once the body should end soon: somebody paused or killed the task, or the worker
        stops. In a process of its own, its main thread meets an `InterruptedByUserError` at that
        moment, wherever it is; a light body looks here, and raises one itself. A body that has not
        ended after the grace time is killed, a light one waited for. Either way the task is then as
        was wanted, unless its body came to its end.
        """
        ...

    def progress(
        self,
        *,
        done: int | None = None,
        total: int | None = None,
        unit: str | None = None,
        current: str | None = None,
    ) -> None:
        """How far it is; what is not given stays. Cheap: reaches the catalog once a second at
        most, with the rate (units a second) and the time left (seconds).
        """
        ...

    def log(self, level: str, text: str) -> None:
        """A line of the task's log; level is debug, info, warning or error."""
        ...

    def fence(self, tx: Transaction) -> None:
        """Guards what the write transaction `tx` changes: it ends before another may take over.

        Raises:
            DeposedError: another start of the task has taken over.
        """
        ...

    def commit(self, tx: Transaction, ended: Ended | None = None) -> None:
        """The work is done with this write transaction. Whatever happens to the process from here
        on, the task ends as said here and its body is not started again.

        Raises:
            DeposedError: another start of the task has taken over.
        """
        ...


Body = Callable[[Run], Ended | None]
"""None: succeeded. `PartialError` ends as partial; other errors of `core.errors` end as failed
with their code, message and remedy; any other error as failed, with its traceback in the task's
log only.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """What runs tasks of a kind. `light`: in a thread of the worker instead of a child process,
    for what takes no longer than a second or so; a light body cannot be killed, only asked.
    """

    body: Body
    light: bool = False


MakeTask = Callable[[Transaction, Plan, int], Task | None]
"""Turns a plan that is due at a moment (nanoseconds) into the task to submit; None where there is
nothing to do. `plan_id` and `due` of the task are set by the sweep.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Composition:
    """What a process needs to run bodies. A composition root makes it from plain settings, in the
    worker and again in each child process; it is named as `package.module:function`, and takes the
    settings as its one argument.
    """

    catalog: Catalog
    kinds: Mapping[str, Kind]
    make_task: MakeTask | None = None
    is_resting: Callable[[Catalog], bool] = lambda _catalog: False
    """whether plans are to make no tasks at present; what they miss is made up for afterwards"""
    tidy: Callable[[Catalog], None] = lambda _catalog: None
    """what the leader does besides, once a minute"""


Compose = Callable[[Json], Composition]
