"""Snapshots: the document, and choosing among many."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from holdfast.core.errors import DamagedError, SnapshotNotFoundError, UsageError
from holdfast.core.ids import SHORT_ID, BlobId, ObjectId
from holdfast.repo.format.gotext import parse_time
from holdfast.repo.format.tree import blob_id

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


class Summary(msgspec.Struct, omit_defaults=True):
    """What the backup did; the field names are restic's (0.17 and later)."""

    backup_start: str
    backup_end: str
    files_new: int = 0
    files_changed: int = 0
    files_unmodified: int = 0
    dirs_new: int = 0
    dirs_changed: int = 0
    dirs_unmodified: int = 0
    data_blobs: int = 0
    tree_blobs: int = 0
    data_added: int = 0
    data_added_packed: int = 0
    total_files_processed: int = 0
    total_bytes_processed: int = 0
    error_count: int = 0
    """Ours: what could not be read as it is. restic passes over it."""


class SnapshotFile(msgspec.Struct, omit_defaults=True):
    """The stored document, fields in restic's order."""

    time: str
    tree: str
    paths: list[str]
    parent: str | None = None
    hostname: str = ""
    username: str = ""
    uid: int = 0
    gid: int = 0
    excludes: list[str] | None = None
    tags: list[str] | None = None
    original: str | None = None
    program_version: str = ""
    summary: Summary | None = None


class Snapshot:
    """A stored snapshot: its name and its document."""

    __slots__ = ("file", "id", "time")

    def __init__(self, id: ObjectId, file: SnapshotFile) -> None:  # noqa: A002  the field's word
        self.id = id
        self.file = file
        try:
            self.time = parse_time(file.time)
        except ValueError as error:
            raise DamagedError(f"snapshot {self.short} is damaged: {error}") from error

    @property
    def short(self) -> str:
        return self.id[:SHORT_ID]

    @property
    def tree(self) -> BlobId:
        return blob_id(self.file.tree)

    @property
    def tags(self) -> list[str]:
        return self.file.tags or []

    @property
    def partial(self) -> bool:
        """Whether something could not be read when it was made, as far as it says."""
        return self.file.summary is not None and self.file.summary.error_count > 0

    def __repr__(self) -> str:
        return f"Snapshot({self.short} {self.file.time} {self.file.hostname} {self.file.paths})"


def decode_snapshot(id: ObjectId, document: bytes) -> Snapshot:  # noqa: A002  the field's word
    """Raises DamagedError where the document is no snapshot."""
    try:
        return Snapshot(id, msgspec.json.decode(document, type=SnapshotFile))
    except msgspec.DecodeError as error:
        raise DamagedError(f"snapshot {id[:SHORT_ID]} is damaged: {error}") from error


def parse_tag_lists(texts: Iterable[str]) -> list[list[str]]:
    """Each `--tag a,b` is one list that must match as a whole; several options are alternatives."""
    return [[tag for tag in text.split(",") if tag] for text in texts]


def matches(
    snapshot: Snapshot,
    *,
    hosts: Sequence[str] = (),
    tag_lists: Sequence[Sequence[str]] = (),
    paths: Sequence[str] = (),
) -> bool:
    """restic's filter: any of the hosts, any of the tag lists wholly, all of the paths."""
    if hosts and snapshot.file.hostname not in hosts:
        return False
    if tag_lists and not any(_has_tags(snapshot, tags) for tags in tag_lists):
        return False
    return all(path in snapshot.file.paths for path in paths)


def _has_tags(snapshot: Snapshot, tags: Sequence[str]) -> bool:
    return not snapshot.tags if not tags else set(tags) <= set(snapshot.tags)


def choose(snapshots: Iterable[Snapshot], wanted: str) -> tuple[Snapshot, str]:
    """One of them by (the beginning of) its name, or "latest"; with restic's "ID:path" the path
    behind the colon too.

    Raises:
        SnapshotNotFoundError: none fits.
        UsageError: several fit.
    """
    name, _, path = wanted.partition(":")
    if name == "latest":
        newest = max(snapshots, key=lambda s: s.time, default=None)
        if newest is None:
            raise SnapshotNotFoundError("there is no snapshot that fits host, tags and paths")
        return newest, path
    fitting = [s for s in snapshots if s.id.startswith(name)] if name else []
    if not fitting:
        raise SnapshotNotFoundError(f"there is no snapshot {name!r}")
    if len(fitting) > 1:
        raise UsageError(
            f"{name!r} fits {len(fitting)} snapshots", remedy="Give more digits of its name."
        )
    return fitting[0], path
