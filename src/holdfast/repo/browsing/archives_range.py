"""A zip whose bytes are settled before the first is made: its size is known, the same tree gives
the same bytes, and any range of it can be given alone.

Members are stored. One of a single blob has its CRC-32 in front; a larger one in a descriptor
behind its content. The list at the end needs the CRC-32 of every member: they are remembered as
they are seen, and kept beside the repository's cache under the name of the archive, where they may
be deleted at any time.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
import zlib
from array import array
from bisect import bisect_right
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from holdfast.core.ids import ID_SIZE, BlobId
from holdfast.repo.browsing.archives import gathered
from holdfast.repo.browsing.archives_members import Members
from holdfast.repo.browsing.archives_zip import Label, ending, inner_content, label_of
from holdfast.repo.browsing.streaming import ReadAhead, Wanted, check_range

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator, Sequence

    from holdfast.repo.browsing.streaming import ReadPool

_FOLDER = "zips"
_KEPT_FILES = 256
_LAYOUT = b"stored-zip-1"


class _Planned(NamedTuple):
    """A member, with where it begins in the archive."""

    label: Label
    inner: bytes
    """its content where that is in no blob"""
    blobs: bytes
    """names, concatenated"""
    offset: int
    content_at: int

    @property
    def descriptor_at(self) -> int:
        return self.content_at + self.label.size

    @property
    def end(self) -> int:
        return self.descriptor_at + len(self.label.descriptor(0, self.label.size))

    def ids(self) -> Iterator[BlobId]:
        for at in range(0, len(self.blobs), ID_SIZE):
            yield BlobId(self.blobs[at : at + ID_SIZE])


class _Tag(NamedTuple):
    """What a blob that is read is in a member."""

    number: int
    """of the member"""
    at: int = 0
    """its place in the member's content"""
    first: bool = False
    last: bool = False
    """of those of the member that are read"""


class StoredZip:
    """Safe for threads; keep it while its ranges are asked for, since making it walks the tree."""

    def __init__(
        self,
        pool: ReadPool,
        tree: BlobId,
        *,
        top: bytes = b"",
        on_problem: Callable[[bytes, str], None] | None = None,
    ) -> None:
        """Walks the tree; reads no content. In the archive everything lies below the folder `top`.

        Raises:
            UnreadableError, DamagedError: a tree cannot be read, or the index lacks a blob.
        """
        self._pool = pool
        self._members = _plan(Members(pool, tree, top, on_problem).wanted(zip_kinds=True))
        self._offsets = array("Q", [member.offset for member in self._members])
        self._list_at = self._members[-1].end if self._members else 0
        none = (0, 0)
        length = sum(len(m.label.central(*none, m.offset)) for m in self._members)
        self._list_ends = self._list_at + length
        self._ending = ending(len(self._members), self._list_at, length)
        self.size = self._list_ends + len(self._ending)
        """Bytes, exactly."""
        self.tag = _tag(self._members)
        """The same for the same bytes: for an ETag."""
        cache = pool.repository.cache
        self._file = cache / _FOLDER / f"{self.tag}.crc32" if cache else None
        self._crcs = _load(self._file, len(self._members)) or [None] * len(self._members)
        self._saved = None not in self._crcs

    def pieces(self, start: int = 0, stop: int | None = None) -> Generator[bytes, None, None]:
        """Bytes from `start` up to and without `stop` (None: the end). Close it when leaving early.

        A range that reaches into the list at the end, asked for before anybody read the members,
        has them read first.

        Raises:
            ValueError: not 0 <= start <= stop <= size.
            UnreadableError: a blob is in no place whole.
        """
        stop = self.size if stop is None else stop
        check_range(start, stop, self.size)
        return self._pieces(start, stop)

    def _pieces(self, start: int, stop: int) -> Generator[bytes, None, None]:
        left = stop - start
        parts = self._parts(start, stop)
        try:
            for piece in gathered(parts):
                piece = piece[:left]
                left -= len(piece)
                if piece:
                    yield piece
                if not left:
                    return
        finally:
            parts.close()

    def _parts(self, start: int, stop: int) -> Generator[bytes, None, None]:
        """Begins exactly at `start` and goes on at least to `stop`."""
        if start < self._list_at:
            yield from self._member_parts(start, stop)
        if stop > self._list_at:
            yield from self._list_parts(max(start, self._list_at))

    # --- members ----------------------------------------------------------------------------------

    def _member_parts(self, start: int, stop: int) -> Generator[bytes, None, None]:
        first = bisect_right(self._offsets, start) - 1
        ahead = ReadAhead(self._pool, self._wanted(first, start, stop))
        try:
            for at, part in self._placed(ahead):
                if at >= start:
                    yield part
                elif at + len(part) > start:
                    yield part[start - at :]
        finally:
            ahead.close()

    def _wanted(self, first: int, start: int, stop: int) -> Iterator[Wanted]:
        """What must be read of the members from `first` on to give the range."""
        for number in range(first, len(self._members)):
            member = self._members[number]
            if member.offset >= stop:
                return
            blobs = list(self._blobs(number))
            if not self._needs_crc(number, start, stop):
                low, high = start - member.content_at, stop - member.content_at
                blobs = [b for b in blobs if b.tag.at + b.length > low and b.tag.at < high]
            yield from _marked(number, blobs)

    def _blobs(self, number: int) -> Iterator[Wanted]:
        at = 0
        for blob in self._members[number].ids():
            wanted = self._pool.wanted(_Tag(number, at), blob)
            yield wanted
            at += wanted.length

    def _needs_crc(self, number: int, start: int, stop: int) -> bool:
        """Whether a range holds a CRC that only reading the whole member tells."""
        member = self._members[number]
        if self._crcs[number] is not None:
            return False
        if member.label.later:
            return stop > member.descriptor_at
        return start < member.content_at

    def _placed(self, ahead: ReadAhead) -> Iterator[tuple[int, bytes]]:
        """Parts of members with their places in the archive."""
        crc = seen = 0
        while batch := ahead.next():
            for tag, content in batch:
                member = self._members[tag.number]
                label = member.label
                if not member.blobs:
                    content = member.inner
                crc = zlib.crc32(content, 0 if tag.first else crc)
                seen = len(content) + (0 if tag.first else seen)
                if tag.last and seen == label.size:
                    self._crcs[tag.number] = crc
                known = self._crcs[tag.number] or 0
                if tag.first:
                    yield member.offset, label.local(0 if label.later else known, label.size)
                if content:
                    yield member.content_at + tag.at, content
                if tag.last:
                    yield member.descriptor_at, label.descriptor(known, label.size)
        self._save()

    # --- the list at the end ----------------------------------------------------------------------

    def _list_parts(self, start: int) -> Iterator[bytes]:
        """From `start` on, which is in the list or behind it."""
        at = self._list_at
        if start < self._list_ends:
            self._learn()
            for member, crc in zip(self._members, self._crcs, strict=True):
                line = member.label.central(crc or 0, member.label.size, member.offset)
                if at + len(line) > start:
                    yield line[max(start - at, 0) :]
                at += len(line)
        yield self._ending[max(start - self._list_ends, 0) :]

    def _learn(self) -> None:
        """Reads the members whose CRC nobody has seen yet."""

        def wanted() -> Iterator[Wanted]:
            for number, crc in enumerate(list(self._crcs)):
                if crc is None:
                    yield from _marked(number, list(self._blobs(number)))

        ahead = ReadAhead(self._pool, wanted())
        try:
            for _ in self._placed(ahead):
                pass
        finally:
            ahead.close()

    def _save(self) -> None:
        if not self._saved and None not in self._crcs and self._file is not None:
            self._saved = True
            _store(self._file, [crc or 0 for crc in self._crcs])


