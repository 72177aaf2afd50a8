"""From an address, as a person writes it, to a store."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Final

from holdfast.core.errors import UnsupportedStoreError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from holdfast.core.clock import Clock
    from holdfast.net.egress import Egress
    from holdfast.store.contract import Store
    from holdfast.store.retry import Patience, Retry
    from holdfast.store.s3 import S3Options

SCHEMES: Final = ("local", "s3", "rest", "memory")

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+-]*):")
_ONLY_RESTIC: Final = ("sftp", "b2", "azure", "gs", "swift", "rclone")


def open_store(
    address: str,
    *,
    limit_upload: int | None = None,
    limit_download: int | None = None,
    patience: Patience | None = None,
    on_retry: Callable[[Retry], None] | None = None,
    ca_bundle: str | None = None,
    connections: int | None = None,
    s3: S3Options | None = None,
    egress: Egress | None = None,
    environ: Mapping[str, str] | None = None,
    clock: Clock | None = None,
) -> Store:
    """The store at `/path`, `local:/path`, `s3:...`, `rest:http(s)://...` or `memory:` (tests).

    Nothing is read or written yet. Limits are KiB a second, for all processes forked from this one
    together. Stores across a network try again what may pass; a directory does not. `egress` is
    that of one's own machine where None. Credentials that neither address nor options hold come
    from the environment: `AWS_*`, `HOLDFAST_REST_USERNAME`, `HOLDFAST_REST_PASSWORD` (and restic's
    `RESTIC_REST_...`).

    Raises:
        UnsupportedStoreError: no such kind of store, or an address that makes no sense.
        StoreDeniedError: `egress` forbids the host.
        CertificateError: `ca_bundle` cannot be read.
    """
    scheme, place = _split(address)
    store: Store
    if scheme == "local":
        from holdfast.store.directory import DirectoryStore

        store = DirectoryStore(place, clock=clock)
    elif scheme == "memory":
        from holdfast.store.memory import MemoryStore

        store = MemoryStore(clock=clock)
    else:
        store = _open_remote(
            scheme,
            place,
            ca_bundle=ca_bundle,
            connections=connections,
            s3=s3,
            egress=egress,
            environ=os.environ if environ is None else environ,
        )
    if limit_upload or limit_download:
        from holdfast.store.throttle import ThrottledStore

        store = ThrottledStore(store, upload=limit_upload, download=limit_download, clock=clock)
    if not store.properties.local:
        from holdfast.store.retry import RetryStore

        store = RetryStore(store, patience=patience, on_retry=on_retry, clock=clock)
    return store


def _open_remote(
    scheme: str,
    place: str,
    *,
    ca_bundle: str | None,
    connections: int | None,
    s3: S3Options | None,
    egress: Egress | None,
    environ: Mapping[str, str],
) -> Store:
    from holdfast.net.egress import OWN_MACHINE

    egress = egress or OWN_MACHINE
    if scheme == "s3":
        from holdfast.store.s3 import CONNECTIONS, S3Store

        return S3Store(
            place,
            options=s3,
            egress=egress,
            ca_bundle=ca_bundle,
            connections=connections or CONNECTIONS,
            environ=environ,
        )
    from holdfast.core.secret import Secret
    from holdfast.store import rest

    password = _first(environ, "HOLDFAST_REST_PASSWORD", "RESTIC_REST_PASSWORD")
    return rest.RestStore(
        place,
        user=_first(environ, "HOLDFAST_REST_USERNAME", "RESTIC_REST_USERNAME"),
        password=Secret(password) if password else None,
        egress=egress,
        ca_bundle=ca_bundle,
        connections=connections or rest.CONNECTIONS,
    )


def _split(address: str) -> tuple[str, str]:
    found = _SCHEME.match(address)
    scheme = found[1].lower() if found else "local"
    place = address[found.end() :] if found else address
    if scheme in {"http", "https"}:
        raise UnsupportedStoreError(
            f"{scheme}:// alone does not tell what is spoken there",
            remedy=f"Write rest:{scheme}://... or s3:{scheme}://...",
        )
    if scheme in _ONLY_RESTIC:
        raise UnsupportedStoreError(
            f"Holdfast does not speak {scheme}",
            remedy="Write a directory, s3:... or rest:...; `rclone serve restic` gives the latter.",
        )
    if scheme not in SCHEMES:
        from difflib import get_close_matches

        near = get_close_matches(scheme, SCHEMES, n=1, cutoff=0.5)
        raise UnsupportedStoreError(
            f"there is no kind of store named {scheme!r}",
            remedy=f"Did you mean {near[0]}:...?" if near else None,
        )
    if scheme != "memory" and not place:
        raise UnsupportedStoreError(f"{address!r} names no place")
    return scheme, place


def _first(environ: Mapping[str, str], *names: str) -> str:
    return next((environ[name] for name in names if environ.get(name)), "")
