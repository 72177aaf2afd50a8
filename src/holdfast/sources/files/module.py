"""Files and folders as a module. The resource is a path; `paths` names more of them."""

from __future__ import annotations

import os
from contextlib import nullcontext
from typing import TYPE_CHECKING, Final

from holdfast.core.errors import InvalidError, SourceMissingError
from holdfast.sources.files.filters import Filters
from holdfast.sources.files.source import FileSource
from holdfast.sources.modules import Resource, refuse_unknown

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from holdfast.core.source import Source
    from holdfast.sources.modules import Asked

_PARAMETERS: Final = {
    "paths": list, "excludes": list, "exclude_caches": bool, "one_file_system": bool,
}  # fmt: skip


class FilesModule:
    """See `sources.modules.Module`."""

    name = "files"

    def available(self) -> bool:
        return True

    def check(self, asked: Asked) -> None:
        refuse_unknown(asked.parameters, _PARAMETERS)
        for name in ("paths", "excludes"):
            if not all(isinstance(each, str) and each for each in asked.parameters.get(name) or ()):
                text = f"{name} must be a list of texts."
                raise InvalidError(text, fields={name: ("type", text)})
        for path in _paths(asked):
            if not os.path.isabs(path):
                text = f"{path!r} is no absolute path"
                raise InvalidError(text, fields={"resource": ("relative", text)})
        if not _paths(asked):
            text = "no path was named"
            raise InvalidError(text, fields={"resource": ("missing", text)})

    def open(self, asked: Asked) -> AbstractContextManager[Source]:
        self.check(asked)
        filters = Filters(
            excludes=tuple(asked.parameters.get("excludes") or ()),
            exclude_caches=bool(asked.parameters.get("exclude_caches")),
            one_file_system=bool(asked.parameters.get("one_file_system")),
            skip=asked.skip,
        )
        return nullcontext(FileSource([os.fsencode(path) for path in _paths(asked)], filters))

    def resources(self, asked: Asked) -> Sequence[Resource]:
        """The entries of the folder that is the resource, of the top where none is named."""
        folder = asked.resource or "/"
        try:
            with os.scandir(folder) as entries:
                found = [
                    Resource(
                        name=os.fsencode(entry.path).decode("utf-8", "replace"),
                        kind="folder" if entry.is_dir(follow_symlinks=False) else "file",
                    )
                    for entry in entries
                ]
        except OSError as error:
            raise SourceMissingError(f"{folder} cannot be listed: {error.strerror}") from error
        return sorted(found, key=lambda each: each.name)

    def put_back(self, asked: Asked, folder: Path) -> None:
        del asked, folder
        raise InvalidError("files are given back as files; there is no application to put them in")


def _paths(asked: Asked) -> list[str]:
    return [path for path in (asked.resource, *(asked.parameters.get("paths") or ())) if path]
