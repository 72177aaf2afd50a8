"""How much there is to back up, counted beside the backup so that it can say how long it will take."""

from __future__ import annotations

import os
import select
import signal
import stat
import struct
from typing import TYPE_CHECKING, NamedTuple

from holdfast.core.source import Problem, Up

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_WIRE = struct.Struct("<QQ")


class Count(NamedTuple):
    files: int
    bytes: int


class Totals:
    """Counts in a process of its own, so that the backup itself loses no time. Make it before any thread is started."""

    def __init__(self, scan: Callable[[], Iterable[object]]) -> None:
        """`scan` yields as `sources.files.Scan` does."""
        self._known: Count | None = None
        self._read, write = os.pipe()
        self._child = os.fork()
        if self._child == 0:
            _count_and_exit(scan, write)
        os.close(write)

    def known(self) -> Count | None:
        """The totals; None while they are being counted, and where they cannot be."""
        if self._known is None and self._child and select.select([self._read], [], [], 0)[0]:
            answer = os.read(self._read, _WIRE.size)
            self._reap()
            if len(answer) == _WIRE.size:
                self._known = Count(*_WIRE.unpack(answer))
        return self._known

    def close(self) -> None:
        """Ends the counting, wherever it is."""
        if self._child:
            os.kill(self._child, signal.SIGKILL)
            self._reap()

    def _reap(self) -> None:
        os.close(self._read)
        os.waitpid(self._child, 0)
        self._child = 0


def _count_and_exit(scan: Callable[[], Iterable[object]], write: int) -> None:
    """The child's whole life."""
    try:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)
        os.nice(5)
        os.write(write, _WIRE.pack(*count(scan())))
    finally:
        os._exit(0)


def count(steps: Iterable[object]) -> Count:
    """Files (all but folders) and their bytes."""
    files = size = 0
    for step in steps:
        if isinstance(step, (Problem, Up)):
            continue
        facts = step[2]  # type: ignore[index]  # a visit of the scan
        if stat.S_ISDIR(facts.st_mode):
            continue
        files += 1
        if stat.S_ISREG(facts.st_mode):
            size += facts.st_size
    return Count(files, size)
