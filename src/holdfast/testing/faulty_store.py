"""A store that fails, lies and forgets, on demand or at random by seed.

    for store in each_call_failing(MemoryStore, Trouble.BUSY_AFTER):
        with suppress(StoreError):
            run(store)
        assert nothing_is_lost(store.inner)

runs once with the first call failing, once with the second, and so on until a run gets through.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import count
from random import Random
from threading import Lock
from typing import TYPE_CHECKING, Final

from holdfast.core.clock import SystemClock
from holdfast.core.errors import (
    ObjectNotFoundError,
    StorageFullError,
    StoreBusyError,
    StoreDeniedError,
    StoreError,
)
from holdfast.store.contract import Stat
from holdfast.store.layout import describe
from holdfast.store.wrapped import WrappedStore

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterator, Mapping, Sequence

    from holdfast.core.clock import Clock
    from holdfast.store.contract import FileKind, Properties, Store

    Plan = Callable[["Call"], "Trouble | None"]


class Trouble(StrEnum):
    """What can go wrong with one call."""

    BUSY = "busy"
    """503, 429, reset, time-out: it did not happen."""
    BUSY_AFTER = "busy-after"
    """The same, but it did happen: only the answer was lost."""
    BROKEN = "broken"
    """An error that no other try mends; it did not happen."""
    DENIED = "denied"
    """403; for a removal: an object under a lock."""
    FULL = "full"
    """No room; nothing was written."""
    TORN = "torn"
    """Half of an object lies under its name, and the call fails."""
    SHORT = "short"
    """A read returns less than was asked for, as if it were all."""
    WRONG = "wrong"
    """A read returns bytes of which one is not what was written."""
    MISSING = "missing"
    """An object that is there is said not to be."""
    STALE = "stale"
    """A listing from before the latest two changes."""
    SLOW = "slow"
    """It happens, `delay` seconds late."""


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a method of the contract, before it is made."""

    number: int
    """From 1, over all methods."""
    method: str
    kind: FileKind | None
    name: str


_ANY: Final = frozenset({Trouble.BUSY, Trouble.BROKEN, Trouble.DENIED, Trouble.SLOW})
_OF_READS: Final = _ANY | {Trouble.SHORT, Trouble.WRONG, Trouble.MISSING}

POSSIBLE: Final[Mapping[str, frozenset[Trouble]]] = {
    "create": _ANY | {Trouble.BUSY_AFTER, Trouble.FULL},
    "put": _ANY | {Trouble.BUSY_AFTER, Trouble.FULL, Trouble.TORN},
    "get": _OF_READS,
    "get_range": _OF_READS,
    "stat": _ANY | {Trouble.MISSING},
    "list": _ANY | {Trouble.STALE},
    "remove": _ANY | {Trouble.BUSY_AFTER, Trouble.MISSING},
    "sweep": _ANY,
}
"""Trouble that each method can have; other trouble passes it by."""

PASSING: Final = frozenset({Trouble.BUSY, Trouble.BUSY_AFTER, Trouble.SLOW})
"""What an honest store may do at any time, and retries must get through."""

_ERRORS: Final[Mapping[Trouble, type[StoreError]]] = {
    Trouble.BUSY: StoreBusyError,
    Trouble.BROKEN: StoreError,
    Trouble.DENIED: StoreDeniedError,
    Trouble.FULL: StorageFullError,
    Trouble.MISSING: ObjectNotFoundError,
}
_FORGOTTEN: Final = 2


def script(troubles: Mapping[int, Trouble]) -> Plan:
    """Trouble by the number of the call."""
    return lambda call: troubles.get(call.number)


def always(trouble: Trouble, *methods: str, kinds: Container[FileKind] | None = None) -> Plan:
    """The same trouble for each call of these methods: `always(Trouble.DENIED, "remove")`."""
    return lambda call: (
        trouble if call.method in methods and (kinds is None or call.kind in kinds) else None
    )


def at_random(seed: int, rate: float, troubles: Container[Trouble] = PASSING) -> Plan:
    """One of these troubles for this share of all calls, the same ones for the same seed."""
    random = Random(seed)

    def plan(call: Call) -> Trouble | None:
        if random.random() >= rate:
            return None
        possible = [each for each in Trouble if each in troubles and each in POSSIBLE[call.method]]
        return random.choice(possible) if possible else None

    return plan


def nth(number: int, trouble: Trouble) -> Plan:
    """Trouble for the n-th of those calls that can have it."""
    met = count(1)

    def plan(call: Call) -> Trouble | None:
        if trouble not in POSSIBLE[call.method]:
            return None
        return trouble if next(met) == number else None

    return plan


