"""Through the trees of a snapshot, one entry at a time, however deep they are.

Paths are bytes and begin at the top of the snapshot: `/home/ann/notes`. What a tree says is not
trusted here: a name may hold anything. Whoever makes files of them passes `names.check_name`
first.
"""

from __future__ import annotations

import posixpath
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, Protocol

from holdfast.core.errors import DamagedError, PathNotFoundError, StoreError, UnreadableError
from holdfast.repo.format.tree import blob_id

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from holdfast.core.ids import BlobId
    from holdfast.repo.format.tree import Node

TROUBLE = (DamagedError, UnreadableError, StoreError)
"""What reading a tree or a blob may end with."""
Trouble = DamagedError | UnreadableError | StoreError


class Trees(Protocol):
    """What trees come from: a repository, or who reads one."""

    def load_tree(self, tree: BlobId) -> list[Node]: ...


class Step(NamedTuple):
    """One entry. `tree` is the one that names it."""

    path: bytes
    node: Node
    tree: BlobId


@dataclass(frozen=True, slots=True)
class Place:
    """What a path leads to. The top of a snapshot has no node; what is no directory has no tree."""

    path: bytes
    node: Node | None
    tree: BlobId | None


def join(folder: bytes, name: bytes) -> bytes:
    return folder + name if folder.endswith(b"/") else folder + b"/" + name


def split(path: bytes) -> tuple[bytes, bytes]:
    """The directory and the name of an absolute path."""
    above, _, name = path.rpartition(b"/")
    return above or b"/", name


def subtree_of(node: Node) -> BlobId:
    """Raises DamagedError where a directory names no tree."""
    if node.subtree is None:
        raise DamagedError(f"the directory {node.name!r} has no tree")
    return blob_id(node.subtree)


def walk(
    repository: Trees,
    tree: BlobId,
    *,
    path: bytes = b"/",
    enter: Callable[[Step], bool] | None = None,
    unreadable: Callable[[bytes, Trouble], None] | None = None,
) -> Iterator[Step]:
    """Every entry below `tree`, each directory followed at once by its own content.

    `path` is that of `tree` itself. `enter` says whether a directory is gone into. `unreadable` is
    told of a directory that cannot be read, and the walk goes on; without it that is raised.
    """

    def opened(folder: bytes, tree: Callable[[], BlobId]) -> Iterator[Step]:
        try:
            name = tree()
            nodes = repository.load_tree(name)
        except TROUBLE as error:
            if unreadable is None:
                raise
            unreadable(folder, error)
            return
        for node in nodes:
            try:
                step = Step(join(folder, node.raw_name()), node, name)
            except DamagedError as error:
                if unreadable is None:
                    raise
                unreadable(folder, error)
                continue
            yield step

    levels = [opened(path, lambda: tree)]
    while levels:
        step = next(levels[-1], None)
        if step is None:
            levels.pop()
            continue
        yield step
        node = step.node
        if node.type == "dir" and (enter is None or enter(step)):
            levels.append(opened(step.path, partial(subtree_of, node)))


def clean(path: bytes) -> bytes:
    """Absolute, without "." and "..", no slash at the end."""
    return posixpath.normpath(b"/" + path.lstrip(b"/"))


def resolve(repository: Trees, tree: BlobId, path: bytes) -> Place:
    """Where a path of a snapshot leads.

    Raises:
        PathNotFoundError: nowhere.
        DamagedError, UnreadableError: a tree on the way cannot be read.
    """
    path = clean(path)
    node: Node | None = None
    here: BlobId | None = tree
    for name in path.split(b"/")[1:] if path != b"/" else ():
        node = None if here is None else find_name(repository.load_tree(here), name)
        if node is None:
            shown = path.decode("utf-8", "backslashreplace")
            raise PathNotFoundError(f"the snapshot has no {shown!r}")
        here = subtree_of(node) if node.type == "dir" else None
    return Place(path, node, here)


def find_name(nodes: list[Node], name: bytes) -> Node | None:
    for node in nodes:
        if node.raw_name() == name:
            return node
    return None
