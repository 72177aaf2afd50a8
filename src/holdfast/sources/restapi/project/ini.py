"""INI files as apibackuper's users write them, with the line of every value.

Unlike the standard library's parser: a comment after a value is no part of it, every mistake is
reported and not only the
first, and a single percent sign is itself (a doubled one too is one, as those files had to write
it).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_SECTION = re.compile(r"\[(?P<name>[^\]]+)\]\s*(?:[#;].*)?")
_OPTION = re.compile(r"(?P<key>[^:=\s][^:=]*?)\s*[:=]\s*(?P<value>.*)")
_REFERENCE = re.compile(r"%\((?P<key>[^)]+)\)s")
_DEFAULT = "DEFAULT"


@dataclass(frozen=True, slots=True)
class Written:
    """A value as it stands in a file, with the number of its line, from 1."""

    value: object
    line: int


@dataclass(frozen=True, slots=True)
class Mistake:
    """Something wrong in a file. `line` is 0 where nothing stands at any line, as with a missing
    key.
    """

    line: int
    text: str


Sections = dict[str, dict[str, Written]]


def read_ini(text: str) -> tuple[Sections, list[Mistake]]:
    """Sections with lower-cased keys, and what could not be understood."""
    sections: Sections = {}
    mistakes: list[Mistake] = []
    section: dict[str, Written] | None = None
    last = ""
    for number, line in enumerate(text.removeprefix("\ufeff").splitlines(), 1):
        bare = line.strip()
        if not bare or bare[0] in "#;":
            continue
        if line[0] in " \t" and section is not None and last:
            before = section[last]
            section[last] = Written(f"{before.value}\n{_without_comment(bare)}", before.line)
        elif match := _SECTION.fullmatch(bare):
            section = sections.setdefault(match["name"].strip(), {})
            last = ""
        elif section is None:
            mistakes.append(Mistake(number, f"{bare!r} stands before any [section]"))
        elif match := _OPTION.fullmatch(bare):
            last = match["key"].strip().lower()
            if last in section:
                mistakes.append(
                    Mistake(number, f"{last} is given twice (first in line {section[last].line})")
                )
            section[last] = Written(_without_comment(match["value"]), number)
        else:
            mistakes.append(Mistake(number, f"{bare!r} is neither a [section] nor key = value"))
    defaults = sections.pop(_DEFAULT, {})
    return {name: _resolved(values, defaults) for name, values in sections.items()}, mistakes


def _without_comment(value: str) -> str:
    """Cuts at a comment sign that follows white space and stands outside quotation marks."""
    quote = ""
    for index, sign in enumerate(value):
        if quote:
            quote = "" if sign == quote else quote
        elif sign in "\"'" and (index == 0 or value[index - 1] in " \t="):
            quote = sign if sign in value[index + 1 :] else ""
        elif sign in "#;" and (index == 0 or value[index - 1] in " \t"):
            return value[:index].rstrip()
    return value.rstrip()


def _resolved(values: dict[str, Written], defaults: dict[str, Written]) -> dict[str, Written]:
    known = {**defaults, **values}

    def looked_up(match: re.Match[str]) -> str:
        found = known.get(match["key"].lower())
        return str(found.value) if found else match[0]

    return {
        key: Written(_REFERENCE.sub(looked_up, str(item.value)).replace("%%", "%"), item.line)
        for key, item in known.items()
    }
