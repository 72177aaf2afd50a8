"""The language of `--where`: comparisons joined by and, or, not and parentheses.

    clause     = every { "or" every }
    every      = single { "and" single }
    single     = "not" single | "(" clause ")" | field operator value

Fields and values are single words or stand between quotes. Whatever else is written is refused with
its place: a filter that guesses gives wrong records without a word.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NoReturn

from holdfast.core.errors import UsageError
from holdfast.sources.restapi.records.filters import OPERATORS, Condition, split_key

if TYPE_CHECKING:
    from collections.abc import Iterator

_TOKEN = re.compile(
    r"""\s*(?:(?P<quoted>"[^"]*"|'[^']*')|(?P<op>[<>=!]+)|(?P<bracket>[()])"""
    r"""|(?P<word>[^\s<>=!()"';]+)|(?P<stray>\S))"""
)
_JOINTS: Final = {"and", "or", "not"}
_DEEPEST: Final = 50
_REMEDY: Final = (
    "Write field, operator (== != < <= > >=) and value, such as amount >= 100, joined by and, or,"
    " not and parentheses. What has spaces or other signs in it goes between quotes."
)


@dataclass(frozen=True, slots=True)
class Every:
    parts: tuple[Clause, ...]

    def accepts(self, record: Any) -> bool:
        return all(part.accepts(record) for part in self.parts)


@dataclass(frozen=True, slots=True)
class Either:
    parts: tuple[Clause, ...]

    def accepts(self, record: Any) -> bool:
        return any(part.accepts(record) for part in self.parts)


@dataclass(frozen=True, slots=True)
class Unless:
    part: Clause

    def accepts(self, record: Any) -> bool:
        return not self.part.accepts(record)


Clause = Condition | Every | Either | Unless


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str
    place: int

    def says(self, word: str) -> bool:
        return self.kind in {"word", "bracket"} and self.text.lower() == word


def parse_where(expression: str, splitter: str = ".") -> Clause:
    """What a record must satisfy, by `accepts`.

    Raises:
        UsageError: it is not understood; the message names the place.
    """
    return _Reader(expression, splitter).whole()


class _Reader:
    def __init__(self, expression: str, splitter: str) -> None:
        self._expression = expression
        self._splitter = splitter
        self._tokens = list(_tokens(expression))
        self._at = 0
        self._depth = 0

    def whole(self) -> Clause:
        clause = self._clause()
        if self._now.kind != "end":
            self._refuse("and, or, or the end is expected")
        return clause

    @property
    def _now(self) -> _Token:
        return self._tokens[self._at]

    def _takes(self, word: str) -> bool:
        if not self._now.says(word):
            return False
        self._at += 1
        return True

    def _clause(self) -> Clause:
        parts = [self._every()]
        while self._takes("or"):
            parts.append(self._every())
        return parts[0] if len(parts) == 1 else Either(tuple(parts))

    def _every(self) -> Clause:
        parts = [self._single()]
        while self._takes("and"):
            parts.append(self._single())
        return parts[0] if len(parts) == 1 else Every(tuple(parts))

    def _single(self) -> Clause:
        self._depth += 1
        if self._depth > _DEEPEST:
            self._refuse(f"it is nested deeper than {_DEEPEST}")
        if self._takes("not"):
            clause: Clause = Unless(self._single())
        elif self._takes("("):
            clause = self._clause()
            if not self._takes(")"):
                self._refuse("a closing parenthesis is expected")
        else:
            clause = self._condition()
        self._depth -= 1
        return clause

    def _condition(self) -> Condition:
        field, _ = self._text("a field")
        if self._now.kind != "op" or self._now.text not in OPERATORS:
            self._refuse("one of == != < <= > >= is expected")
        op = OPERATORS[self._now.text]
        self._at += 1
        text, quoted = self._text("a value")
        return Condition(split_key(field, self._splitter), op, text, quoted)

    def _text(self, what: str) -> tuple[str, bool]:
        token = self._now
        if token.kind == "quoted":
            self._at += 1
            return token.text[1:-1], True
        if token.kind != "word" or token.text.lower() in _JOINTS:
            self._refuse(f"{what} is expected")
        self._at += 1
        return token.text, False

    def _refuse(self, why: str) -> NoReturn:
        token = self._now
        where = (
            "at its end" if token.kind == "end" else f"at {token.text!r} (character {token.place})"
        )
        raise UsageError(
            f"--where {self._expression.strip()!r} is not a condition: {where} {why}",
            remedy=_REMEDY,
        )


def _tokens(expression: str) -> Iterator[_Token]:
    """Characters are counted from 1."""
    text = expression.rstrip()
    for match in _TOKEN.finditer(text):
        kind = match.lastgroup or ""
        yield _Token(kind, match[kind], match.start(kind) + 1)
    yield _Token("end", "", len(text) + 1)
