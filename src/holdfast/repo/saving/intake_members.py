"""What is in an archive that is being received, whichever kind that is."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import NamedTuple

from holdfast.core.errors import ArchiveRefusedError, NameRefusedError
from holdfast.repo.saving.intake_tree import check_path

MemberReader = Callable[[int], bytes]
"""Gives up to so many bytes of a member's content, b"" at its end. What is not asked for is passed
over. Raises ArchiveRefusedError where the archive is damaged or cut short.
"""


class Kind(Enum):
    FILE = "file"
    DIRECTORY = "directory"
    SYMLINK = "symbolic link"
    COPY = "hard link"


class Member(NamedTuple):
    """`path` and, of a hard link, `target` are relative and were checked."""

    path: bytes
    kind: Kind
    size: int = 0
    mode: int = 0o644
    mtime: int | None = None
    target: bytes = b""

    @property
    def shown(self) -> str:
        return shown(self.path)


def shown(path: bytes) -> str:
    return repr(path[:200].decode("utf-8", "backslashreplace"))


def safe_path(path: bytes) -> bytes:
    """A name out of an archive as a relative path, without "." and doubled slashes; b"" for the top
    itself.

    Raises:
        ArchiveRefusedError: it leads anywhere else, or is not what a file can be called.
    """
    relative = b"/".join(name for name in path.split(b"/") if name not in {b"", b"."})
    if not relative and path.startswith(b"."):
        return b""
    try:
        check_path(b"/" + relative if path.startswith(b"/") else relative)
    except NameRefusedError as error:
        raise ArchiveRefusedError(
            f"the archive holds a name that is refused: {shown(path)}"
        ) from error
    return relative
