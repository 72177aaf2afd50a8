"""Which blobs do snapshots need: the question that everything which deletes must answer without a
mistake.

Each tree is read once, parsed (never searched for patterns: another writer's spacing must not hide
live data), and each
blob it names is marked in memory that all workers share: one byte for each row of the index.
"""

from __future__ import annotations

import mmap
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from holdfast.core.errors import DamagedError, HoldfastError, UnreadableError
from holdfast.core.ids import ID_SIZE, SHORT_ID, BlobId
from holdfast.core.units import counted
from holdfast.repo.format import _kernel
from holdfast.repo.format.pack import BlobKind
from holdfast.repo.spread import spread_work
from holdfast.repo.upkeep import advice

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from holdfast.core.progress import Progress
    from holdfast.repo.blobs.blobtable import BlobTable
    from holdfast.repo.lock import Lock
    from holdfast.repo.processes import Message
    from holdfast.repo.repository import Repository

_BATCH = 64
"""Trees that a worker is given at once."""
_HEX = 2 * ID_SIZE


class _Node(msgspec.Struct, gc=False):
    content: list[str] | None = None
    subtree: str | None = None


class _Tree(msgspec.Struct, gc=False):
    nodes: list[_Node] | None


@dataclass(frozen=True, slots=True)
class Trouble:
    """A blob that is needed and is not known (`unread` empty), or a tree that cannot be read, and
    why.
    """

    blob: BlobId
    kind: BlobKind
    unread: str = ""


@dataclass(frozen=True, slots=True)
class Used:
    """`marks` has 1 at the first row of each needed blob. What is in `troubles` could not be
    followed further.
    """

    table: BlobTable
    marks: mmap.mmap
    troubles: tuple[Trouble, ...]
    trees: int

    def has(self, blob: BlobId, kind: int) -> bool:
        row = row_of(self.table, blob, kind)
        return row >= 0 and self.marks[row] == 1

    def is_index_short(self, unnamed: int) -> bool:
        """Whether what is missing may lie in the packs, so many, that no index names."""
        return bool(unnamed) and any(not trouble.unread for trouble in self.troubles)

    def require_whole(self, *, unnamed: int = 0) -> None:
        """Raises UnreadableError where anything that snapshots need is missing: then nothing may be
        deleted. `unnamed`: how many packs no index names.
        """
        if not self.troubles:
            return
        count, first = len(self.troubles), self.troubles[0]
        sentence = (
            f"{counted(count, 'blob')} that snapshots need cannot be read, among them the"
            f" {first.kind.word} blob {first.blob.hex()[:SHORT_ID]}"
        )
        if self.is_index_short(unnamed):
            raise UnreadableError(
                f"{sentence}; no index names {counted(unnamed, 'pack')}; nothing was deleted",
                remedy=advice.INDEX,
            )
        raise UnreadableError(
            f"{sentence}; nothing was deleted",
            remedy=f"`holdfast check` names the files that are hit. {advice.BLOBS}",
        )


def row_of(table: BlobTable, blob: bytes, kind: int) -> int:
    """The first row of a blob in a table: its number for whoever keeps notes on blobs. -1: none."""
    return _kernel.find_row(table.rows, table.starts, blob, kind == BlobKind.TREE)


def find_used(
    repository: Repository,
    table: BlobTable,
    roots: Iterable[BlobId],
    *,
    progress: Progress,
    lock: Lock | None = None,
    workers: int | None = None,
) -> Used:
    """Follows the root trees of snapshots to every blob they need. `table`: the index, complete.

    Trees are read through the index of `repository`, every place that it knows being tried. What
    is missing is reported in the result, never passed over. `lock` is kept fresh meanwhile. Call
    before any thread is started.
    """
    marks = mmap.mmap(-1, max(len(table), 1))
    spread = spread_work(
        repository.store, lambda: _reader(repository, table, marks), workers=workers
    )
    troubles: dict[tuple[BlobId, BlobKind], Trouble] = {}
    waiting: list[bytes] = []
    trees = 0

    def visit(ids: Iterable[BlobId]) -> None:
        for tree in ids:
            row = row_of(table, tree, BlobKind.TREE)
            if row < 0:
                troubles[tree, BlobKind.TREE] = Trouble(tree, BlobKind.TREE)
            elif not marks[row]:
                marks[row] = 1
                waiting.append(tree)

    try:
        with lock.refreshing() if lock else nullcontext():
            visit(roots)
            while waiting or spread.busy:
                while waiting and spread.room:
                    spread.give((b"".join(waiting[-_BATCH:]),))
                    del waiting[-_BATCH:]
                count, subtrees, missing, unread = spread.take()
                trees += count
                progress.add(items=count)
                visit(split_ids(subtrees))
                for blob in split_ids(missing):
                    troubles[blob, BlobKind.DATA] = Trouble(blob, BlobKind.DATA)
                for blob, why in unread:
                    troubles[blob, BlobKind.TREE] = Trouble(blob, BlobKind.TREE, why)
    finally:
        spread.close()
    return Used(table, marks, tuple(troubles.values()), trees)


def split_ids(ids: bytes) -> list[BlobId]:
    return [BlobId(ids[at : at + ID_SIZE]) for at in range(0, len(ids), ID_SIZE)]


def _reader(
    repository: Repository, table: BlobTable, marks: mmap.mmap
) -> Callable[[Message], Message]:
    """The worker's side: reads trees and marks what they name."""
    decode = msgspec.json.Decoder(_Tree).decode

    def read(piece: Message) -> Message:
        trees = split_ids(piece[0])
        subtrees: set[bytes] = set()
        content: set[bytes] = set()
        unread = []
        for tree in trees:
            try:
                nodes = decode(repository.load_blob(tree, BlobKind.TREE)).nodes or []
                names = [name for node in nodes for name in node.content or ()]
                content.update(_raw_ids(names))
                subtrees.update(_raw_ids([node.subtree for node in nodes if node.subtree]))
            except msgspec.DecodeError as error:
                unread.append((tree, f"it is no tree: {error}"))
            except HoldfastError as error:
                unread.append((tree, error.message))
        missing = []
        rows, starts = table.rows, table.starts
        for blob in content:
            row = _kernel.find_row(rows, starts, blob, False)
            if row < 0:
                missing.append(blob)
            else:
                marks[row] = 1
        return len(trees), b"".join(subtrees), b"".join(missing), unread

    return read


def _raw_ids(names: list[str]) -> list[bytes]:
    """Raises DamagedError where one of the names is not that of a blob."""
    try:
        raw = bytes.fromhex("".join(names))
    except ValueError:
        raw = b""
    if len(raw) != ID_SIZE * len(names) or any(len(name) != _HEX for name in names):
        raise DamagedError("a tree names something that is not a blob")
    return [raw[at : at + ID_SIZE] for at in range(0, len(raw), ID_SIZE)]
