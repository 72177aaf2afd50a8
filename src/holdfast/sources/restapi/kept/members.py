"""The published answers about single records, called details, and where they lie."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any, Final

from holdfast.sources.restapi.kept.keepers import open_keeper
from holdfast.sources.restapi.records.documents import parse
from holdfast.sources.restapi.records.filters import split_key, values_at

if TYPE_CHECKING:
    from collections.abc import Iterator

    from holdfast.sources.restapi.project.project import Project
    from holdfast.sources.restapi.project.sections import FollowRule

FILES: Final = "files"
"""Label of the archive of files."""


def details_label(rule: FollowRule) -> str:
    """Label of the archive that holds what a rule fetched; `<label>.zip` in the storage folder."""
    return f"details_{rule.name}" if rule.name else "details"


def followed(project: Project) -> dict[str, FollowRule]:
    """The rules of which anything is published, by label."""
    found = {}
    for rule in project.follow:
        label = details_label(rule)
        with closing(open_keeper(project.place, label)) as keeper:
            if keeper.exists():
                found[label] = rule
    return found


def details(project: Project, rules: dict[str, FollowRule]) -> Iterator[list[Any]]:
    """Details in the order of storing: what lies at `follow_data_key`, or the whole document."""
    for label, rule in rules.items():
        key = rule.follow_data_key if rule.follow_mode != "drilldown" else None
        path = split_key(key, project.settings.splitter) if key else ()
        with closing(open_keeper(project.place, label)) as keeper:
            for name in keeper.names():
                yield list(values_at(parse(keeper.read(name)), path))
