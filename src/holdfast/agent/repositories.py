"""The repository that an order is about, over restic's protocol from here."""

from __future__ import annotations

import base64
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from holdfast.core.errors import (
    NoRepositoryError,
    ObjectExistsError,
    RepositoryExistsError,
    StateError,
)
from holdfast.core.records import Custody
from holdfast.repo.format.crypto import Key
from holdfast.repo.repository import Repository
from holdfast.store.contract import FileKind
from holdfast.store.rest import RestStore
from holdfast.store.retry import Patience, RetryStore
from holdfast.store.throttle import ThrottledStore
from holdfast.store.wrapped import WrappedStore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from holdfast.agent.errand import Errand
    from holdfast.core.secret import Secret
    from holdfast.store.contract import Store
    from holdfast.store.retry import Retry

_PATIENCE: Final = Patience(attempts=1000, deadline=900.0, first_wait=0.2, longest_wait=5.0)
"""A server that starts anew is back within seconds, and every second counts double then."""


class AnnouncingStore(WrappedStore):
    """Has a snapshot told before it is stored, and the first pack of each process."""

    def __init__(
        self,
        inner: Store,
        *,
        snapshot: Callable[[str, bytes], None],
        sending: Callable[[], None],
    ) -> None:
        super().__init__(inner)
        self._snapshot = snapshot
        self._sending = sending
        self._sends = False

    def put(self, kind: FileKind, name: str, data: bytes | memoryview) -> None:
        if kind is FileKind.PACK and not self._sends:
            self._sends = True
            self._sending()
        if kind is FileKind.SNAPSHOT:
            self._snapshot(name, bytes(data))
        super().put(kind, name, data)


@contextmanager
def opened(
    errand: Errand, *, make: bool = False, wrap: Callable[[Store], Store] = lambda store: store
) -> Iterator[Repository]:
    """The repository of the order. `make`: one whose key only this agent has is made where there is
    none.

    Raises:
        NoRepositoryError, StateError, StoreError, NetworkError
    """
    store = wrap(_store(errand))
    try:
        if errand.spec["custody"] == Custody.SERVER:
            yield _by_server(errand, store)
        else:
            yield _by_own_key(errand, store, make=make)
    finally:
        store.close()


def _store(errand: Errand) -> Store:
    spec = errand.spec
    store: Store = RestStore(
        f"{errand.address.url.rstrip('/')}/restic/{spec['pool']}/{spec['place']}/",
        user=errand.host,
        password=errand.secret,
        tls=errand.address.tls(),
    )
    limits = spec.get("bandwidth") or {}
    upload, download = limits.get("upload") or None, limits.get("download") or None
    if upload or download:
        store = ThrottledStore(store, upload=upload, download=download)

    def told(retry: Retry) -> None:
        errand.telling.line("debug", f"{retry.what}: {retry.error.message}; again soon")

    return RetryStore(store, patience=_PATIENCE, on_retry=told)


def _by_server(errand: Errand, store: Store) -> Repository:
    """The server gives its key, each time anew: it is kept nowhere here."""
    opening = errand.insist(lambda: errand.server.key(errand.order.name))
    return Repository.unlocked(
        store,
        Key.from_bytes(base64.b64decode(opening.key)),
        cache_root=errand.folder.path / "cache",
        clock=errand.clock,
    )


def _by_own_key(errand: Errand, store: Store, *, make: bool) -> Repository:
    name = f"{errand.spec['pool']}/{errand.spec['place']}"
    password = errand.folder.password(name, make=make)
    if password is None:
        raise StateError(
            f"this agent has no key of the repository {name}",
            remedy="Nothing was done. Restore where it was backed up, or bring its keys here.",
        )
    cache = errand.folder.path / "cache"
    try:
        return Repository.open(store, password, cache_root=cache, clock=errand.clock)
    except NoRepositoryError:
        if not make:
            raise
    return _made(store, password, errand)


def _made(store: Store, password: Secret, errand: Errand) -> Repository:
    cache = errand.folder.path / "cache"
    try:
        Repository.init(store, password, clock=errand.clock)
    except (RepositoryExistsError, ObjectExistsError):
        pass  # another order of this agent was faster
    return Repository.open(store, password, cache_root=cache, clock=errand.clock)
