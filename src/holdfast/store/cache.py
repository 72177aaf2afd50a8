"""What a distant store was asked for before, kept on this machine.

Index files, snapshots and small pieces of packs (the trees, mostly) as they were stored: sealed.
"""

from __future__ import annotations

import os
from contextlib import suppress
from hashlib import sha256
from typing import TYPE_CHECKING, Final

from holdfast.store.contract import FileKind
from holdfast.store.layout import check_name, relative_path
from holdfast.store.wrapped import WrappedStore

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from holdfast.store.contract import Stat, Store

SMALL: Final = 64 << 10
"""Bytes of the longest piece of a pack that is kept."""
BUDGET: Final = 1 << 30
"""Bytes on disk that pieces of packs may take; the oldest go first."""

_WHOLE: Final = (FileKind.INDEX, FileKind.SNAPSHOT)
_PIECES: Final = "pieces"
_DIGEST: Final = 32
_TAG: Final = (
    "Signature: 8a477f597d28d172789f06886806bc55\n# Holdfast can make all of this again.\n"
)


def cached(store: Store, root: Path | None, repository_id: str) -> Store:
    """The store with a cache in `root`, in a folder of the repository's own.

    The store itself where it is local, or where no cache is wanted.
    """
    if root is None or store.properties.local:
        return store
    return CachedStore(store, root / repository_id / "objects")


class CachedStore(WrappedStore):
    """Answers from `folder` where it can.

    Nothing is returned from there unless its digest is right. Failing to write costs speed, and
    nothing else. An object that somebody else removed from the store may be answered until the
    next listing of its kind, which also tidies up.
    """

    def __init__(self, inner: Store, folder: Path, *, budget: int = BUDGET) -> None:
        super().__init__(inner)
        self._folder = folder
        self._budget = budget
        self._grown = False
        with suppress(OSError):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            (folder / "CACHEDIR.TAG").write_text(_TAG)

    def put(self, kind: FileKind, name: str, data: bytes | memoryview) -> None:
        super().put(kind, name, data)
        if kind in _WHOLE:
            self._keep(self._folder / relative_path(kind, name), bytes(data))

    def get(self, kind: FileKind, name: str) -> bytes:
        if kind not in _WHOLE:
            return super().get(kind, name)
        path = self._folder / relative_path(kind, name)
        found = _read(path)
        if found is not None and sha256(found).hexdigest() == name:
            return found
        data = super().get(kind, name)
        if sha256(data).hexdigest() == name:
            self._keep(path, data)
        return data

    def get_range(self, kind: FileKind, name: str, offset: int, length: int) -> bytes:
        if kind is not FileKind.PACK or not 0 < length <= SMALL:
            return super().get_range(kind, name, offset, length)
        path = self._piece(name, offset, length)
        found = _read(path)
        if found and len(found) == _DIGEST + length and _is_whole(found):
            return found[_DIGEST:]
        data = super().get_range(kind, name, offset, length)
        self._keep(path, sha256(data).digest() + data)
        self._grown = True
        return data

    def list(self, kind: FileKind) -> Iterator[Stat]:
        names = set()
        for found in super().list(kind):
            names.add(found.name)
            yield found
        for path in self._kept(kind):
            if path.name.partition("-")[0] not in names:
                _drop(path)

    def remove(self, kind: FileKind, name: str) -> None:
        check_name(kind, name)
        for path in self._kept(kind, name):
            _drop(path)
        super().remove(kind, name)

    def close(self) -> None:
        if self._grown:
            self._shrink()
        super().close()

    def _piece(self, name: str, offset: int, length: int) -> Path:
        check_name(FileKind.PACK, name)
        return self._folder / _PIECES / name[:2] / f"{name}-{offset}-{length}"

    def _kept(self, kind: FileKind, name: str = "") -> Iterator[Path]:
        """Files of this kind, or of this object."""
        if kind in _WHOLE:
            yield from (self._folder / kind).glob(name or "*")
        elif kind is FileKind.PACK:
            yield from (self._folder / _PIECES).glob(f"{name[:2] or '*'}/{name}*")

    def _keep(self, path: Path, data: bytes) -> None:
        temporary = path.with_name(f".{os.urandom(8).hex()}.tmp")
        with suppress(OSError):
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            temporary.write_bytes(data)
            temporary.replace(path)
            return
        _drop(temporary)

    def _shrink(self) -> None:
        """Below four fifths of the budget, so that it need not happen each time."""
        pieces = []
        for path in self._kept(FileKind.PACK):
            with suppress(OSError):
                found = path.stat()
                pieces.append((found.st_mtime_ns, found.st_blocks * 512, path))
        taken = sum(size for _, size, _ in pieces)
        if taken <= self._budget:
            return
        for _, size, path in sorted(pieces):
            if taken <= self._budget * 4 // 5:
                break
            _drop(path)
            taken -= size


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except OSError:
        return None


def _drop(path: Path) -> None:
    with suppress(OSError):
        path.unlink()


def _is_whole(piece: bytes) -> bool:
    return sha256(memoryview(piece)[_DIGEST:]).digest() == piece[:_DIGEST]
