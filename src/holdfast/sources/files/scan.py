"""The walk: each name once, in the order a repository needs, without ever leaving the tree.

- A folder is opened relative to the descriptor of the one above it, never through a symbolic link,
  and has to be the one that was seen. Whoever exchanges names meanwhile leads nobody out of a root.
- Names are sorted as bytes and looked at one by one: a folder of a million names costs its names.
- It is a loop over a stack that keeps only so many descriptors: depth has no limit.
"""

from __future__ import annotations

import errno
import os
import stat
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from holdfast.core.source import UP, Problem, Up
from holdfast.sources.files.descriptors import CLOEXEC, DIRECTORY, HOLD, NOFOLLOW, reach
from holdfast.sources.files.facts import KIND_BITS
from holdfast.sources.files.filters import Exclusion, Filters, identities, tags
from holdfast.sources.files.roots import Named, Root, look, plan, roots_below

if TYPE_CHECKING:
    from collections.abc import Sequence

OPEN_LIMIT = 128
"""Folders that are kept open at once."""

Visit = tuple[bytes, bytes, os.stat_result, int, Problem | None]
"""Path, name, facts, descriptor of the folder it is in, and what of it could not be read.

After a folder's come those of what is in it, and `UP`.
"""

Steps = Iterator[Visit | Problem | Up]

_GONE = frozenset({errno.ENOENT, errno.ESTALE})
_PASS = HOLD | DIRECTORY | CLOEXEC
_LIST = os.O_RDONLY | DIRECTORY | NOFOLLOW | CLOEXEC
_OWN = "it is the repository or cache of this very backup"
_EXCHANGED = "it was exchanged for something else while the tree was scanned"
_ENCODING = sys.getfilesystemencoding()
_ENCODING_ERRORS = sys.getfilesystemencodeerrors()


@dataclass(slots=True)
class _Folder:
    """A folder that is being walked."""

    descriptor: int
    """-1 while closed for want of descriptors."""
    facts: os.stat_result
    name: bytes
    names: list[bytes]
    """What is still to visit, last first."""
    named: dict[bytes, Named]
    """Names in it that lead to a root or are one."""
    inside: bool
    """Whether it is a root or below one, rather than only on the way to one."""
    device: int | None
    """The file system to stay on."""


