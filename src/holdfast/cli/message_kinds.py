"""What the table of JSON objects is made of."""

from typing import NamedTuple


class Field(NamedTuple):
    name: str
    kind: str
    optional: bool
    meaning: str


class Message(NamedTuple):
    """`type` is the `message_type`; empty where the object has none, as in restic."""

    verb: str
    type: str
    when: str
    fields: tuple[Field, ...]


def message(verb: str, type_: str, when: str, table: str) -> Message:
    """`table`: for each field a line with its name, kind and meaning."""
    fields = []
    for line in filter(str.strip, table.splitlines()):
        name, kind, meaning = line.split(maxsplit=2)
        fields.append(Field(name, kind.rstrip("?"), kind.endswith("?"), meaning))
    return Message(verb, type_, when, tuple(fields))
