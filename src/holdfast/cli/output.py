"""How results leave: text for people, JSON lines for programs. Results go to standard output,
remarks to standard error.
"""

import os
import sys
from collections.abc import Iterable, Sequence
from typing import Any, TextIO

import msgspec

from holdfast.cli.settings import Settings
from holdfast.core.errors import HoldfastError

_ESCAPED = {code: f"\\x{code:02x}" for code in (*range(0x20), 0x7F, *range(0x80, 0xA0))}
_ESCAPED |= {0x0A: "\\n", 0x09: "\\t", 0x0D: "\\r", 0x5C: "\\\\"}
_ESCAPED |= {0xDC00 + byte: f"\\x{byte:02x}" for byte in range(0x80, 0x100)}
_encode = msgspec.json.encode


class Output:
    """Standard output and standard error of one command. Text and JSON are never mixed on one
    stream.
    """

    def __init__(
        self, settings: Settings, *, stdout: TextIO | None = None, stderr: TextIO | None = None
    ) -> None:
        self.json = settings.json
        self.quiet = settings.quiet
        self.verbosity = settings.verbose
        self.stdout = stdout or sys.stdout
        self.stderr = stderr or sys.stderr
        self.to_terminal = self.stdout.isatty()
        self._raw = getattr(self.stdout, "buffer", None)

    # --- JSON -------------------------------------------------------------------------------------

    def document(self, value: Any, *, flush: bool = True) -> None:
        """One line of JSON."""
        line = _encode(value) + b"\n"
        if self._raw is None:
            self.stdout.write(line.decode())
            return
        self.stdout.flush()
        self._raw.write(line)
        if flush:
            self._raw.flush()

    def message(self, message_type: str, **fields: Any) -> None:
        """One of the documented JSON messages."""
        self.document({"message_type": message_type, **fields})

    # --- text -------------------------------------------------------------------------------------

    def line(self, text: str = "") -> None:
        """One line of the result."""
        self.stdout.write(text + "\n")

    def said(self, text: str) -> None:
        """One line of the result that --quiet leaves out and that has no place among JSON."""
        if not self.quiet and not self.json:
            self.line(text)

    def note(self, text: str) -> None:
        """A remark beside the result."""
        if not self.quiet and not self.json:
            self.stderr.write(text + "\n")
            self.stderr.flush()

    def warn(self, text: str) -> None:
        """A remark that --quiet does not silence. With --json the caller has its own message for
        it.
        """
        if not self.json:
            self.stderr.write(text + "\n")
            self.stderr.flush()

    def shown(self, name: bytes | str) -> str:
        """A name of a file for people: on a terminal, what would move the cursor is escaped,
        reversibly; else it is as it is.
        """
        text = os.fsdecode(name)
        return text.translate(_ESCAPED) if self.to_terminal else text

    def table(self, heads: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Columns, as wide as they must be. A cell may have several lines. A terminal gets one that
        fits it.
        """
        if self.to_terminal:
            self._terminal_table(heads, rows)
            return
        cells = [[cell.split("\n") for cell in row] for row in (heads, *rows)]
        widths = [max(len(line) for row in cells for line in row[i]) for i in range(len(heads))]
        rule = "-" * (sum(widths) + 2 * (len(widths) - 1))
        for number, row in enumerate(cells):
            for at in range(max(map(len, row))):
                parts = (cell[at] if at < len(cell) else "" for cell in row)
                self.line("  ".join(map(str.ljust, parts, widths)).rstrip())
            if number == 0:
                self.line(rule)
        self.line(rule)

    def _terminal_table(self, heads: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
        from rich import box
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        table = Table(*heads, box=box.SIMPLE_HEAD, header_style="bold", pad_edge=False)
        for column in table.columns:
            column.overflow = "fold"
        for row in rows:
            table.add_row(*map(Text, row))
        Console(file=self.stdout).print(table)


def shown_in_json(name: bytes) -> dict[str, str]:
    """A file name for JSON: readable, and, where it is not UTF-8, exact too."""
    try:
        return {"text": name.decode()}
    except UnicodeDecodeError:
        import base64

        return {
            "text": name.decode(errors="replace"),
            "raw": base64.b64encode(name).decode(),
        }


def report_error(error: HoldfastError, *, json: bool, stderr: TextIO | None = None) -> None:
    """What happened, what is safe and what to do, on standard error."""
    stderr = stderr or sys.stderr
    if json:
        line = _encode(
            {
                "message_type": "exit_error",
                "code": error.exit_code,
                "message": error.message,
                "error": error.code,
                "remedy": error.advice,
            }
        )
        stderr.write(line.decode() + "\n")
    else:
        stderr.write(f"holdfast: {error.message} [{error.code}]\n")
        if error.advice:
            stderr.write(f"{error.advice}\n")
    stderr.flush()
