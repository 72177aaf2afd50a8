"""The document of an index file: packs and the blobs in them, in JSON as restic has it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import msgspec

from holdfast.core.errors import DamagedError, UnknownVersionError
from holdfast.core.ids import SHORT_ID, BlobId, PackId
from holdfast.repo.blobs.blobtable import Part, part_of
from holdfast.repo.format import _kernel
from holdfast.repo.format.pack import BlobKind, PackedBlob

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

MAX_BLOBS = 50_000
"""In one document, unless a single pack has more."""

_Id = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-fA-F]{64}\Z")]
_Number = Annotated[int, msgspec.Meta(ge=0, le=0xFFFF_FFFF)]


class _Blob(msgspec.Struct, omit_defaults=True, gc=False):
    id: _Id
    type: Literal["data", "tree"]
    offset: _Number
    length: _Number
    uncompressed_length: _Number = 0


class _Pack(msgspec.Struct, gc=False):
    id: _Id
    blobs: list[_Blob] | None


class _Document(msgspec.Struct):
    packs: list[_Pack] | None


_WORDS: dict[int, Literal["data", "tree"]] = {
    BlobKind.DATA.value: "data",
    BlobKind.TREE.value: "tree",
}
_KINDS = {word: kind for kind, word in _WORDS.items()}


def encode(packs: Iterable[tuple[PackId, Sequence[PackedBlob]]]) -> bytes:
    """One document; byte for byte what restic writes for the same packs."""
    document = _Document(
        [
            _Pack(
                pack.hex(),
                [
                    _Blob(
                        blob.id.hex(),
                        _WORDS[blob.kind],
                        blob.offset,
                        blob.length,
                        blob.raw_length,
                    )
                    for blob in blobs
                ],
            )
            for pack, blobs in packs
        ]
    )
    return msgspec.json.encode(document) + b"\n"


def documents(packs: Iterable[tuple[PackId, Sequence[PackedBlob]]]) -> Iterator[bytes]:
    """Documents of at most MAX_BLOBS blobs that have all of the packs, each of them whole."""
    batch: list[tuple[PackId, Sequence[PackedBlob]]] = []
    count = 0
    for pack, blobs in packs:
        if batch and count + len(blobs) > MAX_BLOBS:
            yield encode(batch)
            batch, count = [], 0
        batch.append((pack, blobs))
        count += len(blobs)
    if batch:
        yield encode(batch)


def decode(document: bytes, *, name: str) -> list[tuple[PackId, list[PackedBlob]]]:
    """The packs of a document of either repository version. `name` is the file's, for messages.

    Raises:
        DamagedError: it is no index.
        UnknownVersionError: it is of the form that restic wrote before its first release.
    """
    if document.lstrip()[:1] == b"[":
        raise UnknownVersionError(
            f"index {name[:SHORT_ID]} has the old form of a bare list, which is not read",
            remedy="Nothing was changed. `holdfast repair index` writes it anew from the packs.",
        )
    try:
        decoded = msgspec.json.decode(document, type=_Document)
    except msgspec.DecodeError as error:
        raise DamagedError(
            f"index {name[:SHORT_ID]} cannot be read: {error}",
            remedy="`holdfast repair index` writes it anew from the packs.",
        ) from error
    return [
        (PackId(bytes.fromhex(pack.id)), [_packed(blob) for blob in pack.blobs or ()])
        for pack in decoded.packs or ()
    ]


def _packed(blob: _Blob) -> PackedBlob:
    return PackedBlob(
        BlobId(bytes.fromhex(blob.id)),
        _KINDS[blob.type],
        blob.offset,
        blob.length,
        blob.uncompressed_length,
    )


def decode_rows(document: bytes, *, name: str) -> Part:
    """The same as rows of a table, faster where the document is written as restic and we do."""
    scanned = _kernel.scan_index(document)
    return part_of(decode(document, name=name)) if scanned is None else Part(*scanned)
