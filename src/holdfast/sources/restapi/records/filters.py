"""Which records an export takes, and which of their fields: one comparison, and paths."""

from __future__ import annotations

import operator
import re
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

_NUMBER = re.compile(r"^[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?$")
OPERATORS: Final = {word: word for word in ("==", "!=", "<", "<=", ">", ">=")} | {"=": "=="}
"""As they may be written, and what they are."""
_COMPARISONS: Final[dict[str, Callable[[Any, Any], bool]]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "<": operator.lt,
    ">": operator.gt,
}
_WORDS: Final[dict[str, object]] = {"true": True, "false": False, "null": None, "none": None}


@dataclass(frozen=True, slots=True)
class Condition:
    """One comparison. How it compares depends on what the record holds, not on how the condition is
    written: text with text, number with number, so that `inn == 7700000007` finds "7700000007".
    """

    path: tuple[str, ...]
    op: str
    text: str
    quoted: bool

    def accepts(self, record: Any) -> bool:
        """Whether any value at the path satisfies the comparison; a missing field equals null.

        `!=` accepts where no value is equal.
        """
        values = list(values_at(record, self.path)) or [None]
        match self.op:
            case "==":
                return any(self._equal(value) for value in values)
            case "!=":
                return not any(self._equal(value) for value in values)
            case _:
                return any(self._ordered(value) for value in values)

    def _equal(self, value: Any) -> bool:
        if isinstance(value, str):
            return value == self.text
        if self.quoted:
            return False
        if value is None or isinstance(value, bool):
            word = self.text.lower()
            return word in _WORDS and _WORDS[word] is value
        number = _number(self.text)
        return number is not None and isinstance(value, int | float) and _exact(value) == number

    def _ordered(self, value: Any) -> bool:
        compare = _COMPARISONS[self.op]
        number = None if self.quoted else _number(self.text)
        if isinstance(value, bool) or value is None:
            return False
        if isinstance(value, int | float):
            return number is not None and compare(_exact(value), number)
        if not isinstance(value, str):
            return False
        held = _number(value)
        if number is not None and held is not None:
            return compare(held, number)
        return compare(value, self.text)


def split_key(key: str, splitter: str = ".") -> tuple[str, ...]:
    return tuple(part.strip() for part in key.split(splitter)) if splitter else (key,)


def values_at(value: Any, path: Sequence[str]) -> Iterator[Any]:
    """Every value at a path; lists on the way and at the end are gone through one by one."""
    if isinstance(value, list):
        for member in value:
            yield from values_at(member, path)
    elif not path:
        yield value
    elif isinstance(value, dict):
        if path[0] in value:
            yield from values_at(value[path[0]], path[1:])
        elif len(path) > 1 and (whole := ".".join(path)) in value:
            yield from values_at(value[whole], ())


def pick(record: Any, fields: dict[str, tuple[str, ...]]) -> dict[str, Any]:
    """A flat record of the fields asked for, by the names they were asked by; absent ones are null.

    A path that leads through a list gives the list of what is found there.
    """
    return {name: _pick_one(record, path) for name, path in fields.items()}


def _pick_one(value: Any, path: tuple[str, ...]) -> Any:
    for at, part in enumerate(path):
        if isinstance(value, list):
            return list(values_at(value, path[at:]))
        if not isinstance(value, dict):
            return None
        if part not in value:
            return value.get(".".join(path[at:]))
        value = value[part]
    return value


def _number(text: str) -> Decimal | None:
    if not _NUMBER.match(text.strip()):
        return None
    try:
        return Decimal(text.strip())
    except InvalidOperation:
        return None


def _exact(value: float) -> Decimal:
    """A float stands for the shortest text that means it: 0.1 is 0.1, not its binary neighbour."""
    return Decimal(repr(value)) if isinstance(value, float) else Decimal(value)
