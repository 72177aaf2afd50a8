"""What must be known to make a lost catalog anew: where the pools are and what opens them.

`pools.json` lies beside the catalog and follows it: whatever changes a pool, a repository or a
host, the file is written, durably, before that change is acknowledged. Secrets in it are sealed by
the master key, as they are in the catalog. The recovery kit holds the same on paper.

That the file is there says, too, that there was a catalog: an empty one in its place is a loss,
and so is another's. And it tells the master key apart from any other.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final

from holdfast.core.errors import (
    CatalogError,
    ConfigurationError,
    DamagedError,
    HoldfastError,
    RecordExistsError,
    UnknownVersionError,
)
from holdfast.core.records import Setting
from holdfast.service import state
from holdfast.service.ground import new_uid
from holdfast.service.state import CATALOG_ID
from holdfast.service.whole_files import write_whole

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from holdfast.catalog.database import Transaction
    from holdfast.core.records import Json
    from holdfast.service.ground import Ground

FILE: Final = "pools.json"
_LOOKED_AT: Final = {
    "pools": ("name", "kind", "locations", "options", "note"),
    "hosts": ("name", "note"),
    "repositories": ("pool_id", "host_id", "location", "repository_uid", "custody", "sealed_key"),
}
_log = logging.getLogger("holdfast.catalog")


def follow(ground: Ground) -> None:
    """From now on the file follows this process's changes."""

    def look(tx: Transaction) -> None:
        if any(tx.wrote(noun, columns) for noun, columns in _LOOKED_AT.items()):
            tx.after_commit(lambda: write_or_tell(ground))

    ground.catalog.watch(look)


def exist(folder: Path) -> bool:
    return (folder / FILE).exists()


def refuse_others(ground: Ground) -> None:
    """Compares the master key and the catalog with those that this data folder had. A damaged file
    says nothing; it is written anew at the next start of the server.

    Raises:
        ConfigurationError: the master key is another.
        CatalogError: the catalog is another.
    """
    try:
        document = read(ground.folder)
    except (DamagedError, UnknownVersionError) as error:
        _log.warning("%s", error.message)
        return
    if document is None:
        return
    if document.get("master_key", _fingerprint(ground)) != _fingerprint(ground):
        raise ConfigurationError(
            "the master key is not the one that this data folder was used with",
            remedy="Nothing was changed. Bring the right one back, from the recovery kit.",
        )
    if document.get("catalog", _identity(ground)) != _identity(ground):
        raise CatalogError(
            "the database holds the catalog of another data folder",
            remedy="Nothing was changed. See that `database.url` is right. If this database is to "
            "be used from now on, `holdfast catalog rebuild` brings the pools into it.",
        )


def write(ground: Ground) -> None:
    """Writes down what the catalog says now, where that is something else.

    Raises:
        OSError, CatalogError
    """
    # Read while nobody else may write: what is older never replaces what is newer.
    with _alone(ground.folder):
        marks = {"catalog": _identity(ground), "master_key": _fingerprint(ground)}
        with ground.catalog.read() as tx:
            content = encoded(state.places(tx) | marks)
        path = ground.folder / FILE
        if not path.exists() or path.read_bytes() != content:
            write_whole(path, content)


def read(folder: Path) -> Json | None:
    """None where there is no such file.

    Raises:
        DamagedError, UnknownVersionError
    """
    try:
        content = (folder / FILE).read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise DamagedError(f"{folder / FILE} cannot be read: {error.strerror}") from error
    return decoded(content, str(folder / FILE))


def encoded(document: Json) -> bytes:
    return json.dumps(document, indent=1, sort_keys=True).encode() + b"\n"


def decoded(content: bytes, what: str) -> Json:
    """Raises DamagedError, UnknownVersionError."""
    try:
        return state.check(json.loads(content), state.PLACES)
    except ValueError as error:
        raise DamagedError(
            f"{what} is damaged", remedy="Name another recovery kit, or the pools themselves."
        ) from error


def write_or_tell(ground: Ground) -> None:
    """The change itself is made by now: that it is not written down here must not undo it. The
    next one, and each start of the server, tries again.
    """
    try:
        write(ground)
    except (OSError, HoldfastError) as error:
        _log.error("%s could not be written: %s", ground.folder / FILE, error)


def _identity(ground: Ground) -> str:
    """What tells this catalog from any other, made when it is asked for first."""
    with ground.catalog.read() as tx:
        found = tx.settings.find(name=CATALOG_ID)
    if found is None:
        with suppress(RecordExistsError), ground.catalog.write() as tx:
            tx.settings.add(Setting(name=CATALOG_ID, value=new_uid()))
        return _identity(ground)
    return str(found.value)


def _fingerprint(ground: Ground) -> str:
    return ground.master.derive("fingerprint").hex()[:16]


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
