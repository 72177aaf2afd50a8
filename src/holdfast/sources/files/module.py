"""Files and folders as a module. The resource is a path; `paths` names more of them."""

from __future__ import annotations

import os
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

from holdfast.core.errors import InvalidError, SourceMissingError
from holdfast.sources.files.filters import Filters
from holdfast.sources.files.source import FileSource
from holdfast.sources.modules import TITLES, Resource, refuse_back
from holdfast.sources.parameters import described, parameters_of, read_settings

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractContextManager

    from holdfast.core.source import Kept, Source
    from holdfast.sources.modules import Asked

_NO_SNAPSHOT = "files are read as they are; a file that changes meanwhile is named."
_NO_SCRIPT = "there is no snapshot that it could belong to; scripts belong to a rule."


@dataclass(frozen=True, slots=True, kw_only=True)
class FilesSettings:
    """The second half has the names that RuBackup's clients use."""

    paths: tuple[str, ...] = described((), "More paths beside the resource.")
    excludes: tuple[str, ...] = described((), "Patterns of what is left out, as in restic.")
    exclude_caches: bool = described(
        default=False, meaning="Leave out what lies beside a CACHEDIR.TAG."
    )
    one_file_system: bool = described(
        default=False, meaning="Do not cross into other file systems."
    )
    file_list: bool = described(
        default=True,
        meaning="Keep a list of the files, for restoring some of them.",
        only="the list is a part of every backup.",
    )
    numeric_owner: bool = described(
        default=False, meaning="Keep the numbers of owners and groups only, not their names."
    )
    use_snapshot: bool = described(
        default=False, meaning="Read from a snapshot of the file system.", only=_NO_SNAPSHOT
    )
    ignore_errors_snapshot: bool = described(
        default=True,
        meaning="Go on without a snapshot where none can be made; there is none to be made.",
    )
    snapshot_type: str = described("", "Sort of snapshot.", only=_NO_SNAPSHOT)
    snapshot_size: int = described(10, "Room for a snapshot, in percent; without one not used.")
    script_before_snapshot: str = described("", "Script.", only=_NO_SCRIPT)
    script_after_snapshot: str = described("", "Script.", only=_NO_SCRIPT)
    script_error_snapshot: str = described("", "Script.", only=_NO_SCRIPT)


class FilesModule:
    """See `sources.modules.Module`."""

    name = "files"
    parameters = parameters_of(FilesSettings)
    putting_back = None

    def available(self) -> bool:
        return True

    def check(self, asked: Asked) -> None:
        _read(asked)

    def open(self, asked: Asked) -> AbstractContextManager[Source]:
        settings, paths = _read(asked)
        filters = Filters(
            excludes=settings.excludes,
            exclude_caches=settings.exclude_caches,
            one_file_system=settings.one_file_system,
            skip=asked.skip,
        )
        roots = [os.fsencode(path) for path in paths]
        return nullcontext(FileSource(roots, filters, names=not settings.numeric_owner))

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

    def put_back(self, asked: Asked, kept: Kept) -> str:
        del asked, kept
        return refuse_back(TITLES[self.name])


def _read(asked: Asked) -> tuple[FilesSettings, list[str]]:
    """Settings and paths. Raises InvalidError."""
    settings = read_settings(FilesSettings, asked.parameters)
    paths = [path for path in (asked.resource, *settings.paths) if path]
    if not paths:
        text = "no path was named"
        raise InvalidError(text, fields={"resource": ("missing", text)})
    for path in paths:
        if not os.path.isabs(path):
            text = f"{path!r} is no absolute path"
            raise InvalidError(text, fields={"resource": ("relative", text)})
    return settings, paths
