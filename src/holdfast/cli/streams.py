"""Standard streams that stop no work: what cannot be printed is left out, and that is said at the
end.

A log on a full disk or a closed terminal is no reason to have no backup.
"""

import io
import os
import sys
from typing import Any

from holdfast.core.errors import OutputError

_IN, _OUT, _ERR = range(3)


class _Enduring(io.FileIO):
    """Remembers the first write that failed, and lets all after it pass. A reader that has gone
    ends the program as ever.
    """

    failure: OSError | None = None

    def write(self, data: Any, /) -> int:  # any buffer; Python 3.11 has no type for them
        if self.failure is None:
            try:
                return super().write(data)
            except BrokenPipeError:
                raise
            except OSError as error:
                self.failure = error
        return memoryview(data).nbytes


class Streams:
    """Standard output of this process, and whether anybody wants it.

    No dataclass: those cost more than all else that `holdfast --version` loads.
    """

    __slots__ = ("out", "wanted")

    def __init__(self, out: _Enduring, *, wanted: bool) -> None:
        self.out = out
        self.wanted = wanted

    def settle(self) -> None:
        """Prints what is left. `OutputError` where part of what was printed is lost."""
        sys.stdout.flush()
        if self.wanted and self.out.failure is not None:
            reason = self.out.failure.strerror or self.out.failure
            raise OutputError(f"standard output cannot be written: {reason}")


def endure() -> Streams:
    """Has standard output and standard error of this process endure whatever happens to them.

    The numbers of closed ones are taken, so that no file that is opened later gets what is meant
    for them; reading and writing fail there.
    """
    wanted = _is_open(_OUT)
    for number, way in ((_IN, os.O_WRONLY), (_OUT, os.O_RDONLY), (_ERR, os.O_RDONLY)):
        if not _is_open(number):
            os.open(os.devnull, way)  # the lowest number that is free
    if sys.stdin is None:
        sys.stdin = open(_IN, closefd=False)  # noqa: SIM115  as long as the process
    out = _Enduring(_OUT, "wb", closefd=False)
    sys.stdout = _text(out, lines=out.isatty())
    sys.stderr = _text(_Enduring(_ERR, "wb", closefd=False), lines=True)
    return Streams(out, wanted=wanted)


def _is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return True


def _text(raw: io.FileIO, *, lines: bool) -> io.TextIOWrapper:
    """File names need not be UTF-8, so what is printed need not be."""
    return io.TextIOWrapper(
        io.BufferedWriter(raw), encoding="utf-8", errors="surrogateescape", line_buffering=lines
    )
