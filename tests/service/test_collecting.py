"""What a target names as its source."""

import sqlite3
from types import SimpleNamespace

import pytest

from holdfast.core.clock import SystemClock
from holdfast.core.errors import InvalidError
from holdfast.core.source import Found
from holdfast.service.work.collecting import _source

REPOSITORY = SimpleNamespace(clock=SystemClock())


def test_a_module_is_a_source(tmp_path):
    """By its name, with a resource and parameters."""
    database = sqlite3.connect(tmp_path / "app.db")
    database.execute("CREATE TABLE t(x)")
    database.close()
    named = {"module": "sqlite", "resource": str(tmp_path / "app.db")}
    with _source({**named, "parameters": {"check": "quick"}}, REPOSITORY) as source:
        names = [step.entry.name for step in source.walk() if isinstance(step, Found)]
    assert names[-2:] == [b"about.json", b"app.db"]
    with (
        pytest.raises(InvalidError, match="did you mean check"),
        _source({**named, "parameters": {"chek": "quick"}}, REPOSITORY),
    ):
        pass
    with pytest.raises(InvalidError, match="no source"):
        _source({}, REPOSITORY)
