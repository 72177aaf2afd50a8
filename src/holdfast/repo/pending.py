"""Packs that wait for their deletion: the list a prune with a grace leaves behind.

The list is an index file without packs of its own, with one more field, `packs_to_delete`: restic
reads such a file and
passes over the field, rustic knows it by the same name. When a list was made is said by the store's
own clock: the time
of the file itself. Each pack is listed with its blobs, so that it can come back without being read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import msgspec

from holdfast.core.errors import DamagedError
from holdfast.core.ids import SHORT_ID, ObjectId, PackId
from holdfast.repo.blobs.index_file import decode, encode
from holdfast.repo.format.gotext import format_time, parse_time
from holdfast.store.contract import FileKind

if TYPE_CHECKING:
    from collections.abc import Sequence

    from holdfast.repo.format.pack import PackedBlob
    from holdfast.repo.repository import Repository

_FIELD = "packs_to_delete"


class PendingPack(NamedTuple):
    """`time`: nanoseconds since 1970 by the clock of who made the list; only for stores without
    times of their own.
    """

    id: PackId
    size: int
    time: int
    blobs: Sequence[PackedBlob]


class _Entry(msgspec.Struct):
    id: str
    time: str = ""
    size: int = 0


class _Document(msgspec.Struct):
    packs_to_delete: list[_Entry] | None = None


def encode_pending(packs: Sequence[PendingPack]) -> bytes:
    """The document of a list."""
    entries = msgspec.json.decode(encode((pack.id, pack.blobs) for pack in packs))["packs"]
    for entry, pack in zip(entries, packs, strict=True):
        entry["time"] = format_time(pack.time)
        entry["size"] = pack.size
    return msgspec.json.encode({"packs": [], _FIELD: entries})


def decode_pending(document: bytes, *, name: str) -> tuple[PendingPack, ...]:
    """The packs that an index document lists as waiting; none in nearly every index.

    Raises:
        DamagedError: the list cannot be read.
    """
    if _FIELD.encode() not in document:
        return ()
    try:
        entries = msgspec.json.decode(document, type=_Document).packs_to_delete or []
        raw = msgspec.json.decode(document)[_FIELD] or []
        blobs = dict(decode(msgspec.json.encode({"packs": raw}), name=name))
        return tuple(
            PendingPack(pack, entry.size, parse_time(entry.time), blobs[pack])
            for entry in entries
            for pack in (PackId(bytes.fromhex(entry.id)),)
        )
    except (msgspec.DecodeError, ValueError, KeyError, TypeError) as error:
        raise DamagedError(f"index {name[:SHORT_ID]}: its list of packs cannot be read") from error


def save_pending(repository: Repository, packs: Sequence[PendingPack]) -> ObjectId:
    """Stores a list, durable before it returns."""
    return repository.objects.save(FileKind.INDEX, encode_pending(packs))


def pending_packs(repository: Repository) -> set[PackId]:
    """Packs that wait for their deletion: nobody may count on them, and nobody needs to bring them
    back.

    Reads all index files: ask only where there are packs that no index names.
    """
    packs: set[PackId] = set()
    for item in list(repository.store.list(FileKind.INDEX)):
        document = repository.objects.load(FileKind.INDEX, item.name)
        packs.update(pack.id for pack in decode_pending(document, name=item.name))
    return packs
