"""YAML project files, with the line of every value."""

from __future__ import annotations

from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.constructor import DuplicateKeyError
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.scalarfloat import ScalarFloat
from ruamel.yaml.scalarint import ScalarInt
from ruamel.yaml.scalarstring import ScalarString

from holdfast.sources.restapi.project.ini import Mistake, Sections, Written


def read_yaml(text: str) -> tuple[Sections, list[Mistake]]:
    """Sections and what could not be understood."""
    try:
        document = YAML().load(text)
    except DuplicateKeyError as error:
        mark = error.problem_mark
        what = str(error.problem).split("with value", 1)[0].strip()
        return {}, [Mistake(mark.line + 1 if mark else 0, f"{what}: a key is given twice")]
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        what = f"not valid YAML: {error.problem or error.context}"
        return {}, [Mistake(mark.line + 1 if mark else 0, what)]
    except YAMLError as error:
        return {}, [Mistake(0, f"not valid YAML: {error}")]
    if not isinstance(document, CommentedMap):
        return {}, [Mistake(1, "not a project: it must hold sections such as settings and project")]
    sections: Sections = {}
    mistakes: list[Mistake] = []
    for name, values in document.items():
        line = _line(document, name)
        if values is None:
            sections[str(name)] = {}
        elif isinstance(values, CommentedMap):
            sections[str(name)] = {
                str(word): Written(_plain(value), _line(values, word))
                for word, value in values.items()
            }
        elif name == "follow" and isinstance(values, CommentedSeq):
            sections["follow"] = {"rules": Written(_plain(values), line)}
        else:
            mistakes.append(Mistake(line, f"section {name} must hold keys and values"))
    return sections, mistakes


def _line(mapping: CommentedMap, name: object) -> int:
    places = mapping.lc.data or {}
    return int(places[name][0]) + 1 if name in places else 0


def _plain(value: object) -> Any:
    """Without the library's own types. Any: whatever the file holds."""
    if isinstance(value, CommentedMap):
        return {str(word): _plain(part) for word, part in value.items()}
    if isinstance(value, CommentedSeq):
        return [_plain(part) for part in value]
    if isinstance(value, ScalarString):
        return str(value)
    if isinstance(value, ScalarFloat):
        return float(value)
    if isinstance(value, ScalarInt):
        return int(value)
    return value
