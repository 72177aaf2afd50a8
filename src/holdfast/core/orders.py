"""What a server and an agent say to one another: orders one way, reports the other.

These are the values of the wire, as plain as JSON. The server believes none of an agent's words
beyond what it can see for itself; `service.agent_desk` says what it looks at.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

HOLD: Final = 20.0
"""Seconds that a poll is held, at most, while there is nothing to say."""
SILENCE: Final = 60.0
"""Seconds without a word after which an agent counts as offline."""


class OrderKind(StrEnum):
    BACKUP = "backup"
    RESTORE = "restore"
    FILES = "list-files"
    DEVICES = "list-devices"
    RESOURCES = "list-resources"

    @property
    def looks(self) -> bool:
        """Whether it only looks, and is over within seconds."""
        return self not in {OrderKind.BACKUP, OrderKind.RESTORE}


class OrderState(StrEnum):
    WAITING = "waiting"
    """not yet with the agent"""
    TAKEN = "taken"
    RUNNING = "running"
    TRANSMITTING = "transmitting"
    """bytes are going to or from the pool"""
    STOPPED = "stopped"
    """as was wished; nothing of it runs any more"""
    DONE = "done"
    FAILED = "failed"

    @property
    def over(self) -> bool:
        return self in {OrderState.STOPPED, OrderState.DONE, OrderState.FAILED}


class Wish(StrEnum):
    """What the server wants of an order that an agent has."""

    RUN = "run"
    PAUSED = "paused"
    """stop it; it may come again"""
    VOID = "void"
    """stop it and forget it: it was killed, or nobody knows it"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hello:
    """Who an agent says it is. `modules`: the names of those that work there."""

    name: str
    version: str = ""
    os: str = ""
    modules: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """The answer: how an agent stands with the server. `host`: the name by which it signs in to
    the repositories; empty while nobody has authorised it.
    """

    hwid: str
    authorised: bool = False
    host: str = ""
    local: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Poll:
    """`held`: the orders that the agent has, as `<id>.<issue>`. `wait`: seconds that it will."""

    held: list[str] = field(default_factory=list)
    wait: float = HOLD


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """`issue` grows whenever the order is given anew, after a pause or a restart; what is said of
    an older one is not heard.
    """

    id: int
    issue: int
    kind: OrderKind
    spec: dict[str, Any]

    @property
    def name(self) -> str:
        return f"{self.id}.{self.issue}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Due:
    """The answer to a poll: orders that the agent does not have, and what else is wanted of those
    that it has.
    """

    authorised: bool = True
    orders: list[Order] = field(default_factory=list)
    wishes: dict[str, Wish] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """How an order goes. `number` grows with each report of an issue: one that comes twice, as its
    answer was lost, is heard once. `outcome`: code, message, remedy, and what the kind reports.
    """

    order: str
    number: int
    state: OrderState
    progress: dict[str, Any] = field(default_factory=dict)
    lines: list[tuple[str, str]] = field(default_factory=list)
    """of the log: level and text"""
    outcome: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Announcement:
    """A snapshot that is about to be committed, under the name that its bytes give it."""

    order: str
    snapshot: str
    tree: str
    files: int
    bytes: int
    problems: int = 0
    stored: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """The answer to a report or an announcement."""

    wish: Wish


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """For the key of the repository that an order is about."""

    order: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    """The master key of a repository, in base64."""

    key: str = field(repr=False)