def each_call_failing(make: Callable[[], Store], trouble: Trouble) -> Iterator[FaultyStore]:
    """Stores of which the first fails at the first call, the second at the second, and so on.

    Ends after a store on which nothing failed, because fewer calls were made.
    """
    for number in count(1):
        store = FaultyStore(make(), nth(number, trouble))
        yield store
        if not store.fired:
            return


class FaultyStore(WrappedStore):
    """Does what `plan` says to each call. Records them all.

    `lag`: listings are behind by so many seconds of `clock`. Not forkable, since a child would
    count for itself.
    """

    def __init__(
        self,
        inner: Store,
        plan: Plan | None = None,
        *,
        lag: float = 0.0,
        delay: float = 1.0,
        clock: Clock | None = None,
    ) -> None:
        super().__init__(inner)
        self._plan = plan or (lambda _: None)
        self._lag = lag
        self._delay = delay
        self._clock = clock or SystemClock()
        self._lock = Lock()
        self._changes: list[tuple[float, str, FileKind, Stat]] = []
        self.calls: list[Call] = []
        self.fired: list[tuple[Call, Trouble]] = []

    @property
    def properties(self) -> Properties:
        return replace(self.inner.properties, forkable=False)

    def create(self) -> None:
        trouble = self._meet("create")
        self.inner.create()
        _lose_answer(trouble)

    def put(self, kind: FileKind, name: str, data: bytes | memoryview) -> None:
        trouble = self._meet("put", kind, name)
        if trouble is Trouble.TORN:
            self.inner.put(kind, name, memoryview(data)[: len(data) // 2])
            raise StoreError(f"writing {describe(kind, name)} broke off")
        self.inner.put(kind, name, data)
        self._remember("put", kind, Stat(name, len(data), 0))
        _lose_answer(trouble)

    def get(self, kind: FileKind, name: str) -> bytes:
        trouble = self._meet("get", kind, name)
        return _spoil(trouble, self.inner.get(kind, name))

    def get_range(self, kind: FileKind, name: str, offset: int, length: int) -> bytes:
        trouble = self._meet("get_range", kind, name)
        return _spoil(trouble, self.inner.get_range(kind, name, offset, length))

    def stat(self, kind: FileKind, name: str) -> Stat:
        self._meet("stat", kind, name)
        return self.inner.stat(kind, name)

    def list(self, kind: FileKind) -> Iterator[Stat]:
        trouble = self._meet("list", kind)
        found = {each.name: each for each in self.inner.list(kind)}
        for what, stat in self._unseen(kind, trouble):
            if what == "put":
                found.pop(stat.name, None)
            else:
                found[stat.name] = stat
        yield from found.values()

    def remove(self, kind: FileKind, name: str) -> None:
        trouble = self._meet("remove", kind, name)
        removed = self.inner.stat(kind, name)
        self.inner.remove(kind, name)
        self._remember("remove", kind, removed)
        _lose_answer(trouble)

    def sweep(self, older_than: float) -> int:
        self._meet("sweep")
        return self.inner.sweep(older_than)

    def _meet(self, method: str, kind: FileKind | None = None, name: str = "") -> Trouble | None:
        """Raises what goes wrong before anything happens; returns what is left to go wrong."""
        with self._lock:
            call = Call(len(self.calls) + 1, method, kind, name)
            self.calls.append(call)
            trouble = self._plan(call)
            if trouble is None or trouble not in POSSIBLE[method]:
                return None
            self.fired.append((call, trouble))
        if trouble is Trouble.SLOW:
            self._clock.sleep(self._delay)
        elif trouble in _ERRORS:
            raise _ERRORS[trouble](
                f"{method} of {name[:8] or kind or 'all'} met trouble: {trouble}"
            )
        return trouble

    def _remember(self, what: str, kind: FileKind, stat: Stat) -> None:
        with self._lock:
            self._changes.append((self._clock.monotonic(), what, kind, stat))

    def _unseen(self, kind: FileKind, trouble: Trouble | None) -> Sequence[tuple[str, Stat]]:
        """Changes that a listing does not show, the latest first."""
        horizon = self._clock.monotonic() - self._lag
        with self._lock:
            changes = [each for each in self._changes if each[2] is kind]
        seen = sum(at <= horizon for at, *_ in changes) if self._lag else len(changes)
        if trouble is Trouble.STALE:
            seen = min(seen, len(changes) - _FORGOTTEN)
        return [(what, stat) for _, what, _, stat in changes[max(seen, 0) :]][::-1]


def _lose_answer(trouble: Trouble | None) -> None:
    if trouble is Trouble.BUSY_AFTER:
        raise StoreBusyError("the answer was lost on its way")


def _spoil(trouble: Trouble | None, data: bytes) -> bytes:
    if trouble is Trouble.SHORT:
        return data[:-1]
    if trouble is Trouble.WRONG and data:
        middle = len(data) // 2
        return data[:middle] + bytes([data[middle] ^ 0x10]) + data[middle + 1 :]
    return data
