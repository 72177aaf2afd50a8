"""The sections of a project file: every key, its type and its default. A key is known here and
nowhere else.
"""

# ruff: noqa: RUF009 - key() makes a field of a dataclass, as field() does

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from holdfast.sources.restapi.project.values import (
    choice,
    duration,
    flag,
    key,
    number,
    proxies,
    secret,
    size,
    statuses,
    text,
    url,
    verify,
    whole,
    words,
)

if TYPE_CHECKING:
    from holdfast.core.secret import Secret

DEFAULT_RETRIES = 5
DEFAULT_PARALLEL = 8
"""Requests under way at once where the project says nothing: what an API of strangers bears."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    name: str = key(text, "", required=True)
    id: str | None = key(text)
    initialized: bool = key(flag, False)
    splitter: str = key(text, ".")
    logfile: str | None = key(text)
    state_file: str = key(text, "apibackuper_state.json")
    checkpoint_file: str = key(text, "apibackuper_checkpoint.json")
    checkpoint_interval_pages: int = key(whole(), 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Section `project`."""

    url: str = key(url, "", required=True)
    http_mode: str = key(choice("GET", "POST"), "GET", required=True)
    description: str | None = key(text)
    work_modes: tuple[str, ...] = key(words, ("full", "incremental", "update"))
    iterate_by: str = key(
        choice(
            "page", "skip", "range", "cursor", "link", "next_url", "since_id", "window",
            also={"number": "page", "offset": "skip"},
        ),
        "page",
    )  # fmt: skip
    resp_type: str = key(choice("json", "xml", "html"), "json")
    default_delay: float | None = key(number())
    retry_delay: float | None = key(number())
    retry_count: int | None = key(whole())
    force_retry: bool = key(flag, False)
    detect: bool = key(flag, False)
    update_mode: str = key(
        choice("by_change_key", "by_timestamp", "custom_script"), "by_change_key"
    )
    update_script: str | None = key(text)


@dataclass(frozen=True, slots=True, kw_only=True)
class Params:
    page_size_param: str | None = key(text)
    page_size_limit: int = key(whole(1), 0)
    page_number_param: str | None = key(text)
    start_page: int = key(whole(), 1)
    count_skip_param: str | None = key(text)
    count_from_param: str | None = key(text)
    count_to_param: str | None = key(text)
    query_mode: str = key(choice("query", "params", "mixed"), "query")
    force_flat_params: bool = key(flag, False)
    change_key_param: str | None = key(text)
    update_since_param: str | None = key(text)
    cursor_param: str | None = key(text)
    since_id_param: str | None = key(text)
    since_id_start: str | None = key(text)
    window_from_param: str | None = key(text)
    window_to_param: str | None = key(text)
    window_start: str | None = key(text)
    window_end: str | None = key(text)
    window_size: float = key(duration, 86400.0)
    window_format: str = key(text, "iso")


@dataclass(frozen=True, slots=True, kw_only=True)
class Data:
    total_number_key: str | None = key(text)
    pages_number_key: str | None = key(text)
    data_key: str | None = key(text)
    item_key: tuple[str, ...] = key(words, ())
    change_key: tuple[str, ...] = key(words, ())
    next_cursor_key: str | None = key(text)
    next_cursor_header: str | None = key(text)
    next_url_key: str | None = key(text)
    has_more_key: str | None = key(text)
    total_is_estimate: bool = key(flag, False)


@dataclass(frozen=True, slots=True, kw_only=True)
class FollowParams:
    page_number_param: str | None = key(text)
    page_size_param: str | None = key(text)
    page_size_limit: int = key(whole(1), 0)
    start_page: int = key(whole(), 1)
    count_skip_param: str | None = key(text)
    max_pages: int = key(whole(1), 1000)


@dataclass(frozen=True, slots=True, kw_only=True)
class FollowRule:
    """Section `follow`, or one of its `rules`."""

    name: str = key(text, "")
    follow_mode: str = key(choice("item", "url", "prefix", "drilldown"), "item", required=True)
    follow_http_mode: str = key(choice("GET", "POST"), "GET")
    follow_pattern: str | None = key(text)
    follow_data_key: str | None = key(text)
    follow_item_key: str | None = key(text)
    follow_param: str | None = key(text)
    follow_url_key: str | None = key(text)
    iterate_by: str | None = key(choice("page", "skip"))
    params: FollowParams = FollowParams()


