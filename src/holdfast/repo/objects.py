"""Sealed documents of a repository: config, snapshots, indexes, locks. Each file's name is the
SHA-256 of what is stored.
"""

from __future__ import annotations

import hashlib
import threading
from typing import TYPE_CHECKING

from holdfast.core.errors import DamagedError, ObjectExistsError, StoreError
from holdfast.core.ids import SHORT_ID, ObjectId
from holdfast.repo.format.codec import MAX_TREE, Codec
from holdfast.repo.format.crypto import Cipher
from holdfast.store.contract import CONFIG_NAME, FileKind
from holdfast.store.directory import DirectoryStore

if TYPE_CHECKING:
    from collections.abc import Iterable

    from holdfast.repo.format.crypto import Key
    from holdfast.store.contract import Store

_ZSTD_DOCUMENT = 2
_JSON_BEGINS = (ord("{"), ord("["))
NOUNS = {
    FileKind.CONFIG: "the config",
    FileKind.KEY: "key",
    FileKind.LOCK: "lock",
    FileKind.SNAPSHOT: "snapshot",
    FileKind.INDEX: "index",
    FileKind.PACK: "pack",
}
_REMEDIES = {
    FileKind.INDEX: "`holdfast repair index` writes it anew from the packs; the backups are there.",
    FileKind.SNAPSHOT: "`holdfast repair snapshots --forget` removes it; others are untouched.",
}


class Objects:
    """Reads and writes sealed documents. Safe for threads: ciphers and codecs are kept one for
    each.
    """

    def __init__(self, store: Store, key: Key, *, version: int) -> None:
        self.store = store
        self.key = key
        self.version = version
        self._local = threading.local()

    @property
    def cipher(self) -> Cipher:
        """This thread's own."""
        cipher: Cipher | None = getattr(self._local, "cipher", None)
        if cipher is None:
            cipher = self._local.cipher = Cipher(self.key)
        return cipher

    @property
    def codec(self) -> Codec:
        """This thread's own, for reading."""
        codec: Codec | None = getattr(self._local, "codec", None)
        if codec is None:
            codec = self._local.codec = Codec()
        return codec

    def load(self, kind: FileKind, name: str) -> bytes:
        """The plain document.

        Raises:
            ObjectNotFoundError: there is none.
            DamagedError: content and name, or content and seal, do not agree.
        """
        raw = self.store.get(kind, name)
        if kind is not FileKind.CONFIG and hashlib.sha256(raw).hexdigest() != name:
            raise DamagedError(
                f"{NOUNS[kind]} {name[:SHORT_ID]} is damaged: its content does not match its name",
                remedy=_REMEDIES.get(kind),
            )
        try:
            return self.opened(kind, raw)
        except DamagedError as error:
            raise DamagedError(
                f"{NOUNS[kind]} {name[:SHORT_ID]}: {error.message}", remedy=_REMEDIES.get(kind)
            ) from error

    def opened(self, kind: FileKind, raw: bytes) -> bytes:
        """The plain document of what is, or would be, stored.

        Raises:
            DamagedError: it was sealed with another key, or altered.
        """
        document = self.cipher.open(raw)
        return document if kind is FileKind.CONFIG else self._unpacked(document)

    def _unpacked(self, document: bytes) -> bytes:
        if not document or document[0] in _JSON_BEGINS:
            return document
        if document[0] != _ZSTD_DOCUMENT:
            raise DamagedError("unknown encoding of a document")
        return self.codec.inflate(memoryview(document)[1:], MAX_TREE)

    def save(self, kind: FileKind, document: bytes) -> ObjectId:
        """Seals and stores a document, durable before it returns; its name."""
        name, sealed = self._sealed(kind, document)
        try:
            self.store.put(kind, name, sealed)
        except ObjectExistsError:
            if kind is FileKind.CONFIG:
                raise
            # The name is the digest of these very bytes with their fresh iv: a retried upload that
            # had landed.
        return ObjectId(name)

    def save_all(self, kind: FileKind, documents: Iterable[bytes]) -> list[ObjectId]:
        """As `save` for each, together as fast as the store can. Where it raises, none of them is
        there, as far as the store lets that be.
        """
        sealed = [self._sealed(kind, document) for document in documents]
        try:
            if isinstance(self.store, DirectoryStore):
                self.store.put_all(kind, sealed)
            else:
                for name, content in sealed:
                    try:
                        self.store.put(kind, name, content)
                    except ObjectExistsError:
                        continue  # as in `save`
        except BaseException:
            for name, _ in sealed:
                try:
                    self.store.remove(kind, name)
                except StoreError:
                    continue
            raise
        return [ObjectId(name) for name, _ in sealed]

    def _sealed(self, kind: FileKind, document: bytes) -> tuple[str, bytes]:
        """The name of a document and what is stored of it."""
        body = document
        if kind is not FileKind.CONFIG and self.version > 1:
            body = bytes([_ZSTD_DOCUMENT]) + self.codec.frame(document)
        sealed = self.cipher.seal(body)
        if self.cipher.open(sealed) != body:
            raise DamagedError(
                "a sealed document does not open to what was sealed; nothing was stored"
            )
        if kind is FileKind.CONFIG:
            return CONFIG_NAME, sealed
        return hashlib.sha256(sealed).hexdigest(), sealed
