"""The folders above the snapshots of a mounted repository, as restic lays them out.

ids/<id>    snapshots/<time>    hosts/<host>/<time>    tags/<tag>/<time>    each with a link
`latest`
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from holdfast.repo.format.gotext import format_time

if TYPE_CHECKING:
    from collections.abc import Iterable

    from holdfast.repo.format.snapshot import Snapshot

_LATEST = b"latest"
_SECOND = 1_000_000_000


@dataclass(slots=True)
class Folder:
    """A folder that is no snapshot's: names of folders, snapshots, and links (bytes)."""

    time: int = 0
    names: dict[bytes, Folder | Snapshot | bytes] = field(default_factory=dict)

    def folder(self, name: bytes) -> Folder:
        """The folder of that name, made where there is none."""
        found = self.names.get(name)
        if not isinstance(found, Folder):
            found = self.names[name] = Folder()
        return found

    def add(self, name: bytes, snapshot: Snapshot) -> None:
        """Under that name, or with a number behind it; `latest` leads to what was added last."""
        free, number = name, 0
        while free in self.names:
            number += 1
            free = b"%s-%d" % (name, number)
        self.names[free] = snapshot
        self.names[_LATEST] = free
        self.time = max(self.time, snapshot.time)


def lay_out(snapshots: Iterable[Snapshot]) -> Folder:
    top = Folder()
    ids, times, hosts, tags = (
        top.folder(name) for name in (b"ids", b"snapshots", b"hosts", b"tags")
    )
    for snapshot in sorted(snapshots, key=lambda each: each.time):
        when = format_time(snapshot.time // _SECOND * _SECOND).encode()
        ids.names[snapshot.short.encode()] = snapshot
        ids.time = snapshot.time
        times.add(when, snapshot)
        hosts.folder(_component(snapshot.file.hostname)).add(when, snapshot)
        for tag in snapshot.tags:
            tags.folder(_component(tag)).add(when, snapshot)
        top.time = hosts.time = tags.time = snapshot.time
    return top


def _component(text: str) -> bytes:
    """A name that a folder can have: hosts and tags may hold anything."""
    name = os.fsencode(text.replace("/", "_").replace("\0", "_"))
    return b"_" if name in {b"", b".", b".."} else name