class Scan:
    """One walk over `roots`, which share their base: there its tree begins. To be iterated over
    once.
    """

    def __init__(self, roots: Sequence[Root], filters: Filters) -> None:
        self._roots = roots
        self._base = roots[0].base
        self._exclusion = Exclusion(filters)
        self._tags = tags(filters)
        self._skipped = identities(filters.skip)
        self._one_file_system = filters.one_file_system
        limit = filters.exclude_larger_than
        self._size_limit = sys.maxsize if limit is None else limit
        self._stack: list[_Folder] = []

    def __iter__(self) -> Steps:
        present = []
        for root in self._roots:
            try:
                look(root.path)
                present.append(root)
            except OSError as error:
                yield Problem(root.path, "scan", reason(error), root=True)
        try:
            if present:
                yield from self._walk(plan(present))
        finally:
            for folder in self._stack:
                _close(folder)

    def _walk(self, named: Named) -> Steps:
        stack = self._stack
        yield from self._open_top(named)
        prefix = self._base.rstrip(b"/") + b"/"
        while stack:
            here = stack[-1]
            yield from self._visit_names(here, prefix)
            if stack[-1] is not here:
                prefix += stack[-1].name + b"/"
                if len(stack) > OPEN_LIMIT:
                    _close(stack[-OPEN_LIMIT - 1])
                continue
            if len(stack) > 1:
                prefix = prefix[: -len(here.name) - 1]
                yield from _reopen(stack[-2], here.descriptor, prefix)
                yield UP
            _close(stack.pop())

    def _open_top(self, named: Named) -> Steps:
        """Enters the base: as a folder above the roots, or as a root."""
        base = self._base
        try:
            descriptor = reach(base, _PASS | (NOFOLLOW if named.is_root else 0))
        except OSError as error:
            yield from _lost(named, base.rstrip(b"/"), reason(error))
            return
        facts = os.fstat(descriptor)
        names = sorted(named.below, reverse=True)
        top = _Folder(descriptor, facts, b"", names, named.below, named.is_root, None)
        self._stack.append(top)
        if not named.is_root:
            return
        if (facts.st_dev, facts.st_ino) in self._skipped:
            top.names = []
            yield from _lost(named, base.rstrip(b"/"), _OWN)
            return
        if self._one_file_system:
            top.device = facts.st_dev
        try:
            top.descriptor = os.open(b".", _LIST, dir_fd=descriptor)
        except OSError as error:
            yield Problem(base, "scan", reason(error), root=True)
            return
        os.close(descriptor)
        trouble = self._list(top, base, named)
        if trouble is not None:
            yield Problem(base, "scan", reason(trouble), root=True)

    def _visit_names(self, here: _Folder, prefix: bytes) -> Steps:
        """Visits what is left of a folder, until another folder is entered."""
        stack = self._stack
        names, named = here.names, here.named
        descriptor, device = here.descriptor, here.device
        leaves_out = self._exclusion.leaves_out if self._exclusion else None
        size_limit = self._size_limit
        while names and stack[-1] is here:
            name = names.pop()
            if names and names[-1] == name:
                continue  # a file system may list a name twice while the folder changes
            path = prefix + name
            if name in named:
                yield from self._visit_named(here, path, name)
                continue
            if leaves_out is not None and leaves_out(path, name):
                continue
            try:
                facts = os.lstat(name, dir_fd=descriptor)
            except OSError as error:
                yield Problem(path, "scan", reason(error))
                continue
            if facts.st_mode & KIND_BITS == stat.S_IFDIR:
                yield from self._visit_folder(here, path, name, facts)
            elif facts.st_size <= size_limit and (device is None or facts.st_dev == device):
                yield path, name, facts, descriptor, None

    def _visit_named(self, here: _Folder, path: bytes, name: bytes) -> Steps:
        """Visits a root, or a folder on the way to one: it is kept whatever it is called."""
        named = here.named[name]
        try:
            if not here.inside and not named.is_root:
                yield from self._pass(here, path, name, named)
                return
            facts = os.lstat(name, dir_fd=here.descriptor)
        except OSError as error:
            yield from _lost(named, path, reason(error))
            return
        if stat.S_ISDIR(facts.st_mode):
            yield from self._visit_folder(here, path, name, facts, named)
        else:
            yield path, name, facts, here.descriptor, None
            link = os.fsdecode(path)
            yield from _lost(named, path, f"{link} is no folder but kept as it is", below=True)

    def _pass(self, here: _Folder, path: bytes, name: bytes, named: Named) -> Steps:
        """Enters a folder above the roots. The person named it, so links to it are followed."""
        descriptor = os.open(name, _PASS, dir_fd=here.descriptor)
        facts = os.fstat(descriptor)
        names = sorted(named.below, reverse=True)
        self._stack.append(_Folder(descriptor, facts, name, names, named.below, False, None))
        yield path, name, facts, here.descriptor, None

    def _visit_folder(
        self,
        here: _Folder,
        path: bytes,
        name: bytes,
        facts: os.stat_result,
        named: Named | None = None,
    ) -> Steps:
        """Enters a folder below a root, or a root."""
        if (facts.st_dev, facts.st_ino) in self._skipped:
            if named is not None:
                yield from _lost(named, path, _OWN)
            return
        device = here.device
        if named is not None and named.is_root:
            device = facts.st_dev if self._one_file_system else None
        elif named is None and device is not None and facts.st_dev != device:
            if here.facts.st_dev == device:  # a mount point: it is kept, what is mounted is not
                yield path, name, facts, here.descriptor, None
                yield UP
            return
        try:
            descriptor, facts = _open_seen(name, here.descriptor, facts)
        except OSError as error:
            gone = error.errno in _GONE
            if not gone:
                is_root = named is not None and named.is_root
                problem = Problem(path, "scan", reason(error), root=is_root)
                yield path, name, facts, here.descriptor, problem
                yield UP
            elif named is None:
                yield Problem(path, "scan", reason(error))
            if named is not None:
                yield from _lost(named, path, reason(error), below=not gone)
            return
        ahead = named.below if named else {}
        below = _Folder(descriptor, facts, name, [], ahead, inside=True, device=device)
        self._stack.append(below)
        trouble = self._list(below, path, named)
        partly = Problem(path, "scan", reason(trouble)) if trouble else None
        yield path, name, facts, here.descriptor, partly

    def _list(self, folder: _Folder, path: bytes, named: Named | None) -> OSError | None:
        """Finds out what to visit in a folder; what ended the listing before its end, if so."""
        names: list[bytes] = []
        trouble = None
        try:
            with os.scandir(folder.descriptor) as listing:
                names.extend(item.name.encode(_ENCODING, _ENCODING_ERRORS) for item in listing)
        except OSError as error:
            trouble = error
        marks = {tag.name for tag in self._tags if tag.marks(folder.descriptor, names)}
        if marks:
            names = list(marks)
        if named is not None:
            # It is kept although a pattern may match it. Then that matches all that is below, too.
            if self._exclusion.covers(path):
                names = []
            names += folder.named  # twice where they are there: visited once all the same
        names.sort(reverse=True)
        folder.names = names
        return trouble


