"""Secrets stay out of everything that is kept or shown."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, quote, quote_plus, urlencode, urlsplit, urlunsplit

from holdfast.core.secret import without_password

if TYPE_CHECKING:
    from collections.abc import Iterable

STARS = "***"
_SHORTEST = 6
"""Shorter values are too likely to be data to be searched for everywhere."""
_SENSITIVE = re.compile(
    r"(?i)(^|[^a-z])(authorization|cookie|passw(or)?d|pwd|secret|token|api[-_]?key|access[-_]?key|"
    r"client[-_]?secret|credential|sig|signature|session(id)?|sid|key)($|[^a-z])"
)
_NEVER = {"page_token", "next_token", "nexttoken", "pagetoken", "continuation_token"}


class Redactor:
    """Knows the values that must not be seen, however they are written."""

    def __init__(self, values: Iterable[str] = ()) -> None:
        self._values: list[str] = []
        for value in values:
            self.learn(value)

    def learn(self, value: str) -> None:
        """From now on this value is never shown."""
        for form in {value, quote(value, safe=""), quote_plus(value)}:
            if len(form) >= _SHORTEST and form not in self._values:
                self._values.append(form)
        self._values.sort(key=len, reverse=True)

    def text(self, text: str) -> str:
        for value in self._values:
            text = text.replace(value, STARS)
        return text

    def body(self, body: bytes) -> bytes:
        """The same object where there is nothing to hide."""
        for value in self._values:
            raw = value.encode()
            if raw in body:
                body = body.replace(raw, STARS.encode())
        return body

    def url(self, url: str) -> str:
        """Without user, password, and the values of parameters that sound secret."""
        try:
            parts = urlsplit(url)
            parts.port  # noqa: B018 - one that is none means that the rest is misread
        except ValueError:
            return self.text(without_password(url))
        place = parts.netloc.rpartition("@")[2]
        if parts.query:
            pairs = parse_qsl(parts.query, keep_blank_values=True)
            if any(sensitive(name) for name, _ in pairs):
                hidden = [(name, STARS if sensitive(name) else value) for name, value in pairs]
                parts = parts._replace(query=urlencode(hidden, safe="*{}"))
        return self.text(urlunsplit(parts._replace(netloc=place)))

    def headers(self, headers: Iterable[tuple[str, str]]) -> list[list[str]]:
        return [[name, STARS if sensitive(name) else self.text(value)] for name, value in headers]

    def tree(self, value: Any) -> Any:
        """A JSON document with all hidden that is or sounds secret. Any: JSON."""
        if isinstance(value, dict):
            return {
                name: STARS if sensitive(name) and part is not None else self.tree(part)
                for name, part in value.items()
            }
        if isinstance(value, list):
            return [self.tree(part) for part in value]
        return self.text(value) if isinstance(value, str) else value


def public_url(url: str) -> str:
    """An address as the project file has it, without what sounds secret in it."""
    return Redactor().url(url)


def holds_secret(url: str) -> bool:
    """Whether a parameter of an address sounds secret."""
    return any(sensitive(name) for name, _ in parse_qsl(urlsplit(url).query))


def sensitive(name: str) -> bool:
    """Whether a header or parameter of that name carries a secret."""
    return name.lower() not in _NEVER and _SENSITIVE.search(name) is not None
