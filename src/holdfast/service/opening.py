"""Opening a data folder: its configuration, master key and catalog."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from holdfast.service.ground import Ground


def open_ground(folder: Path, config_path: Path | None = None) -> Ground:
    """The ground of a data folder, which is made where there is none. Works beside a running
    server. Without `config_path`, `holdfast.yaml` in the folder is read where there is one.

    Raises:
        ConfigurationError, CatalogError
    """
    raise NotImplementedError
