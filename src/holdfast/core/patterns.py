r"""restic's pattern language for paths: what --exclude, --include and `find` are given.

- A pattern is matched component by component. `*`, `?`, `[a-z]`, `[^a]` and `\` mean what they
  mean to Go's filepath.Match and never cross a slash; a leading dot is nothing special.
- `**` as a whole component stands for any number of components, none included.
- A pattern with a leading slash starts at the root; any other may start at any component.
- A pattern that matches a directory matches all below it.
- With `!` in front it takes back what patterns before it matched; the last one that matches wins.

Paths are bytes, as the file system has them: a byte that is no UTF-8 counts as one character.
"""

from __future__ import annotations

import posixpath
import re
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from holdfast.core.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

_SPECIAL = frozenset("\\[]*?")
_END = r"(?=/|\Z)"
_ANY_COMPONENTS = r"(?:/[^/]+)*"
_NOTHING = r"(?!)"


class Patterns:
    """A list of patterns, in the order given; empty ones are left out.

    `ignore_case` compares letters without regard to case, as --iexclude does.

    Raises:
        UsageError: some are malformed; the message names them all.
    """

    def __init__(self, patterns: Sequence[str], *, ignore_case: bool = False) -> None:
        self._ignore_case = ignore_case
        self._rules = _parse([_fold(p) if ignore_case else p for p in patterns])
        self._ordered = any(rule.negated for rule in self._rules)

    def __bool__(self) -> bool:
        return bool(self._rules)

    def matches(self, path: bytes) -> bool:
        """Whether an absolute path, or anything above it, is matched."""
        text = self._text(path)
        if not self._ordered:
            return bool(self._rooted.match(text) or self._anywhere.search(text))
        matched = False
        for rule in self._rules:
            if matched == rule.negated and rule.regex.search(text):
                matched = not matched
        return matched

    def matches_last(self, path: bytes, name: bytes) -> bool:
        """As `matches`, where the caller knows that the parent of `path` is not matched.

        Most patterns then need to see only `name`, the last component: this is what a walk asks
        for every file.
        """
        if self._ordered:
            return self.matches(path)
        if self._ignore_case:
            name = _fold_bytes(name)
        if name in self._names or name.endswith(self._endings):
            return True
        if self._globs is not None and self._globs.match(_decode(name)):
            return True
        if not self._has_paths:
            return False
        text = self._text(path)
        return bool(self._rooted.match(text) or self._floating.search(text))

    def covers(self, path: bytes) -> bool:
        """Whether everything below `path` is matched, whatever it may be."""
        return not self._ordered and self.matches(path)

    def may_match_below(self, path: bytes) -> bool:
        """Whether something below a directory can match, so that looking there is worth it."""
        components = self._text(path).split("/")[1:] if path != b"/" else []
        possible = False
        for rule in self._rules:
            if not rule.negated:
                possible = possible or rule.may_match_below(components)
            elif possible:
                possible = not rule.regex.search(self._text(path))
        return possible

    def _text(self, path: bytes) -> str:
        text = _decode(path)
        return _fold(text) if self._ignore_case else text

    @cached_property
    def _names(self) -> frozenset[bytes]:
        """Patterns that are plain names."""
        return frozenset(_encode(rule.components[0]) for rule in self._rules if rule.is_plain_name)

    @cached_property
    def _endings(self) -> tuple[bytes, ...]:
        """Patterns like *.o, without the star: the most frequent of all."""
        return tuple(_encode(rule.components[0][1:]) for rule in self._rules if rule.is_ending)

    @cached_property
    def _globs(self) -> re.Pattern[str] | None:
        """All other patterns for a single name."""
        others = [
            _translate(rule.components[0]) + r"\Z"
            for rule in self._rules
            if rule.is_name and not rule.is_plain_name and not rule.is_ending
        ]
        return _any_of(others) if others else None

    @cached_property
    def _has_paths(self) -> bool:
        return not all(rule.is_name for rule in self._rules)

    @cached_property
    def _rooted(self) -> re.Pattern[str]:
        return _any_of([rule.source for rule in self._rules if rule.rooted])

    @cached_property
    def _floating(self) -> re.Pattern[str]:
        """Patterns for several components that may begin anywhere."""
        return _any_of([r.source for r in self._rules if not r.rooted and not r.is_name])

    @cached_property
    def _anywhere(self) -> re.Pattern[str]:
        return _any_of([rule.source for rule in self._rules if not rule.rooted])


@dataclass(frozen=True)
class _Rule:
    """One pattern. `components` is without the leading slash; "" is `**`."""

    negated: bool
    rooted: bool
    components: tuple[str, ...]

    @property
    def is_name(self) -> bool:
        """Whether it speaks of a single component that may be anywhere."""
        return not self.rooted and len(self.components) == 1 and self.components[0] != ""

    @property
    def is_plain_name(self) -> bool:
        return self.is_name and not _SPECIAL.intersection(self.components[0])

    @property
    def is_ending(self) -> bool:
        name = self.components[0]
        return self.is_name and name[0] == "*" and not _SPECIAL.intersection(name[1:])

    @cached_property
    def source(self) -> str:
        """Regular expression to search for in a path."""
        anchor = r"\A" if self.rooted else ""
        return anchor + "".join(_groups(self.components)) + _END

    @cached_property
    def regex(self) -> re.Pattern[str]:
        return re.compile(self.source)

    @cached_property
    def _tests(self) -> list[Callable[[str], object]]:
        """For each component up to the first `**`, whether a name is what it asks for."""
        end = self.components.index("") if "" in self.components else len(self.components)
        return [re.compile(_translate(part)).fullmatch for part in self.components[:end]]

    def may_match_below(self, components: Sequence[str]) -> bool:
        if not self.rooted:
            return True
        return all(test(name) for test, name in zip(self._tests, components, strict=False))


