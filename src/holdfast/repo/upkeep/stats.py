"""How much snapshots hold, counted in restic's four ways."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from holdfast.core.errors import UnreadableError
from holdfast.core.ids import SHORT_ID, BlobId
from holdfast.repo.blobs.blobtable import build
from holdfast.repo.blobs.index_file import decode_rows
from holdfast.repo.browsing.walk import walk
from holdfast.repo.format.crypto import OVERHEAD
from holdfast.repo.format.pack import BlobKind
from holdfast.repo.upkeep.used import find_used, row_of
from holdfast.store.contract import FileKind

if TYPE_CHECKING:
    from collections.abc import Sequence

    from holdfast.core.progress import Progress
    from holdfast.repo.format.snapshot import Snapshot
    from holdfast.repo.format.tree import Node
    from holdfast.repo.repository import Repository


class CountMode(StrEnum):
    """restic's words."""

    RESTORE_SIZE = "restore-size"
    FILES_BY_CONTENTS = "files-by-contents"
    BLOBS_PER_FILE = "blobs-per-file"
    RAW_DATA = "raw-data"


@dataclass(frozen=True, slots=True)
class Stats:
    """`uncompressed`, in raw-data mode: the bytes of all those blobs before compression."""

    total_size: int
    total_file_count: int
    total_blob_count: int
    snapshots_count: int
    uncompressed: int = 0

    def as_json(self) -> dict[str, int | float]:
        """The fields of restic's `stats --json`, and the compression of newer restic where it is
        known.
        """
        fields: dict[str, int | float] = {
            "total_size": self.total_size,
            "total_file_count": self.total_file_count,
        }
        if self.total_blob_count:
            fields["total_blob_count"] = self.total_blob_count
        fields["snapshots_count"] = self.snapshots_count
        if self.uncompressed:
            fields["total_uncompressed_size"] = self.uncompressed
            fields["compression_ratio"] = self.uncompressed / max(self.total_size, 1)
        return fields


def stats(
    repository: Repository,
    snapshots: Sequence[Snapshot],
    mode: CountMode,
    *,
    progress: Progress,
    workers: int | None = None,
) -> Stats:
    """Counts what the snapshots hold together.

    - restore-size: every entry, each inode of a snapshot once;
    - files-by-contents: files of different content;
    - blobs-per-file: the different blobs of each path, for files of different content;
    - raw-data: the different blobs, as they are stored.

    Raises:
        UnreadableError, DamagedError: a tree or a blob cannot be read.
    """
    progress.stage("counting", items=len(snapshots))
    if mode is CountMode.RAW_DATA:
        return _count_blobs(repository, snapshots, progress, workers)
    tally = _Tally(repository, mode)
    for snapshot in snapshots:
        inodes: set[int] = set()
        for step in walk(repository, snapshot.tree):
            tally.add(step.path, step.node, inodes)
        progress.add(items=1)
    return Stats(tally.size, tally.files, tally.blobs, len(snapshots))


class _Tally:
    def __init__(self, repository: Repository, mode: CountMode) -> None:
        self._index = repository.index
        self._mode = mode
        self._contents: set[bytes] = set()
        self._paths: dict[bytes, set[BlobId]] = {}
        self.size = self.files = self.blobs = 0

    def add(self, path: bytes, node: Node, inodes: set[int]) -> None:
        if self._mode is CountMode.RESTORE_SIZE:
            self.files += 1
            if not node.inode or node.inode not in inodes:
                inodes.add(node.inode)
                self.size += node.size
            return
        content = hashlib.sha256(b"".join(node.blobs())).digest()
        if content in self._contents:
            return
        self._contents.add(content)
        if self._mode is CountMode.FILES_BY_CONTENTS:
            self.size += node.size
            self.files += 1
            return
        for blob in node.blobs():
            self._add_blob(path, blob)

    def _add_blob(self, path: bytes, blob: BlobId) -> None:
        if path not in self._paths:
            self._paths[path] = set()
            self.files += 1
        if blob in self._paths[path]:
            return
        location = self._index.find(blob, BlobKind.DATA)
        if location is None:
            raise UnreadableError(f"data blob {blob.hex()[:SHORT_ID]} is in no index")
        self._paths[path].add(blob)
        self.blobs += 1
        self.size += location.raw_length or location.length - OVERHEAD


def _count_blobs(
    repository: Repository,
    snapshots: Sequence[Snapshot],
    progress: Progress,
    workers: int | None,
) -> Stats:
    names = [item.name for item in repository.store.list(FileKind.INDEX)]
    table = build(
        decode_rows(repository.objects.load(FileKind.INDEX, name), name=name) for name in names
    )
    roots = [snapshot.tree for snapshot in snapshots]
    used = find_used(repository, table, roots, progress=progress, workers=workers)
    used.require_whole()
    counted = bytearray(len(table))
    size = blobs = raw = 0
    for _, contents in table.by_pack():
        for blob in contents:
            row = row_of(table, blob.id, blob.kind)
            if used.marks[row] and not counted[row]:
                counted[row] = 1
                blobs += 1
                size += blob.length
                raw += blob.raw_length or blob.length - OVERHEAD
    return Stats(size, 0, blobs, len(snapshots), raw)
