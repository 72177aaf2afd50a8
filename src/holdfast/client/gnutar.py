"""GNU tar as a child: archives out of it and into it, and what it says."""

from __future__ import annotations

import os
import shutil
import subprocess
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from threading import Thread
from typing import IO, TYPE_CHECKING, Final

from holdfast.client.streams import PipeReader, pieces
from holdfast.core.errors import RestoreError, SourceError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from holdfast.client.streams import Readable

_NOT_FOUND: Final = ": Not found in archive"
_LAST_WORDS: Final = "Exiting with failure status due to previous errors"
_CHANGED: Final = 1
"""Status where files changed or went while they were read."""


@dataclass(slots=True)
class Making:
    """An archive that is being made: to be read to its end, which is when `changed` is known."""

    stream: PipeReader
    process: subprocess.Popen[bytes]
    changed: bool = False

    def finish(self) -> None:
        """Raises SourceError where the archive is not what it should be."""
        status = self.process.wait()
        if status not in {0, _CHANGED}:
            raise SourceError(
                f"tar ended with status {status}; what it says is above",
                remedy="Nothing was stored. Mend the cause, or leave the file out with --exclude.",
            )
        self.changed = status == _CHANGED


@contextmanager
def making(
    files: Sequence[str], snapshot: Path, *, folder: str | None = None, exclude: Sequence[str] = ()
) -> Iterator[Making]:
    """A compressed archive of what changed since `snapshot`, which is brought up to date; of
    everything where that is missing.

    Raises:
        UsageError: there is no GNU tar.
    """
    command = ["tar", "--create", "--gzip", "--file=-", f"--listed-incremental={snapshot}"]
    command += [f"--exclude={pattern}" for pattern in exclude]
    command += [f"--directory={folder}"] if folder else []
    process = subprocess.Popen(
        [*command, "--", *files],
        executable=_gnu_tar(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    try:
        yield Making(PipeReader(process.stdout), process)
    finally:
        process.stdout.close()
        if process.poll() is None:
            process.kill()
        process.wait()


@dataclass(slots=True)
class Said:
    """What tar said while it extracted."""

    missing: set[str] = field(default_factory=set)
    """Files that were asked for and are not in this archive."""
    wrong: list[str] = field(default_factory=list)


def extract(
    archive: Readable, folder: Path, files: Sequence[str], *, on_line: Callable[[str], None]
) -> Said:
    """Unpacks a compressed archive into a folder; files that its folders no longer have go. Reads
    `archive` to its end, whatever tar needs of it.

    `on_line` gets what tar lists, from another thread.

    Raises:
        RestoreError: tar failed.
        UsageError: there is no GNU tar.
    """
    command = ["tar", "--extract", "--gzip", "--incremental", "--verbose", "--file=-"]
    process = subprocess.Popen(
        [*command, "--quoting-style=literal", f"--directory={folder}", "--", *files],
        executable=_gnu_tar(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=_plain_english(),
    )
    assert process.stdin is not None
    said = Said()
    listeners = [
        _listening(process.stdout, on_line),
        _listening(process.stderr, lambda line: _sort(line, said)),
    ]
    try:
        _feed(archive, process.stdin)
    except BaseException:
        process.kill()
        raise
    finally:
        status = process.wait()
        for listener in listeners:
            listener.join()
    if status and (said.wrong or not said.missing):
        words = f": {said.wrong[-1]}" if said.wrong else ""
        raise RestoreError(f"tar ended with status {status}{words}")
    return said


def _feed(archive: Readable, pipe: IO[bytes]) -> None:
    """All of the archive, which is verified only at its end; a tar that wants no more is left
    alone.
    """
    wanted = True
    for piece in pieces(archive):
        if wanted:
            try:
                pipe.write(piece)
            except BrokenPipeError:
                wanted = False
    try:
        pipe.close()
    except BrokenPipeError:
        pass


def _listening(pipe: IO[bytes] | None, hear: Callable[[str], None]) -> Thread:
    assert pipe is not None

    def listen() -> None:
        with pipe:
            for line in pipe:
                hear(os.fsdecode(line).rstrip("\n"))

    thread = Thread(target=listen, daemon=True)
    thread.start()
    return thread


def _sort(line: str, said: Said) -> None:
    if line.endswith(_NOT_FOUND):
        said.missing.add(line.removeprefix("tar: ").removesuffix(_NOT_FOUND))
    elif _LAST_WORDS not in line:
        said.wrong.append(line)


def _plain_english() -> dict[str, str]:
    """tar's words are read here; the letters of names stay as they are."""
    env = dict(os.environ)
    letters = env.pop("LC_ALL", None) or env.get("LC_CTYPE") or env.get("LANG") or "C.UTF-8"
    return {**env, "LC_CTYPE": letters, "LC_MESSAGES": "C", "LANGUAGE": ""}


@lru_cache
def _gnu_tar() -> str:
    for name in ("tar", "gtar"):
        path = shutil.which(name)
        if path is None:
            continue
        told = subprocess.run([path, "--version"], capture_output=True, check=False).stdout
        if b"GNU tar" in told:
            return path
    raise UsageError("there is no GNU tar here", remedy="Nothing was changed. Install GNU tar.")
