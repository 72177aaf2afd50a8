"""An agent's folder: its secret, the keys that only it has, and the orders that are not over.

    agent.lock      held by the agent that works on it
    secret          by which the server knows it
    keys/           passwords of repositories whose key the server does not have
    orders/         what it is at; whatever happens, it goes on from there
    cache/, scratch/

Everything is readable to its owner only, and written whole or not at all.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from contextlib import suppress
from typing import TYPE_CHECKING, Self, TypeVar

import msgspec

from holdfast.core.agent_secret import is_secret, new_secret
from holdfast.core.errors import ConfigurationError, StateFolderBusyError
from holdfast.core.orders import Announcement, Order, Report
from holdfast.core.secret import Secret

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

T = TypeVar("T")
_ORDER, _STARTS, _REPORT, _ANNOUNCED = ".order", ".starts", ".report", ".announced"


class Folder:
    """One for a path; only the agent itself holds its lock, its children work beside it."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self._lock: int | None = None

    @classmethod
    def held(cls, path: Path) -> Self:
        """The folder for the one agent that may work on it; made where there is none.

        Raises:
            StateFolderBusyError: another agent holds it.
            ConfigurationError: it cannot be made, or is readable to others.
        """
        folder = cls(path)
        try:
            folder.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            for name in ("keys", "orders", "cache", "scratch"):
                (folder.path / name).mkdir(mode=0o700, exist_ok=True)
            folder._take_lock()
        except OSError as error:
            raise ConfigurationError(
                f"the folder {folder.path} cannot be used: {error.strerror}"
            ) from error
        for left in (folder.path / "scratch").iterdir():  # by one that was killed
            shutil.rmtree(left, ignore_errors=True)
        return folder

    def _take_lock(self) -> None:
        descriptor = os.open(self.path / "agent.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(descriptor)
            raise StateFolderBusyError(f"another agent works on {self.path}") from error
        self._lock = descriptor

    def close(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    # --- secrets ----------------------------------------------------------------------------------

    def secret(self) -> Secret:
        """By which the server knows this agent; drawn when first needed.

        Raises:
            ConfigurationError: the file is readable to others, or no secret.
        """
        path = self.path / "secret"
        if not path.exists():
            write(path, new_secret().reveal().encode() + b"\n")
        found = Secret(_private(path).decode("ascii", "replace").strip())
        if not is_secret(found):
            raise ConfigurationError(
                f"{path} holds no secret of an agent",
                remedy="Remove it, and have the agent authorised anew.",
            )
        return found

    def password(self, repository: str, *, make: bool = False) -> Secret | None:
        """Of a repository whose key only this agent has, by the name of its place; None where it
        was never here. `make`: draws one then.
        """
        path = self.path / "keys" / repository.replace("/", ":")
        if not path.exists():
            if not make:
                return None
            write(path, os.urandom(32).hex().encode() + b"\n")
        return Secret(_private(path).decode("ascii", "replace").strip())

    # --- the journal ------------------------------------------------------------------------------

    def orders(self) -> Sequence[Order]:
        """What was not over when the agent was here last."""
        found = []
        for path in sorted((self.path / "orders").glob(f"*{_ORDER}")):
            order = _read(path, Order)
            if order is not None:
                found.append(order)
        return found

    def note(self, order: Order) -> None:
        write(self._of(order.name, _ORDER), msgspec.json.encode(order))

    def begin(self, name: str) -> int:
        """How often this agent has begun to attend to an order, this time included."""
        path = self._of(name, _STARTS)
        starts = (_read(path, int) or 0) + 1
        write(path, msgspec.json.encode(starts))
        return starts

    def note_report(self, report: Report) -> None:
        """The last word on an order, to be told until the server has heard it."""
        write(self._of(report.order, _REPORT), msgspec.json.encode(report))

    def last_report(self, name: str) -> Report | None:
        return _read(self._of(name, _REPORT), Report)

    def note_announced(self, said: Announcement) -> None:
        """What is going to be committed, before it is."""
        write(self._of(said.order, _ANNOUNCED), msgspec.json.encode(said))

    def announced(self, name: str) -> Announcement | None:
        return _read(self._of(name, _ANNOUNCED), Announcement)

    def forget(self, name: str) -> None:
        for suffix in (_ANNOUNCED, _REPORT, _STARTS, _ORDER):
            self._of(name, suffix).unlink(missing_ok=True)

    def _of(self, name: str, suffix: str) -> Path:
        return self.path / "orders" / f"{name}{suffix}"


def write(path: Path, content: bytes) -> None:
    """Whole and durable, readable to its owner only."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        with suppress(FileNotFoundError):
            temporary.unlink()
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _private(path: Path) -> bytes:
    if path.stat().st_mode & 0o077:
        raise ConfigurationError(f"{path} is readable to others", remedy=f"chmod 600 {path}")
    return path.read_bytes()


def _read(path: Path, kind: type[T]) -> T | None:
    """None where it is not there, or is not what it should be: it is then given anew."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except (FileNotFoundError, msgspec.DecodeError):
        return None
