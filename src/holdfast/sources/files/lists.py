"""Files in which people list what to keep (--files-from) and what to leave out (--exclude-file).

`-` in place of a file is standard input.
"""

from __future__ import annotations

import os
import re
import sys
from typing import TYPE_CHECKING

from holdfast.core.errors import UsageError
from holdfast.core.patterns import decode_text, name_test, parse_pattern_file

if TYPE_CHECKING:
    from collections.abc import Iterable

_SPECIAL = re.compile(r"[*?\[\\]")


def read_patterns(files: Iterable[str]) -> list[str]:
    """The patterns of --exclude-file, --include-file and so on; see `core.patterns`.

    Raises:
        UsageError: a file cannot be read.
    """
    return [line for file in files for line in parse_pattern_file(_read(file), os.environ)]


def read_roots(file: str) -> list[bytes]:
    """--files-from: a pattern a line; lines that begin with `#` are comments.

    As in a shell a pattern that stands for nothing is taken as a name, so that its absence is told.

    Raises:
        UsageError: the file cannot be read, or a pattern is malformed.
    """
    lines = (line.strip() for line in decode_text(_read(file)).split("\n"))
    return [root for line in lines if line and line[0] != "#" for root in expand(line)]


def read_roots_verbatim(file: str) -> list[bytes]:
    """--files-from-verbatim: a name a line, taken as it is; empty lines are left out.

    Raises:
        UsageError: the file cannot be read.
    """
    lines = decode_text(_read(file)).split("\n")
    return [os.fsencode(line.removesuffix("\r")) for line in lines if line.removesuffix("\r")]


def read_roots_raw(file: str) -> list[bytes]:
    """--files-from-raw: names that end in a zero byte each, as of `find -print0`.

    Raises:
        UsageError: the file cannot be read, its end is missing, or a name is empty.
    """
    *names, rest = _read(file).split(b"\0")
    if rest:
        raise UsageError(
            f"{file} was cut off: its last name does not end in a zero byte",
            remedy="No backup was made. Write the list with `find -print0`.",
        )
    if not all(names):
        raise UsageError(f"{file} holds an empty name", remedy="No backup was made. Mend the list.")
    return names


def expand(pattern: str) -> list[bytes]:
    """The names that a pattern stands for, sorted; the pattern itself where there are none.

    Raises:
        UsageError: it is malformed.
    """
    places = [b"/" if pattern.startswith("/") else b""]
    for part in filter(None, pattern.split("/")):
        if _SPECIAL.search(part):
            matches = name_test(part)
            places = [
                os.path.join(place, name)
                for place in places
                for name in _list(place or b".")
                if matches(name)
            ]
        else:
            places = [os.path.join(place, os.fsencode(part)) for place in places]
    return [place for place in places if os.path.lexists(place)] or [os.fsencode(pattern)]


def _list(folder: bytes) -> list[bytes]:
    try:
        return sorted(os.listdir(folder))
    except OSError:
        return []


def _read(file: str) -> bytes:
    try:
        if file == "-":
            return sys.stdin.buffer.read()
        with open(file, "rb") as stream:
            return stream.read()
    except OSError as error:
        raise UsageError(
            f"{file} cannot be read: {error.strerror}",
            remedy="Nothing was done. Name a file that you may read.",
        ) from error
