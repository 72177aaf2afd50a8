"""Options that several verbs share, by restic's names."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from holdfast.cli.settings import env
from holdfast.core.errors import UsageError

if TYPE_CHECKING:
    from holdfast.repo.format.snapshot import Snapshot

Hosts = Annotated[
    list[str] | None,
    typer.Option(
        "--host", "-H", metavar="HOST", envvar=env("HOST"), help="Only snapshots of this host."
    ),
]
HostsLong = Annotated[
    list[str] | None,
    typer.Option("--host", metavar="HOST", envvar=env("HOST"), help="Only snapshots of this host."),
]
Tags = Annotated[
    list[str] | None,
    typer.Option("--tag", metavar="TAG[,TAG...]", help="Only snapshots with all of these tags."),
]
Paths = Annotated[
    list[str] | None,
    typer.Option("--path", metavar="PATH", help="Only snapshots that were made of this path."),
]
SnapshotNames = Annotated[
    list[str] | None,
    typer.Argument(metavar="[SNAPSHOT]...", help="Only these; `latest` is one."),
]
DryRun = Annotated[bool, typer.Option("--dry-run", "-n", help="Only tell what would be done.")]


@dataclass(frozen=True, slots=True)
class Chosen:
    """restic's filter of snapshots: any of the hosts, any of the tag lists, all of the paths."""

    hosts: tuple[str, ...]
    tag_lists: tuple[tuple[str, ...], ...]
    paths: tuple[str, ...]

    @classmethod
    def of(
        cls,
        hosts: Sequence[str] | None,
        tags: Sequence[str] | None,
        paths: Sequence[str] | None,
    ) -> "Chosen":
        from holdfast.repo.format.snapshot import parse_tag_lists

        lists = tuple(tuple(names) for names in parse_tag_lists(tags or ()))
        return cls(tuple(hosts or ()), lists, tuple(paths or ()))

    def __bool__(self) -> bool:
        return bool(self.hosts or self.tag_lists or self.paths)

    def among(self, snapshots: Iterable["Snapshot"]) -> list["Snapshot"]:
        """Those that fit, oldest first."""
        from holdfast.repo.format.snapshot import matches

        fitting = (
            snapshot
            for snapshot in snapshots
            if matches(snapshot, hosts=self.hosts, tag_lists=self.tag_lists, paths=self.paths)
        )
        return sorted(fitting, key=lambda snapshot: (snapshot.time, snapshot.id))

    def among_if_latest(self, snapshots: Iterable["Snapshot"], name: str) -> Iterable["Snapshot"]:
        """As restic has it: the filter only decides which snapshot "latest" is."""
        return self.among(snapshots) if name.partition(":")[0] == "latest" else snapshots


def named_or_fitting(
    snapshots: Iterable["Snapshot"], names: Sequence[str], chosen: Chosen
) -> list["Snapshot"]:
    """Those named, in their order and each once; without names all that fit the filter.

    Raises:
        SnapshotNotFoundError, UsageError: a name fits none, or several.
    """
    from holdfast.repo.format.snapshot import choose

    everything = list(snapshots)
    if not names:
        return chosen.among(everything)
    found = [choose(chosen.among_if_latest(everything, name), name)[0] for name in names]
    return list({snapshot.id: snapshot for snapshot in found}.values())


def snapshot_json(snapshot: "Snapshot") -> dict[str, Any]:
    """restic's JSON of a snapshot: the stored document with both names."""
    import msgspec

    fields: dict[str, Any] = msgspec.to_builtins(snapshot.file)
    return {**fields, "id": snapshot.id, "short_id": snapshot.short}


def parse_group_by(text: str) -> frozenset[str]:
    """Raises UsageError where it is not restic's list."""
    if not text:
        return frozenset()
    from holdfast.core import retention

    try:
        return retention.parse_group_by(text)
    except ValueError as error:
        raise UsageError(str(error)) from error
