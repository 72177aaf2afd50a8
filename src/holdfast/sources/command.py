"""One stream as a source: standard input, or what a command writes.

The stream becomes a single file. How long it is shows only at its end, so it is read once, as it
comes, by the process that opens it.
"""

from __future__ import annotations

import errno
import os
import posixpath
import shlex
import signal
import stat
import subprocess
from dataclasses import replace
from typing import TYPE_CHECKING

from holdfast.core.entries import Kind
from holdfast.core.errors import SourceError, UsageError
from holdfast.core.source import UP, Found
from holdfast.sources.streams import UNKNOWN_SIZE, made_entry

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from holdfast.core.clock import Clock
    from holdfast.core.entries import Entry
    from holdfast.core.source import Step

STDIN = 0
DEFAULT_NAME = b"/stdin"
_GRACE = 5.0
"""Seconds a command gets to end by itself once nobody reads it any more."""


class StreamSource:
    """A tree with one file, `filename`, which is what standard input or a command gives.

    `command` is an argument list, run without a shell; what it says on standard error is passed
    through. Without one, the stream is standard input.

    Raises:
        UsageError: `filename` names no file, or the command is empty.
    """

    def __init__(
        self,
        *,
        clock: Clock,
        filename: bytes = DEFAULT_NAME,
        command: Sequence[bytes] | None = None,
    ) -> None:
        path = b"/" + posixpath.normpath(b"/" + filename).lstrip(b"/")
        if path == b"/" or b"\0" in path:
            raise UsageError(f"{os.fsdecode(filename)!r} names no file")
        if command is not None and not command:
            raise UsageError("no command was given")
        self.roots: Sequence[bytes] = (path,)
        self._path = path
        self._time = clock.now()
        self._command = command
        self._opened = False

    def walk(self) -> Iterator[Step]:
        *folders, _ = self._path.split(b"/")[1:]
        path = b""
        for name in folders:
            path += b"/" + name
            yield Found(path, self._entry(name, Kind.DIR, stat.S_IFDIR | 0o755))
        entry = self._entry(self._path.rpartition(b"/")[2], Kind.FILE, stat.S_IFREG | 0o644)
        entry.size = UNKNOWN_SIZE
        yield Found(self._path, entry)
        for _ in folders:
            yield UP

    def open(self, path: bytes, entry: Entry) -> StreamContent:
        """Opens the stream, once.

        Raises:
            SourceError: the command cannot be started, or the stream was opened before.
        """
        if path != self._path or self._opened:
            raise SourceError(f"{os.fsdecode(path)} can be read only once")
        self._opened = True
        entry = replace(entry, size=0)
        if self._command is None:
            return StreamContent(entry, "standard input", STDIN)
        shown = shlex.join(os.fsdecode(word) for word in self._command)
        try:
            process = subprocess.Popen(
                self._command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, bufsize=0
            )
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise SourceError(f"{shown} cannot be started: {reason}") from error
        assert process.stdout is not None
        return StreamContent(entry, shown, process.stdout.fileno(), process)

    def xattrs(self, path: bytes, entry: Entry) -> list[tuple[bytes, bytes]]:  # noqa: ARG002  a stream has none
        return []

    def _entry(self, name: bytes, kind: Kind, mode: int) -> Entry:
        return made_entry(name, kind, mode, self._time)


class StreamContent:
    """An open stream; see `core.source.Content`. It cannot be moved in and does not change.

    A stream that fails, or a command that ends with another status than 0, is a `SourceError` at
    the end of reading rather than a file cut short.
    """

    def __init__(
        self,
        entry: Entry,
        shown: str,
        descriptor: int,
        process: subprocess.Popen[bytes] | None = None,
    ) -> None:
        self.entry = entry
        self._shown = shown
        self._descriptor = descriptor
        self._process = process

    def readinto(self, buffer: memoryview, /) -> int:
        try:
            count = os.readv(self._descriptor, [buffer])
        except OSError as error:
            raise SourceError(f"{self._shown} cannot be read: {error.strerror}") from error
        if not count and self._process is not None:
            self._check(self._process.wait())
        return count

    def _check(self, status: int) -> None:
        if status < 0:
            raise SourceError(f"{self._shown} was ended by {signal.strsignal(-status)}")
        if status:
            raise SourceError(f"{self._shown} ended with status {status}")

    def skip_hole(self) -> int:
        return 0

    def seek(self, offset: int, /) -> None:
        raise OSError(errno.ESPIPE, f"a stream has no position {offset}")

    def unchanged(self) -> bool:
        return True

    def xattrs(self) -> list[tuple[bytes, bytes]]:
        return []

    def close(self) -> None:
        """Ends a command that is still running."""
        process = self._process
        if process is None:
            return
        assert process.stdout is not None
        process.stdout.close()
        if process.poll() is None:
            process.terminate()
        try:
            process.wait(_GRACE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
