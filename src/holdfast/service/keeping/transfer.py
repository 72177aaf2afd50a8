"""One backup from one keeper into another, as a stream."""

from __future__ import annotations

from typing import TYPE_CHECKING

from holdfast.core.records import Shape

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

    from holdfast.core.records import Backup
    from holdfast.service.keeping.contract import (
        Incoming,
        IncomingFile,
        IncomingTree,
        Keeper,
        Kept,
        Order,
        Outgoing,
    )


def flow_over(
    first: Keeper,
    backup: Backup,
    second: Keeper,
    order: Order,
    *,
    shape: Shape,
    watch: Callable[[int], None],
) -> Future[Kept]:
    """Where any of it raises, nothing has been kept in the second."""
    if shape is Shape.SINGLE:
        incoming = second.begin(order)
        try:
            _flow(first.open(backup), incoming, watch)
        except BaseException:
            incoming.abandon()
            raise
        return incoming.finish()
    tree = second.begin_tree(order)
    try:
        _flow_tree(first, backup, tree, watch)
    except BaseException:
        tree.abandon()
        raise
    return tree.finish()


def _flow_tree(
    first: Keeper, backup: Backup, tree: IncomingTree, watch: Callable[[int], None]
) -> None:
    for entry in first.entries(backup):
        path = entry.path.encode("utf-8", "surrogateescape")
        if entry.kind == "dir":
            tree.directory(path, mode=entry.mode, mtime=entry.modified)
        elif entry.kind == "symlink":
            link = entry.link.encode("utf-8", "surrogateescape")
            tree.symlink(path, link, mtime=entry.modified)
        elif entry.kind == "file":
            file = tree.file(path, mode=entry.mode, mtime=entry.modified)
            _flow(first.open_path(backup, entry.path), file, watch)
            file.end()


def _flow(content: Outgoing, into: Incoming | IncomingFile, watch: Callable[[int], None]) -> None:
    for piece in content.pieces():
        into.write(piece)
        watch(len(piece))
