"""Pools: where backups are kept, and the way to what keeps them.

The verbs that take a `Principal` authorise, act and audit. The others serve the rest of `service`
and the bodies of tasks, which have asked already.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from holdfast.core.records import Custody, PoolKind

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from holdfast.core.access import Principal
    from holdfast.core.progress import Progress
    from holdfast.core.records import Backup, Host, Pool, RepositoryRecord
    from holdfast.core.secret import Secret
    from holdfast.repo.repository import Repository
    from holdfast.service.ground import Ground
    from holdfast.service.keeping.contract import Keeper, Recorder
    from holdfast.store.contract import Store


@dataclass(frozen=True, slots=True)
class LocationState:
    """One place of a pool, as it is right now."""

    address: str
    """without secrets"""
    reachable: bool
    problem: str = ""
    free: int | None = None
    """bytes; None where the place does not tell"""
    total: int | None = None


@dataclass(frozen=True, slots=True)
class PoolState:
    pool: Pool
    locations: tuple[LocationState, ...]
    repositories: int
    backups: int
    stored: int
    """bytes that its repositories and files take"""

    @property
    def reachable(self) -> bool:
        return any(location.reachable for location in self.locations)

    @property
    def free(self) -> int | None:
        known = [place.free for place in self.locations if place.free is not None]
        return sum(known) if known else None


@dataclass(frozen=True, slots=True)
class KitEntry:
    """What the recovery kit says of one repository: with it stock restic opens it."""

    pool: str
    host: str
    address: str
    repository_uid: str
    password: Secret


@dataclass(frozen=True, slots=True)
class Alarm:
    """What a look at a repository found that nobody here did."""

    repository: RepositoryRecord
    problem: str


@dataclass(slots=True)
class Pools:
    """One for each process. Repositories are unlocked once and kept open."""

    ground: Ground
    record: Recorder | None = None
    """writes down what keepers have made durable; set before the first upload"""
    _open: dict[int, Keeper] = field(default_factory=dict)

    # --- for people -------------------------------------------------------------------------------

    def add(
        self,
        who: Principal,
        name: str,
        locations: Sequence[str],
        *,
        kind: PoolKind = PoolKind.REPOSITORY,
        options: Mapping[str, object] | None = None,
        credentials: Mapping[str, str] | None = None,
        note: str = "",
    ) -> Pool:
        """A new pool. Directories need not exist yet.

        Raises:
            RecordExistsError: the name or a location is taken.
            InvalidError: a name, kind or location that cannot be.
            EgressDeniedError: an endpoint where this server may not go.
        """
        raise NotImplementedError

    def list(self, who: Principal) -> Sequence[PoolState]:
        raise NotImplementedError

    def get(self, who: Principal, name: str) -> PoolState:
        """Raises RecordNotFoundError."""
        raise NotImplementedError

    def remove(self, who: Principal, name: str) -> None:
        """Forgets a pool without backups; what lies in its storage stays there.

        Raises:
            StateError: backups, targets or hosts' repositories are in it.
        """
        raise NotImplementedError

    def check(
        self,
        who: Principal,
        name: str,
        *,
        read_data: bool = False,
        progress: Progress | None = None,
    ) -> Sequence[str]:
        """Problems in words, none where all is well."""
        raise NotImplementedError

    # --- for the rest of `service` ----------------------------------------------------------------

    def default(self) -> Pool:
        """The first repository pool.

        Raises:
            StateError: there is none.
        """
        raise NotImplementedError

    def plain_pool_at(self, location: str) -> Pool | None:
        """The plain pool whose root is this directory, made when first needed; None where the
        directory is not below one of `backupchan.location_roots`.

        Raises:
            InvalidError: not absolute, or a symlink leads out of the roots.
        """
        raise NotImplementedError

    def keeper(self, of: Pool | Backup | RepositoryRecord) -> Keeper:
        """What keeps the backups of a pool (its own repository's or its folder's), or this backup.

        Raises:
            StateError: the client holds the key.
            StoreError: the storage is not there.
        """
        raise NotImplementedError

    def repository_for(
        self, pool: Pool, host: Host | None = None, *, custody: Custody = Custody.SERVER
    ) -> RepositoryRecord:
        """The server's own repository in a pool, or that of one host; made when first needed, in
        the location with most free space. With `custody` client only its place is made: the client
        brings key and config.
        """
        raise NotImplementedError

    def store(self, record: RepositoryRecord) -> Store:
        """The storage of a repository, as bytes by name."""
        raise NotImplementedError

    def repository(self, record: RepositoryRecord) -> Repository:
        """Unlocked, once for each process.

        Raises:
            StateError: the client holds the key.
        """
        raise NotImplementedError

    def kit(self) -> Sequence[KitEntry]:
        """For the recovery kit: how stock restic opens each repository."""
        raise NotImplementedError

    def adopt(self, pool: Pool, address: str, host: Host | None = None) -> RepositoryRecord:
        """Takes an existing repository that this server's master key opens back into the catalog.

        Raises:
            WrongPasswordError: it was made under another master key.
        """
        raise NotImplementedError

    # --- bodies of tasks --------------------------------------------------------------------------

    def prune(self, record: RepositoryRecord, progress: Progress | None = None) -> int:
        """Bytes freed."""
        raise NotImplementedError

    def copy(
        self,
        source: RepositoryRecord,
        target: RepositoryRecord,
        snapshots: Sequence[str] = (),
        progress: Progress | None = None,
    ) -> Mapping[str, str]:
        """Snapshots into another repository; names there by names here."""
        raise NotImplementedError

    def tripwire(self, record: RepositoryRecord) -> Sequence[Alarm]:
        """Compares a repository with what was seen last, and writes down what is there now."""
        raise NotImplementedError

    def measure(self, pool: Pool, progress: Callable[[int], None] | None = None) -> int:
        """Bytes that a pool takes, written down."""
        raise NotImplementedError

    def close(self) -> None:
        raise NotImplementedError
