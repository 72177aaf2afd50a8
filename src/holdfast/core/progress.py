"""How long work tells what it is doing. One protocol, so that a terminal, JSON lines and a server
show it each in its own way.
"""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Calls are cheap and may come from the thread that works thousands of times a second; showing
    them is throttled by whoever shows.
    """

    def stage(self, name: str, *, items: int | None = None, bytes: int | None = None) -> None:  # noqa: A002
        """A new part of the work begins, as a verb phrase ("checking packs"); totals where they are
        known.
        """
        ...

    def add(self, items: int = 0, bytes: int = 0) -> None:  # noqa: A002
        """So much more of the stage is done."""
        ...

    def note(self, message: str) -> None:
        """One line that a person should see, without ending the work."""
        ...


class Silence:
    """Shows nothing."""

    def stage(self, name: str, *, items: int | None = None, bytes: int | None = None) -> None:  # noqa: A002
        pass

    def add(self, items: int = 0, bytes: int = 0) -> None:  # noqa: A002
        pass

    def note(self, message: str) -> None:
        pass
