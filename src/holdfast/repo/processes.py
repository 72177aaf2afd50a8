"""Worker processes: forked from a process that has no threads yet, each at the end of a pipe.

A worker ignores the terminal's signals; it ends when its pipe does, once it has done the piece of
work it is at, and at once when it is told to (`stop_workers`). Messages are tuples of plain values
(marshal), an error travels as itself (pickle).
"""

from __future__ import annotations

import gc
import marshal
import os
import pickle
import signal
import socket
import threading
from multiprocessing.connection import Connection, wait
from typing import TYPE_CHECKING, Any

from holdfast.core.errors import WorkerDiedError
from holdfast.store.directory import drop_unfinished

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from types import FrameType

Message = tuple[Any, ...]
"""A word that says what it is, then plain values: numbers, strings, bytes, tuples and lists of
them.
"""

_PLAIN, _ERROR = b"m", b"e"
_SOCKET_BUFFER = 1 << 20
_STOP = getattr(signal, "SIGUSR1", signal.SIGTERM)
"""No terminal and no service manager sends it, so that a worker stops only when its parent does."""

_running: set[int] = set()
"""Process numbers of this process's workers."""


class Line:
    """One end of a pipe that carries messages; sending is safe for threads."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self._sending = threading.Lock()

    def send(self, message: Message) -> None:
        self._send(_PLAIN + marshal.dumps(message))

    def send_error(self, error: BaseException) -> None:
        self._send(_ERROR + pickle.dumps(error))

    def _send(self, raw: bytes) -> None:
        with self._sending:
            self.connection.send_bytes(raw)

    def receive(self) -> Message:
        """The next message.

        Raises:
            EOFError: the other end is gone.
            Exception: what the other end sent as its error.
        """
        raw = self.connection.recv_bytes()
        if raw[:1] == _ERROR:
            raise pickle.loads(raw[1:])  # noqa: S301  our own child's
        message: Message = marshal.loads(memoryview(raw)[1:])  # noqa: S302  our own child's
        return message

    def close(self) -> None:
        self.connection.close()


class Worker(Line):
    """The parent's end of a worker process."""

    def __init__(self, pid: int, connection: Connection) -> None:
        super().__init__(connection)
        self.pid = pid

    def receive(self) -> Message:
        try:
            return super().receive()
        except (EOFError, ConnectionError) as error:
            raise WorkerDiedError(
                f"worker process {self.pid} died in the middle of its work"
            ) from error

    def end(self) -> None:
        """Closes the pipe, which ends the worker, and waits for it."""
        self.close()
        try:
            os.waitpid(self.pid, 0)
        except ChildProcessError:
            pass
        _running.discard(self.pid)


def _pipe() -> tuple[Connection, Connection]:
    ends = socket.socketpair()
    for end in ends:
        for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
            end.setsockopt(socket.SOL_SOCKET, option, _SOCKET_BUFFER)
    return Connection(ends[0].detach()), Connection(ends[1].detach())


def can_fork() -> bool:
    """Forking is safe where the system has it and this process runs no other thread."""
    return hasattr(os, "fork") and threading.active_count() == 1


def fork_workers(count: int, serve: Callable[[Line], None]) -> list[Worker]:
    """Starts so many processes that run `serve` on their end of the pipe until it returns or the
    pipe ends.
    """
    keep_freed_memory()
    gc.freeze()  # or the first collection in a child would copy every page
    workers: list[Worker] = []
    for _ in range(count):
        ours, theirs = _pipe()
        pid = os.fork()
        if pid == 0:
            ours.close()
            for worker in workers:
                worker.close()
            _run(serve, Line(theirs))
        theirs.close()
        _running.add(pid)
        workers.append(Worker(pid, ours))
    gc.unfreeze()
    return workers


def stop_workers() -> None:
    """Has the workers end now, in the midst of whatever they do; safe for threads."""
    _signal_all(_STOP)


def kill_workers() -> None:
    """For workers that do not stop."""
    _signal_all(signal.SIGKILL)


def _signal_all(number: int) -> None:
    for pid in tuple(_running):
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue  # it has ended by itself


class _Stopped(BaseException):
    """This worker was told to stop."""


def _stop(_number: int, _frame: FrameType | None) -> None:
    raise _Stopped


def _listen_to_parent() -> None:
    """What the parent does about signals is not for a worker."""
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(_STOP, _stop)
    _running.clear()


def _run(serve: Callable[[Line], None], line: Line) -> None:
    """The whole life of a worker; never returns."""
    status = 0
    try:
        _listen_to_parent()
        serve(line)
    except (EOFError, ConnectionError, _Stopped):
        pass  # the parent is gone, or wants us to go
    except BaseException as error:  # noqa: BLE001  the boundary of this process: the parent raises it
        status = 1
        try:
            line.send_error(error)
        except OSError:
            pass
    finally:
        drop_unfinished()
        os._exit(status)


def ready(workers: Sequence[Worker], timeout: float | None) -> list[Worker]:
    """Those that have sent something (or died), waiting so long for the first; None waits without
    end.
    """
    by_connection = {worker.connection: worker for worker in workers}
    return [by_connection[c] for c in wait(list(by_connection), timeout)]  # type: ignore[index]  # only ours are given


_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8


def keep_freed_memory(most: int = 64 << 20) -> None:
    """Tells glibc not to give megabyte buffers back to the kernel each time: the page faults cost
    more than hashing. `most`: bytes that each of its heaps keeps.
    """
    _mallopt({_M_MMAP_THRESHOLD: 32 << 20, _M_TRIM_THRESHOLD: most})


def share_heaps() -> None:
    """Tells glibc not to give threads heaps of their own: for servers, whose many threads would
    each keep what they once needed. To be called before they start.
    """
    _mallopt({_M_ARENA_MAX: 2})


def _mallopt(options: Mapping[int, int]) -> None:
    import ctypes

    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return  # another C library; only slower
    for option, value in options.items():
        mallopt(option, value)


def give_freed_memory_back() -> None:
    """Undoes for once what `keep_freed_memory` has kept: for a server that has nothing to do."""
    import ctypes

    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (OSError, AttributeError):
        return  # another C library, which keeps less


def available_processors() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
