"""What a project names outside its own file: side files, secrets, certificates. Looked at all
together, so that every mistake is told at once; nothing is run, and nothing is sent.
"""

from __future__ import annotations

import os
import shlex
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from holdfast.core.errors import ProjectError
from holdfast.sources.restapi.project.ini import Mistake

if TYPE_CHECKING:
    from collections.abc import Callable

    from holdfast.sources.restapi.project.ini import Sections
    from holdfast.sources.restapi.project.project import Reading

SIDE_FILES = ("params.json", "headers.json", "url_params.json", "follow_params.json")
_SECRETS = {
    "auth": ("password", "token", "api_key", "refresh_token", "client_secret"),
    "storage": ("password",),
}


def broken_references(reading: Reading) -> list[Mistake]:
    """Everything that is named and not there, or not what it must be."""
    project, sections = reading.draft, reading.sections
    found = []
    for name in SIDE_FILES:
        try:
            project.json_file(name)
        except ProjectError as error:
            found.append(Mistake(0, error.message))
    for section, words in _SECRETS.items():
        options = getattr(project, section)
        for word in words:
            for key, check in _WAYS.items():
                name = f"{word}_{key}"
                value = getattr(options, name, None)
                if value and (wrong := check(project.folder, value)):
                    line = _line(sections, section, name)
                    found.append(Mistake(line, f"{section}.{name}: {wrong}"))
    bundle = project.request.verify_ssl
    if isinstance(bundle, str) and not (project.folder / bundle).exists():
        line = _line(sections, "request", "verify_ssl")
        place = project.folder / bundle
        found.append(Mistake(line, f"request.verify_ssl: there is no bundle {place}"))
    return found


def read_secret_file(folder: Path, name: str) -> str:
    """The secret that a file holds. Files are looked for in the project's folder, then in the
    present one, where apibackuper looked.

    Raises:
        ProjectError: there is none; the message is a sentence about the file.
    """
    path = folder / name
    if not path.is_file() and Path(name).is_file():
        path = Path(name)
    try:
        value = path.read_text(encoding="utf-8-sig").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not text"
        raise ProjectError(f"{path} cannot be read: {reason}") from None
    if not value:
        raise ProjectError(f"{path} is empty")
    return value


def _wrong_file(folder: Path, name: str) -> str:
    try:
        read_secret_file(folder, name)
    except ProjectError as error:
        return error.message
    return ""


def _wrong_variable(_folder: Path, name: str) -> str:
    return "" if os.environ.get(name) else f"the environment has no variable {name}"


def _wrong_command(folder: Path, command: str) -> str:
    try:
        words = shlex.split(command)
    except ValueError as error:
        return f"it is no command: {error}"
    if not words:
        return "it is no command"
    program = words[0]
    if "/" in program:
        return "" if os.access(folder / program, os.X_OK) else f"{program} cannot be run"
    return "" if shutil.which(program) else f"there is no program {program}"


_WAYS: dict[str, Callable[[Path, str], str]] = {
    "file": _wrong_file, "env": _wrong_variable, "command": _wrong_command,
}  # fmt: skip


def _line(sections: Sections, section: str, word: str) -> int:
    written = sections.get(section, {}).get(word)
    return written.line if written else 0
