"""Check: is everything there that snapshots need, and is it what was written?

The structure is looked at always: keys, index files, packs by name and size, every snapshot, every
tree, every blob that a tree names. With `read`, packs are read whole as well. Whatever is wrong is
named, with every file of every snapshot that it hits; what is merely untidy is told apart from what
is lost. Packs found damaged are remembered (`damage`), so that the next backup writes again what
the source still has.
"""

from __future__ import annotations

import random
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from holdfast.core.errors import DamagedError, ObjectNotFoundError, StoreError
from holdfast.core.ids import SHORT_ID, ObjectId, PackId
from holdfast.core.units import counted, parse_size
from holdfast.repo.damage import clear_damage, record_damage
from holdfast.repo.format.pack import BlobKind
from holdfast.repo.keys import read_key_file
from holdfast.repo.upkeep import advice
from holdfast.repo.upkeep.check_packs import expected_size, read_packs
from holdfast.repo.upkeep.forget import refreshed
from holdfast.repo.upkeep.hits import BlobKey, Hit, find_hits
from holdfast.repo.upkeep.inventory import take_inventory
from holdfast.repo.upkeep.used import find_used, row_of
from holdfast.store.contract import FileKind

if TYPE_CHECKING:
    from collections.abc import Iterable

    from holdfast.core.progress import Progress
    from holdfast.repo.format.snapshot import Snapshot
    from holdfast.repo.lock import Lock
    from holdfast.repo.repository import Refused, Repository
    from holdfast.repo.upkeep.inventory import Inventory
    from holdfast.repo.upkeep.used import Used

_SLICE = re.compile(r"(\d+)/(\d+)")
_MAX_SLICES = 256


@dataclass(frozen=True, slots=True)
class Subset:
    """Which packs to read: slice `part` of `parts` (1/1: all), or a random `share` of them, or so
    many random bytes.
    """

    part: int = 1
    parts: int = 1
    share: float | None = None
    size: int | None = None

    @classmethod
    def parse(cls, text: str) -> Subset:
        """Of restic's "n/t", "x%" or a size.

        Raises:
            ValueError: none of these.
        """
        match = _SLICE.fullmatch(text.strip())
        if match:
            part, parts = int(match[1]), int(match[2])
            if not 1 <= part <= parts <= _MAX_SLICES:
                raise ValueError(f"{text!r}: write n/t with 1 <= n <= t <= {_MAX_SLICES}")
            return cls(part, parts)
        if text.strip().endswith("%"):
            share = float(text.strip()[:-1]) / 100
            if not 0 < share <= 1:
                raise ValueError(f"{text!r}: write a share above 0% up to 100%")
            return cls(share=share)
        return cls(size=parse_size(text))

    def choose(self, packs: dict[PackId, int], chance: random.Random) -> dict[PackId, int]:
        if self.share is None and self.size is None:
            return {p: size for p, size in packs.items() if p[0] % self.parts == self.part - 1}
        order = sorted(packs)
        chance.shuffle(order)
        if self.share is not None:
            count = max(1, round(len(order) * self.share)) if order else 0
            return {pack: packs[pack] for pack in order[:count]}
        chosen: dict[PackId, int] = {}
        left = self.size or 0
        for pack in order:
            if left <= 0:
                break
            chosen[pack] = packs[pack]
            left -= packs[pack]
        return chosen


