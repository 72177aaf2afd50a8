"""What a project says about manners: how fast, how often again, over which way, and to whom
credentials may go.
"""

from __future__ import annotations

import email.utils
import random
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from holdfast import __version__
from holdfast.net.aio import ClientOptions
from holdfast.net.egress import OWN_MACHINE
from holdfast.net.pace import Limits
from holdfast.sources.restapi.project.sections import DEFAULT_RETRIES

if TYPE_CHECKING:
    from holdfast.net.egress import Egress
    from holdfast.sources.restapi.project.project import Project

_LONGEST = 300.0
"""Seconds that a request on somebody's behalf may take."""
_LARGEST = 64 << 20
"""Bytes that an answer to such a request may have."""
_TRANSIENT = frozenset({408, 425, 429, 500, 502, 503, 504})
_ANSWERS = {401, 404, 410, 416}
"""They say something that asking again does not change: who asks, or that there is no more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Retrying:
    """When a failed request is tried again. Seconds."""

    tries: int = DEFAULT_RETRIES
    first: float = 0.5
    longest: float = 60.0
    patience: float = 3600.0
    """The longest wait that an API may ask for."""
    growing: bool = True
    statuses: frozenset[int] = _TRANSIENT

    def delay(self, failures: int) -> float:
        """Before the next try, with jitter so that many do not come back together."""
        whole = self.first * 2 ** (failures - 1) if self.growing else self.first
        whole = min(whole, self.longest)
        return whole * random.uniform(0.5, 1.0)  # noqa: S311 - spread, not secrecy


def trusted_origins(project: Project) -> frozenset[str]:
    """The hosts that the project itself names."""
    patterns = [rule.follow_pattern for rule in project.follow]
    root = project.files.root_url if project.files else None
    return frozenset(origin(url) for url in (project.source.url, root, *patterns) if url)


def origin(url: str) -> str:
    """Scheme, host and port of an address."""
    parts = urlsplit(url)
    default = {"http": 80, "https": 443}.get(parts.scheme.lower())
    try:
        port = parts.port or default
    except ValueError:
        port = None
    return f"{parts.scheme.lower()}://{(parts.hostname or '').lower()}:{port}"


def client_options(
    project: Project, *, connections: int, egress: Egress = OWN_MACHINE
) -> ClientOptions:
    """Of all that a project says about its requests. Under a policy, which means that somebody
    else has written the project, what one request may take is bounded, too.
    """
    options = project.request
    verify = options.verify_ssl
    bounds: dict[str, Any] = {"timeout": options.timeout}
    if egress != OWN_MACHINE:
        bounds = {
            "timeout": min(options.timeout or _LONGEST, _LONGEST),
            "largest_body": _LARGEST,
        }
    return ClientOptions(
        **bounds,
        egress=egress,
        connect_timeout=options.connect_timeout,
        read_timeout=options.read_timeout,
        verify=verify if isinstance(verify, bool) else project.folder / verify,
        proxies=options.proxies,
        user_agent=options.user_agent or f"holdfast/{__version__}",
        max_redirects=options.max_redirects,
        allow_redirects=options.allow_redirects,
        connections=connections,
    )


def limits_of(project: Project) -> Limits:
    """The rate limits, and `default_delay` as the pause that it makes between requests."""
    rate = project.rate_limit
    delay = project.source.default_delay or 0.0
    spacing = delay / (project.request.parallelism or 1)
    if not rate.enabled:
        return Limits(spacing=spacing)
    return Limits(
        per_second=rate.requests_per_second,
        burst=rate.burst_size,
        per_minute=rate.requests_per_minute,
        per_hour=rate.requests_per_hour,
        spacing=spacing,
    )


def retrying_of(project: Project) -> Retrying:
    """The retry keys in the order of their precision: request.retry, request.retry_*,
    project.retry_*.
    """
    request, nested = project.request, project.request.retry
    tries = _first(nested.max_retries, request.retry_max_retries, project.source.retry_count)
    first = _first(nested.initial_delay, request.retry_initial_delay, project.source.retry_delay)
    strategy = nested.backoff_strategy or request.retry_backoff_strategy
    more = {*nested.retry_on_status, *request.retry_on_status, *project.errors.retry_on_errors}
    if project.source.force_retry:
        more |= set(range(400, 600)) - _ANSWERS
    plain = Retrying()
    return Retrying(
        tries=int(plain.tries if tries is None else tries),
        first=plain.first if first is None else first,
        longest=_first(nested.max_delay, request.retry_max_delay) or plain.longest,
        patience=nested.max_wait,
        growing=strategy != "fixed",
        statuses=_TRANSIENT | more,
    )


def retry_after(value: str | None) -> float | None:
    """Seconds that a Retry-After header asks for, given as seconds or as a date."""
    if not value:
        return None
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        when = email.utils.parsedate_to_datetime(value)
    except ValueError:
        return None
    if when.tzinfo is None:
        when = when.replace(tzinfo=UTC)
    return max(0.0, (when - datetime.now(UTC)).total_seconds())


def _first(*values: float | None) -> float | None:
    return next((value for value in values if value is not None), None)
