"""Things of a server by the names that people give on the command line."""

from typing import TYPE_CHECKING

from holdfast.core.access import SHELL
from holdfast.core.errors import RecordNotFoundError, UsageError

if TYPE_CHECKING:
    from holdfast.core.records import Target
    from holdfast.service.server import Service


def target_of(service: "Service", text: str) -> "Target":
    """By id, alias or name.

    Raises:
        RecordNotFoundError: there is none.
        UsageError: several have that name.
    """
    try:
        return service.targets.get(SHELL, text)
    except RecordNotFoundError:
        found = [each for each in service.targets.list(SHELL) if each.name == text]
        if not found:
            raise
    if len(found) > 1:
        ids = ", ".join(each.uid for each in found)
        raise UsageError(
            f"several targets are called {text}", remedy=f"Nothing was done. Give an id: {ids}."
        )
    return found[0]
