"""What the person named, put into one tree."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from holdfast.core.errors import UsageError
from holdfast.sources.files.descriptors import DIRECTORY, HOLD, reach

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Iterator


@dataclass(slots=True)
class Named:
    """A name on the way to a root, or a root itself, or both."""

    is_root: bool = False
    below: dict[bytes, Named] = field(default_factory=dict)


class Root(NamedTuple):
    """A path that was named, and where it lies in the tree: at `below`, whatever `base` is.

    As in restic: absolute names are placed by their whole path (`base` is `/`), relative ones
    without their leading `..`. `below` is empty where only dots were named: then what `base` holds
    lies at the top of the tree.
    """

    base: bytes
    below: bytes

    @property
    def path(self) -> bytes:
        if not self.below:
            return self.base
        return self.base.rstrip(b"/") + b"/" + self.below


def clean_roots(names: Iterable[bytes]) -> tuple[Root, ...]:
    """Names as a person writes them, made absolute against the working directory, each once.

    `.`, `..` and slashes in excess are resolved in the text: no symbolic link is followed.

    Raises:
        UsageError: there is none, or one cannot be a path.
    """
    roots: dict[Root, None] = {}
    for name in names:
        if not name or b"\0" in name:
            raise UsageError(f"{os.fsdecode(name)!r} is not a path")
        try:
            roots[_clean(name)] = None
        except FileNotFoundError:
            raise UsageError("the working directory is gone; name absolute paths") from None
    if not roots:
        raise UsageError("nothing to back up", remedy="Name the files and folders to keep.")
    return tuple(roots)


def _clean(name: bytes) -> Root:
    path = os.path.normpath(name)
    if path.startswith(b"/"):
        return Root(b"/", path.lstrip(b"/"))
    parts = [] if path == b"." else path.split(b"/")
    ups = parts.count(b"..")  # all of them lead: others are resolved
    base = os.path.abspath(b"/".join([b".", *parts[:ups]]))
    return Root(b"/" + base.lstrip(b"/"), b"/".join(parts[ups:]))


def ancestors(roots: Iterable[bytes]) -> frozenset[bytes]:
    """Paths of all folders above the roots, without `/`."""
    found = set()
    for root in roots:
        above = root.rpartition(b"/")[0]
        while above and above not in found:
            found.add(above)
            above = above.rpartition(b"/")[0]
    return frozenset(found)


def look(root: bytes) -> os.stat_result:
    """The facts of a root itself; symbolic links on the way to it are followed.

    Raises:
        OSError: it is not there, or may not be seen.
    """
    above, _, name = root.rpartition(b"/")
    folder = reach(above or b"/", HOLD | DIRECTORY)
    try:
        return os.lstat(name or b".", dir_fd=folder)
    finally:
        os.close(folder)


def topmost(path: bytes, roots: Container[bytes]) -> bytes | None:
    """The root that a path lies in; of roots in each other the outer one."""
    if b"/" in roots:
        return b"/"
    end = path.find(b"/", 1)
    while end > 0:
        if path[:end] in roots:
            return path[:end]
        end = path.find(b"/", end + 1)
    return path if path in roots else None


def plan(roots: Iterable[Root]) -> Named:
    """The tree of names that leads from the base of all roots to each of them."""
    top = Named()
    for root in roots:
        here = top
        for name in root.below.split(b"/"):
            if name:
                here = here.below.setdefault(name, Named())
        here.is_root = True
    return top


def roots_below(here: Named, path: bytes) -> Iterator[bytes]:
    """The roots below a name of the plan; `path` is its own, without a slash at the end."""
    waiting = [(path, here)]
    while waiting:
        above, named = waiting.pop()
        for name, below in sorted(named.below.items(), reverse=True, key=_by_name):
            waiting.append((above + b"/" + name, below))
        if named.is_root and named is not here:
            yield above or b"/"


def _by_name(item: tuple[bytes, Named]) -> bytes:
    return item[0]
