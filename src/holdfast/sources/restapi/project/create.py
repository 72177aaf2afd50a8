"""Making a new project, and writing what was detected into an existing one without disturbing the
rest of it.
"""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING, Any

from holdfast.core.errors import ProjectError, UsageError
from holdfast.sources.restapi.project.place import writing
from holdfast.sources.restapi.project.project import FILE_NAMES, find_file

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from pathlib import Path

NEW_FILE = "apibackuper.yaml"
_SECTION_LINE = re.compile(r"\s*\[(?P<name>[^\]]+)\]")


def create_project(
    folder: Path, choices: Mapping[str, Mapping[str, object]], *, copy_of: Path | None = None
) -> tuple[Path, bool]:
    """Makes a project; its file, and whether it is new. A project that is there is left as it is.

    Args:
        choices: what is known already, by section and key; a project without a url is a skeleton.
        copy_of: a configuration file to begin with instead.

    Raises:
        UsageError: `copy_of` is no such file.
        StoreError: the folder cannot be written.
    """
    existing = [folder / name for name in FILE_NAMES if (folder / name).is_file()]
    if existing:
        return existing[0], False
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        if copy_of is not None:
            if not copy_of.is_file() or copy_of.suffix not in {".yaml", ".yml", ".cfg"}:
                raise UsageError(f"{copy_of} is no project file (.yaml, .yml or .cfg)")
            file = folder / f"apibackuper{copy_of.suffix}"
            content = copy_of.read_bytes()
        else:
            file = folder / NEW_FILE
            content = _skeleton(folder.absolute().name, choices).encode()
        _write_whole(file, content)
    return file, True


def amend_project(
    folder: Path,
    found: Mapping[str, Mapping[str, object]],
    *,
    replacing: Collection[str] = (),
) -> list[str]:
    """Writes keys that the project file does not have yet, comments and order kept; their names.

    Args:
        replacing: names, such as project.iterate_by, of which what is there may be replaced.

    Raises:
        NoProjectError: there is no project.
        ProjectError: its file cannot be understood.
    """
    file = find_file(folder)
    text = file.read_text(encoding="utf-8-sig")
    amend = _amend_ini if file.suffix == ".cfg" else _amend_yaml
    changed, names = amend(text, found, replacing)
    if names:
        with writing(file):
            _write_whole(file, changed.encode())
    return names


def _write_whole(file: Path, content: bytes) -> None:
    """All of it or nothing: a full disk leaves no empty file that would pass for a project."""
    draft = file.with_name(file.name + ".new")
    try:
        draft.write_bytes(content)
        draft.replace(file)
    finally:
        draft.unlink(missing_ok=True)


def _skeleton(name: str, choices: Mapping[str, Mapping[str, object]]) -> str:
    given = {section: dict(values) for section, values in choices.items()}
    url = given.get("project", {}).get("url")
    settled: dict[str, dict[str, Any]] = {
        "settings": {"initialized": bool(url), "name": name},
        "project": {
            "description": f"{name}", "url": "https://example.com/api/items", "http_mode": "GET",
            "work_modes": "full,incremental,update", "iterate_by": "page",
        },
        "params": {"page_size_limit": 100},
        "data": {},
        "storage": {"storage_type": "zip", "compression": True},
    }  # fmt: skip
    for section, values in given.items():
        settled[section] = {**settled.get(section, {}), **values}
    stream = io.StringIO()
    _yaml().dump(settled, stream)
    return (
        "# Every key is explained in the guide; `holdfast api detect --write-config` finds most.\n"
        + (stream.getvalue().replace("data: {}\n", "data:\n"))
    )


def _amend_yaml(
    text: str, found: Mapping[str, Mapping[str, object]], replacing: Collection[str]
) -> tuple[str, list[str]]:
    from ruamel.yaml.error import YAMLError

    yaml = _yaml()
    try:
        document = yaml.load(text)
    except YAMLError as error:
        raise ProjectError(f"not valid YAML: {error}") from None
    names = []
    for section, values in found.items():
        if document.get(section) is None:
            document[section] = {}
        for word, value in values.items():
            name, there = f"{section}.{word}", document[section].get(word)
            if there in (None, "") or (name in replacing and there != value):
                document[section][word] = value
                names.append(name)
    stream = io.StringIO()
    yaml.dump(document, stream)
    return stream.getvalue(), names


def _amend_ini(
    text: str, found: Mapping[str, Mapping[str, object]], replacing: Collection[str]
) -> tuple[str, list[str]]:
    from holdfast.sources.restapi.project.ini import read_ini

    known, _ = read_ini(text)
    lines, names = text.splitlines(), []
    missing: dict[str, list[str]] = {}
    for section, values in found.items():
        for word, value in values.items():
            name, line = f"{section}.{word}", f"{word} = {str(value).replace('%', '%%')}"
            there = known.get(section, {}).get(word)
            if there is None or not there.value:
                missing.setdefault(section, []).append(line)
            elif name in replacing and there.value != str(value):
                lines[there.line - 1] = line
            else:
                continue
            names.append(name)
    for section, added in missing.items():
        at = next(
            (
                index
                for index, line in enumerate(lines)
                if (match := _SECTION_LINE.match(line)) and match["name"].strip() == section
            ),
            None,
        )
        if at is None:
            lines += ["", f"[{section}]", *added]
        else:
            lines[at + 1 : at + 1] = added
    return "\n".join(lines) + "\n", names


def _yaml() -> Any:
    """Any: the library's own type, loaded only when a file is written."""
    from ruamel.yaml import YAML

    yaml = YAML()
    yaml.allow_unicode = True
    yaml.width = 4096
    return yaml
