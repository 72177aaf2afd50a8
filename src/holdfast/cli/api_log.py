"""A project's log file, where it asks for one."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from holdfast.sources.restapi.project.place import writing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from holdfast.sources.restapi.project.project import Project


@contextmanager
def log_of(
    project: Project, say: Callable[[str], None] | None
) -> Iterator[Callable[[str], None] | None]:
    """Takes lines about requests: to the file that `settings.logfile` names, as `logging.level`
    wants them, and to the person who wants them; None where nobody does.

    Raises:
        StoreError: the file cannot be written.
    """
    name = project.settings.logfile
    if name is None:
        yield say
        return
    path = project.folder / name
    with writing(path):
        file = path.open("a", encoding="utf-8")
    with file:

        def log(line: str) -> None:
            if say:
                say(line)
            if project.logging.level in {"WARNING", "ERROR"} and "trying again" not in line:
                return
            file.write(f"{time.strftime('%Y-%m-%dT%H:%M:%S%z')} {line}\n")

        yield log
