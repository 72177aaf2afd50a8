"""Runs a `holdfast` command that dies of SIGKILL right before one of its writes:

    python -m holdfast.testing.killed --at 17 --count FILE -- backup /home -r /repository

Every system call by which a directory store changes its disk is counted, in this process and in
those forked from it together; whichever comes to the 17th kills itself there. A write is half done
by then. FILE holds the count at the end, as decimal digits. Without `--at`, nothing is killed.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import signal
import sys
from pathlib import Path
from threading import Lock
from typing import NoReturn

from holdfast.store import directory
from holdfast.store.files import SystemFiles


class KillingFiles(SystemFiles):
    """Counts the steps of all its users in the file `count`, and kills whoever comes to step `at`.

    For one process and those forked from it.
    """

    def __init__(self, count: Path, *, at: int | None) -> None:
        self._count = os.open(count, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._at = at
        self._lock = Lock()

    def make_folder(self, path: str) -> None:
        self._step()
        super().make_folder(path)

    def create(self, path: str) -> int:
        self._step()
        return super().create(path)

    def write(self, descriptor: int, data: memoryview) -> int:
        if self._is_last():
            super().write(descriptor, data[: len(data) // 2])
            _die()
        return super().write(descriptor, data)

    def sync(self, descriptor: int) -> None:
        self._step()
        super().sync(descriptor)

    def link(self, path: str, other: str) -> None:
        self._step()
        super().link(path, other)

    def rename(self, path: str, other: str) -> None:
        self._step()
        super().rename(path, other)

    def unlink(self, path: str) -> None:
        self._step()
        super().unlink(path)

    def sync_folder(self, path: str) -> None:
        self._step()
        super().sync_folder(path)

    def _step(self) -> None:
        if self._is_last():
            _die()

    def _is_last(self) -> bool:
        # A lock on the file ends with whoever held it, however that died.
        with self._lock:
            fcntl.lockf(self._count, fcntl.LOCK_EX)
            try:
                number = int(os.pread(self._count, 20, 0) or b"0") + 1
                os.pwrite(self._count, b"%d" % number, 0)
            finally:
                fcntl.lockf(self._count, fcntl.LOCK_UN)
        return number == self._at


def _die() -> NoReturn:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError  # not reached


def main() -> None:
    from holdfast.cli.main import main as holdfast

    parser = argparse.ArgumentParser(prog="python -m holdfast.testing.killed")
    parser.add_argument("--at", type=int)
    parser.add_argument("--count", required=True)
    parser.add_argument("command", nargs="+")
    options = parser.parse_args()
    files = KillingFiles(Path(options.count), at=options.at)
    directory.SystemFiles = lambda: files  # type: ignore[attr-defined,assignment]  # on purpose
    sys.argv = ["holdfast", *options.command]
    holdfast()


if __name__ == "__main__":
    main()
