"""The local cache: where it lies, and clearing old ones away."""

import os
import shutil
import time
from pathlib import Path

_UNUSED = 30 * 86400


def default_root() -> Path:
    """`~/.cache/holdfast`, or where XDG_CACHE_HOME points."""
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "holdfast"


def remove_old(root: Path, *, now: float | None = None) -> int:
    """Removes caches of repositories that nobody used for 30 days; how many. A cache can always be
    made again.
    """
    now = time.time() if now is None else now
    removed = 0
    for folder in root.iterdir() if root.is_dir() else ():
        is_cache = len(folder.name) == 64 and folder.is_dir() and not folder.is_symlink()  # noqa: PLR2004  a repository's name
        if is_cache and now - _last_use(folder) > _UNUSED:
            shutil.rmtree(folder, ignore_errors=True)
            removed += 1
    return removed


def _last_use(folder: Path) -> float:
    return max((path.stat().st_mtime for path in (folder, *folder.iterdir())), default=0.0)