def name_test(pattern: str) -> Callable[[bytes], bool]:
    """A test whether a single name is matched by a pattern without slashes.

    Raises:
        UsageError: it is malformed.
    """
    _parse([pattern])
    regex = re.compile(_translate(pattern))
    return lambda name: regex.fullmatch(_decode(name)) is not None


def _parse(patterns: Sequence[str]) -> list[_Rule]:
    rules = []
    malformed = []
    for pattern in patterns:
        if not pattern:
            continue
        rule = _rule(pattern)
        try:
            for component in rule.components:
                _translate(component)
        except ValueError:
            malformed.append(pattern)
        rules.append(rule)
    if malformed:
        raise UsageError(
            f"malformed pattern: {', '.join(map(repr, malformed))}",
            remedy="Close every [ with ], and let no pattern end in \\. A bracket itself is \\[.",
        )
    return rules


def _rule(pattern: str) -> _Rule:
    negated = pattern.startswith("!")
    cleaned = posixpath.normpath(pattern[negated:])
    components = cleaned.lstrip("/").split("/")
    return _Rule(
        negated,
        cleaned.startswith("/"),
        tuple("" if component == "**" else component for component in components),
    )


def _groups(components: Sequence[str]) -> list[str]:
    """A regular expression for each run of components between two `**`.

    A run after a `**` is sought at its first place only. That is enough, since a match need not
    reach the end of the path; the atomic group keeps the search linear.
    """
    runs: list[list[str]] = [[]]
    for component in components:
        if component:
            runs[-1].append("/" + _translate(component))
        else:
            runs.append([])
    groups = ["".join(runs[0])]
    groups += [f"(?>{_ANY_COMPONENTS}?{''.join(run)}{_END})" for run in runs[1:] if run]
    return groups


def _translate(component: str) -> str:
    """Regular expression for one component; what follows it must be a slash or the end.

    As in filepath.Match each `*` ends at the first place where what is between it and the next one
    fits, so that several of them do not multiply.

    Raises:
        ValueError: malformed.
    """
    pieces = [""]  # between the stars
    position = 0
    while position < len(component):
        char = component[position]
        position += 1
        if char == "*":
            pieces.append("")
        elif char == "?":
            pieces[-1] += "[^/]"
        elif char == "[":
            piece, position = _translate_class(component, position)
            pieces[-1] += piece
        elif char == "\\":
            if position == len(component):
                raise ValueError(component)
            pieces[-1] += re.escape(component[position])
            position += 1
        else:
            pieces[-1] += re.escape(char)
    first, *middle = pieces
    if not middle:
        return first
    last = middle.pop()
    fixed = [f"(?>[^/]*?{piece})" for piece in middle if piece]
    tail = f"[^/]*?{last}{_END}" if last else "[^/]*"
    return first + "".join(fixed) + tail


def _translate_class(component: str, position: int) -> tuple[str, int]:
    """Regular expression for a class whose `[` is before `position`; the position after it."""
    negated = component.startswith("^", position)
    position += negated
    ranges = []
    first = True
    while first or not component.startswith("]", position):
        first = False
        low, position = _class_char(component, position)
        high = low
        if component.startswith("-", position):
            high, position = _class_char(component, position + 1)
        if low <= high:
            ranges.append(f"{re.escape(low)}-{re.escape(high)}")
    if negated:
        return f"[^/{''.join(ranges)}]", position + 1
    return f"(?!/)[{''.join(ranges)}]" if ranges else _NOTHING, position + 1


def _class_char(component: str, position: int) -> tuple[str, int]:
    """One character of a class, and the position after it. At least the `]` must follow."""
    if component[position : position + 1] in {"", "-", "]"}:
        raise ValueError(component)
    position += component[position] == "\\"
    if position + 1 >= len(component):
        raise ValueError(component)
    return component[position], position + 1


def _any_of(sources: Sequence[str]) -> re.Pattern[str]:
    return re.compile("|".join(sources) or _NOTHING)


def _decode(path: bytes) -> str:
    return path.decode("utf-8", "surrogateescape")


def _encode(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _fold(text: str) -> str:
    """Lower case, letter by letter as in Go: one character stays one."""
    return text.lower() if text.isascii() else "".join(char.lower()[0] for char in text)


def _fold_bytes(name: bytes) -> bytes:
    if name.isascii():
        return name.lower()
    return _encode(_fold(_decode(name)))


# --- pattern files --------------------------------------------------------------------------------

_VARIABLE = re.compile(r"\$(?:\{([^}]*)\}|(\{)|([*#$@!?0-9-]|[A-Za-z0-9_]+))")


def parse_pattern_file(content: bytes, environment: Mapping[str, str]) -> list[str]:
    """The patterns of a file as --exclude-file takes it.

    One a line; space around it is left out, lines that begin with `#` are comments. `$NAME` and
    `${NAME}` stand for variables of the environment (nothing where unset), `$$` for a dollar sign.
    """

    def expand(match: re.Match[str]) -> str:
        name = match[1] or match[3] or ""
        return "$" if name == "$" else environment.get(name, "")

    lines = (line.strip() for line in decode_text(content).split("\n"))
    return [_VARIABLE.sub(expand, line) for line in lines if line and not line.startswith("#")]


def decode_text(content: bytes) -> str:
    """The text of a file that a person wrote: UTF-8, or UTF-16 if it begins so.

    Bytes that are no UTF-8 are kept as surrogates.
    """
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        return content.decode("utf-16", "replace")
    return content.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "surrogateescape")
