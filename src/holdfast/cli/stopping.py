"""What a command does when it is told to stop: the first signal ends the work in order, but within
two seconds, whatever it is waiting for; a second one ends it at once.

A thread hears the signals: the main thread may be deep in a library that hears none.
"""

import _thread
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from types import FrameType
from typing import NoReturn

from holdfast.cli.output import Output, report_error
from holdfast.core import stopping
from holdfast.core.errors import HoldfastError, InterruptedByUserError

_NAMES = ("SIGINT", "SIGTERM", "SIGHUP")
_SENTENCE = "stopping; a second signal (Ctrl-C) stops at once"
_IN_ORDER = 1.2
"""Seconds that the main thread has to end by itself."""
_LETTING_GO = 0.5
"""Seconds after those to let go of locks in its stead."""
_ECHO = 0.3
"""Seconds within which a signal that comes again is the same one: some programs pass on what the
terminal has sent to all already.
"""
_BELOW = "\x1b[?25h\n"
"""Shows the cursor again, which is hidden while progress is drawn."""
_WORDS = 0.2
"""Seconds that a sentence may take to be written; nobody waits for a terminal that stands still."""


@dataclass(slots=True)
class _Command:
    """The command of this process, as far as stopping it goes."""

    listening: bool = False
    hearing: bool = False
    interrupted: bool = False
    reported: bool = False
    json: bool = False
    say: Callable[[str], None] = print
    said: threading.Event = field(default_factory=threading.Event)
    lets_go: list[Callable[[], None]] = field(default_factory=list)


_command = _Command()


def listen() -> None:
    """Has the signals that end programs raise `KeyboardInterrupt`. Call it once, at the start of
    the main thread.
    """
    _command.listening = True
    for number in _numbers():
        if number != signal.SIGINT:  # Python does so already, and asyncio relies on its handler
            signal.signal(number, _interrupt)


def hear(output: Output) -> None:
    """From now on the process ends within two seconds of a signal. Nothing without `listen`."""
    if not _command.listening or _command.hearing:
        return
    _command.hearing = True
    _command.json = output.json
    _command.say = (
        (lambda text: output.message("note", message=text)) if output.json else output.warn
    )
    read, write = os.pipe()
    os.set_blocking(write, False)
    signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    for number in _numbers():
        signal.signal(number, _interrupt)
    # None of `threading`'s own, since commands fork while there is none: this one holds no lock.
    _thread.start_new_thread(_attend, (read,))


@contextmanager
def letting_go(release: Callable[[], None]) -> Iterator[None]:
    """`release` is called where the process has to end in the midst of the block."""
    _command.lets_go.append(release)
    try:
        yield
    finally:
        _command.lets_go.remove(release)


@contextmanager
def speaking(say: Callable[[str], None]) -> Iterator[None]:
    """Within the block `say` is how a person is told something."""
    before, _command.say = _command.say, say
    try:
        yield
    finally:
        _command.say = before


def report_interruption(*, json: bool) -> None:
    """The last words of a command that was stopped."""
    _command.reported = True
    report_error(InterruptedByUserError("interrupted"), json=json)


def end(code: int) -> NoReturn:
    """Ends the process. Signals that come from here on come too late to stop anything."""
    for number in _numbers():
        signal.signal(number, signal.SIG_IGN)
    sys.stdout.flush()
    if stopping.requested():
        os._exit(code)  # Python would wait for threads that wait for a network
    sys.exit(code)


def _numbers() -> list[int]:
    """The signals that end programs, less those that whoever started this one has ignored."""
    found = [getattr(signal, name) for name in _NAMES if hasattr(signal, name)]
    return [number for number in found if signal.getsignal(number) is not signal.SIG_IGN]


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    if _command.hearing:
        if _command.interrupted:
            return  # tidying up is not disturbed: `_attend` sees to what is left
        _command.interrupted = True
        _command.said.wait(_WORDS)
    raise KeyboardInterrupt


def _attend(signals: int) -> None:
    """The life of the thread that hears signals."""
    while not _is_told(signals, None):
        pass
    told = time.monotonic()
    stopping.request()
    _briefly(lambda: _command.say(_SENTENCE), _WORDS)
    _command.said.set()
    from holdfast.repo.processes import kill_workers, stop_workers
    from holdfast.store.directory import drop_unfinished

    stop_workers()
    while (left := told + _IN_ORDER - time.monotonic()) > 0:
        if _is_told(signals, left) and time.monotonic() - told > _ECHO:
            break
    else:
        for release in tuple(_command.lets_go):
            _briefly(release, _LETTING_GO / len(_command.lets_go))
    kill_workers()
    drop_unfinished()
    if not _command.reported:
        _briefly(_report_instead, _WORDS)
    os._exit(InterruptedByUserError.exit_code)


def _report_instead() -> None:
    """The last words where the main thread has none, below what is drawn on the terminal."""
    if sys.stderr.isatty():
        sys.stderr.write(_BELOW)
    report_interruption(json=_command.json)


def _is_told(signals: int, seconds: float | None) -> bool:
    """Whether one of the signals has come; waits so long for the next of any kind."""
    if not select.select([signals], [], [], seconds)[0]:
        return False
    return not set(_numbers()).isdisjoint(os.read(signals, 64))


def _briefly(act: Callable[[], None], seconds: float) -> None:
    """Does something, and waits no longer than this for it."""
    done = threading.Event()

    def run() -> None:
        with suppress(HoldfastError, OSError):
            act()
        done.set()

    _thread.start_new_thread(run, ())
    done.wait(seconds)