ALL = Subset()


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is not as it should be. Harmless: no snapshot is touched, and a prune tidies
    it up.
    """

    harmful: bool
    kind: FileKind | None
    name: str
    message: str
    hits: tuple[Hit, ...] = ()


@dataclass(slots=True)
class CheckReport:
    findings: list[Finding] = field(default_factory=list)
    snapshots: int = 0
    trees: int = 0
    packs: int = 0
    packs_read: int = 0
    bytes_read: int = 0
    found_by_reading: bool = False
    """some damage shows only where a pack is read whole"""
    remembered: bool = False
    """there is a cache, in which later backups find what was found"""

    @property
    def sound(self) -> bool:
        return not any(finding.harmful for finding in self.findings)

    @property
    def affected(self) -> list[ObjectId]:
        """Snapshots that something harmful hits."""
        hits = (hit for finding in self.findings if finding.harmful for hit in finding.hits)
        return sorted({snapshot for hit in hits for snapshot in hit.snapshots})

    @property
    def advice(self) -> str:
        """What to do about what is harmful, in order."""
        kinds = {finding.kind for finding in self.findings if finding.harmful}
        if FileKind.INDEX in kinds:
            return f"{advice.INDEX} Then check again."
        if kinds == {FileKind.PACK} and not self.affected:
            return advice.SPARE_PACKS
        steps = []
        if self.found_by_reading and FileKind.PACK in kinds:
            steps.append(advice.REMEMBERED if self.remembered else advice.NOT_REMEMBERED)
        if FileKind.PACK in kinds:
            steps.append(advice.PACKS)
        elif None in kinds:
            steps.append(advice.BLOBS)
        if FileKind.SNAPSHOT in kinds:
            steps.append(advice.SNAPSHOTS)
        if FileKind.KEY in kinds:
            steps.append(advice.KEYS)
        return " ".join(steps)


def check(
    repository: Repository,
    *,
    read: Subset | None = None,
    lock: Lock | None,
    progress: Progress,
    chance: random.Random | None = None,
    workers: int | None = None,
) -> CheckReport:
    """Looks at everything, changes nothing. `read`: the packs to read whole; None reads trees only.
    `chance` picks random subsets. Call before any thread is started: it forks.

    Raises:
        StoreError: the store cannot be listed.
    """
    return _Check(repository, lock, progress, workers).run(read, chance or random.Random())  # noqa: S311  sampling


class _Check:
    def __init__(
        self, repository: Repository, lock: Lock | None, progress: Progress, workers: int | None
    ) -> None:
        self._repository = repository
        self._lock = lock
        self._progress = progress
        self._workers = workers
        self._report = CheckReport()
        self._lost: dict[BlobKey, str] = {}
        """Blobs of which no good place is known, and why."""
        self._bad: dict[BlobKey, set[PackId]] = {}
        """Places that do not give their blob."""
        self._pack_trouble: dict[PackId, list[str]] = {}
        self._pack_blobs: dict[PackId, set[BlobKey]] = {}

    def _find(
        self, kind: FileKind | None, name: str, message: str, *, harmful: bool = True
    ) -> None:
        self._report.findings.append(Finding(harmful, kind, name, message))

    def run(self, read: Subset | None, chance: random.Random) -> CheckReport:
        report = self._report
        self._progress.stage("checking keys, snapshots and the index")
        self._check_keys()
        self._check_locks()
        inventory = take_inventory(self._repository)
        self._note_refused(inventory.refused)
        self._check_packs(inventory)
        refused: list[Refused] = []
        snapshots = list(self._repository.snapshots(refused))
        self._note_refused(refused)
        report.snapshots = len(snapshots) + len(refused)
        report.packs = len(inventory.stored)
        self._progress.stage("checking trees")
        used = find_used(
            self._repository,
            inventory.table,
            [snapshot.tree for snapshot in snapshots],
            progress=self._progress,
            lock=self._lock,
            workers=self._workers,
        )
        report.trees = used.trees
        for trouble in used.troubles:
            self._lost[trouble.kind, trouble.blob] = trouble.unread or "no index names it"
        if read:
            named = inventory.named()
            there = {pack: size for pack, size in inventory.stored.items() if pack in named}
            self._read(inventory, read.choose(there, chance))
        self._judge(used, snapshots)
        self._judge_unnamed(inventory, used)
        return report

    def _check_keys(self) -> None:
        for item in list(self._repository.store.list(FileKind.KEY)):
            try:
                read_key_file(self._repository.store, item.name)
            except ObjectNotFoundError:
                continue
            except (DamagedError, StoreError) as error:
                self._find(FileKind.KEY, item.name, error.message)

    def _check_locks(self) -> None:
        for item in list(self._repository.store.list(FileKind.LOCK)):
            try:
                self._repository.objects.load(FileKind.LOCK, item.name)
            except ObjectNotFoundError:
                continue
            except (DamagedError, StoreError) as error:
                self._find(FileKind.LOCK, item.name, error.message, harmful=False)

    def _note_refused(self, refused: Iterable[Refused]) -> None:
        """A snapshot that cannot be read is hit as a whole."""
        for each in refused:
            whole = (Hit(b"/", (ObjectId(each.name),)),) if each.kind is FileKind.SNAPSHOT else ()
            self._report.findings.append(Finding(True, each.kind, each.name, each.sentence, whole))

    def _check_packs(self, inventory: Inventory) -> None:
        """Names and sizes of packs against the index."""
        seen = bytearray(len(inventory.table))
        again = 0
        for pack, contents in inventory.table.by_pack():
            for blob in contents:
                row = row_of(inventory.table, blob.id, blob.kind)
                again += seen[row]
                seen[row] = 1
            size = inventory.stored.get(pack)
            expected = expected_size(contents)
            if size == expected:
                continue
            self._pack_trouble[pack] = [_wrong_size(size, expected)]
            for blob in contents:
                if size is None or blob.offset + blob.length > size:
                    self._condemn(pack, (BlobKind(blob.kind), blob.id))
        if again:
            self._find(None, "", f"stored more than once: {counted(again, 'blob')}", harmful=False)
        for pack in sorted(inventory.waiting()):
            message = f"pack {_short(pack)} waits for its deletion by a later prune"
            self._find(FileKind.PACK, pack.hex(), message, harmful=False)

    def _condemn(self, pack: PackId, key: BlobKey) -> None:
        self._bad.setdefault(key, set()).add(pack)
        self._pack_blobs.setdefault(pack, set()).add(key)

    def _read(self, inventory: Inventory, packs: dict[PackId, int]) -> None:
        self._progress.stage("reading packs", items=len(packs), bytes=sum(packs.values()))
        verdicts = read_packs(
            self._repository,
            inventory.table,
            packs,
            progress=self._progress,
            workers=self._workers,
        )
        sound = []
        with refreshed(self._lock):
            for verdict in verdicts:
                self._report.packs_read += 1
                self._report.bytes_read += verdict.size
                if not verdict.trouble and not verdict.bad:
                    sound.append(verdict.pack)
                    continue
                if verdict.pack not in self._pack_trouble:
                    self._report.found_by_reading = True
                self._pack_trouble.setdefault(verdict.pack, []).extend(verdict.trouble)
                for bad in verdict.bad:
                    self._condemn(verdict.pack, (bad.kind, bad.id))
        clear_damage(self._repository, (pack for pack in sound if pack not in self._pack_trouble))

    def _judge(self, used: Used, snapshots: list[Snapshot]) -> None:
        """Which blobs are lost, what that hits, and what of it all does no harm."""
        index = self._repository.index
        for (kind, blob), packs in self._bad.items():
            if (kind, blob) not in self._lost and packs.issuperset(
                location.pack for location in index.find_all(blob, kind)
            ):
                self._lost[kind, blob] = "its only place is damaged"
        hits: dict[BlobKey, tuple[Hit, ...]] = {}
        if self._lost:
            self._progress.stage("finding the files that are hit")
            hits = find_hits(self._repository, snapshots, self._lost.keys())
        explained: set[BlobKey] = set()
        for pack, trouble in sorted(self._pack_trouble.items()):
            keys = self._pack_blobs.get(pack, set())
            explained |= keys
            self._judge_pack(pack, trouble, [key for key in keys if key in hits], hits)
        for (kind, blob), why in sorted(self._lost.items()):
            key = kind, blob
            if key in explained or (key not in hits and row_of(used.table, blob, kind) >= 0):
                continue
            message = f"{kind.word} blob {blob.hex()[:SHORT_ID]} cannot be read: {why}"
            self._report.findings.append(
                Finding(True, None, blob.hex(), message, hits.get(key, ()))
            )
        record_damage(self._repository, self._pack_trouble)
        self._report.remembered = self._repository.cache is not None

    def _judge_unnamed(self, inventory: Inventory, used: Used) -> None:
        """Packs in no index: what snapshots miss may be in them, or else they are left over."""
        unnamed = inventory.unnamed()
        short = used.is_index_short(len(unnamed))
        if short:
            names = f"no index names {counted(len(unnamed), 'pack')}"
            self._find(FileKind.INDEX, "", f"{names}: what snapshots miss may be there")
        for pack in sorted(unnamed):
            why = "" if short else "; an interrupted run left it"
            message = f"pack {_short(pack)} of {inventory.stored[pack]} bytes is in no index{why}"
            self._find(FileKind.PACK, pack.hex(), message, harmful=False)

    def _judge_pack(
        self,
        pack: PackId,
        trouble: list[str],
        lost: list[BlobKey],
        hits: dict[BlobKey, tuple[Hit, ...]],
    ) -> None:
        merged: dict[bytes, dict[ObjectId, None]] = {}
        for key in lost:
            for hit in hits[key]:
                merged.setdefault(hit.path, {}).update(dict.fromkeys(hit.snapshots))
        count = len(self._pack_blobs.get(pack, ()))
        reason = "; ".join(trouble) or "some of its blobs are damaged"
        if count and not lost:
            reason += f"; what snapshots need of its {count} bad blobs lies elsewhere, too"
        elif not count:
            reason += "; each of its blobs can be read"
        self._report.findings.append(
            Finding(
                True,
                FileKind.PACK,
                pack.hex(),
                f"pack {_short(pack)} is damaged: {reason}",
                tuple(Hit(path, tuple(ids)) for path, ids in sorted(merged.items())),
            )
        )


def _wrong_size(size: int | None, expected: int) -> str:
    if size is None:
        return "it is missing"
    if size < expected:
        return f"it is cut short, with {size} of {expected} bytes"
    return f"it has {size} bytes, not {expected}"


def _short(pack: PackId) -> str:
    return pack.hex()[:SHORT_ID]
