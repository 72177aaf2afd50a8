"""Catalogs on SQLite and on a real PostgreSQL."""

from __future__ import annotations

import pytest

from holdfast.catalog.database import Catalog


@pytest.fixture(params=["sqlite", "postgresql"])
def address(request, tmp_path):
    """Of a database without tables."""
    if request.param == "sqlite":
        return str(tmp_path / "catalog.db")
    return request.getfixturevalue("postgresql")()


@pytest.fixture
def catalog(address):
    """Without tables yet."""
    made = Catalog(address)
    yield made
    made.close()
