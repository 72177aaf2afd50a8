"""What an archive of a tree shall hold, in the order of the tree."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from holdfast.core.entries import Kind
from holdfast.core.errors import DamagedError, RestoreError
from holdfast.repo.browsing.names import check_name
from holdfast.repo.browsing.streaming import Wanted
from holdfast.repo.browsing.walk import walk

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from holdfast.core.entries import Entry
    from holdfast.core.ids import BlobId
    from holdfast.repo.browsing.streaming import ReadPool
    from holdfast.repo.browsing.walk import Step
    from holdfast.repo.format.tree import Node

_ZIP_KINDS = frozenset({Kind.FILE, Kind.DIR, Kind.SYMLINK})
_TAR_KINDS = frozenset(Kind) - {Kind.SOCKET}


class Member(NamedTuple):
    """One name in an archive."""

    path: bytes
    """without a slash at either end"""
    entry: Entry
    size: int
    """bytes of a file's content"""
    blobs: int
    """how many the content comes in"""
    same_as: bytes | None = None
    """the path of an earlier member that is the same file"""


class Parts(Protocol):
    """What an archive is written from: a `streaming.ReadAhead` of what `Members.wanted` wants, or
    anything else that gives the same.
    """

    def next(self) -> Sequence[tuple[Any, bytes]] | None:
        """Some more, in order: a `Member` with the first of its content, or None with more of it.
        None at the end.
        """
        ...


class Members:
    """Of one tree. `on_problem`: None where nobody is there to be told."""

    def __init__(
        self,
        pool: ReadPool,
        tree: BlobId,
        top: bytes,
        on_problem: Callable[[bytes, str], None] | None,
    ) -> None:
        self._pool = pool
        self._tree = tree
        self._top = top.strip(b"/")
        for name in self._top.split(b"/") if self._top else ():
            check_name(name)
        self._on_problem = on_problem

    def wanted(self, *, zip_kinds: bool) -> Iterator[Wanted]:
        """For each member a `Member` as the first tag, with its first blob if it has content; its
        other blobs follow with None as their tag.

        `zip_kinds`: without what a zip cannot hold, and hard links as files of their own; else so
        for a tar.
        """
        links = _Links()
        for path, entry, node in self._entries():
            if entry.kind not in (_ZIP_KINDS if zip_kinds else _TAR_KINDS):
                noun = "a zip" if zip_kinds else "a tar"
                self._tell(b"/" + path, f"{noun} cannot hold a {entry.kind}")
                continue
            earlier = None if zip_kinds else links.earlier(path, entry, node)
            if earlier is not None:
                yield Wanted(Member(path, entry, 0, 0, earlier), None)
            elif entry.kind is Kind.FILE and node.content:
                yield from self._content(path, entry, node)
            else:
                yield Wanted(Member(path, entry, 0, 0), None)

    def _content(self, path: bytes, entry: Entry, node: Node) -> Iterator[Wanted]:
        blobs = [self._pool.wanted(None, blob) for blob in node.blobs()]
        size = sum([blob.length for blob in blobs])
        yield blobs[0]._replace(tag=Member(path, entry, size, len(blobs)))
        yield from blobs[1:]

    def _entries(self) -> Iterator[tuple[bytes, Entry, Node]]:
        refused: set[bytes] = set()

        def enter(step: Step) -> bool:
            return step.path not in refused

        tell = self._on_problem
        start = b"/" + self._top
        for step in walk(
            self._pool,
            self._tree,
            path=start,
            enter=enter,
            unreadable=None if tell is None else lambda path, error: tell(path, error.message),
        ):
            try:
                entry = step.node.entry()
                check_name(entry.name)
            except (DamagedError, RestoreError) as error:
                refused.add(step.path)
                self._tell(step.path, error.message)
                continue
            yield step.path[1:], entry, step.node

    def _tell(self, path: bytes, message: str) -> None:
        if self._on_problem is not None:
            self._on_problem(path, message)


class _Links:
    """Which files are further names of one that came already."""

    def __init__(self) -> None:
        self._first: dict[tuple[int, int, int], bytes] = {}

    def earlier(self, path: bytes, entry: Entry, node: Node) -> bytes | None:
        if entry.kind is not Kind.FILE or entry.links < 2 or not entry.inode:  # noqa: PLR2004
            return None
        content = hash(tuple(node.content or ()))
        first = self._first.setdefault((entry.device, entry.inode, content), path)
        return None if first is path else first
