"""The server's own log: one line of JSON for each event, to standard error and into a file of each
process in the data folder, which is kept small.

Where nothing was set up, as on the command line, events go nowhere.
"""

from __future__ import annotations

import fcntl
import logging
import logging.config
import logging.handlers
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import structlog

from holdfast.core.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_FOLDER: Final = "log"
_BYTES: Final = 2 << 20
_FILES: Final = 5
_SHARED: Final[Sequence[structlog.typing.Processor]] = (
    structlog.stdlib.add_log_level,
    structlog.stdlib.add_logger_name,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
    structlog.processors.format_exc_info,
)

structlog.configure(
    processors=[*_SHARED, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
    logger_factory=structlog.stdlib.LoggerFactory(),
    wrapper_class=structlog.stdlib.BoundLogger,
    cache_logger_on_first_use=True,
)


def set_up(folder: Path, process: str, *, config: str = "", debug: bool = False) -> None:
    """For one process, before anything is logged. Secrets are never among what is logged: they are
    of a type that shows only stars. `config`: a file for `logging.config.fileConfig`, whose loggers
    get everything instead of standard error.

    Raises:
        ConfigurationError: it cannot be used.
    """
    place = _file(folder, process)
    to_file = logging.handlers.RotatingFileHandler(
        place, maxBytes=_BYTES, backupCount=_FILES - 1, encoding="utf-8"
    )
    if config:
        _configure(Path(config))
        _send_to(to_file, _Relay())
        for handler in logging.getLogger().handlers:
            handler.addFilter(lambda record: record.name not in _RELAYED)
    else:
        _send_to(to_file, logging.StreamHandler())
    if debug:
        logging.getLogger().setLevel(logging.DEBUG)


_RELAYED: Final = {"rb_api", "rb_access", "tornado"}
"""Loggers that people configure, after RuBackup's."""


def _configure(path: Path) -> None:
    try:
        logging.config.fileConfig(path, disable_existing_loggers=False, encoding="utf-8")
    except Exception as error:  # whatever a file may name
        raise ConfigurationError(
            f"the logger configuration {path} cannot be used: {error}"
        ) from error


class _Relay(logging.Handler):
    """Hands everything to the loggers that people configure, as text."""

    def emit(self, record: logging.LogRecord) -> None:
        name = "rb_api"
        if record.name == "holdfast.audit":
            name = "rb_access"
        elif record.name.startswith(("granian", "_granian")):
            name = "tornado"
        logging.getLogger(name).log(record.levelno, "%s", _text_of(record))


def _text_of(record: logging.LogRecord) -> str:
    """What happened, and behind it the rest that is known."""
    said: Any = record.msg
    if not isinstance(said, dict):
        return record.getMessage()
    more = {k: v for k, v in said.items() if k not in _OWN}
    text = str(said.get("event", ""))
    return " ".join([text, *(f"{name}={value!r}" for name, value in more.items())])


_OWN: Final = {"event", "level", "logger", "timestamp", "_record", "_from_structlog"}


def set_up_for_task(folder: Path) -> None:
    """For the process of one task, which shares a file with its like. A worker's own stays as it
    is: its light tasks run within it.
    """
    if logging.getLogger().handlers:
        return
    place = _file(folder, "tasks")
    to_file = logging.handlers.RotatingFileHandler(
        place, backupCount=_FILES - 1, encoding="utf-8", delay=True
    )
    # Only between two processes' beginnings does the file grow too large; who still writes to the
    # one that was put aside is read there.
    with place.with_suffix(".lock").open("w") as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)
        if place.exists() and place.stat().st_size > _BYTES:
            to_file.doRollover()
    _send_to(to_file)


def _file(folder: Path, process: str) -> Path:
    place = folder / _FOLDER
    place.mkdir(mode=0o700, parents=True, exist_ok=True)
    return place / f"{process}.log"


def _send_to(*handlers: logging.Handler) -> None:
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=_SHARED,
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.processors.JSONRenderer(),
        ],
    )
    root = logging.getLogger()
    root.handlers[:] = handlers
    for handler in root.handlers:
        handler.setFormatter(formatter)
    root.setLevel(logging.INFO)


def tail(folder: Path, lines: int) -> str:
    """The last lines of all processes by time; all of them where `lines` is 0."""
    found = sorted(_lines(folder / _FOLDER), key=_moment)
    return "".join(found[-lines:] if lines else found)


def _lines(place: Path) -> Iterator[str]:
    for path in sorted(place.glob("*.log*")):
        # One that is put aside at this moment is read under its next name, or was the oldest.
        with (
            suppress(FileNotFoundError),
            path.open(encoding="utf-8", errors="replace") as file,
        ):
            yield from file


def _moment(line: str) -> str:
    _, _, rest = line.partition('"timestamp": "')
    return rest.partition('"')[0]
