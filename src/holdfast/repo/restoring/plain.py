"""The usual case in one piece: a small ordinary file, new in a directory that this run made.

Most files are such files, and taking them through everything that others need costs more than
their content. Whatever is out of the ordinary, or fails, is left to `Filler`, who tries it again
and knows what to say.
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from typing import TYPE_CHECKING

from holdfast.core.errors import HoldfastError
from holdfast.repo.format.tree import blob_id
from holdfast.repo.format.zeros import ZERO_PIECE
from holdfast.repo.restoring import destination as place

if TYPE_CHECKING:
    from holdfast.repo.browsing.reading import BlobReader
    from holdfast.repo.format.tree import Node
    from holdfast.repo.restoring.destination import Destination
    from holdfast.repo.restoring.metadata import Rights


class PlainFiles:
    """Belongs to one worker."""

    def __init__(self, destination: Destination, reader: BlobReader, rights: Rights) -> None:
        self._destination = destination
        self._reader = reader
        self._rights = rights

    def restore(self, path: bytes, name: bytes, node: Node) -> bool:
        """Makes a file in the directory `path`, with its content and metadata; False where it does
        not.
        """
        content = node.content
        ours = node.uid == self._rights.uid and node.gid == self._rights.gid
        if (
            node.type != "file"
            or content is None
            or len(content) > 1
            or node.size >= ZERO_PIECE  # may be a hole
            or not 0 <= node.mode <= 0o777  # noqa: PLR2004
            or node.extended_attributes
            or not (ours or self._rights.privileged)
        ):
            return False
        try:
            times = node.times()
            plain = self._reader.read(blob_id(content[0])) if content else b""
            if len(plain) != node.size:
                return False
            folder = self._destination.folder(path)
            descriptor = place.create(folder, name, node.mode if ours else 0o600)
        except (OSError, HoldfastError):
            return False
        try:
            done = os.pwrite(descriptor, plain, 0) == node.size
            found = os.fstat(descriptor)
            if found.st_uid != node.uid or found.st_gid != node.gid:
                os.fchown(descriptor, node.uid, node.gid)
            if stat.S_IMODE(found.st_mode) != node.mode:
                os.fchmod(descriptor, node.mode)
            os.utime(descriptor, ns=times)
        except (OSError, OverflowError):
            done = False
        finally:
            os.close(descriptor)
        if not done:
            with suppress(OSError):  # what stays is replaced by who tries next
                place.remove(folder, name)
        return done
