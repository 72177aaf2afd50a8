"""Archives made on the fly from a tree, as pieces, never spooled: memory does not grow with size.

Names keep their bytes: a tar says so in its PAX headers, a zip has them as they are.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from holdfast.core.ids import BlobId
    from holdfast.repo.browsing.streaming import ReadPool


class ArchiveFormat(StrEnum):
    TAR = "tar"
    TAR_GZ = "tar.gz"
    TAR_XZ = "tar.xz"
    ZIP = "zip"
    """Members are stored as they are."""
    ZIP_DEFLATED = "zip-deflated"


def archive(
    pool: ReadPool,
    tree: BlobId,
    form: ArchiveFormat,
    *,
    top: bytes = b"",
    on_problem: Callable[[bytes, str], None] | None = None,
) -> Generator[bytes, None, None]:
    """All that lies below `tree`, in pieces of at most 8 MiB and usually 64 KiB or more. Close the
    generator when leaving early. `top`: a folder's name, below which everything lies in the
    archive.

    What an archive cannot hold (a socket, an impossible name) is told to `on_problem` and left out.

    Raises, in the middle, so that the archive must not be taken for whole:
        UnreadableError, DamagedError: a blob or a tree is in no place whole.
    """
    raise NotImplementedError
