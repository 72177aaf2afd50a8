"""What a restore does to one directory, one large file, one group of hard links: the worker's side.

Every function that would change something asks `dry_run` at the last moment, so that a preview
takes the same decisions.
"""

from __future__ import annotations

import os
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from holdfast.core.entries import Kind
from holdfast.core.errors import HoldfastError, RestoreError
from holdfast.repo.browsing.names import Named, named
from holdfast.repo.browsing.reading import BlobReader
from holdfast.repo.browsing.walk import join, split
from holdfast.repo.format.tree import Node, Outline, decode_tree
from holdfast.repo.format.zeros import ZERO_PIECE
from holdfast.repo.restoring import destination as place
from holdfast.repo.restoring.comparing import first_difference
from holdfast.repo.restoring.deleting import delete
from holdfast.repo.restoring.large import Span, is_large, write_span
from holdfast.repo.restoring.metadata import Handle, Rights, differs, settle
from holdfast.repo.restoring.plain import PlainFiles
from holdfast.repo.restoring.restore_options import Overwrite, keeps
from holdfast.repo.restoring.sparse import write_at
from holdfast.repo.restoring.tally import Action, Tally, explain

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from holdfast.core.entries import Entry
    from holdfast.core.ids import BlobId
    from holdfast.repo.processes import Message
    from holdfast.repo.repository import Repository
    from holdfast.repo.restoring.destination import Destination, Identity
    from holdfast.repo.restoring.restore_options import RestoreOptions

TOGETHER = 32 << 20
"""Bytes of content that are asked of a distant store at once."""
PREVIEW: Identity = (0, 0)
"""Stands for the file that a dry run does not make."""
_TRIES = 3


def is_linked(node: Node | Outline) -> bool:
    """Whether it may have further names, which are restored together."""
    return node.links > 1 and node.inode > 0 and node.type != "dir"


def stands_apart(node: Node | Outline) -> bool:
    """Whether it is not restored with the rest of its directory."""
    return node.type == "dir" or is_large(node) or is_linked(node)


class Folder(NamedTuple):
    """A directory to fill with all but what stands apart. Travels to a worker as a plain tuple."""

    path: bytes
    tree: BlobId
    document: bytes
    """The text of the tree; nothing where it is too long to travel."""
    exists: bool
    fresh: bool
    """This run made it: nothing can be in the way."""
    own: bytes
    """Its own node (msgpack) where its metadata can be set as soon as it is full."""


_decode_node = msgspec.msgpack.Decoder(Node).decode


class _Item(NamedTuple):
    """One entry on its way to its place; `path` is the whole one."""

    path: bytes
    name: bytes
    entry: Entry
    blobs: list[BlobId]


