"""Where downloaded files are kept: in files.zip, or as plain files in a folder."""

from __future__ import annotations

import contextlib
import hashlib
import json
import secrets
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

from holdfast.core.errors import FetchError, ObjectNotFoundError
from holdfast.sources.restapi.kept.collector import open_collector
from holdfast.sources.restapi.kept.ledger import (
    Ledger,
    Response,
    Run,
    State,
    with_sums,
)
from holdfast.sources.restapi.kept.members import FILES
from holdfast.sources.restapi.kept.rebuild import open_ledger
from holdfast.sources.restapi.project.place import DAMAGE_REMEDY, locked, writing
from holdfast.sources.restapi.records.naming import safe_name

if TYPE_CHECKING:
    from collections.abc import Iterator

    from holdfast.sources.restapi.kept.collector import Collector
    from holdfast.sources.restapi.project.place import Place
    from holdfast.sources.restapi.project.project import Project

_CHUNK: Final = 1 << 20


class Shelf(Protocol):
    """Keeps whole files by name. What `add` returned from survives the process."""

    rebuilt: str
    """A sentence where the ledger was damaged and had to be made anew."""

    def has(self, name: str) -> bool: ...

    def add(self, name: str, path: Path, evidence: dict[str, Any]) -> None:
        """Takes a file over; it is gone from `path` afterwards. Any: JSON.

        Raises:
            StorageFullError: no room; the file is still at `path`.
            FetchError: it cannot be kept under that name.
        """
        ...

    def publish(self, outcome: str) -> None:
        """Makes what was added part of what people read."""
        ...


@contextlib.contextmanager
def open_shelf(project: Project) -> Iterator[Shelf]:
    """The place for the project's files; one program at a time has it.

    Raises:
        ProjectBusyError: another program has.
    """
    place = project.place
    if project.files and project.files.file_storage_type == "filesystem":
        with locked(place, FILES):
            ledger, rebuilt = open_ledger(place, FILES)
            with contextlib.closing(ledger):
                yield FolderShelf(place, ledger, rebuilt)
        return
    level = project.storage.level
    with open_collector(place, FILES, keep=True, mode="files", level=level) as collector:
        yield ZipShelf(collector)


class ZipShelf:
    def __init__(self, collector: Collector) -> None:
        self._collector = collector
        self.rebuilt = collector.rebuilt

    def has(self, name: str) -> bool:
        return self._collector.has(name)

    def add(self, name: str, path: Path, evidence: dict[str, Any]) -> None:
        self._collector.add_file(name, path, evidence)

    def publish(self, outcome: str) -> None:
        if self._collector.count:
            self._collector.publish(outcome=outcome)
        else:
            self._collector.discard()


class FolderShelf:
    """Plain files under `files/` in the storage folder, their evidence in the ledger."""

    def __init__(self, place: Place, ledger: Ledger, rebuilt: str) -> None:
        self.rebuilt = rebuilt
        self.folder = files_folder(place)
        self._ledger = ledger
        now = time.time_ns()
        stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime(now // 10**9))
        self._run = Run(f"{stamp}Z-{secrets.token_hex(4)}", FILES, "files", State.PUBLISHED, now)

    def has(self, name: str) -> bool:
        return (self.folder / safe_name(name, portable=True)).is_file()

    def add(self, name: str, path: Path, evidence: dict[str, Any]) -> None:
        name = safe_name(name, portable=True)
        target = self.folder / name
        digest, size = _digest(path)
        with writing(target):
            try:
                target.parent.mkdir(parents=True, exist_ok=True)
                path.replace(target)
            except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
                raise FetchError(f"{name} cannot be kept: another file is in its way") from error
            self._ledger.save(
                Response(
                    run=self._run.id, archive=FILES, name=name, member=name, number=0, method=0,
                    crc=0, packed=size, size=size, offset=0, end=0, time=time.time_ns(),
                    sha256=digest, records=0, digest=None, evidence=json.dumps(evidence),
                )
            )  # fmt: skip
            self._ledger.save_run(with_sums(self._run, self._ledger))

    def publish(self, outcome: str) -> None:
        """Nothing is left to do: each file is in its place already."""


class FolderFiles:
    """Reads a folder of files as the archives are read."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def exists(self) -> bool:
        return self.path.is_dir()

    def names(self) -> Iterator[str]:
        for path in sorted(self.path.rglob("*")):
            if path.is_file():
                yield path.relative_to(self.path).as_posix()

    def has(self, name: str) -> bool:
        return (self.path / name).is_file()

    def stream(self, name: str) -> Iterator[bytes]:
        try:
            with (self.path / name).open("rb") as file:
                while chunk := file.read(_CHUNK):
                    yield chunk
        except OSError as error:
            raise ObjectNotFoundError(
                f"{name} cannot be read: {error.strerror}", remedy=DAMAGE_REMEDY
            ) from None

    def close(self) -> None:
        """Holds nothing open."""


def files_folder(place: Place) -> Path:
    return Path(place.folder) / FILES


def _digest(path: Path) -> tuple[str, int]:
    digest, size = hashlib.sha256(), 0
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
            size += len(chunk)
    return digest.hexdigest(), size
