"""What a user of MariaDB or MySQL does not get to see, so that no dump lacks it without a word.

These servers leave triggers and routines out of their lists where a user has no right to see them,
and the dump programs then end well.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

_NAME = r"\*|`(?:[^`]|``)*`"
_GRANT = re.compile(rf"GRANT (.+?) ON (?:TABLE )?({_NAME})\.({_NAME}) TO ")
_ALL = "ALL PRIVILEGES"
_TRIGGERS = {_ALL, "TRIGGER"}
_ROUTINES = {_ALL, "SELECT", "SHOW_ROUTINE", "SHOW CREATE ROUTINE"}
"""Everywhere."""
_ROUTINES_HERE = {_ALL, "EXECUTE", "ALTER ROUTINE", "CREATE ROUTINE", "SHOW CREATE ROUTINE"}
"""In one database: then they are listed, and a body that cannot be read fails the dump."""


def unseen(grants: Iterable[str], database: str) -> list[str]:
    """What of a database may be hidden from a user, as SHOW GRANTS describes the rights."""
    everywhere: set[str] = set()
    here: set[str] = set()
    reads_routines = False
    for line in grants:
        found = _GRANT.match(line)
        if found is None:
            continue
        words = set(found[1].split(", "))
        scope, table = found[2], found[3]
        if scope == "*":
            everywhere |= words
        elif table == "*" and _covers(_plain(scope), database):
            here |= words
        if _plain(scope) == "mysql" and _plain(table) in {"*", "proc"}:
            reads_routines = reads_routines or bool(words & {_ALL, "SELECT"})
    hidden = []
    if not (everywhere | here) & _TRIGGERS:
        hidden.append("triggers")
    if not (reads_routines or everywhere & _ROUTINES or here & _ROUTINES_HERE):
        hidden.append("routines")
    return hidden


def _plain(name: str) -> str:
    return name if name == "*" else name[1:-1].replace("``", "`")


def _covers(pattern: str, database: str) -> bool:
    r"""Names of databases in grants are patterns of LIKE: %, _, and \ before what is meant so."""
    parts = re.findall(r"\\.|.", pattern, re.DOTALL)
    wild = {"%": ".*", "_": "."}
    expression = "".join(wild.get(part) or re.escape(part[-1]) for part in parts)
    return re.fullmatch(expression, database, re.DOTALL) is not None