def reason(error: OSError) -> str:
    return error.strerror or str(error)


def _open_seen(name: bytes, above: int, seen: os.stat_result) -> tuple[int, os.stat_result]:
    """Opens the very folder that was seen; its descriptor and facts.

    Raises:
        OSError: it cannot be read, is gone, or (ESTALE) is something else by now.
    """
    try:
        descriptor = os.open(name, _LIST, dir_fd=above)
    except OSError as error:
        if error.errno in {errno.ENOTDIR, errno.ELOOP}:
            raise OSError(errno.ESTALE, _EXCHANGED) from error
        raise
    facts = os.fstat(descriptor)
    if not _same(facts, seen):
        os.close(descriptor)
        raise OSError(errno.ESTALE, _EXCHANGED)
    return descriptor, facts


def _same(one: os.stat_result, other: os.stat_result) -> bool:
    return one.st_ino == other.st_ino and one.st_dev == other.st_dev


def _reopen(folder: _Folder, below: int, prefix: bytes) -> Iterator[Problem]:
    """Opens a folder again that was closed for want of descriptors, if more of it is to be visited.

    It is above the one that was just left (`below`), or else where it was found.
    """
    if folder.descriptor >= 0 or not folder.names:
        return
    path = prefix[:-1] or b"/"
    ways: tuple[Callable[[], int], ...] = (
        lambda: os.open(b"..", _PASS, dir_fd=below),
        lambda: reach(path, _PASS),
    )
    for way in ways:
        try:
            descriptor = way()
        except OSError:
            continue
        if _same(os.fstat(descriptor), folder.facts):
            folder.descriptor = descriptor
            return
        os.close(descriptor)
    folder.names.clear()
    yield Problem(path, "scan", "it was moved while it was scanned; the rest of it is left out")


def _close(folder: _Folder) -> None:
    if folder.descriptor >= 0:
        os.close(folder.descriptor)
        folder.descriptor = -1


def _lost(named: Named, path: bytes, message: str, *, below: bool = False) -> Iterator[Problem]:
    """Roots that cannot be reached: what `path` leads to, or only what is `below` it.

    `path` has no slash at its end.
    """
    if named.is_root and not below:
        yield Problem(path or b"/", "scan", message, root=True)
    for root in roots_below(named, path):
        yield Problem(root, "scan", message, root=True)
