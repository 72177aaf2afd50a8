"""The project's own Python: hooks around requests, and code that reads pages which are not JSON.

Each script runs in an interpreter of its own that is started once and fed one question after the
other, so that a script
cannot harm the archiver, its prints harm nothing, and one that hangs is ended.
"""

from __future__ import annotations

import json
import struct
import subprocess
import sys
import tempfile
import threading
from typing import TYPE_CHECKING, Any, Self

from holdfast.core.errors import HookError

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

_LENGTH = struct.Struct("<Q")
_RUNNER = r"""
import json, os, runpy, struct, sys
pipe_in = os.fdopen(os.dup(0), "rb")
pipe_out = os.fdopen(os.dup(1), "wb")
os.dup2(2, 1)
sys.stdin.close()
folder, path, names, raw = sys.argv[1], sys.argv[2], sys.argv[3].split(","), sys.argv[4] == "raw"
sys.path.insert(0, folder)
os.chdir(folder)
module = runpy.run_path(path)
function = next((module[name] for name in names if callable(module.get(name))), None)
if function is None:
    sys.exit("it has no function " + " or ".join(names) + "()")
while True:
    head = pipe_in.read(8)
    if len(head) < 8:
        break
    question = pipe_in.read(struct.unpack("<Q", head)[0])
    answer = json.dumps(function(question if raw else json.loads(question))).encode()
    pipe_out.write(struct.pack("<Q", len(answer)) + answer)
    pipe_out.flush()
"""


class Script:
    """One script, started when it is first asked. Calls may come from any thread, one at a time
    goes through.
    """

    def __init__(
        self, path: Path, *, folder: Path, functions: tuple[str, ...], raw: bool = False,
        limit: float = 30.0,
    ) -> None:  # fmt: skip
        """`raw`: the function takes bytes; else a JSON document. `limit`: seconds for one call."""
        self._path = path
        self._folder = folder
        self._functions = functions
        self._raw = raw
        self._limit = limit
        self._process: subprocess.Popen[bytes] | None = None
        self._words = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the script
        self._turn = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def ask(self, question: bytes | dict[str, Any]) -> Any:
        """What the script's function returns. Any: JSON.

        Raises:
            HookError: it failed, hung, or answered with something that is not JSON.
        """
        sent = question if isinstance(question, bytes) else json.dumps(question).encode()
        with self._turn:
            process = self._started()
            assert process.stdin is not None
            assert process.stdout is not None
            late = threading.Event()
            watch = threading.Timer(self._limit, _end, (process, late))
            watch.start()
            try:
                process.stdin.write(_LENGTH.pack(len(sent)) + sent)
                process.stdin.flush()
                head = process.stdout.read(_LENGTH.size)
                answer = process.stdout.read(_LENGTH.unpack(head)[0])
            except (OSError, struct.error):
                answer = b""
            finally:
                watch.cancel()
            if not answer:
                raise HookError(self._complaint(process, late=late.is_set()))
        return json.loads(answer)

    def close(self) -> None:
        if self._process:
            _end(self._process, threading.Event())
            for pipe in (self._process.stdin, self._process.stdout):
                if pipe:
                    try:
                        pipe.close()
                    except OSError:
                        pass  # the script is gone
            self._process = None
        self._words.close()

    def _started(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            arguments = [
                sys.executable, "-I", "-c", _RUNNER, str(self._folder), str(self._path),
                ",".join(self._functions), "raw" if self._raw else "json",
            ]  # fmt: skip
            try:
                self._process = subprocess.Popen(
                    arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._words
                )
            except OSError as error:
                raise HookError(f"script {self._path} cannot be started: {error}") from None
        return self._process

    def _complaint(self, process: subprocess.Popen[bytes], *, late: bool) -> str:
        if late:
            return f"script {self._path} took longer than {self._limit:g} seconds"
        process.wait()
        self._words.seek(0)
        said = self._words.read().decode(errors="replace").strip().splitlines()
        return f"script {self._path} failed: {said[-1] if said else 'it ended without a word'}"


def _end(process: subprocess.Popen[bytes], late: threading.Event) -> None:
    late.set()
    process.kill()
    process.wait()