class Filler:
    """Restores into directories that exist. Belongs to one worker."""

    def __init__(
        self,
        repository: Repository,
        destination: Destination,
        options: RestoreOptions,
        *,
        listing: bool,
    ) -> None:
        self._repository = repository
        self._destination = destination
        self._options = options
        self._reader = BlobReader(repository)
        self._rights = Rights.current()
        self._plain_files = PlainFiles(destination, self._reader, self._rights)
        self._listing = listing
        self._tally = Tally()

    def close(self) -> None:
        self._reader.close()
        self._destination.close()

    def work(self, task: Message) -> Message:
        word, *values = task
        self._tally = Tally(listing=self._listing)
        if word == "fill":
            for folder in values[0]:
                self._fill(Folder(*folder))
        elif word == "links":
            self._restore_links(*values)
        elif word == "span":
            number, span = values
            written = write_span(Span(*span), self._destination, self._reader, self._options)
            return "span", number, *written
        elif word == "verify":
            for folder in values[0]:
                self._verify(*folder)
        return self._tally.as_message()

    # --- directories ------------------------------------------------------------------------------

    def _fill(self, folder: Folder) -> None:
        path = folder.path
        try:
            descriptor = self._destination.folder(path) if folder.exists else None
            nodes = (
                decode_tree(folder.document)
                if folder.document
                else self._repository.load_tree(folder.tree)
            )
        except (OSError, HoldfastError) as error:
            self._tally.fail(path, error)
        else:
            if self._options.delete and descriptor is not None and not folder.fresh:
                self._delete_others(path, descriptor, nodes)
            self._fill_with(nodes, folder)
        if folder.own:
            self._settle_folder(folder)

    def _fill_with(self, nodes: Sequence[Node], folder: Folder) -> None:
        """Everything of a directory but what stands apart."""
        path, exists, fresh = folder.path, folder.exists, folder.fresh
        plainly = fresh and not self._options.sparse
        for batch in _together(self._wanted(path, nodes)):
            self._reader.expect(blob for _, node, _ in batch for blob in _blobs(node))
            for name, node, refusal in batch:
                if refusal:
                    self._tally.fail(join(path, name), refusal)
                elif plainly and self._plain_files.restore(path, name, node):
                    self._tally.note(Action.RESTORED, join(path, name), node.size)
                else:
                    self._restore(path, name, node, exists=exists, fresh=fresh)

    def _settle_folder(self, folder: Folder) -> None:
        try:
            entry = _decode_node(folder.own).entry()
            handle = Handle(self._destination.folder(folder.path))
            for trouble in settle(handle, handle.stat(), entry, self._rights, fresh=True):
                self._tally.fail(folder.path, trouble)
        except (OSError, HoldfastError) as error:
            self._tally.fail(folder.path, error)

    def _wanted(self, path: bytes, nodes: Sequence[Node]) -> list[Named]:
        selection = self._options.selection
        wanted = [item for item in named(nodes) if not stands_apart(item[1])]
        if selection:
            wanted = [item for item in wanted if selection.selects(join(path, item[0]))]
        return wanted

    def _delete_others(self, path: bytes, folder: int, nodes: Sequence[Node]) -> None:
        ours = {name for name, _, refusal in named(nodes) if not refusal}
        for name in place.names(folder):
            if name not in ours:
                self._delete(join(path, name))

    def _delete(self, path: bytes) -> None:
        delete(
            self._destination,
            path,
            self._options.selection,
            dry_run=self._options.dry_run,
            tally=self._tally,
        )

    # --- one entry --------------------------------------------------------------------------------

    def _restore(
        self, path: bytes, name: bytes, node: Node, *, exists: bool, fresh: bool
    ) -> Identity | None:
        """Restores one entry; which file it is now, None where it failed or nothing was done."""
        full = join(path, name)
        try:
            item = _Item(full, name, node.entry(), list(_blobs(node)))
            for _ in range(_TRIES):
                folder = self._destination.folder(path) if exists else None
                found = None if folder is None or fresh else place.look(folder, name)
                try:
                    return self._restore_over(item, folder, found)
                except FileExistsError:  # somebody was faster: judge again by what is there now
                    fresh = False
            raise RestoreError("somebody keeps changing the directory that is restored into")
        except (OSError, HoldfastError) as error:
            self._tally.fail(full, error)
        return None

    def _restore_over(
        self, item: _Item, folder: int | None, found: os.stat_result | None
    ) -> Identity | None:
        size = item.entry.size
        if folder is None or found is None:
            made = PREVIEW
            if folder is not None and not self._options.dry_run:
                made = self._make(item, folder, item.name)
            self._tally.note(Action.RESTORED, item.path, size)
            return made
        if keeps(found, item.entry, self._options.overwrite):
            self._tally.note(Action.SKIPPED, item.path, size)
            return None
        if self._is_same(item, folder, found) and self._refresh(item, folder, found):
            return place.identity(found)
        return self._replace(item, folder, found)

    def _replace(self, item: _Item, folder: int, found: os.stat_result) -> Identity:
        if place.is_kind(found, Kind.DIR):
            if self._options.delete:
                self._delete(item.path)
            else:
                place.refuse_full(self._destination.folder(item.path))
            folder = self._destination.folder(split(item.path)[0])
        made = PREVIEW
        if not self._options.dry_run:
            with place.replacing(folder, item.name, found) as temporary:
                made = self._make(item, folder, temporary)
        self._tally.note(Action.UPDATED, item.path, item.entry.size)
        return made

    def _make(self, item: _Item, folder: int, name: bytes) -> Identity:
        """Makes an entry with all its metadata, under this name."""
        entry = item.entry
        if entry.kind is not Kind.FILE:
            place.make_node(folder, name, entry)
            with place.handle_of(folder, name, entry.kind) as handle:
                return place.identity(self._settle(item, handle))
        blobs = item.blobs
        first = self._reader.read(blobs[0]) if blobs else None  # before there is a file to spoil
        descriptor = place.create(folder, name, self._rights.creation_mode(entry))
        try:
            size = 0
            for number, blob in enumerate(blobs):
                plain = first if number == 0 and first is not None else self._reader.read(blob)
                write_at(descriptor, plain, size, every_zero=self._options.sparse)
                size += len(plain)
            if size >= ZERO_PIECE or self._options.sparse:
                os.ftruncate(descriptor, size)  # a hole at the end
            if size != entry.size:
                self._tally.fail(item.path, f"has {size} bytes, its tree says {entry.size}")
            return place.identity(self._settle(item, Handle(descriptor)))
        except (OSError, HoldfastError):
            place.remove(folder, name)
            raise
        finally:
            os.close(descriptor)

    def _settle(self, item: _Item, handle: Handle, *, fresh: bool = True) -> os.stat_result:
        """Sets the metadata; what the file was before."""
        found = handle.stat()
        for trouble in settle(handle, found, item.entry, self._rights, fresh=fresh):
            self._tally.fail(item.path, trouble)
        if not self._rights.privileged and item.entry.uid != self._rights.uid:
            self._tally.foreign += 1
        return found

    def _refresh(self, item: _Item, folder: int, found: os.stat_result) -> bool:
        """Gives what has the right content the right metadata; False where it may only be replaced.

        A file with further names is left alone: they may lie outside of the destination.
        """
        same = place.identity(found)
        with place.handle_of(folder, item.name, item.entry.kind, expected=same) as handle:
            if not differs(handle, item.entry, self._rights):
                self._tally.note(Action.UNCHANGED, item.path, item.entry.size)
                return True
            if handle.stat().st_nlink != 1:
                return False
            if not self._options.dry_run:
                self._settle(item, handle, fresh=False)
        self._tally.note(Action.UPDATED, item.path)
        return True

    def _is_same(self, item: _Item, folder: int, found: os.stat_result) -> bool:
        """Whether what is there has the right kind and content."""
        entry = item.entry
        if not place.is_kind(found, entry.kind):
            return False
        if entry.kind is Kind.SYMLINK:
            return place.read_link(folder, item.name) == (entry.linktarget or b"")
        if entry.kind in {Kind.DEV, Kind.CHARDEV}:
            return found.st_rdev == entry.rdev
        if entry.kind is not Kind.FILE:
            return True
        if found.st_size != entry.size:
            return False
        if self._options.overwrite is Overwrite.IF_CHANGED and found.st_mtime_ns == entry.mtime:
            return True
        return not first_difference(folder, item.name, item.blobs, self._reader)

    # --- hard links -------------------------------------------------------------------------------

    def _restore_links(self, tree: BlobId, paths: list[bytes], exists: list[bool]) -> None:
        """One file with all its names that are wanted."""
        try:
            nodes = self._repository.load_tree(tree)
        except HoldfastError as error:
            self._tally.failures += [(path, explain(error)) for path in paths]
            return
        first = split(paths[0])[1]
        node = next(node for name, node, refusal in named(nodes) if name == first and not refusal)
        self._reader.expect(islice(_blobs(node), 64))
        if self._are_linked(node, paths, exists):
            return
        made: Identity | None = None
        source = b""
        for path, there in zip(paths, exists, strict=True):
            try:
                above, name = split(path)
                if made is None:
                    made = self._restore(above, name, node, exists=there, fresh=False)
                    source = path
                else:
                    self._link(
                        source, made, path, node.entry(), self._look(path) if there else None
                    )
            except (OSError, HoldfastError) as error:
                self._tally.fail(path, error)

    def _are_linked(self, node: Node, paths: list[bytes], exists: list[bool]) -> bool:
        """Whether the names lead to one right file already, and that has no others.

        Then its metadata is brought up to date.
        """
        if not all(exists):
            return False
        try:
            above, name = split(paths[0])
            item = _Item(paths[0], name, node.entry(), list(_blobs(node)))
            stats = [self._look(path) for path in paths]
            found = stats[0]
            if found is None or found.st_nlink != len(paths):
                return False
            same = place.identity(found)
            if any(each is None or place.identity(each) != same for each in stats):
                return False
            folder = self._destination.folder(above)
            if keeps(found, item.entry, self._options.overwrite):
                return False
            if not self._is_same(item, folder, found):
                return False
            with place.handle_of(folder, name, item.entry.kind, expected=same) as handle:
                changed = differs(handle, item.entry, self._rights)
                if changed and not self._options.dry_run:
                    self._settle(item, handle, fresh=False)
        except (OSError, HoldfastError):
            return False
        for path in paths:
            if changed:
                self._tally.note(Action.UPDATED, path)
            else:
                self._tally.note(Action.UNCHANGED, path, item.entry.size)
        return True

    def _look(self, path: bytes) -> os.stat_result | None:
        above, name = split(path)
        return place.look(self._destination.folder(above), name)

    def _link(
        self,
        source: bytes,
        made: Identity,
        path: bytes,
        entry: Entry,
        found: os.stat_result | None,
    ) -> None:
        """Makes a path another name of what was just made."""
        same = found is not None and place.identity(found) == made
        if same or (found is not None and keeps(found, entry, self._options.overwrite)):
            self._tally.note(Action.UNCHANGED if same else Action.SKIPPED, path, entry.size)
            return
        if not self._options.dry_run:
            above, name = split(path)
            source_above, source_name = split(source)
            folder = self._destination.folder(source_above)
            with place.link_source(folder, source_name, made) as origin:
                folder = self._destination.folder(above)
                if found is None:
                    place.link(origin, folder, name)
                else:
                    with place.replacing(folder, name, found) as temporary:
                        place.link(origin, folder, temporary)
        self._tally.note(Action.RESTORED if found is None else Action.UPDATED, path)

    # --- verification -----------------------------------------------------------------------------

    def _verify(self, path: bytes, tree: BlobId, names: list[bytes]) -> None:
        """Compares those files of a directory with their blobs."""
        try:
            items = named(self._repository.load_tree(tree))
            nodes = {name: node for name, node, refusal in items if not refusal}
            folder = self._destination.folder(path)
        except (OSError, HoldfastError) as error:
            self._tally.fail(path, error)
            return
        for name in names:
            node = nodes[name]
            if node.type != "file":
                continue
            try:
                difference = first_difference(folder, name, _blobs(node), self._reader)
            except HoldfastError as error:
                difference = error.message
            if difference:
                self._tally.fail(join(path, name), f"verification: {difference}")
            else:
                self._tally.note(Action.UNCHANGED, join(path, name), node.size)


def _blobs(node: Node) -> Iterator[BlobId]:
    return node.blobs() if node.type == "file" else iter(())


def _together(items: list[Named]) -> Iterator[list[Named]]:
    """The items in runs, each as much as one request to a distant store is worth."""
    start = size = 0
    for end, (_, node, _) in enumerate(items, 1):
        size += node.size
        if size >= TOGETHER or end - start >= 512:  # noqa: PLR2004
            yield items[start:end]
            start, size = end, 0
    if start < len(items):
        yield items[start:]
