"""Large files: made at full length first, then written by all workers in spans, and finished when
the last span is.
"""

from __future__ import annotations

import os
from dataclasses import astuple, dataclass
from typing import TYPE_CHECKING

from holdfast.core.entries import Kind
from holdfast.core.errors import HoldfastError
from holdfast.core.ids import ID_SIZE, BlobId
from holdfast.repo.browsing.reading import BlobReader
from holdfast.repo.browsing.walk import join
from holdfast.repo.restoring import destination as place
from holdfast.repo.restoring.comparing import holds
from holdfast.repo.restoring.metadata import Handle, Rights, differs, settle
from holdfast.repo.restoring.restore_options import Overwrite, keeps
from holdfast.repo.restoring.sparse import write_at
from holdfast.repo.restoring.tally import Action, explain

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from holdfast.core.entries import Entry
    from holdfast.repo.format.tree import Node, Outline
    from holdfast.repo.processes import Message
    from holdfast.repo.repository import Repository
    from holdfast.repo.restoring.destination import Destination, Identity
    from holdfast.repo.restoring.restore_options import RestoreOptions

LARGE_FILE = 64 << 20
"""Files from here on are written by all workers together."""
SPAN = 32 << 20


def is_large(node: Node | Outline) -> bool:
    return node.size >= LARGE_FILE and node.type == "file"


@dataclass(slots=True)
class _LargeFile:
    """A file in work. `at` is the name it has meanwhile."""

    above: bytes
    name: bytes
    at: bytes
    entry: Entry
    identity: Identity
    reused: bool
    """It was there with the right length: what is right of it stays."""
    written: int = 0
    trouble: str = ""

    @property
    def path(self) -> bytes:
        return join(self.above, self.name)


class LargeFiles:
    """The planning side; a worker writes the spans."""

    def __init__(
        self,
        repository: Repository,
        destination: Destination,
        options: RestoreOptions,
        *,
        note: Callable[[Action, bytes, int], None],
        fail: Callable[[bytes, OSError | HoldfastError | str], None],
    ) -> None:
        self._reader = BlobReader(repository)
        self._destination = destination
        self._options = options
        self._note = note
        self._fail = fail
        self._rights = Rights.current()
        self._files: list[_LargeFile] = []

    def begin(
        self, above: bytes, name: bytes, node: Node, *, exists: bool, fresh: bool
    ) -> Iterator[Message]:
        """Tasks that write one file; none where nothing is to be written."""
        path = join(above, name)
        try:
            entry = node.entry()
            blobs = list(node.blobs())
            lengths = [self._reader.length(blob) for blob in blobs]
            if not exists:
                self._note(Action.RESTORED, path, entry.size)
                return
            file = self._prepare(above, name, entry, sum(lengths), fresh=fresh)
        except (OSError, HoldfastError) as error:
            self._fail(path, error)
            return
        if file is None:
            return
        number = len(self._files)
        self._files.append(file)
        start = size = first = 0
        for index, length in enumerate(lengths, 1):
            size += length
            if size >= SPAN or index == len(blobs):
                ids = b"".join(blobs[first:index])
                span = Span(above, file.at, file.identity, start, ids, file.reused)
                yield "span", number, astuple(span)
                start, size, first = start + size, 0, index

    def _prepare(
        self, above: bytes, name: bytes, entry: Entry, size: int, *, fresh: bool
    ) -> _LargeFile | None:
        """The file to write into; None where it was dealt with."""
        folder = self._destination.folder(above)
        found = None if fresh else place.look(folder, name)
        path = join(above, name)
        if found is not None:
            if keeps(found, entry, self._options.overwrite):
                self._note(Action.SKIPPED, path, entry.size)
                return None
            is_lone = place.is_kind(found, Kind.FILE) and found.st_nlink == 1
            if is_lone and found.st_size == size:
                same = (
                    self._options.overwrite is Overwrite.IF_CHANGED
                    and found.st_mtime_ns == entry.mtime
                )
                file = _LargeFile(above, name, name, entry, place.identity(found), reused=True)
                if same:
                    self._finish(file)
                return None if same else file
        if self._options.dry_run:
            self._note(Action.RESTORED if found is None else Action.UPDATED, path, entry.size)
            return None
        if found is not None and place.is_kind(found, Kind.DIR):
            place.remove_folder(folder, name)
            found = None
        at = name if found is None else place.temporary_name(name)
        if found is not None:
            place.remove_if_there(folder, at)
        descriptor = place.create(folder, at, 0o600)
        try:
            os.ftruncate(descriptor, size)
            made = place.identity(os.fstat(descriptor))
        finally:
            os.close(descriptor)
        return _LargeFile(above, name, at, entry, made, reused=False)

    def take(self, number: int, written: int, trouble: str) -> None:
        """What a span came to."""
        file = self._files[number]
        file.written += written
        file.trouble = file.trouble or trouble

    def finish(self) -> None:
        """Gives the files their metadata and names; one that lacks a part is removed and listed."""
        for file in self._files:
            try:
                self._finish(file)
            except (OSError, HoldfastError) as error:
                self._fail(file.path, error)

    def close(self) -> None:
        self._reader.close()

    def _finish(self, file: _LargeFile) -> None:
        folder = self._destination.folder(file.above)
        if file.trouble:
            self._fail(file.path, file.trouble)
            if not self._options.dry_run:
                place.remove(folder, file.at)
            return
        descriptor = place.open_file(folder, file.at, expected=file.identity)
        try:
            handle = Handle(descriptor)
            fresh = not file.reused
            different = fresh or file.written > 0 or differs(handle, file.entry, self._rights)
            if different and not self._options.dry_run:
                found = handle.stat()
                for trouble in settle(handle, found, file.entry, self._rights, fresh=fresh):
                    self._fail(file.path, trouble)
        finally:
            os.close(descriptor)
        if file.at != file.name:
            place.move_into_place(folder, file.at, file.name)
        if not different:
            self._note(Action.UNCHANGED, file.path, file.entry.size)
        elif fresh and file.at == file.name:
            self._note(Action.RESTORED, file.path, file.written)
        else:
            self._note(Action.UPDATED, file.path, file.written)


@dataclass(frozen=True, slots=True)
class Span:
    """Part of a large file: these blobs, from `offset` on. Travels to a worker as a tuple."""

    above: bytes
    at: bytes
    expected: Identity
    offset: int
    ids: bytes
    reused: bool


def write_span(
    span: Span, destination: Destination, reader: BlobReader, options: RestoreOptions
) -> tuple[int, str]:
    """How many bytes had to be written, or would have to be, and what went wrong."""
    written, offset = 0, span.offset
    write = not options.dry_run
    blobs = [BlobId(span.ids[at : at + ID_SIZE]) for at in range(0, len(span.ids), ID_SIZE)]
    try:
        folder = destination.folder(span.above)
        descriptor = place.open_file(folder, span.at, write=write, expected=span.expected)
        try:
            if not span.reused:
                reader.expect(blobs)
            for blob in blobs:
                length = reader.length(blob)
                if not (span.reused and holds(descriptor, offset, length, blob)):
                    if write and span.reused:
                        os.fchmod(descriptor, 0o600)  # until its owner is the right one
                        write_at(descriptor, reader.read(blob), offset, holes=False)
                    elif write:
                        write_at(descriptor, reader.read(blob), offset, every_zero=options.sparse)
                    written += length
                offset += length
        finally:
            os.close(descriptor)
    except (OSError, HoldfastError) as error:
        return written, explain(error)
    return written, ""
