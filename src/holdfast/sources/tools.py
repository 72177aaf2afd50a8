"""Programs that dump, list and take back: found, run without a shell, believed only when they ended
well and said all of it.
"""

from __future__ import annotations

import errno
import os
import shlex
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from holdfast.core.errors import RestoreError, SourceError
from holdfast.sources.command import StreamContent

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from holdfast.core.entries import Entry

_LAST_WORDS = 2000
"""Bytes of what a failing program said that are told."""
_EDGE = 4096
"""Bytes at the beginning and the end of a dump that are looked at."""
_COPIED = 1 << 20


def find_tool(names: Sequence[str], folder: str, *, elsewhere: Iterable[Path] = ()) -> str:
    """The path of the first of some programs that is there: in `folder`; or where that is empty, in
    PATH, or in one of some other folders.

    Raises:
        SourceError: none is.
    """
    places = [folder] if folder else [os.environ.get("PATH", os.defpath), *map(str, elsewhere)]
    for place in places:
        for name in names:
            if found := shutil.which(name, path=place):
                return found
    where = f"in {folder}" if folder else "on this machine"
    raise SourceError(
        f"there is no {' and no '.join(names)} {where}",
        remedy="Nothing was done. Install the client programs of the database, or say with `tools`"
        " which folder they are in.",
    )


def ask(
    words: Sequence[str],
    environment: Mapping[str, str],
    *,
    text: str = "",
    limit: float | None = None,
) -> bytes:
    """What a program prints, given a text.

    Raises:
        SourceError: it cannot be started, fails, or takes longer than `limit` seconds.
    """
    shown = Path(words[0]).name
    try:
        done = subprocess.run(
            words, env=environment, input=text.encode(), capture_output=True, timeout=limit,
            check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise SourceError(f"{shown} took longer than {limit:g} s") from None
    except (OSError, ValueError) as error:
        raise SourceError(f"{shown} cannot be started: {error}") from error
    if done.returncode:
        raise SourceError(_sentence(f"{shown} failed", done.stderr))
    return done.stdout


def secret_of(command: str) -> str:
    """The password that a command prints, without what ends its line.

    Raises:
        SourceError: it gives none.
    """
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise SourceError(f"password_command cannot be read: {error}") from error
    if not words:
        raise SourceError("password_command is empty")
    answer = ask(words, os.environ, limit=60.0)
    return answer.decode("utf-8", "surrogateescape").rstrip("\r\n")


def _sentence(beginning: str, complaint: bytes) -> str:
    """With the last of what the program complained of."""
    words = complaint[-_LAST_WORDS:].decode("utf-8", "replace")
    words = " / ".join(line.strip() for line in words.splitlines() if line.strip())
    return f"{beginning}: {words}" if words else beginning


class Dump:
    """What a program writes, as a content; see `core.source.Content`.

    It is whole when the program ended with status 0 and what it wrote begins and ends as it must.
    Anything else is an OSError at the end of reading.
    """

    def __init__(
        self,
        entry: Entry,
        words: Sequence[str],
        environment: Mapping[str, str],
        *,
        what: str,
        begins: bytes = b"",
        ends: bytes = b"",
        closing: Callable[[], None] = lambda: None,
    ) -> None:
        """`what`: for messages, what is dumped. `ends`: what is among the last bytes. `closing` is
        called once the program has ended.
        """
        self.entry = entry
        self._what = what
        self._begins = begins
        self._ends = ends
        self._closing = closing
        self._first = self._last = b""
        self._complaint = tempfile.TemporaryFile()  # noqa: SIM115  closed by close
        shown = Path(words[0]).name
        try:
            process = subprocess.Popen(
                words, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                stderr=self._complaint, bufsize=0,
            )  # fmt: skip
        except (OSError, ValueError) as error:
            self._complaint.close()
            raise SourceError(f"{shown} cannot be started: {error}") from error
        assert process.stdout is not None
        self._stream = StreamContent(entry, shown, process.stdout.fileno(), process)

    def readinto(self, buffer: memoryview, /) -> int:
        try:
            count = self._stream.readinto(buffer)
        except SourceError as error:
            raise self._failure(_sentence(error.message, self._complained())) from error
        if count:
            self._look_at(buffer[:count])
        else:
            self._check_edges()
        return count

    def _look_at(self, piece: memoryview) -> None:
        if len(self._first) < len(self._begins):
            self._first += bytes(piece[: len(self._begins) - len(self._first)])
        self._last = (self._last + bytes(piece[-_EDGE:]))[-_EDGE:]

    def _check_edges(self) -> None:
        if self._first != self._begins:
            raise self._failure("what was written is no dump")
        if self._ends not in self._last:
            raise self._failure("what was written is cut short, though no error was told")
        if complaint := self._complained():
            os.write(2, complaint)  # warnings are for who runs this

    def _failure(self, message: str) -> OSError:
        return OSError(errno.EIO, f"{self._what} could not be dumped: {message}")

    def _complained(self) -> bytes:
        self._complaint.seek(0, os.SEEK_END)
        self._complaint.seek(max(self._complaint.tell() - _LAST_WORDS, 0))
        return self._complaint.read()

    def skip_hole(self) -> int:
        return 0

    def seek(self, offset: int, /) -> None:
        self._stream.seek(offset)

    def unchanged(self) -> bool:
        return True

    def xattrs(self) -> list[tuple[bytes, bytes]]:
        return []

    def close(self) -> None:
        self._stream.close()
        self._complaint.close()
        self._closing()


class NamedDump(Dump):
    """One of several: it notes in `failed` that it could not be made."""

    def __init__(self, failed: list[str], name: str, *rest: Any, **words: Any) -> None:
        self._failed = failed
        self._name = name
        super().__init__(*rest, **words)

    def _failure(self, message: str) -> OSError:
        self._failed.append(self._name)
        return super()._failure(message)


def feed(
    words: Sequence[str], environment: Mapping[str, str], source: BinaryIO, *, what: str
) -> bytes:
    """Runs a program that reads `source`; what it complained of although it ended well.

    Raises:
        RestoreError: it fails, or stops reading.
    """
    shown = Path(words[0]).name
    with tempfile.TemporaryFile() as complaint:
        try:
            process = subprocess.Popen(
                words, env=environment, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
                stderr=complaint,
            )  # fmt: skip
        except (OSError, ValueError) as error:
            raise RestoreError(f"{shown} cannot be started: {error}") from error
        assert process.stdin is not None
        broke_off = False
        try:
            with process.stdin:
                shutil.copyfileobj(source, process.stdin, _COPIED)
        except BrokenPipeError:
            broke_off = True
        except BaseException:
            process.kill()
            process.wait()
            raise
        status = process.wait()
        complaint.seek(0)
        said = complaint.read()
        if status or broke_off:
            raise RestoreError(_sentence(f"{what}: {shown} failed with status {status}", said))
        return said
