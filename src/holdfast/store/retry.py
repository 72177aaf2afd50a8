"""Tries again what may pass: time-outs, resets, throttling, server errors. Nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, TypeVar

from holdfast.core.clock import SystemClock
from holdfast.core.errors import (
    ObjectExistsError,
    ObjectNotFoundError,
    StoreBusyError,
    StoreError,
)
from holdfast.store.layout import describe
from holdfast.store.wrapped import WrappedStore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from holdfast.core.clock import Clock
    from holdfast.store.contract import FileKind, Stat, Store

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Patience:
    """How long one request may go on. Waits double from `first_wait` up to `longest_wait`.

    Up to half of each wait is left to chance, so that many clients of a store that fell over do
    not come back all at once. All times are seconds.
    """

    attempts: int = 10
    deadline: float = 900.0
    """No try starts later than this after the first."""
    first_wait: float = 0.5
    longest_wait: float = 60.0


@dataclass(frozen=True, slots=True)
class Retry:
    """For progress: what failed, for the how-manieth time, and when it goes on."""

    what: str
    attempt: int
    wait: float
    error: StoreError


class RetryStore(WrappedStore):
    """A store around one that fails now and then.

    A put or remove whose answer was lost may have taken place. A name that is taken on a second
    try is success only if the object there is the very one; one that is gone was removed.
    """

    def __init__(
        self,
        inner: Store,
        *,
        patience: Patience | None = None,
        on_retry: Callable[[Retry], None] | None = None,
        clock: Clock | None = None,
        random: Random | None = None,
    ) -> None:
        super().__init__(inner)
        self._patience = patience or Patience()
        self._on_retry = on_retry
        self._clock = clock or SystemClock()
        self._random = random or Random()  # noqa: S311  spreads waits, keeps no secret

    def create(self) -> None:
        self._persist("creating the folders", lambda _: self.inner.create())

    def put(self, kind: FileKind, name: str, data: bytes | memoryview) -> None:
        def attempt(again: bool) -> None:  # noqa: FBT001  called from one place
            try:
                self.inner.put(kind, name, data)
            except ObjectExistsError:
                if not (again and self._holds(kind, name, data)):
                    raise

        self._persist(f"writing {describe(kind, name)}", attempt)

    def get(self, kind: FileKind, name: str) -> bytes:
        return self._persist(
            f"reading {describe(kind, name)}", lambda _: self.inner.get(kind, name)
        )

    def get_range(self, kind: FileKind, name: str, offset: int, length: int) -> bytes:
        return self._persist(
            f"reading {describe(kind, name)}",
            lambda _: self.inner.get_range(kind, name, offset, length),
        )

    def stat(self, kind: FileKind, name: str) -> Stat:
        return self._persist(
            f"looking for {describe(kind, name)}", lambda _: self.inner.stat(kind, name)
        )

    def list(self, kind: FileKind) -> Iterator[Stat]:
        # Whole before the first is handed out: a listing begun anew would name some twice.
        yield from self._persist(f"listing {kind}", lambda _: tuple(self.inner.list(kind)))

    def remove(self, kind: FileKind, name: str) -> None:
        def attempt(again: bool) -> None:  # noqa: FBT001  called from one place
            try:
                self.inner.remove(kind, name)
            except ObjectNotFoundError:
                if not again:
                    raise

        self._persist(f"removing {describe(kind, name)}", attempt)

    def sweep(self, older_than: float) -> int:
        return self._persist("sweeping", lambda _: self.inner.sweep(older_than))

    def _holds(self, kind: FileKind, name: str, data: bytes | memoryview) -> bool:
        try:
            size = self.inner.stat(kind, name).size
            return size == len(data) and self.inner.get(kind, name) == data
        except ObjectNotFoundError as error:
            raise StoreBusyError(
                f"{describe(kind, name)} is said to be there and is not to be read"
            ) from error

    def _persist(self, what: str, attempt: Callable[[bool], T]) -> T:
        started = self._clock.monotonic()
        tries = 0
        while True:
            tries += 1
            try:
                return attempt(tries > 1)
            except StoreError as error:
                if not error.retryable:
                    raise
                wait = self._wait_after(tries)
                spent = self._clock.monotonic() - started
                if tries >= self._patience.attempts or spent + wait > self._patience.deadline:
                    message = f"{error.message} ({tries} tries)"
                    raise type(error)(message, remedy=error.advice) from error
                if self._on_retry:
                    self._on_retry(Retry(what, tries, wait, error))
            self._clock.sleep(wait)

    def _wait_after(self, tries: int) -> float:
        full = min(self._patience.longest_wait, self._patience.first_wait * 2.0 ** (tries - 1))
        return full * self._random.uniform(0.5, 1)