@dataclass(frozen=True, slots=True, kw_only=True)
class Files:
    fetch_mode: str = key(choice("prefix", "id", "pattern"), "prefix", required=True)
    root_url: str = key(text, "")
    keys: tuple[str, ...] = key(words, (), required=True)
    storage_mode: str = key(choice("filepath", "id"), "filepath")
    file_storage_type: str = key(choice("zip", "filesystem"), "zip")
    default_ext: str | None = key(text)
    use_aria2: bool = key(flag, False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Storage:
    storage_type: str = key(
        choice("zip", "filesystem", "sqlite", "repository"), "zip", required=True
    )
    storage_path: str = key(text, "storage")
    compression: bool = key(flag, True)
    compression_level: int = key(whole(0, 9), 6)
    max_file_size: int = key(size, 0)
    split_files: bool = key(flag, False)
    keep_runs: int = key(whole(), 1)
    warc: bool = key(flag, False)
    repository: str | None = key(text)
    password_file: str | None = key(text)
    password_env: str | None = key(text)
    password_command: str | None = key(text)

    @property
    def level(self) -> int | None:
        """Of deflate; None: stored as it is."""
        return self.compression_level if self.compression else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Auth:
    """Each secret may come from the file itself, another file, the environment or a command."""

    type: str = key(choice("basic", "bearer", "apikey", "oauth2"), "", required=True)
    username: str | None = key(text)
    password: Secret | None = key(secret)
    password_file: str | None = key(text)
    password_env: str | None = key(text)
    password_command: str | None = key(text)
    token: Secret | None = key(secret)
    token_file: str | None = key(text)
    token_env: str | None = key(text)
    token_command: str | None = key(text)
    api_key: Secret | None = key(secret)
    api_key_file: str | None = key(text)
    api_key_env: str | None = key(text)
    api_key_command: str | None = key(text)
    api_key_header: str | None = key(text)
    api_key_param: str | None = key(text)
    auth_url: str | None = key(url)
    refresh_token: Secret | None = key(secret)
    refresh_token_file: str | None = key(text)
    refresh_token_env: str | None = key(text)
    refresh_token_command: str | None = key(text)
    client_id: str | None = key(text)
    client_secret: Secret | None = key(secret)
    client_secret_file: str | None = key(text)
    client_secret_env: str | None = key(text)
    client_secret_command: str | None = key(text)
    scope: str | None = key(text)
    grant_type: str | None = key(choice("refresh_token", "client_credentials"))


@dataclass(frozen=True, slots=True, kw_only=True)
class RateLimit:
    enabled: bool = key(flag, True)
    requests_per_second: float = key(number(), 0.0)
    requests_per_minute: int = key(whole(), 0)
    requests_per_hour: int = key(whole(), 0)
    burst_size: int = key(whole(1), 5)


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    max_retries: int | None = key(whole())
    backoff_strategy: str | None = key(choice("fixed", "exponential"))
    initial_delay: float | None = key(number())
    max_delay: float | None = key(number())
    max_wait: float = key(number(), 3600.0)
    retry_on_status: tuple[int, ...] = key(statuses, ())


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestOptions:
    """Section `request`."""

    timeout: float = key(number(), 120.0)
    connect_timeout: float = key(number(), 30.0)
    read_timeout: float = key(number(), 120.0)
    verify_ssl: bool | str = key(verify, True)
    user_agent: str | None = key(text)
    max_redirects: int = key(whole(), 5)
    allow_redirects: bool = key(flag, True)
    proxies: dict[str, str] = key(proxies, {})
    parallelism: int | None = key(whole(1, 256))
    retry: RetryPolicy = RetryPolicy()
    retry_max_retries: int | None = key(whole())
    retry_backoff_strategy: str | None = key(choice("fixed", "exponential"))
    retry_initial_delay: float | None = key(number())
    retry_max_delay: float | None = key(number())
    retry_on_status: tuple[int, ...] = key(statuses, ())


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorHandling:
    retry_on_errors: tuple[int, ...] = key(statuses, ())
    max_consecutive_errors: int = key(whole(), 10)
    continue_on_error: bool = key(flag, True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Hooks:
    before_run: str | None = key(text)
    before_request: str | None = key(text)
    after_response: str | None = key(text)
    after_page: str | None = key(text)
    after_run: str | None = key(text)
    timeout: float = key(number(), 30.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Code:
    postfetch: str | None = key(text)
    follow: str | None = key(text)


@dataclass(frozen=True, slots=True, kw_only=True)
class Logging:
    level: str = key(choice("DEBUG", "INFO", "WARNING", "ERROR"), "INFO")
