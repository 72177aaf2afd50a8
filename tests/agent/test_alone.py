"""An agent where no server is installed."""

from __future__ import annotations

import subprocess
import sys

SERVER = (
    "alembic", "argon2", "dbos", "granian", "jinja2", "joserfc", "prometheus_client", "psycopg",
    "sqlalchemy", "starlette", "streaming_form_data", "structlog",
)  # fmt: skip
PROGRAM = f"""
import sys
for name in {SERVER!r}:
    sys.modules[name] = None
import holdfast.agent.backing_up, holdfast.agent.child, holdfast.agent.giving_back
import holdfast.agent.looking
from holdfast.cli.main import run
sys.exit(run(["agent", "run", "--server", "http://192.0.2.1", "--state", sys.argv[1]]))
"""


def test_no_library_of_a_server_is_needed(tmp_path):
    """All of it is there and speaks; it would not send its secret over plain HTTP."""
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM, tmp_path / "state"],
        capture_output=True, text=True, check=False, timeout=240,
    )  # fmt: skip
    assert ended.returncode == 1
    assert "is not encrypted" in ended.stderr
