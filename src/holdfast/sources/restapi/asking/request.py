"""From a project and a place in its listing to the request that asks for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from holdfast.net.aio import encoded
from holdfast.sources.restapi.asking.session import Request
from holdfast.sources.restapi.records.documents import as_json, with_value

if TYPE_CHECKING:
    from collections.abc import Mapping

    from holdfast.sources.restapi.project.project import Project


@dataclass(frozen=True, slots=True)
class Draft:
    """A request before hooks and encoding. Any: values of params.json may be any JSON."""

    url: str
    params: dict[str, Any]
    headers: dict[str, str]


@dataclass(frozen=True, slots=True)
class SideFiles:
    """params.json, headers.json and url_params.json. Any: the person's own JSON."""

    params: dict[str, Any]
    headers: dict[str, str]
    url_params: dict[str, Any]


def read_side_files(project: Project) -> SideFiles:
    """Raises ProjectError where one of them is not a JSON object."""
    headers = project.json_file("headers.json")
    return SideFiles(
        project.json_file("params.json"),
        {name: str(value) for name, value in headers.items() if value is not None},
        project.json_file("url_params.json"),
    )


def draft_request(project: Project, side: SideFiles, changes: Mapping[str, Any]) -> Draft:
    """The side files overlaid with what changes from page to page, put where `query_mode` says.
    Any: JSON.
    """
    url, params = project.source.url, dict(side.params)
    match project.params.query_mode:
        case "params":  # matrix parameters: the delimiter is the API's own, values go as they are
            pairs = {**side.url_params, **changes}
            url = ";".join([url, *(f"{name}={value}" for name, value in pairs.items())])
        case "mixed":
            url = encoded(url, query_pairs({**side.url_params, **changes}))
        case _:
            for name, value in changes.items():
                params = _overlaid(params, name, value, nested=project.source.http_mode == "POST")
    return Draft(url, params, dict(side.headers))


def complete_request(project: Project, draft: Draft) -> Request:
    """With parameters as a query for GET and as a JSON body for POST."""
    headers = tuple(draft.headers.items())
    if project.source.http_mode == "POST":
        return Request(method="POST", url=draft.url, json=draft.params, headers=headers)
    flat = project.params.force_flat_params
    return Request(
        url=draft.url, query=tuple(query_pairs(draft.params, flat=flat)), headers=headers
    )


def query_pairs(params: Mapping[str, Any], *, flat: bool = False) -> list[tuple[str, str]]:
    """As apibackuper's users know it: None is left out, a list repeats its name, an object is
    JSON. Any: JSON.

    `flat`: lists are JSON too, and booleans are written as in JSON.
    """
    pairs = []
    for name, value in params.items():
        if value is None:
            continue
        if isinstance(value, list) and not flat:
            pairs += [(name, _text(part, flat=flat)) for part in value if part is not None]
        else:
            pairs.append((name, _text(value, flat=flat)))
    return pairs


def _text(value: Any, *, flat: bool) -> str:
    if isinstance(value, (dict, list)) or (flat and isinstance(value, bool)):
        return as_json(value)
    return str(value)


def _overlaid(params: dict[str, Any], name: str, value: Any, *, nested: bool) -> dict[str, Any]:
    """A dotted name goes into nested objects, except in a query that has no such object: there it
    is a plain name.
    """
    if nested or isinstance(params.get(name.partition(".")[0]), dict):
        return with_value(params, name, value)
    return {**params, name: value}
