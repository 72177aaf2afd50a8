"""The server's own log: one line of JSON for each event, to standard error and into a file of each
process in the data folder, which is kept small.
"""

from __future__ import annotations

import logging
import logging.handlers
from typing import TYPE_CHECKING, Final

import structlog

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_FOLDER: Final = "log"
_BYTES: Final = 2 << 20
_FILES: Final = 5


def set_up(folder: Path, process: str) -> None:
    """For one process, before anything is logged. Secrets are never among what is logged: they are
    of a type that shows only stars.
    """
    place = folder / _FOLDER
    place.mkdir(mode=0o700, parents=True, exist_ok=True)
    to_file = logging.handlers.RotatingFileHandler(
        place / f"{process}.log", maxBytes=_BYTES, backupCount=_FILES - 1, encoding="utf-8"
    )
    shared: list[structlog.typing.Processor] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared,
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.processors.JSONRenderer(),
        ],
    )
    root = logging.getLogger()
    root.handlers[:] = [to_file, logging.StreamHandler()]
    for handler in root.handlers:
        handler.setFormatter(formatter)
    root.setLevel(logging.INFO)
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )


def tail(folder: Path, lines: int) -> str:
    """The last lines of all processes by time; all of them where `lines` is 0."""
    found = sorted(_lines(folder / _FOLDER), key=_moment)
    return "".join(found[-lines:] if lines else found)


def _lines(place: Path) -> Iterator[str]:
    for path in sorted(place.glob("*.log*")):
        with path.open(encoding="utf-8", errors="replace") as file:
            yield from file


def _moment(line: str) -> str:
    _, _, rest = line.partition('"timestamp": "')
    return rest.partition('"')[0]
