"""A repository: the key, the config, the index, and reading blobs through them."""

from __future__ import annotations

import hashlib
import os
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from holdfast.core.clock import SystemClock
from holdfast.core.errors import (
    DamagedError,
    NoRepositoryError,
    ObjectNotFoundError,
    RepositoryExistsError,
    StoreError,
    UnknownVersionError,
    UnreadableError,
)
from holdfast.core.ids import SHORT_ID, BlobId, ObjectId, PackId
from holdfast.repo.blobs.index import Index
from holdfast.repo.blobs.index_file import decode, documents
from holdfast.repo.format.chunker import is_irreducible, random_polynomial
from holdfast.repo.format.crypto import Cipher, Key
from holdfast.repo.format.pack import (
    LENGTH_FIELD,
    BlobKind,
    PackedBlob,
    StoredPack,
    decode_header,
    plaintext_limit,
    read_header_length,
)
from holdfast.repo.format.snapshot import Snapshot, SnapshotFile, decode_snapshot
from holdfast.repo.format.tree import Node, decode_tree
from holdfast.repo.keys import add_key, open_key
from holdfast.repo.objects import NOUNS, Objects
from holdfast.store.contract import CONFIG_NAME, FileKind
from holdfast.store.directory import DirectoryStore

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from holdfast.core.clock import Clock
    from holdfast.core.secret import Secret
    from holdfast.store.contract import Store

VERSIONS = (1, 2)


class Config(msgspec.Struct):
    version: int
    id: str
    chunker_polynomial: str

    @property
    def polynomial(self) -> int:
        return int(self.chunker_polynomial, 16)


@dataclass(frozen=True, slots=True)
class Refused:
    """A stored object that could not be read while others were listed."""

    kind: FileKind
    name: str
    error: DamagedError | UnknownVersionError | StoreError

    @property
    def sentence(self) -> str:
        """Which object it is, and why it cannot be read."""
        subject = f"{NOUNS[self.kind]} {self.name[:SHORT_ID]}"
        message = self.error.message
        return message if subject in message else f"{subject} cannot be read: {message}"


