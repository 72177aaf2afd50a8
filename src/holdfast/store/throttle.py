"""Keeps to a number of bytes a second, each way."""

from __future__ import annotations

from multiprocessing import get_context
from typing import TYPE_CHECKING

from holdfast.core.clock import SystemClock
from holdfast.store.wrapped import WrappedStore

if TYPE_CHECKING:
    from holdfast.core.clock import Clock
    from holdfast.store.contract import FileKind, Store

_KIB = 1024


class Bucket:
    """Hands out so many bytes a second, to threads and forked processes together.

    A request goes at once and the next waits until it is paid for: an object is one request to the
    stores below, so only the pace between objects can be kept here.
    """

    def __init__(self, rate: float, clock: Clock) -> None:
        self._rate = rate
        self._clock = clock
        self._paid_at = get_context("fork").Value("d", 0.0)

    def take(self, size: int) -> None:
        """Returns when everything taken before is paid for."""
        with self._paid_at.get_lock():
            now = self._clock.monotonic()
            start = max(now, self._paid_at.value)
            self._paid_at.value = start + size / self._rate
        if start > now:
            self._clock.sleep(start - now)

    def owe(self, size: int) -> None:
        """For what turned out larger than was taken."""
        with self._paid_at.get_lock():
            now = self._clock.monotonic()
            self._paid_at.value = max(now, self._paid_at.value) + size / self._rate


class ThrottledStore(WrappedStore):
    """`upload` and `download` are KiB a second; None is no limit."""

    def __init__(
        self,
        inner: Store,
        *,
        upload: int | None = None,
        download: int | None = None,
        clock: Clock | None = None,
    ) -> None:
        super().__init__(inner)
        clock = clock or SystemClock()
        self._upload = Bucket(upload * _KIB, clock) if upload else None
        self._download = Bucket(download * _KIB, clock) if download else None

    def put(self, kind: FileKind, name: str, data: bytes | memoryview) -> None:
        if self._upload:
            self._upload.take(len(data))
        super().put(kind, name, data)

    def get(self, kind: FileKind, name: str) -> bytes:
        if self._download:
            self._download.take(0)
        data = super().get(kind, name)
        if self._download:
            self._download.owe(len(data))
        return data

    def get_range(self, kind: FileKind, name: str, offset: int, length: int) -> bytes:
        if self._download:
            self._download.take(length)
        return super().get_range(kind, name, offset, length)
