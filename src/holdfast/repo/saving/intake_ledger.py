"""What the repository has, and what is on its way into it and in which pack.

A blob counts as the repository's own only once an index file names it. From the moment somebody
undertakes to seal it until then it is pending, in one certain pack; whoever meets it meanwhile need
not seal it again, but its upload now depends on that pack: it may not be committed before the pack
is durable and in the index, and fails if the pack does.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING

from holdfast.core.errors import LockLostError, ObjectNotFoundError
from holdfast.core.ids import ID_SIZE, BlobId
from holdfast.repo.format.pack import BlobKind
from holdfast.repo.saving.reconcile import distrusted_packs
from holdfast.repo.saving.sealing import Sealed
from holdfast.store.contract import FileKind

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

    from holdfast.core.ids import PackId
    from holdfast.repo.format.pack import StoredPack
    from holdfast.repo.repository import Repository


class Stage(Enum):
    """How far a pack is."""

    FILLING = 1
    WRITING = 2
    STORED = 3
    """durable, in no index yet"""
    INDEXED = 4
    FAILED = 5


class OpenPack:
    """A pack from its first blob until it is in the index, or never will be."""

    __slots__ = ("accounts", "blobs", "close_soon", "failure", "stage", "stored")

    def __init__(self, close_soon: Callable[[OpenPack], None]) -> None:
        self.close_soon = close_soon
        """Has it written although it is not full; returns at once. For who does not fill it."""
        self.stage = Stage.FILLING
        self.blobs: list[tuple[int, BlobId]] = []
        self.accounts: set[Account] = set()
        self.stored: StoredPack | None = None
        self.failure: BaseException | None = None

    @property
    def settled(self) -> bool:
        return self.stage in {Stage.STORED, Stage.INDEXED, Stage.FAILED}


@dataclass(eq=False, slots=True)
class Account:
    """What one upload relies on, and what it brought. `fail` is called, from any thread and any
    number of times, when something that it relies on cannot be stored; it must not wait.
    """

    fail: Callable[[BaseException], None]
    packs: set[OpenPack] = field(default_factory=set)
    """Not yet in the index. Changed under the ledger's lock."""
    data: Sealed = field(default_factory=Sealed)
    trees: Sealed = field(default_factory=Sealed)

    touched: bool = False
    """Whether it relies on anything at all."""


class Ledger:
    """Safe for threads. The index counts as empty until `reload` was called."""

    def __init__(self, repository: Repository) -> None:
        self._repository = repository
        self._distrusted: Collection[PackId] | None = None
        self._pending: tuple[dict[BlobId, OpenPack], ...] = ({}, {})
        self._unindexed: list[OpenPack] = []
        self._changed = threading.Condition()

    # --- blobs ------------------------------------------------------------------------------------

    def claim(self, blob: BlobId, kind: BlobKind, pack: OpenPack, account: Account) -> bool:
        """True where the blob is new: the caller must now add it to `pack`, which it is filling, or
        call `fail`. The account depends on the pack that holds the blob, whichever that is.
        """
        account.touched = True
        pending = self._pending[kind]
        with self._changed:
            holder = pending.get(blob)
            if holder is None and self._has(blob, kind):
                return False
            new = holder is None
            if holder is None:
                holder = pending[blob] = pack
                pack.blobs.append((kind, blob))
            account.packs.add(holder)
            holder.accounts.add(account)
            return new

    def count(self, account: Account, kind: BlobKind, length: int, stored: int) -> None:
        """So much was sealed for an upload; two threads may be at it."""
        sealed = account.trees if kind is BlobKind.TREE else account.data
        with self._changed:
            sealed.blobs += 1
            sealed.bytes += length
            sealed.stored += stored

    def _has(self, blob: BlobId, kind: BlobKind) -> bool:
        if not self._distrusted:
            return self._repository.index.find(blob, kind) is not None
        places = self._repository.index.find_all(blob, kind)
        return any(place.pack not in self._distrusted for place in places)

    def lacks(self, ids: bytes, kind: BlobKind) -> bool:
        """Whether any of the concatenated ids is neither the repository's nor pending."""
        with self._changed:
            pending = self._pending[kind]
            return any(
                blob not in pending and not self._has(blob, kind)
                for at in range(0, len(ids), ID_SIZE)
                for blob in (BlobId(ids[at : at + ID_SIZE]),)
            )

    def in_index(self, ids: bytes, kind: BlobKind) -> bytes:
        """Those of the concatenated ids that the index names."""
        found = self._repository.index.contains_many(ids, kind)
        return b"".join(
            ids[ID_SIZE * i : ID_SIZE * (i + 1)] for i, there in enumerate(found) if there
        )

    # --- packs ------------------------------------------------------------------------------------

    def writing(self, pack: OpenPack) -> None:
        with self._changed:
            pack.stage = Stage.WRITING

    def stored(self, pack: OpenPack, stored: StoredPack) -> None:
        """The pack is durable."""
        with self._changed:
            pack.stage = Stage.STORED
            pack.stored = stored
            self._unindexed.append(pack)
            self._changed.notify_all()

    def fail(self, pack: OpenPack, failure: BaseException) -> None:
        """The pack will never be stored: its blobs are nobody's, and who relied on them fails."""
        with self._changed:
            if pack.stage is Stage.FAILED:
                return
            pack.stage = Stage.FAILED
            pack.failure = failure
            if pack in self._unindexed:
                self._unindexed.remove(pack)
            accounts = list(pack.accounts)
            self._forget(pack)
            self._changed.notify_all()
        for account in accounts:
            account.fail(failure)

    def _forget(self, pack: OpenPack) -> None:
        for kind, blob in pack.blobs:
            if self._pending[kind].get(blob) is pack:
                del self._pending[kind][blob]
        for account in pack.accounts:
            if pack.stage is Stage.INDEXED:
                account.packs.discard(pack)
        pack.blobs = []
        pack.accounts = set()

    def await_packs(self, accounts: Iterable[Account]) -> None:
        """Has every pack that these depend on written, and returns when each is stored, indexed or
        failed.
        """
        with self._changed:
            packs = {pack for account in accounts for pack in account.packs}
            filling = [pack for pack in packs if pack.stage is Stage.FILLING]
        for pack in filling:
            pack.close_soon(pack)
        with self._changed:
            self._changed.wait_for(lambda: all(pack.settled for pack in packs))

    @property
    def has_unindexed(self) -> bool:
        return bool(self._unindexed)

    def save_index(self) -> None:
        """Makes every stored pack findable, durable before it returns.

        Raises:
            StoreError: the index could not be stored; the packs stay as they are.
        """
        with self._changed:
            packs = list(self._unindexed)
        if not packs:
            return
        self._repository.save_index([pack.stored for pack in packs if pack.stored is not None])
        with self._changed:
            for pack in packs:
                pack.stage = Stage.INDEXED
                self._unindexed.remove(pack)
                self._forget(pack)
            self._changed.notify_all()

    # --- after others had the repository ----------------------------------------------------------

    def reload(self) -> None:
        """Learns what the repository has now. To be called with its lock newly taken, while nothing
        is being sealed or written.

        Raises:
            StoreError, DamagedError: the index cannot be read.
        """
        if self._repository.refresh_index() or self._distrusted is None:
            self._distrusted = distrusted_packs(self._repository)
        for pack in list(self._unindexed):
            assert pack.stored is not None
            try:
                self._repository.store.stat(FileKind.PACK, pack.stored.id.hex())
            except ObjectNotFoundError:
                self.fail(pack, LockLostError(LOST))


LOST = "what was stored of this upload was removed while another program had the repository"