class _GoneError(Exception):
    """An index file that was listed is not there."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


class Repository:
    """An opened repository. Reading is safe for threads; `index` is loaded when first needed."""

    def __init__(
        self,
        objects: Objects,
        config: Config,
        *,
        key_id: ObjectId | None = None,
        cache: Path | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.objects = objects
        self.store = objects.store
        self.config = config
        self.key_id = key_id
        self.cache = cache
        self.clock = clock or SystemClock()
        self._index: Index | None = None
        self._index_names: set[str] | None = None
        self._changing_index = threading.RLock()

    # --- making and opening -----------------------------------------------------------------------

    @classmethod
    def init(
        cls,
        store: Store,
        password: Secret,
        *,
        version: int = 2,
        polynomial: int | None = None,
        clock: Clock | None = None,
    ) -> Repository:
        """Makes a new repository: first the key file, then the config that makes it one.

        Raises:
            RepositoryExistsError: there is one.
            DamagedError: there is no config, but there are backups: nothing is touched.
        """
        clock = clock or SystemClock()
        if version not in VERSIONS:
            raise UnknownVersionError(
                f"there is no repository version {version}; known are 1 and 2"
            )
        if _exists(store, FileKind.CONFIG, CONFIG_NAME):
            raise RepositoryExistsError(f"there is a repository in {store.address} already")
        for kind in (FileKind.SNAPSHOT, FileKind.INDEX, FileKind.PACK):
            if next(iter(store.list(kind)), None) is not None:
                raise DamagedError(
                    f"{store.address} holds backups but no config file",
                    remedy="Nothing was changed. "
                    "Bring the config file back from a copy, or choose another place.",
                )
        store.create()
        master = Key.generate()
        config = Config(
            version=version,
            id=os.urandom(32).hex(),
            chunker_polynomial=f"{polynomial or random_polynomial():x}",
        )
        objects = Objects(store, master, version=version)
        key_id = add_key(store, master, password, clock=clock)
        objects.save(FileKind.CONFIG, msgspec.json.encode(config))
        return cls(objects, config, key_id=key_id, clock=clock)

    @classmethod
    def open(
        cls,
        store: Store,
        password: Secret,
        *,
        key_hint: str = "",
        cache_root: Path | None = None,
        clock: Clock | None = None,
    ) -> Repository:
        """Opens with a password.

        Raises:
            NoRepositoryError, WrongPasswordError, UnknownVersionError, DamagedError
        """
        try:
            sealed = store.get(FileKind.CONFIG, CONFIG_NAME)
        except ObjectNotFoundError as error:
            if next(iter(store.list(FileKind.KEY)), None) is None:
                raise NoRepositoryError(f"there is no repository in {store.address}") from error
            raise NoRepositoryError(
                f"the config file of the repository in {store.address} is gone",
                remedy="Bring it back from a copy: keys and backups are there. Make no new one.",
            ) from error
        opened = open_key(store, password, hint=key_hint, fits=lambda key: _opens(key, sealed))
        return cls.unlocked(
            store,
            opened.master,
            key_id=opened.id,
            cache_root=cache_root,
            clock=clock,
            sealed=sealed,
        )

    @classmethod
    def unlocked(
        cls,
        store: Store,
        master: Key,
        *,
        key_id: ObjectId | None = None,
        cache_root: Path | None = None,
        clock: Clock | None = None,
        sealed: bytes | None = None,
    ) -> Repository:
        """Opens with a master key that is known already. `cache_root` holds one folder for each
        repository.
        """
        if sealed is None:
            sealed = store.get(FileKind.CONFIG, CONFIG_NAME)
        config = _read_config(Cipher(master).open(sealed))
        objects = Objects(store, master, version=config.version)
        cache = cache_root / config.id if cache_root else None
        return cls(objects, config, key_id=key_id, cache=cache, clock=clock)

    # --- the index --------------------------------------------------------------------------------

    @property
    def index(self) -> Index:
        index = self._index  # not by its truth: that would count it
        return self.load_index() if index is None else index

    @index.setter
    def index(self, index: Index) -> None:
        with self._changing_index:
            self._index = index
            self._index_names = None  # not known: the next refresh loads it anew

    def load_index(self) -> Index:
        """The index as the store has it now."""
        with self._changing_index:
            gone: set[str] = set()
            while True:
                names = {item.name for item in self.store.list(FileKind.INDEX)} - gone
                try:
                    index = Index.load(
                        names, self._index_document, self.cache / "index" if self.cache else None
                    )
                except _GoneError as error:
                    gone.add(error.name)  # its successor was stored before it went
                else:
                    self._index, self._index_names = index, names
                    return index

    def _index_document(self, name: str) -> bytes:
        try:
            return self.objects.load(FileKind.INDEX, name)
        except ObjectNotFoundError as error:
            raise _GoneError(name) from error

    def refresh_index(self) -> bool:
        """Takes up what others have stored or pruned since the index was loaded, for whoever keeps
        a repository open. Costs one listing where nothing has changed.

        True where index files are gone: what was known before may be no more.
        """
        with self._changing_index:
            if self._index is None:
                self.load_index()
                return True
            names = {item.name for item in self.store.list(FileKind.INDEX)}
            if self._index_names is None or not self._index_names <= names:
                self.load_index()
                if isinstance(self.store, DirectoryStore):
                    self.store.close()  # packs kept open would keep the room of those deleted
                return True
            for name in sorted(names - self._index_names):
                try:
                    document = self._index_document(name)
                except _GoneError:
                    self.load_index()
                    return True
                for pack, blobs in decode(document, name=name):
                    self._index.add_pack(pack, blobs)
                self._index_names.add(name)
            return False

    def save_index(self, packs: Sequence[StoredPack]) -> None:
        """Makes stored packs findable: durable index files, and the index in memory."""
        names = [
            self.objects.save(FileKind.INDEX, document)
            for document in documents((pack.id, pack.blobs) for pack in packs)
        ]
        with self._changing_index:
            index = self.index
            if self._index_names is not None:
                self._index_names.update(names)
            for pack in packs:
                index.add_pack(pack.id, pack.blobs)

    # --- blobs ------------------------------------------------------------------------------------

    def load_blob(self, blob: BlobId, kind: BlobKind) -> bytes:
        """The plaintext, authenticated and with the right digest (I4); every place that the index
        knows is tried.

        Raises:
            UnreadableError: no place has it whole.
        """
        failures = []
        for location in self.index.find_all(blob, kind):
            try:
                sealed = self.store.get_range(
                    FileKind.PACK, location.pack.hex(), location.offset, location.length
                )
                return self.open_blob(blob, kind, sealed, location.raw_length)
            except (DamagedError, StoreError) as error:
                failures.append(f"pack {location.pack.hex()[:SHORT_ID]}: {error.message}")
        cause = "; ".join(failures) or "the index does not know it"
        raise UnreadableError(f"{kind.word} blob {blob.hex()[:SHORT_ID]} cannot be read: {cause}")

    def open_blob(
        self, blob: BlobId, kind: int, sealed: bytes | memoryview, raw_length: int
    ) -> bytes:
        """The plaintext of a sealed blob.

        Raises:
            DamagedError: seal, compression or digest is wrong.
        """
        plaintext = self.objects.cipher.open(sealed)
        if raw_length:
            plaintext = self.objects.codec.inflate(plaintext, plaintext_limit(kind))
        if hashlib.sha256(plaintext).digest() != blob:
            raise DamagedError(
                f"blob {blob.hex()[:SHORT_ID]} does not have the content of its name"
            )
        return plaintext

    def load_tree(self, tree: BlobId) -> list[Node]:
        """The nodes of a tree. Raises UnreadableError or DamagedError."""
        return decode_tree(self.load_blob(tree, BlobKind.TREE))

    def read_pack_header(self, pack: PackId, size: int) -> list[PackedBlob]:
        """What a pack says it holds.

        Raises:
            DamagedError: the header does not open or does not add up to the size of the pack.
            StoreError: it cannot be read.
        """
        name = pack.hex()
        if size <= LENGTH_FIELD:
            raise DamagedError(f"pack {name[:SHORT_ID]} has only {size} bytes")
        tail = self.store.get_range(FileKind.PACK, name, size - LENGTH_FIELD, LENGTH_FIELD)
        length = read_header_length(tail, size)
        start = size - LENGTH_FIELD - length
        sealed = self.store.get_range(FileKind.PACK, name, start, length)
        blobs = decode_header(self.objects.cipher.open(sealed))
        if sum(blob.length for blob in blobs) != start:
            raise DamagedError(f"the header of pack {name[:SHORT_ID]} does not add up to its size")
        return blobs

    # --- snapshots --------------------------------------------------------------------------------

    def snapshots(self, refused: list[Refused] | None = None) -> Iterator[Snapshot]:
        """All of them, in no order. A damaged one is raised, or, where `refused` is given, noted
        there and passed over.
        """
        for item in list(self.store.list(FileKind.SNAPSHOT)):
            try:
                yield self.load_snapshot(ObjectId(item.name))
            except ObjectNotFoundError:
                continue  # forgotten while we listed
            except (DamagedError, StoreError) as error:
                if refused is None:
                    raise
                refused.append(Refused(FileKind.SNAPSHOT, item.name, error))

    def load_snapshot(self, name: ObjectId) -> Snapshot:
        return decode_snapshot(name, self.objects.load(FileKind.SNAPSHOT, name))

    def save_snapshot(self, file: SnapshotFile) -> Snapshot:
        """The commit of a backup: everything it refers to must be durable and indexed before."""
        return Snapshot(self.objects.save(FileKind.SNAPSHOT, msgspec.json.encode(file)), file)

    def save_snapshots(self, files: Sequence[SnapshotFile]) -> list[Snapshot]:
        """The same for many, together: where it raises, none of them was committed."""
        names = self.objects.save_all(FileKind.SNAPSHOT, map(msgspec.json.encode, files))
        return [Snapshot(name, file) for name, file in zip(names, files, strict=True)]


def _exists(store: Store, kind: FileKind, name: str) -> bool:
    try:
        store.stat(kind, name)
    except ObjectNotFoundError:
        return False
    return True


def _opens(key: Key, sealed: bytes) -> bool:
    try:
        Cipher(key).open(sealed)
    except DamagedError:
        return False
    return True


def _read_config(document: bytes) -> Config:
    try:
        config = msgspec.json.decode(document, type=Config)
        polynomial = config.polynomial
    except (msgspec.DecodeError, ValueError) as error:
        raise DamagedError(f"the config of the repository cannot be read: {error}") from error
    if config.version not in VERSIONS:
        raise UnknownVersionError(
            f"this repository has version {config.version}; this program knows 1 and 2"
        )
    if not is_irreducible(polynomial):
        raise DamagedError("the config holds a chunker polynomial that is not irreducible")
    return config
