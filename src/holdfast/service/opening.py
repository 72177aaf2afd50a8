"""Opening a data folder: its configuration, master key and catalog."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

from holdfast.catalog.database import Catalog
from holdfast.catalog.migrating import upgrade
from holdfast.core.errors import CatalogError, ConfigurationError
from holdfast.repo.processes import share_heaps
from holdfast.service import (
    configuration,
    logs,  # noqa: F401  without it, events of a command would go to its standard output
    recovery_facts,
)
from holdfast.service.custody import KEY_FILE, MasterKey
from holdfast.service.ground import Ground

if TYPE_CHECKING:
    from pathlib import Path

CONFIGURATION_FILE = "holdfast.yaml"
CATALOG_FILE = "catalog.db"
CATALOG_LOOK_EVERY = 2.0
"""Seconds between two looks of a server at a catalog that it cannot use."""


def open_ground(folder: Path, config_path: Path | None = None) -> Ground:
    """The ground of a data folder, which is made where there is none. Works beside a running
    server. Without `config_path`, `holdfast.yaml` in the folder is read where there is one.

    Raises:
        ConfigurationError: it, the folder or the master key cannot be used.
        CatalogError: the catalog is lost or damaged, or cannot be reached.
    """
    ground = ground_without_tables(folder, config_path)
    try:
        _open_tables(ground)
    except BaseException:
        ground.catalog.close()
        raise
    return ground


def open_sound_ground(folder: Path, config_path: Path | None = None) -> Ground:
    """The same for a server at its start: the file of an embedded catalog is looked through as
    well, which takes 0.1 s for 100,000 backups; and the process is made one of many threads.

    Raises:
        ConfigurationError, CatalogError
    """
    share_heaps()
    ground = open_ground(folder, config_path)
    try:
        problems = ground.catalog.problems()
    except BaseException:
        ground.catalog.close()
        raise
    if problems:
        ground.catalog.close()
        raise CatalogError(f"the catalog is damaged: {problems[0]}")
    recovery_facts.write_or_tell(ground)
    return ground


def can_be_opened(folder: Path, config_path: Path | None = None) -> bool:
    """Whether a server would start on it."""
    try:
        open_sound_ground(folder, config_path).catalog.close()
    except CatalogError:
        return False
    return True


def ground_without_tables(folder: Path, config_path: Path | None = None) -> Ground:
    """The same with a catalog at which nobody has looked yet.

    Raises:
        ConfigurationError
    """
    folder = folder.absolute()
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(
            f"the data folder {folder} cannot be made: {error.strerror}"
        ) from error
    configured = configuration_of(folder, config_path)
    # The key first: without it the catalog is not touched.
    master = _master(folder, configured.master_key)
    catalog = Catalog(configured.database.url or str(folder / CATALOG_FILE))
    return Ground(catalog, configured, master, folder)


def configuration_of(folder: Path, config_path: Path | None) -> configuration.Configuration:
    """Raises ConfigurationError."""
    own = folder / CONFIGURATION_FILE
    return configuration.load(config_path or (own if own.exists() else None))


def _open_tables(ground: Ground) -> None:
    """Tables are made once; that there are none any more is a loss, not a beginning."""
    was_there = recovery_facts.exist(ground.folder)
    if ground.catalog.embedded:
        path = ground.folder / CATALOG_FILE
        if was_there and not path.exists():
            raise CatalogError("the catalog is gone: its file is not there any more")
        make_private(path)
    upgrade(ground.catalog, make=not was_there)
    recovery_facts.follow(ground)
    if was_there:
        recovery_facts.refuse_others(ground)
    else:
        try:
            recovery_facts.write(ground)
        except OSError as error:
            raise ConfigurationError(
                f"{ground.folder / recovery_facts.FILE} cannot be written: {error.strerror}"
            ) from error


def _master(folder: Path, place: configuration.MasterKeyPlace) -> MasterKey:
    if place.command:
        return MasterKey.of_text(_printed(place.command))
    if place.environment:
        text = os.environ.get(place.environment)
        if not text:
            raise ConfigurationError(f"{place.environment} is to hold the master key, and is empty")
        return MasterKey.of_text(text)
    if place.file:
        return MasterKey.of_file(folder / place.file)
    if recovery_facts.exist(folder) and not (folder / KEY_FILE).exists():
        raise ConfigurationError(
            f"the master key is gone: there is no {folder / KEY_FILE}",
            remedy="Nothing was changed. Write it there again, from the recovery kit, and make the "
            "file readable to its owner only.",
        )
    return MasterKey.of_folder(folder)


def _printed(command: list[str]) -> str:
    try:
        return subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True).stdout
    except (OSError, subprocess.CalledProcessError, UnicodeDecodeError) as error:
        raise ConfigurationError(
            f"the command that prints the master key, {command[0]}, failed"
        ) from error


def make_private(path: Path) -> None:
    """A file readable to its owner only; the database's side files take that over."""
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    except FileExistsError:
        pass
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be made: {error.strerror}") from error
