"""A project: its folder, its configuration file, and what that file says."""

from __future__ import annotations

import difflib
import json
import os
import re
from dataclasses import MISSING, dataclass, fields
from typing import TYPE_CHECKING, Any, TypeVar

from holdfast.core.errors import NoProjectError, ProjectError
from holdfast.core.secret import without_password
from holdfast.sources.restapi.project.ini import Mistake, Sections, Written, read_ini
from holdfast.sources.restapi.project.place import Place, StorageKind
from holdfast.sources.restapi.project.sections import (
    Auth,
    Code,
    Data,
    ErrorHandling,
    Files,
    FollowParams,
    FollowRule,
    Hooks,
    Logging,
    Params,
    RateLimit,
    RequestOptions,
    RetryPolicy,
    Settings,
    Source,
    Storage,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

FILE_NAMES = (
    "holdfast.yaml", "holdfast.yml", "apibackuper.yaml", "apibackuper.yml",
    "holdfast.cfg", "apibackuper.cfg",
)  # fmt: skip
_SECTIONS: dict[str, type] = {
    "settings": Settings, "project": Source, "params": Params, "data": Data, "follow": FollowRule,
    "files": Files, "storage": Storage, "auth": Auth, "rate_limit": RateLimit,
    "request": RequestOptions, "error_handling": ErrorHandling, "hooks": Hooks, "code": Code,
    "logging": Logging,
}  # fmt: skip
_NESTED: dict[str, type] = {"retry": RetryPolicy, "params": FollowParams}
_VARIABLE = re.compile(r"\$\{(?P<name>[A-Za-z_]\w*)(?::?[-=](?P<default>[^}]*))?\}")
_UNTOUCHED = re.compile(rb"(?im)^\s*initialized\s*[:=]\s*false")
S = TypeVar("S")


@dataclass(frozen=True, slots=True, kw_only=True)
class Project:
    folder: Path
    file: Path
    settings: Settings
    source: Source
    params: Params
    data: Data
    follow: tuple[FollowRule, ...]
    files: Files | None
    storage: Storage
    auth: Auth | None
    rate_limit: RateLimit
    request: RequestOptions
    errors: ErrorHandling
    hooks: Hooks
    code: Code
    logging: Logging

    @property
    def name(self) -> str:
        return self.settings.name

    @property
    def place(self) -> Place:
        """Where its archives lie."""
        kind = self.storage.storage_type
        return Place(
            StorageKind.ZIP if kind == "repository" else StorageKind(kind),
            self.folder / self.storage.storage_path,
        )

    def json_file(self, name: str) -> dict[str, Any]:
        """A side file like params.json; {} where there is none. Any: JSON of the person's own.

        Raises:
            ProjectError: it is not a JSON object, or names a variable that is not there.
        """
        path = self.folder / name
        try:
            content = json.loads(path.read_text(encoding="utf-8-sig"))
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            raise ProjectError(f"{path} cannot be read as JSON: {error}") from None
        if not isinstance(content, dict):
            raise ProjectError(f"{path} must hold a JSON object of names and values")
        missing: list[Mistake] = []
        values = {name: _substituted(value, missing, 0) for name, value in content.items()}
        if missing:
            raise ProjectError(f"{path}: {'; '.join(mistake.text for mistake in missing)}")
        return values


@dataclass(frozen=True, slots=True)
class Reading:
    """What came of reading a project file. `project` is None where a mistake forbids its use."""

    file: Path
    project: Project | None
    mistakes: tuple[Mistake, ...]
    unknown: tuple[Mistake, ...]
    """Keys and sections that nothing reads."""
    notes: tuple[Mistake, ...]
    """Harmless, but worth knowing."""
    sections: Sections
    """What is written, with the line of every value."""
    draft: Project
    """The project as far as it could be understood, whatever is wrong."""


def load_project(folder: Path) -> Project:
    """Reads a project.

    Raises:
        NoProjectError: the folder holds none.
        ProjectError: it cannot be used; the message lists every mistake with its line.
    """
    return usable(read_project(folder))


def usable(reading: Reading, broken: Sequence[Mistake] = ()) -> Project:
    """The project that was read, unless it has mistakes or names what is `broken`: then
    ProjectError, which lists all of them.
    """
    wrong = sorted([*reading.mistakes, *broken], key=lambda mistake: mistake.line)
    if reading.project is None or wrong:
        listed = "\n".join(f"  {described(mistake)}" for mistake in wrong)
        raise ProjectError(f"{reading.file} cannot be used:\n{listed}")
    return reading.project


def described(mistake: Mistake) -> str:
    return f"line {mistake.line}: {mistake.text}" if mistake.line else mistake.text


def find_file(folder: Path) -> Path:
    """The configuration file of a project's folder.

    Raises:
        NoProjectError: there is none.
    """
    found = [folder / name for name in FILE_NAMES if (folder / name).is_file()]
    for file in found:
        # a skeleton that nobody has filled in does not hide another file that somebody has
        if len(found) == 1 or not _UNTOUCHED.search(file.read_bytes()):
            return file
    if found:
        return found[0]
    raise NoProjectError(f"{folder} is not a project: it has none of {', '.join(FILE_NAMES)}")


def read_project(folder: Path) -> Reading:
    """Reads everything, however much is wrong.

    Raises:
        NoProjectError: the folder holds no project.
        ProjectError: the file cannot be read at all.
    """
    file = find_file(folder)
    try:
        content = file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise ProjectError(f"{file} is not UTF-8 text") from None
    except OSError as error:
        raise ProjectError(f"{file} cannot be read: {error.strerror}") from None
    mistakes: list[Mistake] = []
    if file.suffix == ".cfg":
        sections, mistakes = read_ini(content)
    else:
        from holdfast.sources.restapi.project.yamlfile import read_yaml

        sections, mistakes = read_yaml(content)
    return _Reader(folder.absolute(), file, mistakes).read(sections)


class _Reader:
    """Collects mistakes while it turns written sections into values."""

    def __init__(self, folder: Path, file: Path, mistakes: list[Mistake]) -> None:
        self._folder = folder
        self._file = file
        self._mistakes = mistakes
        self._unknown: list[Mistake] = []
        self._notes: list[Mistake] = []

    def read(self, sections: Sections) -> Reading:
        broken = bool(self._mistakes)
        for name, values in sections.items():
            if name not in _SECTIONS:
                line = min((item.line for item in values.values()), default=0)
                self._unknown.append(
                    Mistake(line, f"[{name}] is no section{_closest(name, _SECTIONS)}")
                )
        wanted = ("settings", "project", "params", "data", "storage")
        if not broken:
            self._mistakes += [
                Mistake(0, f"section {name} is missing") for name in wanted if name not in sections
            ]

        def section(name: str, kind: type[S]) -> S:
            return self._section(kind, sections.get(name, {}), name, present=name in sections)

        project = Project(
            folder=self._folder,
            file=self._file,
            settings=section("settings", Settings),
            source=section("project", Source),
            params=section("params", Params),
            data=section("data", Data),
            follow=self._follow(sections.get("follow")),
            files=section("files", Files) if "files" in sections else None,
            storage=section("storage", Storage),
            auth=section("auth", Auth) if "auth" in sections else None,
            rate_limit=section("rate_limit", RateLimit),
            request=section("request", RequestOptions),
            errors=section("error_handling", ErrorHandling),
            hooks=section("hooks", Hooks),
            code=section("code", Code),
            logging=section("logging", Logging),
        )
        if not broken:
            from holdfast.sources.restapi.project.checks import check_together

            mistakes, notes = check_together(project, sections)
            self._mistakes += mistakes
            self._notes += notes
        mistakes = sorted(set(self._mistakes), key=lambda mistake: mistake.line)
        return Reading(
            self._file, None if mistakes else project, tuple(mistakes), tuple(self._unknown),
            tuple(self._notes), sections, project,
        )  # fmt: skip

    def _section(self, kind: type[S], values: dict[str, Written], name: str, *, present: bool) -> S:
        known = {item.name: item for item in fields(kind)}  # type: ignore[arg-type]  # all are dataclasses
        given: dict[str, Any] = {}
        for word, written in values.items():
            if word not in known:
                self._unknown.append(
                    Mistake(written.line, f"{name}.{word} is no key{_closest(word, known)}")
                )
                continue
            value = _substituted(written.value, self._mistakes, written.line)
            if value is None or value == "":
                continue
            if word in _NESTED and word in known and "convert" not in known[word].metadata:
                given[word] = self._nested(_NESTED[word], value, f"{name}.{word}", written.line)
                continue
            try:
                given[word] = known[word].metadata["convert"](value)
            except ValueError as error:
                shown = "" if _is_secret(word) else f", not {without_password(str(value))!r:.60}"
                self._mistakes.append(Mistake(written.line, f"{name}.{word} {error}{shown}"))
                given[word] = known[word].default if known[word].default is not MISSING else None
        if present:
            line = min((item.line for item in values.values()), default=0)
            self._mistakes += [
                Mistake(line, f"{name}.{word} is missing")
                for word, item in known.items()
                if item.metadata.get("required") and word not in given
            ]
        return kind(**given)

    def _nested(self, kind: type[S], value: object, name: str, line: int) -> S:
        if not isinstance(value, dict):
            self._mistakes.append(Mistake(line, f"{name} must hold keys and values"))
            return kind()
        values = {str(word): Written(part, line) for word, part in value.items()}
        return self._section(kind, values, name, present=True)

    def _follow(self, values: dict[str, Written] | None) -> tuple[FollowRule, ...]:
        if values is None:
            return ()
        rules = values.get("rules")
        if rules is None:
            return (self._section(FollowRule, values, "follow", present=True),)
        if not isinstance(rules.value, list) or not all(
            isinstance(rule, dict) for rule in rules.value
        ):
            self._mistakes.append(Mistake(rules.line, "follow.rules must be a list of rules"))
            return ()
        built = []
        for index, rule in enumerate(rules.value):
            shared = {word: item for word, item in values.items() if word != "rules"}
            own = {str(word): Written(part, rules.line) for word, part in rule.items()}
            if "name" not in own:
                own["name"] = Written(str(index + 1), rules.line)
            title = f"follow.rules[{index + 1}]"
            built.append(self._section(FollowRule, shared | own, title, present=True))
        return tuple(built)


def _substituted(value: object, mistakes: list[Mistake], line: int) -> Any:
    """With ${VAR}, ${VAR:-default} and ${VAR:=default} replaced in every string. Any: whatever
    came in.
    """
    if isinstance(value, dict):
        return {word: _substituted(part, mistakes, line) for word, part in value.items()}
    if isinstance(value, list):
        return [_substituted(part, mistakes, line) for part in value]
    if not isinstance(value, str):
        return value

    def looked_up(match: re.Match[str]) -> str:
        found = os.environ.get(match["name"], "")
        if found:
            return found
        if match["default"] is None:
            mistakes.append(Mistake(line, f"the environment has no variable {match['name']}"))
            return ""
        return match["default"]

    return _VARIABLE.sub(looked_up, value)


def _closest(word: str, known: Any) -> str:
    """Any: whatever names iterate over."""
    found = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f"; did you mean {found[0]}?" if found else ""


def _is_secret(word: str) -> bool:
    return word in {"password", "token", "api_key", "refresh_token", "client_secret"}
