"""Fields: what one value of a settings-like noun may be, said once. From it come the validation of
what is given, the types by which lists are filtered, and the description of an interface.

Times are nanoseconds since 1970, as everywhere; outside they are ISO 8601, and without a zone they
are in this machine's.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from holdfast.core.errors import InvalidError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_MICROSECOND = 1_000
_SECOND = 1_000_000_000
_CLOCK = re.compile(r"([01]\d|2[0-3]):[0-5]\d:[0-5]\d")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_CONTROL_IN_LINES = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_NO_CHARACTER = re.compile("[\x00\ud800-\udfff]")
LARGEST = (1 << 63) - 1
MOST_NUMBERS = 1000


class Kind(StrEnum):
    NUMBER = "integer"
    SHARE = "number"
    TEXT = "string"
    FLAG = "boolean"
    TIME = "time"
    CLOCK = "time of day"
    """HH:MM:SS"""
    REFERENCE = "reference"
    """the name of a row of another noun; its number is taken, too"""
    NUMBERS = "integers"
    """numbers of rows, at least one"""
    NAMES = "names"
    """a list of texts, which is only read"""


class RefusedError(Exception):
    """A value that cannot be: a code for programs, a sentence for people."""

    def __init__(self, code: str, sentence: str) -> None:
        super().__init__(sentence)
        self.code = code
        self.sentence = sentence


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    name: str
    kind: Kind = Kind.TEXT
    meaning: str = ""
    default: Any = None
    """what it is where nothing is given; None: it must be given"""
    choices: tuple[str, ...] = ()
    refers: str = ""
    """the noun of a reference"""
    least: int = 0
    most: int = LARGEST
    """of numbers; of texts, their length"""
    fixed: bool = False
    """can be given once"""
    read_only: bool = False
    secret: bool = False
    """is never shown"""
    lines: bool = False
    """a text of several lines"""

    @property
    def needed(self) -> bool:
        return self.default is None and not self.read_only

    def value_of(self, given: Any) -> Any:
        """What was given in JSON as the value that is kept; a reference stays a name or a number.

        Raises:
            RefusedError
        """
        return _READERS[self.kind](self, given)

    def value_in(self, text: str) -> Any:
        """The same of a text to compare with.

        Raises:
            RefusedError
        """
        if self.kind is Kind.NUMBER:
            return _whole(text)
        if self.kind is Kind.SHARE:
            return _share(text)
        if self.kind is Kind.FLAG:
            if text.lower() not in {"true", "false"}:
                raise RefusedError("type", "Compare it with true or false.")
            return text.lower() == "true"
        if self.kind is Kind.TIME:
            return moment(text)
        return text

    def shown(self, value: Any) -> Any:
        """As JSON has it."""
        return iso(value) if self.kind is Kind.TIME and value is not None else value


# --- reading --------------------------------------------------------------------------------------


def _read_number(field: Field, given: Any) -> int:
    if isinstance(given, bool) or not isinstance(given, int):
        raise RefusedError("type", "Must be a whole number.")
    if not field.least <= given <= field.most:
        raise RefusedError("range", f"Must be from {field.least} to {field.most}.")
    return given


def _read_text(field: Field, given: Any) -> str:
    if not isinstance(given, str):
        raise RefusedError("type", "Must be a text.")
    if field.choices and given not in field.choices:
        raise RefusedError("choice", f"Must be one of: {', '.join(field.choices)}.")
    control = _CONTROL_IN_LINES if field.lines else _CONTROL
    if control.search(given) or not _is_unicode(given):
        raise RefusedError("characters", "Must not hold control characters.")
    if not field.least <= len(given) <= field.most:
        raise RefusedError("length", f"Must have {field.least} to {field.most} characters.")
    return given


def _read_flag(_field: Field, given: Any) -> bool:
    if not isinstance(given, bool):
        raise RefusedError("type", "Must be true or false.")
    return given


def _read_time(_field: Field, given: Any) -> int:
    if not isinstance(given, str):
        raise RefusedError("type", "Must be a time as a text.")
    return moment(given)


def _read_clock(_field: Field, given: Any) -> str:
    if not isinstance(given, str) or not _CLOCK.fullmatch(given):
        raise RefusedError("type", "Must be a time of day as HH:MM:SS.")
    return given


def _read_reference(_field: Field, given: Any) -> str | int:
    if isinstance(given, bool) or not isinstance(given, str | int):
        raise RefusedError("type", "Must be a name or a number.")
    if given == "":
        raise RefusedError("required", "Must be given.")
    if isinstance(given, str) and not _is_unicode(given):
        raise RefusedError("unknown", "There is none of that name.")
    return given


def _read_numbers(_field: Field, given: Any) -> list[int]:
    if not isinstance(given, list) or not 1 <= len(given) <= MOST_NUMBERS:
        raise RefusedError("type", f"Must be a list of 1 to {MOST_NUMBERS} numbers.")
    if any(isinstance(each, bool) or not isinstance(each, int) for each in given):
        raise RefusedError("type", "Must be a list of whole numbers.")
    return [max(-1, min(each, LARGEST)) for each in given]


def _read_nothing(_field: Field, _given: Any) -> Any:
    raise RefusedError("fixed", "Cannot be set.")


_READERS = {
    Kind.NUMBER: _read_number,
    Kind.SHARE: _read_nothing,
    Kind.TEXT: _read_text,
    Kind.FLAG: _read_flag,
    Kind.TIME: _read_time,
    Kind.CLOCK: _read_clock,
    Kind.REFERENCE: _read_reference,
    Kind.NUMBERS: _read_numbers,
    Kind.NAMES: _read_nothing,
}


def _whole(text: str) -> int:
    if not re.fullmatch(r"-?\d{1,19}", text, re.ASCII) or abs(int(text)) > LARGEST:
        raise RefusedError("type", "Compare it with a whole number.")
    return int(text)


def _share(text: str) -> float:
    if not re.fullmatch(r"-?\d{1,15}(\.\d{1,15})?", text, re.ASCII):
        raise RefusedError("type", "Compare it with a number.")
    return float(text)


def _is_unicode(text: str) -> bool:
    """Half a character, which JSON can name, is none that a database takes."""
    return not _NO_CHARACTER.search(text)


# --- times ----------------------------------------------------------------------------------------


def moment(text: str) -> int:
    """Nanoseconds. Raises RefusedError."""
    try:
        parsed = datetime.fromisoformat(text)
        micros = (parsed.astimezone(UTC) - datetime(1970, 1, 1, tzinfo=UTC)) // _STEP
    except (ValueError, OverflowError, OSError):
        raise RefusedError("type", "Must be a time as in 2024-08-19T19:20:28+03:00.") from None
    return micros * _MICROSECOND


def iso(nanoseconds: int) -> str:
    """With the offset of this machine's zone."""
    seconds, rest = divmod(nanoseconds, _SECOND)
    local = datetime.fromtimestamp(seconds, UTC).astimezone()
    return local.replace(microsecond=rest // _MICROSECOND).isoformat(timespec="microseconds")


_STEP = datetime.resolution


# --- several --------------------------------------------------------------------------------------


def read(
    fields: Iterable[Field], given: Mapping[str, Any], *, what: str, partial: bool = False
) -> dict[str, Any]:
    """What was given, as values; where it is not `partial`, all of them, with what is taken where
    nothing is given.

    Raises:
        InvalidError: by field, all at once.
    """
    wrong: dict[str, tuple[str, str]] = {}
    values: dict[str, Any] = {}
    writable = [each for each in fields if not each.read_only]
    for field in writable:
        try:
            if field.name in given:
                values[field.name] = field.value_of(given[field.name])
            elif not partial and field.needed:
                wrong[field.name] = ("required", "Must be given.")
            elif not partial:
                values[field.name] = field.default
        except RefusedError as error:
            wrong[field.name] = (error.code, error.sentence)
    for name in given.keys() - {each.name for each in writable}:
        wrong[name] = ("unknown", "There is no such field, or it cannot be set.")
    refuse(what, wrong)
    return values


def refuse(what: str, wrong: dict[str, tuple[str, str]]) -> None:
    """Raises InvalidError where anything is wrong."""
    if wrong:
        raise InvalidError(f"the {what} cannot be like that", fields=wrong)


@dataclass(frozen=True, slots=True)
class Condition:
    """`field` `operator` `text`; operators are = ~ (contains) < and >."""

    field: str
    operator: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """Which rows of a list, in which order. Rows of equal rank come by number."""

    sort: str = "id"
    descending: bool = False
    conditions: tuple[Condition, ...] = ()
    limit: int | None = None
    offset: int = 0


@dataclass(frozen=True, slots=True)
class Page:
    """`rows`: by the names of fields. `total`: how many there are without the limit."""

    rows: list[Mapping[str, Any]]
    total: int
