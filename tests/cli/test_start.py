"""Commands start fast: nothing is imported that a verb does not need."""

from __future__ import annotations

import subprocess
import sys

_RUN = """
import sys
from holdfast.cli.main import main
sys.argv[0] = "holdfast"
try:
    main()
finally:
    print(*sys.modules, file=sys.stderr)
"""


def imports(*arguments):
    """Modules that a command line loads."""
    ended = subprocess.run(
        [sys.executable, "-c", _RUN, *arguments], capture_output=True, text=True, check=True
    )
    return set(ended.stderr.split())


def test_version_is_told_at_once():
    """`holdfast --version` loads not even the library of options: next to nothing that Python has
    not loaded by itself.
    """
    loaded = imports("--version")
    assert "typer" not in loaded
    assert len(loaded) < 100


def test_a_listing_needs_no_more_than_it_shows(repository):
    """`holdfast snapshots` imports neither rich nor S3 nor HTTP nor the other verbs."""
    loaded = imports("snapshots")
    assert "holdfast.cli.snapshots" in loaded
    for module in ("rich", "obstore", "urllib3", "aiohttp", "pydantic", "holdfast.cli.backup"):
        assert module not in loaded
