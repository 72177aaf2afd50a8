"""What `backup` is given: arguments, and lists in files by restic's three rules."""

import glob
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from holdfast.core.errors import UsageError


def collect(
    arguments: Sequence[str],
    *,
    patterns: Sequence[str] = (),
    verbatim: Sequence[str] = (),
    raw: Sequence[str] = (),
) -> list[bytes]:
    """All names, in the order: arguments, then `--files-from` with patterns, then verbatim lines,
    then raw ones.

    Raises:
        UsageError: a file cannot be read, a pattern matches nothing, or a raw list is not ended by
        NUL.
    """
    names = [os.fsencode(argument) for argument in arguments]
    for file in patterns:
        names += _matching(file)
    for file in verbatim:
        names += [line for line in _content(file).split(b"\n") if line]
    for file in raw:
        names += _raw(file)
    return names


def _matching(file: str) -> list[bytes]:
    """One pattern a line; blank lines and those that begin with # are passed over."""
    names = []
    for line in _content(file).split(b"\n"):
        pattern = line.strip()
        if not pattern or pattern.startswith(b"#"):
            continue
        found = sorted(glob.glob(pattern, include_hidden=True))  # noqa: PTH207  names are bytes
        if not found:
            raise UsageError(
                f"the pattern {os.fsdecode(pattern)!r} in {file} matches nothing",
                remedy="No backup was made. Mend the list.",
            )
        names += found
    return names


def _raw(file: str) -> list[bytes]:
    """Each name ended by NUL, as `find -print0` writes them."""
    content = _content(file)
    if content and not content.endswith(b"\0"):
        raise UsageError(
            f"{file} does not end in NUL",
            remedy="No backup was made. Write it with `find -print0`.",
        )
    names = content.split(b"\0")[:-1]
    if b"" in names:
        raise UsageError(f"{file} holds an empty name", remedy="No backup was made. Mend the list.")
    return names


def _content(file: str) -> bytes:
    if file == "-":
        return sys.stdin.buffer.read()
    return read_file(file)


def read_file(file: str) -> bytes:
    """The bytes of a file that an option names.

    Raises:
        UsageError: it cannot be read.
    """
    try:
        return Path(file).read_bytes()
    except OSError as error:
        raise UsageError(
            f"{file} cannot be read: {error.strerror}",
            remedy="Nothing was done. Name a file that you may read.",
        ) from error


def patterns_in(files: Sequence[str]) -> list[str]:
    """The patterns of files, as --exclude-file takes them."""
    from holdfast.core.patterns import parse_pattern_file

    return [
        pattern for file in files for pattern in parse_pattern_file(read_file(file), os.environ)
    ]
