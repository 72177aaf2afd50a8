"""What a prune would do with each pack: keep it, move what is needed out of it, or let it go.
Nothing is touched here.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from holdfast.core.errors import UnreadableError
from holdfast.core.units import counted, parse_size
from holdfast.repo.format.pack import DEFAULT_PACK_SIZE, BlobKind, PackedBlob, header_size
from holdfast.repo.upkeep import advice
from holdfast.repo.upkeep.used import row_of

if TYPE_CHECKING:
    from collections.abc import Iterable
    from collections.abc import Set as AbstractSet

    from holdfast.core.ids import PackId
    from holdfast.repo.upkeep.inventory import Inventory
    from holdfast.repo.upkeep.used import Used

_FEW_SMALL_PACKS = 10
"""Fewer small packs than this are not worth the trouble, and would be packed anew each time."""
_WORTH_COMPRESSING = 1 << 10
_MANY = 255


@dataclass(frozen=True, slots=True)
class UnusedLimit:
    """How much that nobody needs may stay: `share` of the repository, or so many bytes; None for
    any amount.
    """

    share: float | None = 0.05
    size: int | None = None

    @classmethod
    def parse(cls, text: str) -> UnusedLimit:
        """Of restic's "5%", "200M" or "unlimited".

        Raises:
            ValueError: none of these.
        """
        text = text.strip()
        if text == "unlimited":
            return cls(None, None)
        if not text.endswith("%"):
            return cls(None, parse_size(text))
        percent = float(text[:-1])
        if not 0 <= percent < 100:  # noqa: PLR2004  per cent
            raise ValueError(f"{text!r}: write a share from 0% to below 100%")
        return cls(percent / 100)

    def bytes_beside(self, used: int) -> float:
        if self.share is not None:
            return self.share / (1 - self.share) * used
        return float("inf") if self.size is None else self.size


@dataclass(frozen=True, slots=True)
class PruneOptions:
    """`grace`: seconds that packs wait, out of the index, before a later prune deletes them; 0
    deletes at once.
    """

    max_unused: UnusedLimit = UnusedLimit()
    max_repack: int | None = None
    """bytes"""
    cacheable_only: bool = False
    small: bool = False
    uncompressed: bool = False
    grace: float = 0.0
    dry_run: bool = False
    pack_size: int = DEFAULT_PACK_SIZE


@dataclass(slots=True)
class Amount:
    blobs: int = 0
    bytes: int = 0

    def add(self, blobs: int, size: int) -> None:
        self.blobs += blobs
        self.bytes += size


@dataclass(slots=True)
class PruneCounts:
    """In restic's words: `repack` is what is read, `repack_drop` the part of it that goes; `remove`
    goes with whole packs.
    """

    used: Amount = field(default_factory=Amount)
    duplicate: Amount = field(default_factory=Amount)
    unused: Amount = field(default_factory=Amount)
    remove: Amount = field(default_factory=Amount)
    repack: Amount = field(default_factory=Amount)
    repack_drop: Amount = field(default_factory=Amount)
    orphan_bytes: int = 0
    remnant_bytes: int = 0
    """of packs that are cut short"""
    packs_keep: int = 0
    packs_repack: int = 0
    packs_remove: int = 0
    packs_orphan: int = 0


@dataclass(slots=True)
class _Share:
    """How much of a pack is needed."""

    pack: PackId
    keeps: bytearray
    """1 for each of its blobs that this pack, of all that hold it, is to keep"""
    kinds: set[int]
    plain: bool
    """some of its blobs are not compressed"""
    old_trees: bool
    used_bytes: int
    used: int = 0
    unused_bytes: int = 0
    unused: int = 0
    compress: bool = False

    @property
    def size(self) -> int:
        return self.used_bytes + self.unused_bytes

    @property
    def data(self) -> bool:
        return self.kinds == {BlobKind.DATA}

    def settle(self, number: int, length: int, *, keep: bool) -> None:
        self.keeps[number] = keep
        if keep:
            self.used += 1
            self.used_bytes += length
        else:
            self.unused += 1
            self.unused_bytes += length


@dataclass(frozen=True, slots=True)
class Plan:
    """`repack`: the blobs to move out of each pack. `orphans` are in no index; `missing` are in it
    but not stored.
    """

    repack: dict[PackId, list[PackedBlob]]
    remove: frozenset[PackId]
    orphans: frozenset[PackId]
    missing: frozenset[PackId]
    rescue: frozenset[PackId]
    """waited for their deletion, and are needed after all"""
    compress: frozenset[PackId]
    counts: PruneCounts

    @property
    def leaving(self) -> frozenset[PackId]:
        """Packs of the index that are to be gone afterwards."""
        return self.remove | self.repack.keys() | self.missing


def plan_prune(
    inventory: Inventory,
    used: Used,
    options: PruneOptions,
    *,
    distrusted: AbstractSet[PackId] = frozenset(),
    version: int = 2,
) -> Plan:
    """Decides as restic does. Of a blob that lies in several packs one place stays: not a
    distrusted pack if there is another.

    `used` must be whole (`require_whole`). `inventory` has the waiting packs in its table.

    Raises:
        UnreadableError: a needed blob lies only in packs that are missing or too short.
    """
    named, waiting = inventory.named(), inventory.waiting()
    counts = PruneCounts()
    shares, absent = _shares(inventory, used, counts, waiting.keys(), distrusted)
    orphans = frozenset(inventory.stored.keys() - named - waiting.keys())
    counts.packs_orphan = len(orphans)
    counts.orphan_bytes = sum(inventory.stored[pack] for pack in orphans)
    missing = frozenset(absent & named)
    counts.remnant_bytes = sum(inventory.stored.get(pack, 0) for pack in missing)
    indexed = [share for share in shares if share.pack in named or share.used]
    unneeded = [share for share in indexed if not share.used]
    for share in shares:
        if share.pack in waiting and not share.used:
            counts.unused.add(-share.unused, -share.unused_bytes)
    for share in unneeded:
        counts.remove.add(share.unused, share.unused_bytes)
    if version > 1:
        for share in indexed:
            share.compress = share.old_trees or (options.uncompressed and share.plain)
    chosen = _choose([share for share in indexed if share.used], options, counts)
    remove = frozenset(share.pack for share in unneeded)
    counts.packs_repack, counts.packs_remove = len(chosen), len(remove)
    counts.packs_keep = len(indexed) - len(chosen) - len(remove)
    return Plan(
        repack=_kept_blobs(used, {share.pack: share.keeps for share in chosen}),
        remove=remove,
        orphans=orphans,
        missing=missing,
        rescue=frozenset(share.pack for share in shares if share.used and share.pack in waiting),
        compress=frozenset(share.pack for share in chosen if share.compress),
        counts=counts,
    )


def _kept_blobs(used: Used, keeps: dict[PackId, bytearray]) -> dict[PackId, list[PackedBlob]]:
    return {
        pack: [blob for blob, keep in zip(blobs, keeps[pack], strict=True) if keep]
        for pack, blobs in used.table.by_pack(only=keeps)
    }


def _has_old_trees(blobs: Iterable[PackedBlob]) -> bool:
    """Trees that were written before the repository knew compression. Tiny ones never shrink."""
    return any(
        blob.kind == BlobKind.TREE and not blob.raw_length and blob.length >= _WORTH_COMPRESSING
        for blob in blobs
    )


def _shares(
    inventory: Inventory,
    used: Used,
    counts: PruneCounts,
    waiting: AbstractSet[PackId],
    distrusted: AbstractSet[PackId],
) -> tuple[list[_Share], set[PackId]]:
    """How much of each stored pack is needed, and the packs of the table that are not there."""
    table = used.table
    marks = used.marks[: len(table)]  # the map itself would yield bytes, which are all true
    places = bytearray(len(table))
    absent = set()
    contents: list[tuple[_Share, array[int], array[int]]] = []
    for pack, blobs in table.by_pack():
        lengths = array("I", [blob.length for blob in blobs])
        own = header_size(blobs)
        if inventory.stored.get(pack, -1) < sum(lengths) + own:
            absent.add(pack)
            continue
        rows = array("I", [row_of(table, blob.id, blob.kind) for blob in blobs])
        for row in rows:
            if places[row] < _MANY:
                places[row] += 1
        share = _Share(
            pack,
            bytearray(len(blobs)),
            kinds={blob.kind for blob in blobs},
            plain=not all(blob.raw_length for blob in blobs),
            old_trees=_has_old_trees(blobs),
            used_bytes=own,
        )
        contents.append((share, rows, lengths))
    _require_homes(marks, places, len(absent))
    several: list[_Place] = []
    for share, rows, lengths in contents:
        for number, (row, length) in enumerate(zip(rows, lengths, strict=True)):
            needed = marks[row]
            if needed and places[row] > 1:
                several.append(_Place(share, number, row, length))
                continue
            share.settle(number, length, keep=bool(needed))
            (counts.used if needed else counts.unused).add(1, length)
    shares = [share for share, _, _ in contents]
    _settle_several(several, counts, waiting, distrusted)
    return shares, absent


def _require_homes(marks: bytes, places: bytearray, absent: int) -> None:
    homeless = sum(marked > bool(count) for marked, count in zip(marks, places, strict=True))
    if homeless:
        raise UnreadableError(
            f"missing or cut short: {counted(absent, 'pack')} with {counted(homeless, 'blob')}"
            " that snapshots need; nothing was deleted",
            remedy=f"`holdfast check` names the files that are hit. {advice.PACKS}",
        )


class _Place(NamedTuple):
    """One of several places of a needed blob."""

    share: _Share
    number: int
    row: int
    length: int


def _settle_several(
    several: list[_Place],
    counts: PruneCounts,
    waiting: AbstractSet[PackId],
    distrusted: AbstractSet[PackId],
) -> None:
    """Gives each blob that lies in several packs to the one that is most worth keeping."""

    def worth(place: _Place) -> tuple[bool, bool, bool, float, PackId]:
        share = place.share
        doubtful = share.pack in distrusted
        return doubtful, share.pack in waiting, not share.used, share.unused_bytes, share.pack

    given: set[int] = set()
    for share, number, row, length in sorted(several, key=worth):
        first = row not in given
        given.add(row)
        share.settle(number, length, keep=first)
        (counts.used if first else counts.duplicate).add(1, length)


def _choose(shares: Iterable[_Share], options: PruneOptions, counts: PruneCounts) -> list[_Share]:
    """The packs whose needed blobs are worth moving, as restic chooses them."""
    enough = options.pack_size * 4 // 5 if options.small else options.pack_size // 25
    candidates, small = [], []
    for share in shares:
        if options.cacheable_only and share.data:
            continue
        if share.unused or len(share.kinds) > 1 or share.compress:
            candidates.append(share)
        elif share.size < enough:
            small.append(share)
    if len(small) >= _FEW_SMALL_PACKS:
        candidates += small
    candidates.sort(
        key=lambda share: (
            share.data,
            share.size >= enough,
            -(share.unused_bytes / max(share.used_bytes, 1)),
            share.pack,
        )
    )
    limit = options.max_unused.bytes_beside(counts.used.bytes)
    left = sum(share.unused_bytes for share in shares)
    chosen = []
    for share in candidates:
        if options.max_repack is not None and counts.repack.bytes + share.size > options.max_repack:
            continue
        urgent = not share.data or share.compress or share.size < enough
        if not urgent and left <= limit:
            continue
        chosen.append(share)
        left -= share.unused_bytes
        counts.repack.add(share.used + share.unused, share.size)
        counts.repack_drop.add(share.unused, share.unused_bytes)
    return chosen
