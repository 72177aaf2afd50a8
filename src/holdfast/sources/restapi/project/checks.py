"""What the keys of a project must be together, beyond what each must be alone."""

from __future__ import annotations

import re
import string
from typing import TYPE_CHECKING

from holdfast.sources.restapi.project.ini import Mistake, Sections
from holdfast.sources.restapi.project.values import is_moment, wrong_address

if TYPE_CHECKING:
    from holdfast.sources.restapi.project.project import Project
    from holdfast.sources.restapi.project.sections import Auth, FollowRule

_FIELD = re.compile(r"\{[^{}]*\}")
_NOTHING = {"", "none", "false", "no", "off", "0"}
_MODES = {"full", "incremental", "update", "continue"}


def check_together(project: Project, sections: Sections) -> tuple[list[Mistake], list[Mistake]]:
    """Mistakes, and notes on what is harmless but has no effect."""
    found = _Finder(sections)
    _check_paging(project, found)
    _check_update(project, found)
    if project.auth and project.auth.type:
        _check_auth(project.auth, found)
    for rule in project.follow:
        _check_follow(rule, found)
    if project.files:
        _check_files(project, found)
    _check_scripts(project, found)
    if project.storage.storage_type == "repository" and not project.storage.repository:
        found.mistake("storage", "storage_type", "repository needs storage.repository, its address")
    for word in ("max_file_size", "split_files"):
        found.note("storage", word, "has no effect: archives of any size are one file")
    found.note("files", "use_aria2", "has no effect: files are streamed in parallel without it")
    for word in ("checkpoint_file", "checkpoint_interval_pages"):
        found.note("settings", word, "has no effect: every page is kept for good as it comes")
    return found.mistakes, found.notes


class _Finder:
    def __init__(self, sections: Sections) -> None:
        self._sections = sections
        self.mistakes: list[Mistake] = []
        self.notes: list[Mistake] = []

    def mistake(self, section: str, word: str, text: str) -> None:
        self.mistakes.append(Mistake(self._line(section, word), f"{section}.{word}: {text}"))

    def missing(self, section: str, word: str, text: str) -> None:
        """Nothing where something stands that is wrong itself, which is told elsewhere."""
        written = self._sections.get(section, {}).get(word)
        if written is None or written.value in (None, ""):
            self.mistake(section, word, text)

    def note(self, section: str, word: str, text: str) -> None:
        """Where a key says something that it cannot bring about."""
        written = self._sections.get(section, {}).get(word)
        if written is not None and str(written.value).lower() not in _NOTHING:
            self.notes.append(Mistake(self._line(section, word), f"{section}.{word} {text}"))

    def _line(self, section: str, word: str) -> int:
        values = self._sections.get(section, {})
        if word in values:
            return values[word].line
        return min((item.line for item in values.values()), default=0)


def _check_paging(project: Project, found: _Finder) -> None:
    params, data, kind = project.params, project.data, project.source.iterate_by
    numbered = {
        "page": params.page_number_param,
        "skip": params.count_skip_param,
        "range": params.count_from_param,
    }
    if kind in numbered and not params.page_size_limit:
        found.missing(
            "params", "page_size_limit", "is missing; give the number of records per page"
        )
    if kind == "range" and bool(params.count_from_param) != bool(params.count_to_param):
        found.mistake("params", "count_to_param", "range needs count_from_param and count_to_param")
    if kind == "cursor":
        if not params.cursor_param:
            found.missing("params", "cursor_param", "is missing; iterate_by cursor sends it")
        if not (data.next_cursor_key or data.next_cursor_header):
            found.missing("data", "next_cursor_key", "is missing (or next_cursor_header)")
    if kind == "next_url" and not data.next_url_key:
        found.missing("data", "next_url_key", "is missing; iterate_by next_url reads it")
    if kind == "since_id":
        if not params.since_id_param:
            found.missing("params", "since_id_param", "is missing; iterate_by since_id sends it")
        if not project.data.item_key:
            found.missing(
                "data", "item_key", "is missing; iterate_by since_id needs each record's id"
            )
    if kind == "window":
        for word in ("window_from_param", "window_to_param", "window_start"):
            if not getattr(params, word):
                found.missing("params", word, "is missing; iterate_by window needs it")
        if params.window_size <= 0:
            found.mistake("params", "window_size", "must be longer than nothing, for example 1d")
        for word, value in (
            ("window_start", params.window_start),
            ("window_end", params.window_end),
        ):
            if value and not is_moment(value):
                found.mistake("params", word, f"must be a date like 2026-01-31, not {value!r}")


