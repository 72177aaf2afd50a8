"""How much there is to back up, counted beside the backup, so that it can tell the rest."""

from __future__ import annotations

import os
import select
import signal
import struct
from typing import TYPE_CHECKING

from holdfast.sources.files.source import Estimate, estimate

if TYPE_CHECKING:
    from holdfast.sources.files.source import FileSource

_WIRE = struct.Struct("<QQ")


class Totals:
    """Counts in a process of its own, so that the backup itself loses no time. Make it before any
    thread is started.
    """

    def __init__(self, source: FileSource) -> None:
        self._known: Estimate | None = None
        self._read, write = os.pipe()
        self._child = os.fork()
        if self._child == 0:
            _count_and_exit(source, write)
        os.close(write)

    def known(self) -> Estimate | None:
        """The totals; None while they are being counted, and where they cannot be."""
        if self._known is None and self._child and select.select([self._read], [], [], 0)[0]:
            answer = os.read(self._read, _WIRE.size)
            self._reap()
            if len(answer) == _WIRE.size:
                self._known = Estimate(*_WIRE.unpack(answer))
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


def _count_and_exit(source: FileSource, write: int) -> None:
    """The child's whole life."""
    try:
        signal.set_wakeup_fd(-1)  # what the parent does about signals is not for this process
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        os.nice(5)
        os.write(write, _WIRE.pack(*estimate(source)))
    finally:
        os._exit(0)
