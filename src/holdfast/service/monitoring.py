"""How busy the server's machine is: samples at regular times, of which the newest are kept."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import psutil
import structlog

from holdfast.catalog import tables
from holdfast.core.errors import HoldfastError
from holdfast.core.records import Sample
from holdfast.jobs import leases
from holdfast.service.global_configuration import values_in

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from holdfast.service.ground import Ground

_LEASE = "monitoring"
"""Of the one process that samples: the main server's."""
_AT_ONCE = 5.0
"""Seconds of samples that are written together: each transaction is a wait for the disk."""
_SECOND = 1_000_000_000

_log = structlog.get_logger("holdfast.monitoring")


@dataclass(frozen=True, slots=True)
class Counters:
    """Bytes since the machine was started."""

    disk_read: int
    disk_written: int
    received: int
    sent: int


class Sampler:
    """Takes samples until it is closed, where `holder`, a live node, is the one who does."""

    def __init__(self, ground: Ground, holder: str) -> None:
        self._ground = ground
        self._holder = holder
        self._ending = threading.Event()
        self._waiting: list[Sample] = []

    def run(self) -> None:
        """Returns once `close` was called. What fails is tried again: nobody waits for it."""
        told = ""
        while not self._ending.is_set():
            try:
                self._sample_while_leading()
                told = ""
            except HoldfastError as error:
                if error.message != told:
                    told = error.message
                    _log.warning("no samples", error=told)
                self._ending.wait(_AT_ONCE)

    def close(self) -> None:
        self._ending.set()

    def _sample_while_leading(self) -> None:
        if not self._write():
            self._ending.wait(_AT_ONCE)
            return
        with self._ground.catalog.read() as tx:
            period = values_in(tx)["monitoring_period"]
        psutil.cpu_percent()  # of the time since the call before
        before, since = _counters(), self._ground.now()
        while not self._ending.wait(period):
            now = self._ground.now()
            after = _counters()
            seconds = max(now - since, 1) / _SECOND
            self._waiting.append(_sample(self._ground.folder, now, before, after, seconds))
            before, since = after, now
            if now - self._waiting[0].at >= (_AT_ONCE - period) * _SECOND:
                return

    def _write(self) -> bool:
        """Writes down what waits; whether this process is the one that samples."""
        with self._ground.catalog.write() as tx:
            if not leases.hold(tx, _LEASE, self._holder):
                self._waiting.clear()
                return False
            tx.samples.add_all(self._waiting)
            self._waiting.clear()
            most = values_in(tx)["max_system_monitoring_records"]
            row = tables.sample.c
            newest = tx.samples.all(order=(row.id.desc(),), limit=1)
            if newest:
                tx.samples.remove(row.id <= newest[0].id - most)
        return True


@contextmanager
def sampling(ground: Ground, holder: str) -> Iterator[None]:
    """Beside whatever this process does."""
    sampler = Sampler(ground, holder)
    thread = threading.Thread(target=sampler.run, name="holdfast-monitoring", daemon=True)
    thread.start()
    try:
        yield
    finally:
        sampler.close()
        thread.join()


def _counters() -> Counters:
    disk, net = psutil.disk_io_counters(), psutil.net_io_counters()
    return Counters(
        disk.read_bytes if disk else 0,
        disk.write_bytes if disk else 0,
        net.bytes_recv,
        net.bytes_sent,
    )


def _sample(folder: Path, now: int, before: Counters, after: Counters, seconds: float) -> Sample:
    def rate(name: str) -> int:
        """Counters of a device that was taken away are gone, too."""
        grown: int = getattr(after, name) - getattr(before, name)
        return max(0, round(grown / seconds))

    return Sample(
        at=now,
        cpu=psutil.cpu_percent(),
        memory=psutil.virtual_memory().percent,
        swap=psutil.swap_memory().percent,
        disk=psutil.disk_usage(str(folder)).percent,
        disk_read=rate("disk_read"),
        disk_written=rate("disk_written"),
        received=rate("received"),
        sent=rate("sent"),
    )
