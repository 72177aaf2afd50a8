"""The moments at which a project's own scripts are asked."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Self

from holdfast.core.errors import HookError
from holdfast.sources.restapi.asking.request import Draft, SideFiles
from holdfast.sources.restapi.asking.scripts import Script

if TYPE_CHECKING:
    from types import TracebackType

    from holdfast.sources.restapi.asking.session import Answer
    from holdfast.sources.restapi.project.project import Project

_FUNCTIONS = ("hook", "run")
_MOMENTS = ("before_run", "before_request", "after_response", "after_page", "after_run")
_SHOWN = 2000
"""Characters of an answer that a hook gets to see."""


class HookScripts:
    """The hooks of one run; asks nothing where none is configured. A context manager."""

    def __init__(self, project: Project, mode: str) -> None:
        self._mode = mode
        self._folder = str(project.folder)
        self._scripts = {
            moment: Script(
                project.folder / path, folder=project.folder, functions=_FUNCTIONS,
                limit=project.hooks.timeout,
            )
            for moment in _MOMENTS
            if (path := getattr(project.hooks, moment))
        }  # fmt: skip

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for script in self._scripts.values():
            script.close()

    async def before_run(self, side: SideFiles) -> SideFiles:
        """May replace headers and params of all requests."""
        context = {
            "project_path": self._folder, "headers": side.headers, "params": side.params
        }  # fmt: skip
        said = await self._ask("before_run", context)
        if not isinstance(said, dict):
            return side
        return SideFiles(
            _object(said, "params", side.params, "before_run"),
            _object(said, "headers", side.headers, "before_run"),
            side.url_params,
        )

    async def before_request(self, draft: Draft, number: int) -> Draft:
        """May replace url, headers and params of one request."""
        said = await self._ask("before_request", self._context(draft, number))
        if not isinstance(said, dict):
            return draft
        return Draft(
            str(said.get("url", draft.url)),
            _object(said, "params", draft.params, "before_request"),
            _object(said, "headers", draft.headers, "before_request"),
        )

    async def after_response(self, draft: Draft, number: int, answer: Answer) -> None:
        if "after_response" not in self._scripts:
            return
        text = answer.body.decode(errors="replace")
        response = {
            "status_code": answer.status,
            "headers": dict(answer.headers),
            "url": answer.url,
            "text": text[:_SHOWN],
            "text_truncated": len(text) > _SHOWN,
        }
        await self._ask("after_response", {**self._context(draft, number), "response": response})

    async def after_page(self, number: int, records: int, size: int) -> None:
        await self._ask(
            "after_page", {"page": number, "records_processed": records, "bytes_written": size}
        )

    async def after_run(self, summary: dict[str, Any]) -> None:
        """Any: JSON."""
        await self._ask("after_run", summary)

    def _context(self, draft: Draft, number: int) -> dict[str, Any]:
        return {
            "url": draft.url, "headers": draft.headers, "params": draft.params, "page": number
        }  # fmt: skip

    async def _ask(self, moment: str, context: dict[str, Any]) -> Any:
        script = self._scripts.get(moment)
        if script is None:
            return None
        return await asyncio.to_thread(script.ask, {"mode": self._mode, **context})


def _object(
    said: dict[str, Any], name: str, default: dict[str, Any], moment: str
) -> dict[str, Any]:
    value = said.get(name, default)
    if not isinstance(value, dict):
        raise HookError(f"the {moment} hook answered with {name} that are no names and values")
    return value
