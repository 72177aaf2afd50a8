"""What a module of sources can be told: typed settings that describe themselves.

The settings of a module are a frozen dataclass whose fields are made by `described`. The table that
people and faces see, and the check of what they give, are read from that one class.
"""

from __future__ import annotations

import difflib
from dataclasses import MISSING, dataclass, field, fields
from typing import TYPE_CHECKING, Any, TypeVar

from holdfast.core.errors import InvalidError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

Value = bool | int | str | tuple[str, ...]
T = TypeVar("T")
_DETAILS = "parameter"
_WORDS = {bool: "bool", int: "int", str: "string", tuple: "list"}
_YES, _NO = ("true", "yes", "on", "1"), ("false", "no", "off", "0")


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """One thing a module can be told."""

    name: str
    kind: str
    """bool, int, string, or list (of texts)."""
    default: Value
    meaning: str
    choices: tuple[str, ...] = ()
    """The values a string may have; any where there are none."""
    least: int | None = None
    only: str = ""
    """Why no other value than the default is possible; empty where others are."""
    runs: bool = False
    """Its value is a command that is run on this machine."""


@dataclass(frozen=True, slots=True)
class _Details:
    meaning: str
    choices: tuple[str, ...]
    least: int | None
    only: str
    runs: bool


def described(
    default: Value,
    meaning: str,
    *,
    choices: tuple[str, ...] = (),
    least: int | None = 0,
    only: str = "",
    runs: bool = False,
) -> Any:
    """A field of settings. `least`: the smallest number; see `Parameter` for the rest."""
    details = _Details(meaning, choices, least, only, runs)
    return field(default=default, metadata={_DETAILS: details})


def parameters_of(settings: type) -> tuple[Parameter, ...]:
    """The table of a settings class, in the order of its fields."""
    found = []
    for each in fields(settings):
        details: _Details = each.metadata[_DETAILS]
        assert each.default is not MISSING
        kind = type(each.default)
        found.append(
            Parameter(
                name=each.name,
                kind=_WORDS[kind],
                default=each.default,
                meaning=details.meaning,
                choices=details.choices,
                least=details.least if kind is int else None,
                only=details.only,
                runs=details.runs,
            )
        )
    return tuple(found)


def read_settings(settings: type[T], given: Mapping[str, object]) -> T:
    """Settings with what was given, checked as a whole. Raises InvalidError as `checked`."""
    return settings(**checked(parameters_of(settings), given))


def checked(parameters: Iterable[Parameter], given: Mapping[str, object]) -> dict[str, Value]:
    """The values that were given, each of its type.

    Raises:
        InvalidError: with every name that is unknown and every value that cannot be.
    """
    table = {each.name: each for each in parameters}
    values: dict[str, Value] = {}
    wrong: dict[str, tuple[str, str]] = {}
    for name, value in given.items():
        parameter = table.get(name)
        if parameter is None:
            wrong[name] = ("unknown", f"There is no such parameter{closest(name, table)}.")
            continue
        try:
            values[name] = _value(parameter, value)
        except ValueError as error:
            wrong[name] = ("wrong", str(error))
    if wrong:
        sentence = "; ".join(f"{name}: {text}" for name, (_, text) in wrong.items())
        raise InvalidError(sentence, fields=wrong)
    return values


def closest(word: str, known: Iterable[str]) -> str:
    """The end of a sentence: what was meant, or what there is."""
    names = list(known)
    near = difflib.get_close_matches(word, names, n=1, cutoff=0.5)
    if near:
        return f"; did you mean {near[0]}?"[:-1]
    return f"; known are {', '.join(names)}" if names else "; there are none"


def _value(parameter: Parameter, value: object) -> Value:
    """Raises ValueError with a sentence."""
    found = _typed(parameter, value)
    if parameter.only and found != parameter.default:
        raise ValueError(f"Must be {_shown(parameter.default)}: {parameter.only}")
    if parameter.choices and found not in parameter.choices:
        raise ValueError(f"Must be {' or '.join(parameter.choices)}.")
    if parameter.least is not None and isinstance(found, int) and found < parameter.least:
        raise ValueError(f"Must be {parameter.least} or more.")
    if any("\0" in text for text in ((found,) if isinstance(found, str) else _texts(found))):
        raise ValueError("Must not have a NUL.")
    return found


def _typed(parameter: Parameter, value: object) -> Value:
    if parameter.kind == "bool":
        if isinstance(value, bool):
            return value
        if isinstance(value, str) and value.lower() in _YES + _NO:
            return value.lower() in _YES
        raise ValueError("Must be true or false.")
    if parameter.kind == "int":
        if isinstance(value, int) and not isinstance(value, bool):
            return value
        if isinstance(value, str) and value.removeprefix("-").isdecimal() and value.isascii():
            return int(value)
        raise ValueError("Must be a whole number.")
    if parameter.kind == "list":
        items = [value] if isinstance(value, str) else value
        if isinstance(items, list | tuple) and all(isinstance(each, str) for each in items):
            return tuple(items)
        raise ValueError("Must be a list of texts.")
    if isinstance(value, str):
        return value
    raise ValueError("Must be text.")


def _texts(value: Value) -> tuple[str, ...]:
    return value if isinstance(value, tuple) else ()


def _shown(value: Value) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) or "empty"


@dataclass(frozen=True, slots=True, kw_only=True)
class CommonSettings:
    """What the work of every module can be told (RuBackup: `common_modules_extensions`)."""

    worker_parallelism: int = described(
        8, "Processes that hash, compress and encrypt; never more than there are cores.", least=1
    )
    enable_multithreading: bool = described(
        default=True, meaning="Work in several processes; if not, in one."
    )
    enable_flexible_dedup: bool = described(
        default=False,
        meaning="Blocks of varying length.",
        only="blocks are cut by their content, always; there is nothing to switch.",
    )
    network_parallelism: int = described(8, "Connections to the pool at a time.", least=1)
    memory_threshold: int = described(0, "GiB of memory that the work may take; any where 0.")
    deny_memory_exceed: bool = described(
        default=False, meaning="End the work as failed where it takes more memory than that."
    )
