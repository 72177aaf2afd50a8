"""Receiving archives: an uploaded tar or zip becomes the files that it holds.

What an archive says is not trusted. Names that lead anywhere are refused, links are kept and never
followed, and what inflates out of proportion is refused before it is written. A tar may come as a
stream; a zip keeps its list at the end and is read by ranges from something kept already
(`FileStream.as_file`), never by what its local headers claim.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from holdfast.repo.saving.intake import TreeSession

SNIFF = 512
"""Bytes from the beginning that tell what an archive is."""


class Packing(StrEnum):
    """What content says it is, whatever its name."""

    TAR = "tar"
    TAR_GZ = "tar.gz"
    TAR_XZ = "tar.xz"
    TAR_BZ2 = "tar.bz2"
    TAR_ZST = "tar.zst"
    ZIP = "zip"


@dataclass(frozen=True, slots=True)
class Limits:
    """What an archive may be at most; beyond it, ArchiveRefusedError."""

    total: int
    """Bytes of content of all its files together."""
    entries: int = 1_000_000
    ratio: int = 100
    """Times that it may inflate, beyond the first 64 KiB."""
    links: bool = True
    """Whether symbolic links are taken; False refuses the archive that has one."""


@dataclass(frozen=True, slots=True)
class Received:
    packing: Packing
    entries: int
    files: int
    size: int
    """bytes of content"""


def sniff(beginning: bytes) -> Packing | None:
    """What an archive that begins with these bytes (SNIFF, or all there are) is; None where it is
    none. That a compressed stream holds a tar shows only when it is received.
    """
    raise NotImplementedError


def receive(source: BinaryIO, session: TreeSession, limits: Limits) -> Received:
    """Reads an archive from the present position of `source` to its end, and gives its members to
    `session`, which is left to the caller to commit, or to abandon where this raises.

    A zip needs a `source` that can seek; anything else is read as it comes.

    Raises:
        ArchiveRefusedError: it is none, is damaged or cut short, has a name, a link or a member
        that may not be, or is larger than `limits` say.
        OSError, HoldfastError: what `source` or `session` raises.
    """
    raise NotImplementedError
