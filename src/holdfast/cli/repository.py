"""From options to an opened repository, and its lock."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from holdfast.cli import stopping
from holdfast.cli.cache import default_root, remove_old
from holdfast.cli.output import Output
from holdfast.cli.password import read_password
from holdfast.cli.settings import Settings
from holdfast.core.errors import (
    HoldfastError,
    SnapshotNotFoundError,
    StorageFullError,
    StoreDeniedError,
    UsageError,
)
from holdfast.core.units import parse_duration

if TYPE_CHECKING:
    from holdfast.cli.options import Chosen
    from holdfast.repo.format.snapshot import Snapshot
    from holdfast.repo.lock import Lock
    from holdfast.repo.repository import Refused, Repository
    from holdfast.store.contract import Store
    from holdfast.store.retry import Patience, Retry


def address_of(settings: Settings) -> str:
    """Raises UsageError where no repository is named, or two are."""
    if settings.repo and settings.repository_file:
        raise UsageError(
            "both a repository and a repository file were given",
            remedy="Nothing was changed. Give one of them.",
        )
    if settings.repo:
        return settings.repo
    if settings.repository_file:
        try:
            address = Path(settings.repository_file).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(
                f"the repository file {settings.repository_file} cannot be read: {error}",
                remedy="Nothing was changed. Name a text file that you may read.",
            ) from error
        if address:
            return address
    raise UsageError(
        "no repository was named",
        remedy="Nothing was changed. Name one with -r, or in HOLDFAST_REPOSITORY.",
    )


def cache_root(settings: Settings) -> Path | None:
    """Where caches lie, one folder for each repository; None where none is wanted."""
    if settings.no_cache:
        return None
    return Path(settings.cache_dir) if settings.cache_dir else default_root()


def open_place(settings: Settings, output: Output, *, first: bool = True) -> "Store":
    """The store that holds, or will hold, the repository. Nothing is read yet.

    `first`: to get in touch. A place that does not answer at all is told within seconds; one that
    fails in the midst of work is given a quarter of an hour.
    """
    from holdfast.store.locate import open_store

    stopping.hear(output)

    def tell(retry: "Retry") -> None:
        output.note(f"{retry.error.message}; trying again in {retry.wait:.0f} s ({retry.what})")

    return open_store(
        address_of(settings),
        limit_upload=settings.limit_upload or None,
        limit_download=settings.limit_download or None,
        ca_bundle=settings.cacert,
        patience=_soon() if first else None,
        on_retry=tell,
        connections=_connections(settings.option or []),
    )


def _soon() -> "Patience":
    from holdfast.store.retry import Patience

    return Patience(attempts=4)


def _connections(texts: list[str]) -> int | None:
    """`-o s3.connections=N`: of restic's extended options the one that means something here.

    Raises:
        UsageError: it is another one.
    """
    connections = None
    for text in texts:
        key, _, value = text.partition("=")
        scheme, _, name = key.partition(".")
        if scheme not in {"s3", "rest"} or name != "connections" or not value.isdecimal():
            raise UsageError(
                f"unknown setting {text!r}",
                remedy="Nothing was changed. Known are s3.connections=N and rest.connections=N.",
            )
        connections = int(value)
    return connections


@contextmanager
def opened(settings: Settings, output: Output) -> Iterator["Repository"]:
    """The repository that the options name, opened with their password.

    What is far away is reached through a cache from then on.
    """
    from holdfast.repo.repository import Repository
    from holdfast.store.cache import cached

    store = open_place(settings, output)
    root = cache_root(settings)
    try:
        secret = read_password(settings)
        found = Repository.open(store, secret, key_hint=settings.key_hint, cache_root=root)
        if root is not None and settings.cleanup_cache:
            remove_old(root)
        if not store.properties.local:
            store.close()
            store = cached(open_place(settings, output, first=False), root, found.config.id)
            found = Repository.unlocked(
                store, found.objects.key, key_id=found.key_id, cache_root=root
            )
        yield found
    finally:
        store.close()


@contextmanager
def locked(
    repository: "Repository",
    settings: Settings,
    output: Output,
    *,
    exclusive: bool = False,
    writing: bool = False,
    refreshing: bool = True,
) -> Iterator["Lock | None"]:
    """Holds a lock for the block. None with --no-lock, and where a lock cannot be written by one
    who only reads: what a prune deletes meanwhile is then missed with an error.

    `writing`: objects are stored under a lock that is not exclusive.
    `refreshing`: keeps it fresh here; False where the engine does, because it starts worker
    processes first.

    Raises:
        LockedError: another program holds one that excludes ours, and went on for longer than
        --retry-lock.
    """
    if settings.no_lock and not exclusive:
        yield None
        return
    try:
        lock = _acquire(repository, settings, output, exclusive=exclusive)
    except (StorageFullError, StoreDeniedError) as error:
        if exclusive or writing:
            raise
        output.note(f"reading without a lock, for none can be written: {error.message}")
        yield None
        return
    with stopping.letting_go(lock.release):
        try:
            if refreshing:
                with lock.refreshing():
                    yield lock
            else:
                yield lock
        except BaseException:
            with suppress(HoldfastError):  # the error that is under way tells more
                lock.release()
            raise
        lock.release()


def _acquire(
    repository: "Repository", settings: Settings, output: Output, *, exclusive: bool
) -> "Lock":
    from holdfast.repo.lock import acquire
    from holdfast.repo.room import acquire_on_full_disk

    wait = parse_duration(settings.retry_lock)
    if exclusive:
        return acquire_on_full_disk(repository, wait=wait, on_wait=output.note)
    return acquire(
        repository.objects,
        exclusive=False,
        clock=repository.clock,
        wait=wait,
        on_wait=output.note,
    )


def choose_snapshot(
    repository: "Repository", output: Output, name: str, among: "Chosen | None" = None
) -> "tuple[Snapshot, str]":
    """The snapshot that a person named, and the path behind the colon. `among` decides which one
    "latest" is.

    Raises:
        SnapshotNotFoundError, UsageError: none fits the name, or several do.
        DamagedError, StoreError: one does, and cannot be read.
    """
    from holdfast.repo.format.snapshot import choose

    refused: list[Refused] = []
    found: Iterable[Snapshot] = _readable(repository, output, refused)
    if among is not None:
        found = among.among_if_latest(found, name)
    try:
        return choose(found, name)
    except SnapshotNotFoundError:
        for each in refused:
            if each.name.startswith(name.partition(":")[0]):
                raise each.error from None
        raise


def readable_snapshots(repository: "Repository", output: Output) -> "list[Snapshot]":
    """All snapshots but damaged ones, which are named: one bad file hides no other."""
    return _readable(repository, output, [])


def _readable(
    repository: "Repository", output: Output, refused: "list[Refused]"
) -> "list[Snapshot]":
    found = list(repository.snapshots(refused))
    for each in refused:
        output.warn(f"left out: {each.sentence}; `holdfast check` says what to do")
    return found
