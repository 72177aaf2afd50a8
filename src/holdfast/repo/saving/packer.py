"""Fills packs in one thread and stores them in another, with two buffers between: one fills while
the other is written.
"""

from __future__ import annotations

import queue
import threading
from typing import TYPE_CHECKING

from holdfast.repo.format.pack import DEFAULT_PACK_SIZE, PackBuffer, StoredPack, store_pack

if TYPE_CHECKING:
    from collections.abc import Callable

    from holdfast.core.ids import BlobId
    from holdfast.repo.format.codec import Codec
    from holdfast.repo.format.crypto import Buffer
    from holdfast.repo.format.pack import PackedBlob
    from holdfast.repo.objects import Objects

_BUFFERS = 2


class Packer:
    """Belongs to one thread; `stored` is called in the writing thread for each pack that has become
    durable.
    """

    def __init__(
        self,
        objects: Objects,
        codec: Codec,
        stored: Callable[[StoredPack], None],
        *,
        pack_size: int = DEFAULT_PACK_SIZE,
    ) -> None:
        self._objects = objects
        self._stored = stored
        self._pack_size = pack_size
        self._codec = codec
        self._made = 1
        self._filling = self._new_buffer()
        self._free: queue.SimpleQueue[PackBuffer] = queue.SimpleQueue()
        self._full: queue.SimpleQueue[tuple[PackBuffer, memoryview] | None] = queue.SimpleQueue()
        self._failure: BaseException | None = None
        self._writer: threading.Thread | None = None
        self._unwritten = 0

    def _new_buffer(self) -> PackBuffer:
        return PackBuffer(
            self._objects.cipher,
            self._codec,
            compress=self._objects.version > 1,
            capacity=self._pack_size,
        )

    def add(self, blob: BlobId, kind: int, plaintext: Buffer) -> PackedBlob:
        """Seals one blob; may wait for the writing thread.

        Raises:
            StoreError: an earlier pack could not be stored.
            VerificationError: the blob did not survive sealing.
        """
        packed = self._filling.add(blob, kind, plaintext)
        self._turn_over_when_full()
        return packed

    def add_sealed(self, blob: BlobId, kind: int, sealed: Buffer, raw_length: int) -> PackedBlob:
        """Takes over a blob sealed under this repository's key, verified by the caller."""
        packed = self._filling.add_sealed(blob, kind, sealed, raw_length)
        self._turn_over_when_full()
        return packed

    def _turn_over_when_full(self) -> None:
        if self._filling.size >= self._pack_size:
            self._turn_over()

    def _turn_over(self) -> None:
        if self._writer is None:
            self._writer = threading.Thread(target=self._write, name="pack-writer", daemon=True)
            self._writer.start()
        # Finished here and not by the writer: ciphers belong to one thread.
        self._full.put((self._filling, self._filling.finish()))
        self._unwritten += 1
        if self._made < _BUFFERS:
            self._made += 1
            self._filling = self._new_buffer()
        else:
            self._filling = self._next_free()

    def _next_free(self) -> PackBuffer:
        buffer = self._free.get()
        self._unwritten -= 1
        if self._failure is not None:
            raise self._failure
        return buffer

    def _write(self) -> None:
        while (full := self._full.get()) is not None:
            buffer, content = full
            if self._failure is None:
                try:
                    self._stored(store_pack(self._objects.store, content, buffer.blobs))
                except BaseException as error:  # noqa: BLE001  handed to the thread that fills
                    self._failure = error
            buffer.clear()
            self._free.put(buffer)

    def flush(self) -> None:
        """Returns when all that was added is durable.

        Raises:
            StoreError: some of it could not be stored.
        """
        if self._filling.blobs:
            self._turn_over()
        while self._unwritten:
            spare = self._next_free()
            self._made -= 1  # the next turn-over makes a fresh one; let this one's memory go
            del spare

    def close(self) -> None:
        """Ends the writing thread; what was not flushed is dropped."""
        if self._writer is not None:
            self._full.put(None)
            self._writer.join()
            self._writer = None