def _check_update(project: Project, found: _Finder) -> None:
    for mode in project.source.work_modes:
        if mode.lower() not in _MODES:
            found.mistake("project", "work_modes", f"{mode!r} is none of full, incremental, update")
    if project.source.update_mode == "custom_script" and not project.source.update_script:
        found.missing("project", "update_script", "is missing; update_mode custom_script runs it")


def _check_auth(auth: Auth, found: _Finder) -> None:
    def needs(*words: str) -> None:
        if not any(getattr(auth, word) for word in words):
            found.missing("auth", words[0], f"is missing; {auth.type} needs {' or '.join(words)}")

    def secret(word: str) -> tuple[str, ...]:
        return (word, f"{word}_file", f"{word}_env", f"{word}_command")

    match auth.type:
        case "basic":
            needs("username")
            needs(*secret("password"))
        case "bearer":
            needs(*secret("token"))
        case "apikey":
            needs(*secret("api_key"))
        case "oauth2":
            needs(*secret("token"), *secret("refresh_token"), *secret("client_secret"))
            if any(
                getattr(auth, word) for word in (*secret("refresh_token"), *secret("client_secret"))
            ):
                needs("auth_url")
            if any(getattr(auth, word) for word in secret("client_secret")):
                needs("client_id")


def _check_follow(rule: FollowRule, found: _Finder) -> None:
    mode = rule.follow_mode
    title = f"follow rule {rule.name}" if rule.name else "follow"
    if mode in {"item", "prefix", "drilldown"}:
        for word in ("follow_pattern", "follow_item_key"):
            if not getattr(rule, word):
                found.missing("follow", word, f"is missing; {title} in mode {mode} needs it")
    if mode == "url" and not rule.follow_url_key:
        found.missing("follow", "follow_url_key", f"is missing; {title} in mode url needs it")
    if mode == "drilldown" and not rule.follow_data_key:
        found.missing(
            "follow", "follow_data_key", f"is missing; {title} in mode drilldown needs it"
        )
    pattern = rule.follow_pattern or ""
    if "://" in pattern and (wrong := _wrong_pattern(pattern)):
        found.mistake("follow", "follow_pattern", wrong)
    if rule.follow_pattern and mode == "item":
        try:
            list(string.Formatter().parse(rule.follow_pattern))
        except ValueError as error:
            found.mistake("follow", "follow_pattern", f"is no pattern: {error}")


def _check_files(project: Project, found: _Finder) -> None:
    files = project.files
    if files is None:
        return
    if files.root_url and (wrong := _wrong_pattern(files.root_url)):
        found.mistake("files", "root_url", wrong)
    if files.fetch_mode in {"id", "pattern"} and not files.root_url:
        found.missing("files", "root_url", f"is missing; fetch_mode {files.fetch_mode} needs it")


def _wrong_pattern(pattern: str) -> str:
    """As `wrong_address`, whatever its fields will be filled with."""
    return wrong_address(_FIELD.sub("1", pattern))


def _check_scripts(project: Project, found: _Finder) -> None:
    scripts = {
        ("hooks", word): getattr(project.hooks, word)
        for word in ("before_run", "before_request", "after_response", "after_page", "after_run")
    }
    scripts["code", "postfetch"] = project.code.postfetch
    scripts["code", "follow"] = project.code.follow
    scripts["project", "update_script"] = project.source.update_script
    for (section, word), script in scripts.items():
        if script and not (project.folder / script).is_file():
            found.mistake(section, word, f"there is no file {project.folder / script}")
    if project.source.resp_type == "html" and not project.code.postfetch:
        found.missing(
            "code", "postfetch", "is missing; resp_type html needs a script that reads pages"
        )
