"""Files and folders of this machine as a source."""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING, NamedTuple

from holdfast.core.entries import Kind
from holdfast.core.source import Found, Problem
from holdfast.sources.files.bases import refuse_clashes, visits
from holdfast.sources.files.content import FileContent
from holdfast.sources.files.descriptors import held, name_of, open_seen, open_successor
from holdfast.sources.files.facts import Owners, describe, read_xattrs
from holdfast.sources.files.filters import Exclusion, Filters, tags
from holdfast.sources.files.roots import ancestors, clean_roots, topmost
from holdfast.sources.files.scan import reason

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from holdfast.core.entries import Entry
    from holdfast.core.source import Step
    from holdfast.sources.files.scan import Steps


class FileSource:
    """What is below some roots of this machine's file system; see `core.source.Source`.

    `roots` are as a person names them, relative to the working directory, and lie in the tree where
    restic places them (`roots.Root`). They are kept whatever the filters say; a root that is a
    symbolic link is kept as that. It can be pickled, and used by several processes at once.

    Raises:
        UsageError: there is no root, two of them would need the same name at the top of the tree,
            or a filter is malformed.
    """

    def __init__(
        self, roots: Iterable[bytes], filters: Filters | None = None, *, names: bool = True
    ) -> None:
        """`names` False: owners and groups are kept as numbers only."""
        self._placed = clean_roots(roots)
        self.roots: Sequence[bytes] = tuple(root.path for root in self._placed)
        self.filters = filters or Filters()
        tags(self.filters)  # malformed ones are refused here, not in the middle of a run
        refuse_clashes(self._placed, Exclusion(self.filters))
        self._root_paths = frozenset(self.roots)
        self._ancestors = ancestors(self.roots)
        self._owners = Owners(named=names)

    def visits(self) -> Steps:
        """The steps of `walk`, as the file system gives them."""
        return visits(self._placed, self.filters)

    def walk(self) -> Iterator[Step]:
        """Steps below the top of the tree, which has no entry of its own; a root not kept is a
        `Problem`.
        """
        owners = self._owners
        for step in self.visits():
            if not isinstance(step, tuple):
                yield step
                continue
            path, name, facts, folder, problem = step
            try:
                target = os.readlink(name, dir_fd=folder) if stat.S_ISLNK(facts.st_mode) else None
                entry = describe(name, facts, owners, target)
            except OSError as error:
                yield Problem(path, "scan", reason(error))
            except KeyError:
                yield Problem(path, "scan", f"it is of an unknown kind ({facts.st_mode:o})")
            else:
                yield Found(path, entry, problem)

    def open(self, path: bytes, entry: Entry) -> FileContent:
        try:
            opened = open_seen(path, entry)
        except OSError as error:
            root = topmost(path, self._root_paths)
            if error.errno != errno.ESTALE or root is None:
                raise
            opened = open_successor(path, root)  # editors replace files rather than rewrite them
        return FileContent(opened, entry.name, self._owners)

    def xattrs(self, path: bytes, entry: Entry) -> list[tuple[bytes, bytes]]:
        if not hasattr(os, "listxattr"):
            return []
        # A folder above the roots may have been reached by a link.
        follow = entry.kind is Kind.DIR and path in self._ancestors
        with held(path, entry, follow=follow) as holder:
            try:
                return read_xattrs(name_of(holder))
            except FileNotFoundError:  # no /proc here
                return read_xattrs(path, follow=False)


class Estimate(NamedTuple):
    files: int
    bytes: int


def estimate(source: FileSource) -> Estimate:
    """Counts the regular files that a walk will find now, and their bytes; for showing progress."""
    files = size = 0
    for step in source.visits():
        if isinstance(step, tuple) and stat.S_ISREG(step[2].st_mode):
            files += 1
            size += step[2].st_size
    return Estimate(files, size)