def _marked(number: int, blobs: Sequence[Wanted]) -> Iterator[Wanted]:
    """The same, with the first and the last told; a mark alone where there are none."""
    if not blobs:
        yield Wanted(_Tag(number, first=True, last=True), None)
    for place, each in enumerate(blobs):
        tag = each.tag._replace(first=not place, last=place == len(blobs) - 1)
        yield each._replace(tag=tag)


def _plan(wanted: Iterable[Wanted]) -> list[_Planned]:
    """The members in their order, each behind the one before."""
    found: list[tuple[Label, bytes, bytearray]] = []
    for each in wanted:
        if each.tag is not None:
            found.append((label_of(each.tag), inner_content(each.tag.entry), bytearray()))
        if each.blob is not None:
            found[-1][2].extend(each.blob)
    members = []
    offset = 0
    for label, inner, blobs in found:
        content_at = offset + len(label.local(0, label.size))
        members.append(_Planned(label, inner, bytes(blobs), offset, content_at))
        offset = members[-1].end
    return members


def _tag(members: Sequence[_Planned]) -> str:
    digest = hashlib.sha256(_LAYOUT)
    for label, inner, blobs, *_ in members:
        for value in (label.name, b"%d %d" % (label.mode, label.mtime), inner, blobs):
            digest.update(len(value).to_bytes(8, "little"))
            digest.update(value)
    return digest.hexdigest()


# --- CRCs that were seen --------------------------------------------------------------------------


def _load(file: Path | None, count: int) -> list[int | None] | None:
    """What was kept; None where there is not exactly that."""
    if file is None:
        return None
    try:
        content = file.read_bytes()
    except OSError:
        return None
    digest, numbers = content[:ID_SIZE], content[ID_SIZE:]
    if len(numbers) != 4 * count or hashlib.sha256(numbers).digest() != digest:
        return None
    return [int.from_bytes(numbers[at : at + 4], "little") for at in range(0, len(numbers), 4)]


def _store(file: Path, crcs: Sequence[int]) -> None:
    """Keeps them if that is possible: they can be had again by reading."""
    numbers = b"".join(crc.to_bytes(4, "little") for crc in crcs)
    unfinished: Path | None = None
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=file.parent, suffix=".part", delete=False) as out:
            unfinished = Path(out.name)
            out.write(hashlib.sha256(numbers).digest() + numbers)
        unfinished.replace(file)
        kept = sorted(file.parent.iterdir(), key=lambda each: each.stat().st_mtime_ns)
        for old in kept[:-_KEPT_FILES]:
            old.unlink()
    except OSError:
        if unfinished is not None and unfinished.exists():
            os.unlink(unfinished)  # noqa: PTH108  nothing may be raised for a hint
