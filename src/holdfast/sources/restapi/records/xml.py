"""XML answers as JSON: attributes become "@name", text beside them "#text", repeated elements a
list.
"""

from __future__ import annotations

from typing import Any
from xml.parsers import expat

_DEEPEST = 500


def parse_xml(body: bytes) -> dict[str, Any]:
    """The document as nested dictionaries, names as they are written. Any: JSON.

    Raises:
        ValueError: it is not well-formed, defines entities of its own, or is nested without end.
    """
    builder = _Builder()
    parser = expat.ParserCreate()
    parser.buffer_text = True
    parser.StartElementHandler = builder.start
    parser.EndElementHandler = builder.end
    parser.CharacterDataHandler = builder.text
    parser.EntityDeclHandler = builder.refuse
    try:
        parser.Parse(body, True)
    except expat.ExpatError as error:
        raise ValueError(f"not well-formed XML: {error}") from None
    return builder.root


class _Builder:
    def __init__(self) -> None:
        self.root: dict[str, Any] = {}
        self._open: list[tuple[str, dict[str, Any], list[str]]] = []

    def start(self, name: str, attributes: dict[str, str]) -> None:
        if len(self._open) >= _DEEPEST:
            raise ValueError("XML nested deeper than anything sensible")
        self._open.append((name, {f"@{word}": value for word, value in attributes.items()}, []))

    def text(self, text: str) -> None:
        if self._open:
            self._open[-1][2].append(text)

    def end(self, name: str) -> None:
        _, content, pieces = self._open.pop()
        text = "".join(pieces).strip()
        value: Any = content
        if content and text:
            content["#text"] = text
        elif not content:
            value = text or None
        parent = self._open[-1][1] if self._open else self.root
        if name in parent:
            if not isinstance(parent[name], list):
                parent[name] = [parent[name]]
            parent[name].append(value)
        else:
            parent[name] = value

    def refuse(self, *_: object) -> None:
        raise ValueError("XML that defines entities of its own is not read")
