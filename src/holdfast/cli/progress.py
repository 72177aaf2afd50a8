"""How far work is: a block that is drawn over on a terminal, a JSON line each second, or nothing.

Whoever works only counts. One thread looks at the counts a few times a second and shows them, so
that a terminal moves
even where a single step takes long.
"""

from __future__ import annotations

import os
import threading
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Self

from holdfast.cli.stopping import speaking
from holdfast.core.units import format_duration, format_size

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rich.live import Live

    from holdfast.cli.output import Output

_TERMINAL_EVERY = 0.25
_JSON_EVERY = 1.0


@lru_cache
def _forks_wait_for() -> threading.Lock:
    """What is held while something is shown. Worker processes are not forked meanwhile: they would
    inherit locks of
    rich and of the streams that nobody in them ever releases.
    """
    drawing = threading.Lock()
    os.register_at_fork(
        before=drawing.acquire, after_in_parent=drawing.release, after_in_child=drawing.release
    )
    return drawing


class Display:
    """Shows `lines()` on a terminal (standard error), or `status()` as JSON lines (standard
    output). Use as a context.

    It begins with `wake`, so that commands that end at once show nothing.
    """

    def __init__(
        self,
        output: Output,
        *,
        lines: Callable[[], Sequence[str]],
        status: Callable[[], dict[str, Any]],
    ) -> None:
        self._output = output
        self._lines = lines
        self._status = status
        self._terminal = not output.json and output.stderr.isatty()
        self._every = _TERMINAL_EVERY if self._terminal else _JSON_EVERY
        self._wanted = not output.quiet and (output.json or self._terminal)
        self._live: Live | None = None
        self._drawing = _forks_wait_for()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._spoken_through = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        if self._live is not None:
            self._live.stop()
            self._live = None
        self._spoken_through.close()

    def wake(self) -> None:
        """Begins to show; again is well, and cheap."""
        if self._wanted and self._thread is None:
            if self._terminal:
                self._spoken_through.enter_context(speaking(self.say))
            self._thread = threading.Thread(target=self._run, name="progress", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        while not self._stop.wait(self._every):
            with self._drawing:
                if self._output.json:
                    self._output.message("status", **self._status())
                else:
                    self._draw()

    def _draw(self) -> None:
        from rich.console import Console, Group
        from rich.live import Live
        from rich.text import Text

        lines = [Text(line, overflow="ellipsis", no_wrap=True) for line in self._lines()]
        if self._live is None:
            console = Console(file=self._output.stderr)
            self._live = Live(
                console=console,
                auto_refresh=False,
                transient=True,
                redirect_stdout=False,
                redirect_stderr=False,
            )
            self._live.start()
        self._live.update(Group(*lines), refresh=True)

    def say(self, text: str, *, result: bool = False) -> None:
        """One line above the block: a result, or else a remark."""
        with self._drawing:
            if self._live is not None and (not result or self._output.to_terminal):
                from rich.text import Text

                self._live.console.print(Text(text), soft_wrap=True)
            elif result:
                self._output.line(text)
            else:
                self._output.warn(text)


@dataclass(slots=True)
class Stage:
    """One part of the work, and how far it is."""

    name: str = ""
    all_items: int | None = None
    all_bytes: int | None = None
    items: int = 0
    bytes: int = 0
    began: float = field(default_factory=time.monotonic)

    @property
    def elapsed(self) -> float:
        return time.monotonic() - self.began

    @property
    def share(self) -> float | None:
        return done_share(self.items, self.all_items, self.bytes, self.all_bytes)


class Meter:
    """`core.progress.Progress` for every verb but `backup`. Use as a context around the work.

    `status` makes the JSON fields of a stage where a verb has restic's instead of ours.
    """

    def __init__(
        self, output: Output, *, status: Callable[[Stage], dict[str, Any]] | None = None
    ) -> None:
        self._output = output
        self._began = time.monotonic()
        self._stage = Stage()
        self._fields = status or stage_fields
        self._display = Display(output, lines=self._lines, status=self._status)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._display.__exit__()

    @property
    def elapsed(self) -> float:
        return time.monotonic() - self._began

    def stage(self, name: str, *, items: int | None = None, bytes: int | None = None) -> None:  # noqa: A002  the protocol's word
        self._stage = Stage(name, items, bytes)
        if self._output.verbosity:
            self._output.note(name)
        self._display.wake()

    def add(self, items: int = 0, bytes: int = 0) -> None:  # noqa: A002  the protocol's word
        self._stage.items += items
        self._stage.bytes += bytes

    def note(self, message: str) -> None:
        if self._output.json:
            self._output.message("note", message=message)
        elif not self._output.quiet:
            self._display.say(message)

    def result(self, text: str) -> None:
        """A line of the result, while the block is on the terminal."""
        self._display.say(text, result=True)

    def _lines(self) -> list[str]:
        """What matters most first: a narrow terminal cuts the end off."""
        stage = self._stage
        share = stage.share
        percent = f" {share:.1%}" if share is not None else ""
        parts = [f"[{format_duration(self.elapsed)}] {stage.name}{percent}"]
        left = seconds_left(share, stage.elapsed)
        if left is not None:
            parts.append(f"ETA {format_duration(left)}")
        if stage.items or stage.all_items:
            parts.append(of_total(str(stage.items), stage.all_items and str(stage.all_items)))
        if stage.bytes or stage.all_bytes:
            total = stage.all_bytes and format_size(stage.all_bytes)
            parts.append(of_total(format_size(stage.bytes), total))
            parts.append(f"{format_size(stage.bytes / max(stage.elapsed, 0.001))}/s")
        return [", ".join(parts)]

    def _status(self) -> dict[str, Any]:
        stage = self._stage
        left = seconds_left(stage.share, stage.elapsed)
        fields: dict[str, Any] = {
            "seconds_elapsed": int(self.elapsed),
            "percent_done": stage.share or 0.0,
            **self._fields(stage),
        }
        if left is not None:
            fields["seconds_remaining"] = int(left)
        return fields


def stage_fields(stage: Stage) -> dict[str, Any]:
    """What JSON says of a stage where restic has no words for it."""
    fields: dict[str, Any] = {
        "stage": stage.name,
        "items_done": stage.items,
        "bytes_done": stage.bytes,
    }
    if stage.all_items is not None:
        fields["total_items"] = stage.all_items
    if stage.all_bytes is not None:
        fields["total_bytes"] = stage.all_bytes
    return fields


def done_share(items: int, all_items: int | None, size: int, all_bytes: int | None) -> float | None:
    """0 to 1, by bytes where their total is known, else by items; None where no total is."""
    if all_bytes:
        return min(size / all_bytes, 1.0)
    if all_items:
        return min(items / all_items, 1.0)
    return None


def seconds_left(share: float | None, elapsed: float) -> float | None:
    """What is left at the rate so far; None while that is a guess."""
    if not share or elapsed < 1:
        return None
    return elapsed * (1 - share) / share


def of_total(done: str, total: str | int | None) -> str:
    return f"{done} / {total}" if total else done
