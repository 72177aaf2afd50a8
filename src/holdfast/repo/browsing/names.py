"""Names in trees, which anybody with the key may have forged: trusted only when they came through
here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from holdfast.core.errors import DamagedError, RestoreError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from holdfast.repo.format.tree import Node

_NO_NAMES = frozenset({b"", b".", b".."})


def check_name(name: bytes) -> None:
    """Raises RestoreError where a name is not one plain component."""
    if b"/" in name or b"\0" in name or name in _NO_NAMES:
        raise RestoreError(f"{name!r} is not a name that a file can have; it was not restored")


Named = tuple[bytes, "Node", str]
"""A node with its real name, and why it cannot be restored, if it cannot."""


def named(nodes: Iterable[Node]) -> Iterator[Named]:
    """The nodes of a tree; what has an impossible name, or one that an earlier node has, is
    refused.
    """
    seen: set[bytes] = set()
    for node in nodes:
        try:
            name = node.raw_name()
            check_name(name)
        except (DamagedError, RestoreError) as error:
            yield node.name.encode("utf-8", "surrogatepass"), node, error.message
            continue
        if name in seen:
            yield name, node, "the tree has two entries of this name; the first was taken"
            continue
        seen.add(name)
        yield name, node, ""
