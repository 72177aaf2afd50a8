"""Filling packs from many uploads at once. Each lane belongs to one thread, which seals into it."""

from __future__ import annotations

import queue
import threading
from typing import TYPE_CHECKING

from holdfast.repo.format.codec import Codec
from holdfast.repo.format.pack import BlobKind, PackBuffer, store_pack
from holdfast.repo.saving.intake_ledger import OpenPack

if TYPE_CHECKING:
    from collections.abc import Callable

    from holdfast.core.ids import BlobId
    from holdfast.repo.format.crypto import Buffer
    from holdfast.repo.objects import Objects
    from holdfast.repo.saving.intake_ledger import Account, Ledger
    from holdfast.repo.saving.sealing import SealingPlan

TREE_PACK_SIZE = 4 << 20


def _fail(_: OpenPack) -> None:
    raise AssertionError("nobody waits for a pack that its own thread fills")


class Lane:
    """Packs of one kind of blob, one after the other. This one writes them in the thread that fills
    them.
    """

    def __init__(
        self,
        objects: Objects,
        ledger: Ledger,
        plan: SealingPlan,
        kind: BlobKind,
        close_soon: Callable[[OpenPack], None] = _fail,
    ) -> None:
        self._objects = objects
        self._ledger = ledger
        self._kind = kind
        self._compression = plan.compression
        self._pack_size = plan.pack_size if kind is BlobKind.DATA else TREE_PACK_SIZE
        self._close_soon = close_soon
        self._codec: Codec | None = None
        self._buffer: PackBuffer | None = None
        self.pack: OpenPack | None = None
        """The one that is being filled."""

    def seal(self, blob: BlobId, plaintext: Buffer, account: Account) -> None:
        """Has the repository keep a blob, unless it does or somebody is about to. To be called
        inside the tenure.

        Raises:
            VerificationError, MemoryError: it could not be sealed. Its pack is given up, and every
            upload that relies on it fails.
        """
        if self._buffer is None:
            self._buffer = self._empty_buffer()
        if self.pack is None:
            self.pack = OpenPack(self._close_soon)
        if not self._ledger.claim(blob, self._kind, self.pack, account):
            return
        try:
            packed = self._buffer.add(blob, self._kind, plaintext)
        except BaseException as error:
            self.give_up(error)
            raise
        self._ledger.count(account, self._kind, len(plaintext), packed.length)
        if self._buffer.size >= self._pack_size:
            self.close_pack()

    def _new_buffer(self) -> PackBuffer:
        # Made in the thread that uses it: ciphers and codecs belong to one.
        self._codec = self._codec or Codec(self._compression)
        compress = self._objects.version > 1
        return PackBuffer(
            self._objects.cipher, self._codec, compress=compress, capacity=self._pack_size
        )

    def _empty_buffer(self) -> PackBuffer:
        return self._new_buffer()

    def give_up(self, error: BaseException) -> None:
        """Drops the pack that is being filled."""
        if self.pack is not None:
            self._ledger.fail(self.pack, error)
        if self._buffer is not None:
            self._buffer.clear()
        self.pack = None

    def close_pack(self) -> None:
        """Has what is there written, full or not. Failing is told to those who rely on it."""
        pack, buffer = self.pack, self._buffer
        if pack is None or buffer is None or not buffer.blobs:
            return
        try:
            content = buffer.finish()
        except Exception as error:  # noqa: BLE001  told to all who rely on the pack
            self.give_up(error)
            return
        self.pack = None
        self._ledger.writing(pack)
        self._dispatch(pack, buffer, content)

    def _dispatch(self, pack: OpenPack, buffer: PackBuffer, content: memoryview) -> None:
        self._store(pack, buffer, content)

    def _store(self, pack: OpenPack, buffer: PackBuffer, content: memoryview) -> None:
        """Ends with the pack either durable or failed."""
        try:
            stored = store_pack(self._objects.store, content, buffer.blobs)
        except BaseException as error:  # noqa: BLE001  told to all who rely on the pack
            self._ledger.fail(pack, error)
        else:
            self._ledger.stored(pack, stored)
        finally:
            content.release()
            buffer.clear()

    def trim(self) -> None:
        """Gives memory back that nothing is in."""
        if self._buffer is not None and not self._buffer.blobs:
            self._buffer = None


class WrittenBehind(Lane):
    """A lane with a writing thread: one buffer fills while another is written, and a third thing
    waits. `extend` and `leave` are the tenure's: a pack under way counts as somebody inside.
    """

    def __init__(
        self,
        objects: Objects,
        ledger: Ledger,
        plan: SealingPlan,
        kind: BlobKind,
        close_soon: Callable[[OpenPack], None],
        *,
        extend: Callable[[], None],
        leave: Callable[[], None],
    ) -> None:
        super().__init__(objects, ledger, plan, kind, close_soon)
        self._extend = extend
        self._leave = leave
        self._buffers = 0
        self._free: queue.SimpleQueue[PackBuffer] = queue.SimpleQueue()
        self._full: queue.SimpleQueue[tuple[OpenPack, PackBuffer, memoryview] | None]
        self._full = queue.SimpleQueue()
        self._writer: threading.Thread | None = None

    def _empty_buffer(self) -> PackBuffer:
        if self._free.empty() and self._buffers < 2:  # noqa: PLR2004  one fills, one is written
            self._buffers += 1
            return self._new_buffer()
        return self._free.get()

    def _dispatch(self, pack: OpenPack, buffer: PackBuffer, content: memoryview) -> None:
        self._buffer = None
        self._extend()
        if self._writer is None:
            self._writer = threading.Thread(target=self._write, name="intake-pack", daemon=True)
            self._writer.start()
        self._full.put((pack, buffer, content))

    def _write(self) -> None:
        while (full := self._full.get()) is not None:
            _, buffer, _ = full
            try:
                self._store(*full)
            finally:
                self._leave()
                self._free.put(buffer)
                del full, buffer

    def trim(self) -> None:
        if self._buffer is not None and not self._buffer.blobs:
            self._buffer = None
            self._buffers -= 1
        while not self._free.empty():
            self._free.get()
            self._buffers -= 1

    def end(self) -> None:
        """Ends the writing thread, once all that was closed is written."""
        if self._writer is not None:
            self._full.put(None)
            self._writer.join()
