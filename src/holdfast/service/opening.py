"""Opening a data folder: its configuration, master key and catalog."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

from holdfast.catalog.database import Catalog
from holdfast.catalog.migrating import upgrade
from holdfast.core.errors import ConfigurationError
from holdfast.service import configuration
from holdfast.service.custody import MasterKey
from holdfast.service.ground import Ground

if TYPE_CHECKING:
    from pathlib import Path

CONFIGURATION_FILE = "holdfast.yaml"
CATALOG_FILE = "catalog.db"


def open_ground(folder: Path, config_path: Path | None = None) -> Ground:
    """The ground of a data folder, which is made where there is none. Works beside a running
    server. Without `config_path`, `holdfast.yaml` in the folder is read where there is one.

    Raises:
        ConfigurationError: it, the folder or the master key cannot be used.
        CatalogError
    """
    folder = folder.absolute()
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(
            f"the data folder {folder} cannot be made: {error.strerror}"
        ) from error
    own = folder / CONFIGURATION_FILE
    configured = configuration.load(config_path or (own if own.exists() else None))
    # The key first: without it the catalog is not touched.
    master = _master(folder, configured.master_key)
    catalog = Catalog(configured.database.url or str(_private(folder / CATALOG_FILE)))
    try:
        upgrade(catalog)
    except BaseException:
        catalog.close()
        raise
    return Ground(catalog, configured, master, folder)


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
    return MasterKey.of_folder(folder)


def _printed(command: list[str]) -> str:
    try:
        return subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True).stdout
    except (OSError, subprocess.CalledProcessError, UnicodeDecodeError) as error:
        raise ConfigurationError(
            f"the command that prints the master key, {command[0]}, failed"
        ) from error


def _private(path: Path) -> Path:
    """The file, readable to its owner only; the database's side files take that over."""
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    except FileExistsError:
        pass
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be made: {error.strerror}") from error
    return path
